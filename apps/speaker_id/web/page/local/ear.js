// The ear: sound of any rate in, ticks out, through one resampler, one pass of each detector and one of the model.
import { Resampler } from "./resampler.js";
import { TICK_SECONDS, hasSpeech, levelDbfs, mean, plusDifference, tickZero } from "./ticks.js";

const TICK_BLOCKS = 5;
const FULL_SCALE = 0.999;
const CLIPPED_SHARE = 0.005;

function joined(arrays) {
  const all = new Float32Array(arrays.reduce((length, array) => length + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    all.set(array, at);
    at += array.length;
  }
  return all;
}

// The probability of what a model detects, from 0 to 1, in a stream of samples; at the threshold it is 0.5.
class Detector {
  #streams;
  #threshold;
  #resampler;
  #rates;

  constructor({ model, threshold }, sampleRate) {
    this.#streams = model.streams();
    this.#threshold = threshold;
    this.#rates = [sampleRate, model.info.sampleRate];
    this.reset();
  }

  reset() {
    this.#streams.reset();
    this.#resampler = new Resampler(...this.#rates);
  }

  // What it says of the steps that these samples complete.
  push(samples) {
    const outputs = this.#streams.push(this.#resampler.push(samples));
    return Array.from(outputs, (output) => 1 / (1 + Math.exp(this.#threshold - output)));
  }
}

// Turns a stream of samples into ticks, in constant memory. Whatever decides takes the ticks of one ear, so that a sample is
// heard once however many listen.
//   model       the embedder of the runtime
//   detectors   { speech, overlap }, see models.js
//   sampleRate  of what it is given
export class Ear {
  #rateIn;
  #rateOut;
  #resampler;
  #streams;
  #speechDetector;
  #overlapDetector;
  #block;
  #samplesIn = 0; // heard or lost
  #samplesOut = 0;
  #pending = new Float32Array(0);
  #blocks = []; // of the tick that is under way
  #passedOver = 0; // of these, before the last loss: the model does not hear them
  #speech = []; // what the detectors said in it
  #overlap = [];
  #last;
  #total; // of the model, ticks without speech included
  #frames = 0;

  constructor(model, detectors, sampleRate) {
    this.#rateIn = sampleRate;
    this.#rateOut = model.info.sampleRate;
    this.#resampler = new Resampler(this.#rateIn, this.#rateOut);
    this.#streams = model.streams();
    this.#speechDetector = new Detector(detectors.speech, this.#rateOut);
    this.#overlapDetector = new Detector(detectors.overlap, this.#rateOut);
    this.#block = Math.round((TICK_SECONDS / TICK_BLOCKS) * this.#rateOut);
    this.#last = tickZero(model.info.hiddenSize);
    this.#total = this.#last.total;
  }

  // How much sound has been heard or lost.
  get seconds() {
    return this.#samplesIn / this.#rateIn;
  }

  // The ticks that these samples complete.
  push(samples) {
    this.#samplesIn += samples.length;
    return this.#hear(this.#resampler.push(samples));
  }

  // The ticks that are completed by what the resampler still holds; what follows is resampled afresh.
  flush() {
    const rest = this.#resampler.flush().subarray(0, this.#missing);
    this.#resampler = new Resampler(this.#rateIn, this.#rateOut);
    return this.#hear(rest);
  }

  // Let the clock go on by samples that were lost; what follows is heard afresh. The ticks that the loss completes are
  // returned; in those without one sample nobody speaks.
  skip(lost) {
    const ticks = this.flush(); // what the resampler holds belongs before the gap
    this.#samplesIn += lost;
    const missing = this.#missing;
    const tick = this.#block * TICK_BLOCKS;
    const begun = this.#blocks.length * this.#block + this.#pending.length;
    const first = Math.min(missing, begun ? tick - begun : 0);
    ticks.push(...this.#hear(new Float32Array(first)));
    this.#streams.reset();
    this.#passedOver = this.#blocks.length;
    this.#speechDetector.reset();
    this.#overlapDetector.reset();
    this.#total = new Float64Array(this.#total.length);
    this.#frames = 0;
    const whole = Math.floor((missing - first) / tick);
    if (whole) {
      this.#last = { ...this.#last, speech: 0, level: -120, clipped: false, overlap: 0 };
      for (let i = 0; i < whole; i++) ticks.push(this.#last);
      this.#samplesOut += whole * tick;
    }
    return [...ticks, ...this.#hear(new Float32Array((missing - first) % tick))];
  }

  // The stream is over: what is left, the tick that is under way included.
  finish() {
    const ticks = this.flush();
    return this.#blocks.length ? [...ticks, this.#endTick()] : ticks;
  }

  // The samples at the model's rate that it has not had yet, by the source's clock: roundings do not add up.
  get #missing() {
    return Math.max(0, Math.round((this.#samplesIn * this.#rateOut) / this.#rateIn) - this.#samplesOut);
  }

  // The ticks that samples at the model's rate complete.
  #hear(samples) {
    this.#samplesOut += samples.length;
    const pending = joined([this.#pending, samples]);
    const ticks = [];
    let at = 0;
    for (; at + this.#block <= pending.length; at += this.#block) {
      const block = pending.subarray(at, at + this.#block);
      this.#speech.push(...this.#speechDetector.push(block));
      this.#overlap.push(...this.#overlapDetector.push(block));
      this.#blocks.push(block);
      if (this.#blocks.length === TICK_BLOCKS) ticks.push(this.#endTick());
    }
    this.#pending = pending.slice(at);
    return ticks;
  }

  #endTick() {
    const unheard = this.#blocks.slice(this.#passedOver);
    if (unheard.length) this.#streams.push(joined(unheard));
    this.#passedOver = 0;
    const { sum, steps } = this.#streams.sum();
    const samples = joined(this.#blocks);
    const clipped = samples.filter((sample) => Math.abs(sample) >= FULL_SCALE).length / samples.length;
    const tick = {
      ...this.#last,
      speech: this.#speech.length ? Math.max(...this.#speech) : this.#last.speech,
      level: levelDbfs(samples),
      clipped: clipped > CLIPPED_SHARE,
      overlap: this.#overlap.length ? mean(this.#overlap) : this.#last.overlap,
    };
    if (hasSpeech(tick)) {
      tick.total = plusDifference(tick.total, this.#total, sum);
      tick.frames += steps - this.#frames;
      tick.spoken++;
    }
    this.#total = sum;
    this.#frames = steps;
    this.#last = tick;
    this.#blocks = [];
    this.#speech = [];
    this.#overlap = [];
    return tick;
  }
}
