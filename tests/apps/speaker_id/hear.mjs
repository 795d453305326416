// Hears a recording as the page does: hear.mjs FOLDER-OF-THE-PAGE < request.json > answer.json
import { webcrypto } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

globalThis.crypto ??= webcrypto; // Node 18 has it there only
const page = pathToFileURL(`${process.argv[2]}/`);
const { compile } = await import(new URL("runtime/streamdrnn.js", page));
const { Session } = await import(new URL("local/session.js", page));
const { readDetector, readSpeaker } = await import(new URL("local/models.js", page));
const { voicesOf } = await import(new URL("local/profiles.js", page));
const bytes = (address) => new Uint8Array(readFileSync(new URL(address, page))).buffer;

const { rate, samples, losses, recordings, enrol, chunks } = JSON.parse(readFileSync(0, "utf8"));
const module = await compile();
const speaker = await readSpeaker(bytes("models/speaker.safetensors"), module);
const [speech, overlap] = await Promise.all(
  ["activity", "overlap"].map((name) => readDetector(bytes(`models/${name}.safetensors`), module)),
);
const sound = Float32Array.from(samples);

const answer = chunks.map((size) => {
  const session = new Session(speaker, { speech, overlap }, voicesOf(recordings), undefined, rate);
  if (enrol) session.enrol(enrol);
  const events = [];
  for (let at = 0; at < sound.length; at += size) events.push(...session.push(sound.slice(at, at + size), losses[at] ?? 0));
  return [...events, ...session.finish(), session.summary];
});
console.log(JSON.stringify({ id: speaker.id, answer }));
