// From the sound of one voice to what is kept of it.
import { Voices } from "./scores.js";
import { TICK_SECONDS, hasSpeech, isOfOneVoice, meanOutput, plusDifference, rounded, tickZero } from "./ticks.js";

const MIN_SECONDS = 1; // less clear speech than this is no enrolment
const GOOD_SECONDS = 5; // with less the user is warned, and also of the following
const [CLIPPED_SHARE, OVERLAPPED_SHARE, QUIET_DBFS, NOISY_DB] = [0.1, 0.1, -50, 10];
const UNLIKE_SHARE = 0.25; // of the pairs of parts of a recording that do not sound like one voice
const LIKE_LOG_RATIO = 3; // from this on a new voice is said to be like another
const [PART_TICKS, FEWEST_PARTS, MOST_PARTS] = [20, 4, 64];
const [PAUSE_TICKS, MOST_LEVELS] = [10, 6000];

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length / 2;
  return half % 1 ? sorted[half - 0.5] : (sorted[half - 1] + sorted[half]) / 2;
}

// Listens to one voice until enough clear speech has been heard: speech of one voice by the detectors' judgement, not clipped.
// With midStream it begins while a tick may be under way: the first one, in part from before, is left out.
export class Enrolment {
  #speaker;
  #last;
  #clear;
  #begun;
  #parts; // the clear speech at every few seconds of it
  #clipped = 0;
  #overlapped = 0;
  #levels = { pause: [], speech: [] };

  constructor(speaker, midStream = false) {
    this.#speaker = speaker;
    this.#last = this.#clear = tickZero(speaker.hiddenSize);
    this.#parts = [this.#clear];
    this.#begun = !midStream;
  }

  get progress() {
    const { level, clipped } = this.#last;
    return { seconds: rounded(this.#clear.spoken * TICK_SECONDS, 1), level, speaking: hasSpeech(this.#last), clipped };
  }

  hear(ticks) {
    for (const tick of ticks) {
      this.#clipped += hasSpeech(tick) && tick.clipped;
      this.#overlapped += hasSpeech(tick) && !isOfOneVoice(tick);
      const levels = this.#levels[hasSpeech(tick) ? "speech" : "pause"];
      if (levels.length < MOST_LEVELS) levels.push(tick.level);
      if (this.#begun && isOfOneVoice(tick) && !tick.clipped) {
        this.#clear = {
          ...this.#clear,
          total: plusDifference(this.#clear.total, this.#last.total, tick.total),
          frames: this.#clear.frames + tick.frames - this.#last.frames,
          spoken: this.#clear.spoken + 1,
        };
        if (this.#clear.spoken % PART_TICKS === 0 && this.#parts.length < MOST_PARTS) this.#parts.push(this.#clear);
      }
      this.#begun = true;
      this.#last = tick;
    }
  }

  // What was heard of the voice: { seconds, embedding, warnings }.
  finish() {
    const { seconds } = this.progress;
    if (seconds < MIN_SECONDS) {
      throw new Error(`${seconds.toFixed(1)} s of clear speech, expected ${MIN_SECONDS} s or more`);
    }
    const mean = meanOutput(tickZero(this.#speaker.hiddenSize), this.#clear);
    return { seconds, embedding: this.#speaker.embed(mean), warnings: [...this.#warnings(seconds)] };
  }

  *#warnings(seconds) {
    if (seconds < GOOD_SECONDS) yield `${seconds.toFixed(1)} s of clear speech, ${GOOD_SECONDS} s or more would be surer`;
    const { pause, speech } = this.#levels;
    const level = median(speech);
    if (this.#clipped > CLIPPED_SHARE * (this.#clipped + this.#clear.spoken)) {
      yield "parts are too loud for the microphone and were left out: turn it down, or move away";
    } else if (level < QUIET_DBFS) {
      yield `the speech is quiet (${level.toFixed(0)} dB): turn the microphone up, or move nearer`;
    }
    const quiet = [...pause].sort((a, b) => a - b)[Math.floor(pause.length / 5)]; // in others speech fades out
    if (pause.length >= PAUSE_TICKS && level - quiet < NOISY_DB) {
      yield `it is noisy: speech is ${(level - quiet).toFixed(0)} dB above the pauses, ${NOISY_DB} dB or more would be surer`;
    }
    if (this.#overlapped > OVERLAPPED_SHARE * (this.#overlapped + this.#clear.spoken)) {
      yield "another voice speaks at the same time in parts, which were left out: enrol each person alone";
    }
    if (this.#soundsLikeSeveral()) yield "it sounds like more than one person: enrol each alone";
  }

  // Whether many pairs of parts are more probably of two voices than of one.
  #soundsLikeSeveral() {
    if (this.#parts.length - 1 < FEWEST_PARTS) return false;
    const seconds = PART_TICKS * TICK_SECONDS;
    const parts = this.#parts.slice(1).map((last, i) => {
      return { seconds, embedding: this.#speaker.embed(meanOutput(this.#parts[i], last)) };
    });
    const voices = new Voices(this.#speaker.scorer, parts);
    const ratios = parts.flatMap(({ embedding }, i) => voices.compare(embedding, seconds).logRatios.slice(0, i));
    return ratios.filter((ratio) => ratio < 0).length > UNLIKE_SHARE * ratios.length;
  }
}

// What there is to warn of when a recording is enrolled beside the voices that are known.
export function likenesses(speaker, name, { embedding, seconds }, voices) {
  const { logRatios } = new Voices(speaker.scorer, [...voices.values()]).compare(embedding, seconds);
  return [...voices.keys()].flatMap((other, i) => {
    if (other === name && logRatios[i] < 0) return [`it does not sound like the earlier recordings of ${other}`];
    if (other !== name && logRatios[i] >= LIKE_LOG_RATIO) return [`it sounds like ${other}, who is enrolled already`];
    return [];
  });
}
