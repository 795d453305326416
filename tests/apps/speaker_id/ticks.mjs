// The ticks of the page's ear: ticks.mjs FOLDER-OF-THE-PAGE < request.json > answer.json
import { webcrypto } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

globalThis.crypto ??= webcrypto; // Node 18 has it there only
const page = pathToFileURL(`${process.argv[2]}/`);
const { compile } = await import(new URL("runtime/streamdrnn.js", page));
const { Ear } = await import(new URL("local/ear.js", page));
const { readDetector, readSpeaker } = await import(new URL("local/models.js", page));
const bytes = (address) => new Uint8Array(readFileSync(new URL(address, page))).buffer;

const { parts } = JSON.parse(readFileSync(0, "utf8")); // samples, or a number of lost ones
const module = await compile();
const { model } = await readSpeaker(bytes("models/speaker.safetensors"), module);
const [speech, overlap] = await Promise.all(
  ["activity", "overlap"].map((name) => readDetector(bytes(`models/${name}.safetensors`), module)),
);
const ear = new Ear(model, { speech, overlap }, model.info.sampleRate);
const ticks = parts.flatMap((part) => (Array.isArray(part) ? ear.push(Float32Array.from(part)) : ear.skip(part)));
ticks.push(...ear.finish());
console.log(JSON.stringify({ ticks: ticks.map((tick) => ({ ...tick, total: [...tick.total] })), seconds: ear.seconds }));
