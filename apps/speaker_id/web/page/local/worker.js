// Hears for the page, in a thread of its own: samples in, events out, in the words of the program's WebSocket.
import { compile } from "../runtime/streamdrnn.js";
import { readDetector, readSpeaker } from "./models.js";
import { cleanName, voicesOf } from "./profiles.js";
import { shifted } from "./scores.js";
import { Session } from "./session.js";

const MOST_WAITING = 2; // seconds; what is older when its turn comes is lost, and counted

let [speaker, session, rate, lost] = [null, null, 0, 0];

async function model(name) {
  const answer = await fetch(new URL(`../models/${name}.safetensors`, import.meta.url));
  if (!answer.ok) throw new Error(`${answer.url}: ${answer.status} ${answer.statusText}`);
  return answer.arrayBuffer();
}

// The voices of this model; the names of others are told.
function use(recordings) {
  const own = recordings.filter(({ model }) => model === speaker.id);
  const others = new Set(recordings.filter(({ model }) => model !== speaker.id).map(({ name }) => name));
  const voices = voicesOf(own);
  tell([{ event: "ready", voices: [...voices.keys()], others: [...others] }]);
  return voices;
}

const requests = {
  async open({ sampleRate, threshold, offset, numberStrangers, recordings }) {
    const [module, embedder, activity, overlap] = await Promise.all([
      compile(),
      model("speaker"),
      model("activity"),
      model("overlap"),
    ]);
    speaker = await readSpeaker(embedder, module);
    speaker.scorer = shifted(speaker.scorer, offset ?? 0);
    rate = sampleRate;
    const detectors = { speech: await readDetector(activity, module), overlap: await readDetector(overlap, module) };
    session = new Session(speaker, detectors, use(recordings), threshold, rate, numberStrangers);
  },
  samples({ samples, captured }) {
    const waiting = Math.max(0, performance.timeOrigin + performance.now() - captured) / 1000;
    if (waiting > MOST_WAITING) {
      lost += samples.length;
      return;
    }
    const events = session.push(samples, lost);
    lost = 0;
    tell(events);
    if (events.some(({ event }) => event === "report")) tell([{ ...session.summary, waiting }]);
  },
  enrol({ name, recordings }) {
    tell(session.enrol(cleanName(name, recordings.map((recording) => recording.name))));
  },
  "name stranger"({ stranger, name, recordings }) {
    tell(session.nameStranger(stranger, cleanName(name, recordings.map((recording) => recording.name))));
  },
  "stop enrolling": () => tell(session.stopEnrolling()),
  restart: ({ recordings }) => tell(session.restart(use(recordings))),
  voices: ({ recordings }) => tell(session.replaceVoices(use(recordings))),
};

const tell = (events) => events.forEach((event) => postMessage(event));

onmessage = async ({ data }) => {
  try {
    await requests[data.type](data);
  } catch (error) {
    tell([{ event: "error", message: error.message }]);
  }
};
