// Resamples in several chunkings: resample.mjs FOLDER-OF-THE-PAGE < request.json > answer.json
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { Resampler } = await import(new URL("local/resampler.js", pathToFileURL(`${process.argv[2]}/`)));
const request = JSON.parse(readFileSync(0, "utf8"));
const samples = Float32Array.from(request.samples);
const answer = request.chunks.map((sizes) => {
  const resampler = new Resampler(...request.rates);
  const outputs = [];
  for (let at = 0, i = 0; at < samples.length; i++) {
    const size = sizes[i % sizes.length];
    outputs.push(...resampler.push(samples.slice(at, at + size)));
    at += size;
  }
  return [...outputs, ...resampler.flush()];
});
console.log(JSON.stringify(answer));
