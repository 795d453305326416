// The messages of what the WebAssembly module refuses: wasm_refusals.mjs < request.json > answer.json
import { readFileSync } from "node:fs";
import { StreamdrnnError, compile, load, loadSync } from "../../kernels/wasm/streamdrnn.js";

const { file } = JSON.parse(readFileSync(0, "utf8"));
const bytes = readFileSync(file);
const model = await load(bytes);
const streams = model.streams(2);
const freed = model.streams();
freed.free();
const before = streams.push([0.5, 0.25, -0.5, 1]);
streams.reset();
const attempts = {
  damaged: () => load(bytes.subarray(0, 100)),
  weights: () => load(bytes, { weights: "float8" }),
  nan: () => streams.push([0, NaN]),
  odd: () => streams.push([1, 2, 3]),
  lengths: () => streams.push([1, 2], [1]),
  long: () => streams.push([1, 2], [1, 2]),
  stream: () => streams.reset(2),
  none: () => model.streams(0),
  many: () => model.streams(1e9),
  state: () => streams.restore(new Uint8Array(3)),
  garbage: () => streams.restore(new Uint8Array(model.info.stateSize).fill(255)),
  freed: () => freed.push([1]),
};
const answer = { codes: [] };
for (const [name, attempt] of Object.entries(attempts)) {
  try {
    await attempt();
  } catch (error) {
    answer[name] = error.message;
    if (error instanceof StreamdrnnError) answer.codes.push(name);
  }
}
answer.unchanged = streams.push([0.5, 0.25, -0.5, 1]).every((value, i) => value === before[i]);

// An audio worklet has neither of these.
const module = await compile();
delete globalThis.TextDecoder;
delete globalThis.fetch;
answer.atOnce = loadSync(bytes, module).streams(2).push([0.5, 0.25, -0.5, 1]).every((value, i) => value === before[i]);
console.log(JSON.stringify(answer));
