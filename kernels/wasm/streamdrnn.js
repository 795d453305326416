// Live streams of a trained model: the native runtime as WebAssembly, for Node, pages, workers and audio worklets.
// streamdrnn.d.ts says what everything takes and gives; kernels/cpu/src/streamdrnn.h is the interface beneath.

const HEADS = [null, "classifier", "tagger", "embedder"];
const WEIGHTS = ["float32", "bf16", "int8"];
const NO_MEMORY = 2;
const INFO_BYTES = 56;
const WHY_BYTES = 400;

export class StreamdrnnError extends Error {
  constructor(message, code) {
    super(message);
    this.name = "StreamdrnnError";
    this.code = code;
  }
}

export async function compile(wasm = new URL("runtime.wasm", import.meta.url)) {
  if (typeof wasm !== "string" && !(wasm instanceof URL)) return WebAssembly.compile(wasm);
  if (String(wasm).startsWith("file:")) {
    const { readFile } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:fs/promises");
    return WebAssembly.compile(await readFile(new URL(wasm)));
  }
  const answer = await fetch(wasm);
  if (!answer.ok) throw new Error(`${wasm}: ${answer.status} ${answer.statusText}`);
  return WebAssembly.compile(await answer.arrayBuffer()); // servers need not know the type of such a file
}

export async function load(file, { module, weights } = {}) {
  return new Model(await WebAssembly.instantiate(module ?? (await compile()), IMPORTS), file, weights);
}

export function loadSync(file, module, { weights } = {}) {
  return new Model(new WebAssembly.Instance(module, IMPORTS), file, weights);
}

// The system, of which the runtime asks nothing.
const IMPORTS = {
  env: { emscripten_notify_memory_growth() {} },
  wasi_snapshot_preview1: {
    proc_exit(code) {
      throw new Error(`the runtime ended with code ${code}`);
    },
  },
};

// An instance and its memory. Views are made for every use: they end when the memory grows.
class Runtime {
  #functions;
  #room = 0; // memory for what goes in and out of a call
  #bytes = 0;

  constructor(instance) {
    this.#functions = instance.exports;
    this.#functions._initialize();
  }

  // The result of a C function.
  call(name, ...values) {
    return this.#functions[`streamdrnn_${name}`](...values);
  }

  // The same for one that gives a code; `why` is the address of a line about it.
  check(name, ...values) {
    this.throwUnlessOk(this.call(name, ...values));
  }

  throwUnlessOk(code, why = "") {
    if (code) throw new StreamdrnnError(this.text(this.call("message", code)) + (why && `: ${why}`), code);
  }

  // The addresses of so many bytes each, until the next call.
  room(...sizes) {
    const rounded = sizes.map((size) => Math.ceil(size / 16) * 16);
    const bytes = rounded.reduce((a, b) => a + b);
    if (bytes > this.#bytes) {
      this.#functions.free(this.#room);
      this.#room = this.#functions.malloc(bytes);
      this.#bytes = this.#room ? bytes : 0;
      if (!this.#room) this.throwUnlessOk(NO_MEMORY);
    }
    let next = this.#room;
    return rounded.map((size) => (next += size) - size);
  }

  // A typed array of memory.
  view(kind, address, length) {
    return new kind(this.#functions.memory.buffer, address, length);
  }

  text(address) {
    const bytes = this.view(Uint8Array, address);
    return String.fromCharCode(...bytes.subarray(0, bytes.indexOf(0))); // worklets have no TextDecoder
  }
}

class Model {
  info;
  #runtime;
  #model;

  constructor(instance, file, weights = "float32") {
    if (!WEIGHTS.includes(weights)) throw new RangeError(`weights: got ${weights}, expected one of ${WEIGHTS}`);
    const runtime = (this.#runtime = new Runtime(instance));
    const bytes = file instanceof ArrayBuffer ? new Uint8Array(file) : file;
    const [from, model, why] = runtime.room(bytes.length, 4, WHY_BYTES);
    runtime.view(Uint8Array, from, bytes.length).set(bytes);
    runtime.view(Uint8Array, why, 1)[0] = 0;
    const kind = WEIGHTS.indexOf(weights);
    const code = runtime.call("model_load", from, bytes.length, kind, 0, model, why, WHY_BYTES);
    runtime.throwUnlessOk(code, runtime.text(why));
    [this.#model] = runtime.view(Uint32Array, model, 1);
    const [at] = runtime.room(INFO_BYTES);
    runtime.call("model_info", this.#model, at);
    const [head, sampleRate] = runtime.view(Int32Array, at, 2);
    const sizes = Array.from(runtime.view(BigInt64Array, at + 8, 6), Number);
    const [inputSize, hopLength, window, hiddenSize, outputSize, stateSize] = sizes;
    this.info = Object.freeze({
      head: HEADS[head],
      sampleRate,
      inputSize,
      hopLength,
      window,
      hiddenSize,
      outputSize,
      stateSize,
    });
  }

  streams(batchSize = 1) {
    return new Streams(this.#runtime, this.#model, this.info, batchSize);
  }
}

class Streams {
  batchSize;
  #runtime;
  #info;
  #streams;

  constructor(runtime, model, info, batchSize) {
    this.batchSize = batchSize;
    this.#runtime = runtime;
    this.#info = info;
    const [at] = runtime.room(4);
    runtime.check("streams_new", model, BigInt(batchSize), at);
    [this.#streams] = runtime.view(Uint32Array, at, 1);
  }

  push(x, lengths) {
    const runtime = this.#runtime;
    const width = this.batchSize * this.#info.inputSize;
    const n = x.length / width;
    if (!Number.isInteger(n)) throw new RangeError(`x: got ${x.length} numbers, expected a multiple of ${width}`);
    if (lengths && lengths.length !== this.batchSize) {
      throw new RangeError(`lengths: got ${lengths.length}, expected ${this.batchSize}`);
    }
    const most = Number(runtime.call("most_steps", this.#open, BigInt(n)));
    const outputs = this.batchSize * this.#info.outputSize;
    const [from, own, to, steps] = runtime.room(4 * x.length, 8 * this.batchSize, 4 * most * outputs, 8);
    runtime.view(Float32Array, from, x.length).set(x);
    if (lengths) runtime.view(BigInt64Array, own, this.batchSize).set(Array.from(lengths, BigInt));
    runtime.check("push", this.#open, BigInt(n), from, lengths ? own : 0, to, steps);
    const [made] = runtime.view(BigInt64Array, steps, 1);
    return runtime.view(Float32Array, to, Number(made) * outputs).slice();
  }

  output(stream = 0) {
    const [at] = this.#runtime.room(4 * this.#info.outputSize);
    this.#runtime.check("output", this.#open, BigInt(stream), at);
    return this.#runtime.view(Float32Array, at, this.#info.outputSize).slice();
  }

  sum(stream = 0) {
    const [sum, steps] = this.#runtime.room(8 * this.#info.hiddenSize, 8);
    this.#runtime.check("sum", this.#open, BigInt(stream), sum, steps);
    return {
      sum: this.#runtime.view(Float64Array, sum, this.#info.hiddenSize).slice(),
      steps: Number(this.#runtime.view(BigInt64Array, steps, 1)[0]),
    };
  }

  readOut(mean) {
    const { hiddenSize, outputSize } = this.#info;
    if (mean.length !== hiddenSize) throw new RangeError(`mean: got ${mean.length} numbers, expected ${hiddenSize}`);
    const [from, to] = this.#runtime.room(4 * hiddenSize, 4 * outputSize);
    this.#runtime.view(Float32Array, from, hiddenSize).set(mean);
    this.#runtime.check("read_out", this.#open, from, to);
    return this.#runtime.view(Float32Array, to, outputSize).slice();
  }

  reset(stream) {
    const streams = stream === undefined ? Array.from({ length: this.batchSize }, (_, i) => i) : [stream];
    for (const one of streams) this.#runtime.check("reset", this.#open, BigInt(one));
  }

  snapshot(stream = 0) {
    const [at] = this.#runtime.room(this.#info.stateSize);
    this.#runtime.check("snapshot", this.#open, BigInt(stream), at);
    return this.#runtime.view(Uint8Array, at, this.#info.stateSize).slice();
  }

  restore(state, stream = 0) {
    const { stateSize } = this.#info;
    if (state.length !== stateSize) throw new RangeError(`state: got ${state.length} bytes, expected ${stateSize}`);
    const [at] = this.#runtime.room(stateSize);
    this.#runtime.view(Uint8Array, at, stateSize).set(state);
    this.#runtime.check("restore", this.#open, BigInt(stream), at);
  }

  free() {
    this.#runtime.call("streams_free", this.#streams);
    this.#streams = 0;
  }

  get #open() {
    if (!this.#streams) throw new Error("these streams have been freed");
    return this.#streams;
  }
}
