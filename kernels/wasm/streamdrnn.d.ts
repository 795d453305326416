/** What kind of result a model gives: one per sequence, one per step, a voice's embedding; null is the network's outputs. */
export type Head = "classifier" | "tagger" | "embedder" | null;

/** How a model's weights are held. The narrower ones are rounded once; sums are float32 always. */
export type Weights = "float32" | "bf16" | "int8";

/** The sizes of a model. */
export interface Info {
  readonly head: Head;
  /** Samples per second of what it hears; 0 without a front-end. */
  readonly sampleRate: number;
  /** I: numbers per step; 1, a sample, with a front-end. */
  readonly inputSize: number;
  /** Samples from one step to the next; 1 without a front-end. */
  readonly hopLength: number;
  /** Samples that the first step waits for; 1 without a front-end. */
  readonly window: number;
  /** H: the outputs of the network. */
  readonly hiddenSize: number;
  /** M: numbers of an output. */
  readonly outputSize: number;
  /** Bytes of a stream's snapshot. */
  readonly stateSize: number;
}

/** What the runtime refused; its streams are as they were. The message says what is wrong with a file. */
export class StreamdrnnError extends Error {
  /** One of the codes in streamdrnn.h. */
  readonly code: number;
}

/**
 * Streams of a model that go on for ever in constant memory. How a sequence is cut into chunks, and what other streams are
 * beside it, never changes a bit of a result. Arrays are contiguous, the last index the fastest.
 */
export interface Streams {
  readonly batchSize: number;
  /**
   * The outputs (steps, batchSize, M) of the next chunk of all streams.
   *
   * @param x samples (n, batchSize), or without a front-end steps (n, batchSize, I); all of them finite.
   * @param lengths (batchSize): how many of the n are a stream's own, from the beginning on; the others may hold anything.
   * @throws RangeError a length does not fit.
   * @throws StreamdrnnError an input is NaN or infinite; nothing has been heard then.
   */
  push(x: ArrayLike<number>, lengths?: ArrayLike<number>): Float32Array;
  /** The output (M) that a stream's steps so far lead to: a classifier's or an embedder's judgement; else 0. */
  output(stream?: number): Float32Array;
  /** The sum (H) of the network's outputs so far, and of how many; a classifier of means and an embedder know it. */
  sum(stream?: number): { sum: Float64Array; steps: number };
  /** The output (M) of a classifier or an embedder for a mean (H) of the network's outputs. */
  readOut(mean: ArrayLike<number>): Float32Array;
  /** Put a stream, or all of them, back at the beginning. */
  reset(stream?: number): void;
  /** A copy of a stream's state. */
  snapshot(stream?: number): Uint8Array;
  /** Go on from a snapshot of any stream of this model. It may come from anywhere: it is checked. */
  restore(state: Uint8Array, stream?: number): void;
  /** Give the memory back; otherwise that is done when nobody has the model and its streams any more. */
  free(): void;
}

/** A model in memory of its own. It never changes. */
export interface Model {
  readonly info: Info;
  /** Streams at their beginning; one by default. */
  streams(batchSize?: number): Streams;
}

/**
 * Compile the runtime, for several models or for threads without `fetch`: modules can be posted to workers and worklets.
 *
 * @param wasm the bytes of runtime.wasm or where they are, if not beside this file.
 */
export function compile(wasm?: string | URL | BufferSource): Promise<WebAssembly.Module>;

/**
 * Make a model from the bytes of its file, model.safetensors as the Python package writes it.
 *
 * @throws StreamdrnnError the file is damaged, or of a kind that the runtime does not know.
 */
export function load(
  file: ArrayBuffer | Uint8Array,
  options?: { module?: WebAssembly.Module; weights?: Weights },
): Promise<Model>;

/** The same at once, for audio worklets. */
export function loadSync(
  file: ArrayBuffer | Uint8Array,
  module: WebAssembly.Module,
  options?: { weights?: Weights },
): Model;
