// Streams of a model in WebAssembly: wasm_streams.mjs < request.json > answer.json
import { readFileSync } from "node:fs";
import { load } from "../../kernels/wasm/streamdrnn.js";

const { file, weights, batchSize, x, chunks, lengths } = JSON.parse(readFileSync(0, "utf8"));
const model = await load(readFileSync(file), { weights });
const width = batchSize * model.info.inputSize;
const samples = Float32Array.from(x);

// The whole in one chunk, of which each stream has its own length; then in other chunks.
const whole = model.streams(batchSize).push(samples, lengths);
const cut = chunks.map((sizes) => {
  const streams = model.streams(batchSize);
  const outputs = [];
  for (let at = 0, i = 0; at < samples.length; i++) {
    const n = sizes[i % sizes.length] * width;
    outputs.push(...streams.push(samples.subarray(at, at + n)));
    at += n;
  }
  return outputs;
});

// One stream leaves its way and comes back; another one begins anew.
const streams = model.streams(batchSize);
const half = Math.floor(samples.length / width / 2) * width;
streams.push(samples.subarray(0, half));
const state = streams.snapshot(1);
streams.push(samples.subarray(0, half));
streams.restore(state, 1);
streams.reset(0);
const after = [...streams.push(samples.subarray(half))];
streams.reset();
const again = [...streams.push(samples)];
const pools = model.info.head === "embedder";
const { sum, steps } = pools ? streams.sum(1) : { sum: [], steps: 0 };
const readOut = pools ? [...streams.readOut(Array.from(sum, (one) => one / steps))] : [];
const output = streams.output(1);
streams.free();
const summary = { sum: [...sum], steps, readOut, output: [...output] };
console.log(JSON.stringify({ info: model.info, whole: [...whole], cut, after, again, summary }));
