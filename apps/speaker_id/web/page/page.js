import { Timeline, isVoice } from "./timeline.js";

const UNKNOWN = "(unknown)";
const SECONDS = 30;
const COLOURS = ["#2f7fb5", "#c77700", "#1d8a55", "#a3459a", "#c4472b", "#6a5acd", "#008b8b", "#8a6d00"];
const UNKNOWN_COLOUR = "#7a7a7a";
const element = (id) => document.getElementById(id);

const timeline = new Timeline(SECONDS);
let voices = [];
let session = null; // while listening: the socket and what feeds it
let sent = []; // [seconds of sound sent so far, when]
let delays = []; // of the last reports, in ms

const colour = (label) => (voices.includes(label) ? COLOURS[voices.indexOf(label) % COLOURS.length] : UNKNOWN_COLOUR);
const plain = (label) => label.replace(/[()]/g, "");

function say(message) {
  element("message").textContent = message;
  element("message").hidden = !message;
}

async function start() {
  say("");
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  const context = new AudioContext();
  await context.audioWorklet.addModule("microphone.js");
  const source = context.createMediaStreamSource(stream);
  const worklet = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0 });
  const socket = new WebSocket(`ws://${location.host}/listen`);
  socket.binaryType = "arraybuffer";
  session = { stream, context, socket, seconds: 0 };
  stream.getAudioTracks()[0].onended = () => stop("the microphone is gone");
  socket.onopen = () => {
    socket.send(JSON.stringify({ type: "open", sample_rate: context.sampleRate }));
    worklet.port.onmessage = ({ data }) => hear(data);
    source.connect(worklet);
  };
  socket.onmessage = ({ data }) => take(JSON.parse(data));
  socket.onclose = () => stop(element("message").textContent || "the connection to streamdrnn is gone");
  await context.resume();
  element("listen").textContent = "Stop";
  element("begin").disabled = element("restart").disabled = false;
  element("now").textContent = "listening ...";
}

function stop(message = "") {
  if (!session) return;
  const { stream, context, socket } = session;
  session = null;
  sent = [];
  socket.onclose = null;
  socket.close();
  stream.getTracks().forEach((track) => track.stop());
  context.close();
  element("listen").textContent = "Listen";
  element("begin").disabled = element("restart").disabled = true;
  element("now").textContent = "not listening";
  element("now").style.background = "";
  element("level").value = -60;
  endEnrolment("");
  timeline.end = 0;
  timeline.clear();
  say(message);
}

function hear(samples) {
  if (!session || session.socket.readyState !== WebSocket.OPEN) return;
  session.seconds += samples.length / session.context.sampleRate;
  session.socket.send(samples);
  sent.push([session.seconds, performance.now()]);
  let power = 1e-12;
  for (const sample of samples) power += (sample * sample) / samples.length;
  const meter = element("level");
  meter.value = Math.max(10 * Math.log10(power), meter.value - 1);
}

function take(event) {
  switch (event.event) {
    case "ready":
      voices = event.voices;
      makeRows();
      break;
    case "report":
      measure(event.time);
      timeline.report(event.time, event.label);
      showNow(event);
      showScores(event.scores);
      break;
    case "segment":
      timeline.decide(event.start, event.end, event.speaker ?? (event.score ? UNKNOWN : "(silence)"));
      break;
    case "summary":
      showHealth(event);
      break;
    case "enrolling":
      showEnrolment(event);
      break;
    case "enrolled":
      endEnrolment(`${event.name}: ${event.seconds.toFixed(1)} s of speech enrolled`);
      element("name").value = "";
      break;
    case "not enrolled":
      endEnrolment(`${event.name}: ${event.reason}`);
      break;
    case "error":
      say(event.message);
      endEnrolment("");
  }
}

// How late a report is: since the first sample of its last tick was heard.
function measure(time) {
  while (sent.length > 1 && sent[0][0] < time - 0.1) sent.shift();
  if (sent.length) delays.push(performance.now() - sent[0][1] + 1000 * Math.max(0, sent[0][0] - (time - 0.1)));
  delays = delays.slice(-200);
}

function makeRows() {
  element("voices").replaceChildren(
    ...[...voices, UNKNOWN].map((label) => {
      const row = document.createElement("li");
      const [name, score, canvas] = ["span", "span", "canvas"].map((tag) => document.createElement(tag));
      name.className = "name";
      name.textContent = plain(label);
      name.style.color = colour(label);
      score.className = "score";
      canvas.setAttribute("aria-hidden", "true");
      row.append(name, score, canvas);
      row.dataset.label = label;
      return row;
    }),
  );
}

function showNow({ label, evidence }) {
  const now = element("now");
  const text = isVoice(label) ? plain(label) : label === "(listening)" ? "listening ..." : plain(label);
  if (now.textContent !== text) now.textContent = text;
  now.style.background = isVoice(label) ? colour(label) : "";
  now.classList.toggle("voice", isVoice(label));
  now.title = `${evidence.toFixed(1)} s of speech`;
}

function showScores(scores) {
  for (const row of element("voices").children) {
    const score = scores[row.dataset.label];
    // The one of "unknown" is what the others have to reach.
    const below = row.dataset.label === UNKNOWN ? "<" : "";
    row.querySelector(".score").textContent = score === undefined ? "" : below + score.toFixed(2);
  }
}

function drawTimelines() {
  for (const row of element("voices").children) {
    const canvas = row.querySelector("canvas");
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio].map(Math.round);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const picture = canvas.getContext("2d");
    picture.clearRect(0, 0, width, height);
    picture.fillStyle = colour(row.dataset.label);
    for (const [from, to] of timeline.stretches(row.dataset.label)) {
      picture.fillRect(width * (1 - from / SECONDS), 0, (width * (from - to)) / SECONDS, height);
    }
  }
}

function showHealth(summary) {
  const sorted = [...delays].sort((a, b) => a - b);
  const delay = (part) => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]);
  const late = sorted.length ? `latency ${delay(0.5)}/${delay(0.95)}/${delay(0.99)} ms (p50/p95/p99)` : "";
  element("health").textContent = [
    late,
    `queue ${summary.waiting.toFixed(2)} s`,
    `lost ${summary.dropped.toFixed(2)} s`,
    `real-time factor ${summary.real_time_factor.toFixed(2)}`,
  ].join(" · ");
  element("health").classList.toggle("lost", summary.gaps > 0);
}

function showEnrolment({ name, seconds, enough, clipped, speaking }) {
  element("enrolled").hidden = element("stop").hidden = false;
  element("enrolled").max = enough;
  element("enrolled").value = seconds;
  const remark = clipped ? ", too loud" : speaking ? "" : ", waiting for speech";
  element("enrolling").textContent = `${name}: ${seconds.toFixed(0)} of ${enough} s of clear speech${remark}`;
}

function endEnrolment(words) {
  element("enrolled").hidden = element("stop").hidden = true;
  element("enrolling").textContent = words;
}

const ask = (request) => session && session.socket.send(JSON.stringify(request));

element("listen").onclick = () => {
  if (session) stop();
  else start().catch((error) => {
    stop();
    say(`the microphone cannot be had: ${error.message}`);
  });
};
element("restart").onclick = () => {
  ask({ type: "restart" });
  timeline.clear();
};
element("enrol").onsubmit = (event) => {
  event.preventDefault();
  ask({ type: "enrol", name: element("name").value.trim() });
};
element("stop").onclick = () => ask({ type: "stop enrolling" });
setInterval(drawTimelines, 100);
makeRows();
