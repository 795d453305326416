// Gives the page's decisions for ticks: decisions.mjs FOLDER-OF-THE-PAGE < request.json > answer.json
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const page = pathToFileURL(`${process.argv[2]}/`);
const { Identifier } = await import(new URL("local/identifier.js", page));
const { Enrolment, likenesses } = await import(new URL("local/enrolment.js", page));
const { readScorer } = await import(new URL("local/scores.js", page));
const { FixedLagViterbi } = await import(new URL("local/turns.js", page));

const request = JSON.parse(readFileSync(0, "utf8"));
const { weight, bias } = request.projection;
const speaker = {
  hiddenSize: weight[0].length,
  scorer: readScorer(request.notes, weight.length),
  embed(mean) {
    const projected = weight.map((row, i) => row.reduce((sum, w, j) => sum + w * mean[j], bias[i]));
    const length = Math.hypot(...projected);
    return Float32Array.from(projected, (value) => value / length);
  },
};
const ticks = request.ticks.map((tick) => ({ ...tick, total: Float64Array.from(tick.total) }));
const voices = request.voices.map((some) => new Map(some)); // that are known at first, and from the middle on

const identifier = new Identifier(speaker, voices[0]);
const enrolment = new Enrolment(speaker, true);
const [segments, now, progress] = [[], [], []];
for (const [i, tick] of ticks.entries()) {
  if (i === Math.floor(ticks.length / 2)) segments.push(...identifier.replaceVoices(voices[1]));
  segments.push(...identifier.hear([tick]));
  now.push(identifier.now());
  enrolment.hear([tick]);
  progress.push(enrolment.progress);
}
segments.push(...identifier.finish(request.seconds));

// With nobody enrolled and strangers told apart by numbers; in the middle the first of them is enrolled.
const numbering = new Identifier(speaker, new Map(), undefined, true);
const numbered = { segments: [], now: [], strangers: [] };
for (const [i, tick] of ticks.entries()) {
  if (i === request.naming) {
    const { recording, ended } = numbering.takeStranger("Speaker 1", "Anna");
    numbered.segments.push(...ended, ...numbering.replaceVoices(new Map([["Anna", recording]])));
    numbered.recording = { seconds: recording.seconds, embedding: [...recording.embedding] };
  }
  numbered.segments.push(...numbering.hear([tick]));
  numbered.now.push(numbering.now());
  numbered.strangers.push(numbering.strangers);
}
numbered.segments.push(...numbering.finish(request.seconds));

const { states, lag, switchCost, scores } = request.path;
const viterbi = new FixedLagViterbi(states, switchCost, lag);
const path = scores.map((step) => viterbi.push(step) ?? null);

const { seconds, embedding, warnings } = enrolment.finish();
const enrolled = { seconds, embedding: [...embedding], warnings };
const like = likenesses(speaker, "Zoe", { seconds, embedding }, voices[0]);
console.log(JSON.stringify({ segments, now, progress, numbered, enrolled, like, path, undecided: viterbi.undecided() }));
