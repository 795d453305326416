import { openLocal } from "./local/local.js";
import { BrowserProfiles, ServerProfiles } from "./local/profiles.js";
import { openRemote } from "./remote.js";
import { Timeline, isVoice } from "./timeline.js";

const UNKNOWN = "(unknown)";
const SECONDS = 30;
const MOST_TURNS = 200; // that are listed
const COLOURS = ["#2f7fb5", "#c26a00", "#1d8a55", "#a3459a", "#c4472b", "#6a5acd", "#00838a", "#8a6d00"];
const UNKNOWN_COLOUR = "#7a7a7a";
const element = (id) => document.getElementById(id);

// Whoever served the page says whether it hears by itself, and gives the user's profiles if there is a program that has them.
const setup = await (await fetch("setup.json")).json();
const profiles = !setup.local ? null : setup.recordings ? new ServerProfiles(setup.recordings) : new BrowserProfiles();

const timeline = new Timeline(SECONDS);
let voices = []; // names of those that can be told apart
let others = []; // names of those that were enrolled with another model
let strangers = []; // numbers of those that nobody enrolled
let session = null; // while listening: what gives the sound, and what hears it
let sessions = 0; // that have ended
let sent = []; // [seconds of sound sent so far, when]
let delays = []; // of the last reports, in ms

function colour(label) {
  const place = [...voices, ...strangers].indexOf(label);
  return place < 0 ? UNKNOWN_COLOUR : COLOURS[place % COLOURS.length];
}
const plain = (label) => label.replace(/^\((.*)\)$/, "$1");
const isProbable = ({ speaker, label }) => speaker === null && label.startsWith("probably ");
const percent = (share) => `${Math.round(100 * share)} %`;

function say(message) {
  element("message").textContent = message;
  element("message").hidden = !message;
}

async function start() {
  say("");
  show("starting ...");
  element("listen").disabled = true;
  try {
    await listen();
    element("listen").textContent = "Stop";
    element("restart").disabled = false;
    show("listening ...");
  } catch (error) {
    stop(error.message);
  } finally {
    element("listen").disabled = false;
  }
}

async function listen() {
  const own = (session = {});
  own.stream = await microphone();
  own.stream.getAudioTracks()[0].onended = () => stop("the microphone is gone");
  own.context = new AudioContext();
  await own.context.audioWorklet.addModule("microphone.js");
  const worklet = new AudioWorkletNode(own.context, "microphone", { numberOfOutputs: 0 });
  const ends = { take, gone: (reason) => session === own && stop(element("message").textContent || reason) };
  const { sampleRate } = own.context;
  own.hearing = await (setup.local
    ? openLocal(sampleRate, { ...setup, numberStrangers: element("number").checked }, profiles, ends)
    : openRemote(sampleRate, ends));
  own.seconds = 0;
  worklet.port.onmessage = ({ data }) => hear(data);
  own.context.createMediaStreamSource(own.stream).connect(worklet);
  await own.context.resume();
}

async function microphone() {
  if (!navigator.mediaDevices) throw new Error("browsers give the microphone to pages on https or localhost only");
  const plainSound = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: plainSound });
  } catch (error) {
    throw new Error(`the microphone cannot be had: ${error.message}`);
  }
}

function stop(message = "") {
  if (!session) return;
  const { stream, context, hearing } = session;
  session = null;
  sessions++;
  sent = [];
  hearing?.close();
  stream?.getTracks().forEach((track) => track.stop());
  context?.close();
  element("listen").textContent = "Listen";
  element("restart").disabled = true;
  show("not listening");
  element("level").value = -60;
  endEnrolment("");
  timeline.end = 0;
  timeline.clear();
  strangers = [];
  makeRows(voices, others);
  say(message);
}

function hear(samples) {
  if (!session) return;
  session.seconds += samples.length / session.context.sampleRate;
  sent.push([session.seconds, performance.now()]);
  let power = 1e-12;
  for (const sample of samples) power += (sample * sample) / samples.length;
  const meter = element("level");
  meter.value = Math.max(10 * Math.log10(power), meter.value - 1);
  session.hearing.hear(samples);
}

function take(event) {
  switch (event.event) {
    case "ready":
      makeRows(event.voices, event.others);
      break;
    case "strangers":
      strangers = event.names;
      makeRows(voices, others);
      break;
    case "report":
      measure(event.time);
      timeline.report(event.time, isProbable(event) ? "(listening)" : event.label);
      showNow(event);
      showScores(event);
      break;
    case "segment": {
      timeline.decide(event.start, event.end, event.label);
      if (isVoice(event.label)) addTurn(event);
      break;
    }
    case "summary":
      showHealth(event);
      break;
    case "enrolling":
      showEnrolment(event);
      break;
    case "enrolled":
      if (event.stranger) rename(event.stranger, event.name);
      endEnrolment([`${event.name}: ${event.seconds.toFixed(1)} s of speech enrolled`, ...event.warnings].join("; "));
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

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function makeRows(names, namesOfOthers = []) {
  [voices, others] = [names, namesOfOthers];
  const known = [...voices, ...strangers, UNKNOWN].map((label) => {
    const dot = make("span", { className: "dot" });
    dot.style.background = colour(label);
    const name = make("span", { className: "name", title: plain(label) }, dot, make("span", {}, plain(label)));
    const row = make("li", {}, name, make("span", { className: "score" }), make("canvas"));
    row.querySelector("canvas").setAttribute("aria-hidden", "true");
    row.dataset.label = label;
    if (voices.includes(label)) row.append(...removal(label));
    if (strangers.includes(label)) row.append(naming(label));
    return row;
  });
  const strange = others.map((label) => {
    const why = make("span", { className: "why" }, "enrolled with another model: remove it, then enrol again");
    return make("li", {}, make("span", { className: "name" }, make("span", {}, label)), why, ...removal(label));
  });
  element("voices").replaceChildren(...known, ...strange);
  element("nobody").hidden = voices.length + others.length > 0;
}

// The button that enrols a stranger by what he has said.
function naming(stranger) {
  const button = make("button", { type: "button", className: "name-stranger", title: `Name ${stranger}` }, "Name");
  button.setAttribute("aria-label", `Name ${stranger}`);
  button.onclick = () => {
    const name = prompt(`Whose voice is ${stranger}?`)?.trim();
    if (name) session?.hearing.ask({ type: "name stranger", stranger, name });
  };
  return button;
}

// The button that removes a voice, where the page may.
function removal(name) {
  if (!profiles?.removable) return [];
  const button = make("button", { type: "button", className: "remove", title: `Remove ${name}` }, "×");
  button.setAttribute("aria-label", `Remove ${name}`);
  button.onclick = async () => {
    if (!confirm(`Remove the voice of ${name}?`)) return;
    await profiles.remove(name);
    if (session) session.hearing.ask({ type: "voices" });
    else makeRows(...[voices, others].map((names) => names.filter((one) => one !== name)));
  };
  return [button];
}

function show(text, label = "", probable = false, overlap = false) {
  const now = element("now");
  element("another").hidden = !overlap;
  if (now.textContent !== text) now.textContent = text;
  now.style.background = isVoice(label) ? colour(label) : "";
  now.classList.toggle("voice", isVoice(label));
  now.classList.toggle("probable", probable);
}

function showNow(now) {
  const { label, evidence, overlap } = now;
  const probable = isProbable(now);
  const text = label === "(listening)" ? "listening ..." : plain(label);
  show(text, probable ? label.slice("probably ".length) : label, probable, overlap && label !== "(listening)");
  element("now").title = `${evidence.toFixed(1)} s of speech`;
}

function showScores({ scores, probability }) {
  for (const row of element("voices").querySelectorAll("[data-label]")) {
    const { [row.dataset.label]: share } = probability;
    const { [row.dataset.label]: score } = scores;
    const shown = row.querySelector(".score");
    shown.textContent = share === undefined ? "" : percent(share);
    shown.title = score === undefined ? "" : `cosine ${score.toFixed(2)}`;
  }
}

function drawTimelines() {
  for (const row of element("voices").querySelectorAll("[data-label]")) {
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

function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
}

function addTurn({ start, end, label, probability, overlap }) {
  const time = make("span", { className: "time" }, `${clock(start)} – ${clock(end)}`);
  const another = overlap ? [make("span", { className: "another" }, `+ another voice for ${overlap.toFixed(1)} s`)] : [];
  const turn = make("li", { title: percent(probability) }, time, make("span", {}, plain(label)), ...another);
  Object.assign(turn.dataset, { start, end, label, session: sessions });
  element("turns").prepend(turn);
  if (element("turns").children.length > MOST_TURNS) element("turns").lastChild.remove();
}

// A stranger has a name now: so he had one all along, but not in an earlier session, whose numbers are others'.
function rename(stranger, name) {
  timeline.rename(stranger, name);
  for (const turn of element("turns").children) {
    if (turn.dataset.label !== stranger || turn.dataset.session !== String(sessions)) continue;
    turn.dataset.label = name;
    turn.children[1].textContent = name;
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

element("listen").onclick = () => (session ? stop() : start());
element("restart").onclick = () => {
  session.hearing.ask({ type: "restart" });
  timeline.clear();
};
element("enrol").onsubmit = async (event) => {
  event.preventDefault();
  if (!session) await start();
  session?.hearing?.ask({ type: "enrol", name: element("name").value.trim() });
};
element("number").onchange = async () => {
  if (!session) return;
  stop();
  await start();
};
element("stop").onclick = () => session?.hearing.ask({ type: "stop enrolling" });

element("privacy").textContent = setup.local
  ? "Everything is computed in this page: no sound leaves your device."
  : "The sound goes to the streamdrnn program on this computer, and nowhere else.";
if (profiles?.removable) navigator.serviceWorker?.register("offline.js");
element("numbering").hidden = !setup.local;
document.body.classList.toggle("editable", setup.local);
makeRows([...new Set(profiles?.recordings.map(({ name }) => name))].sort());
setInterval(drawTimelines, 100);
element("listen").disabled = element("begin").disabled = false;
