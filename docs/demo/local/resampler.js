// One channel from one sample rate to another, in chunks of any lengths: a windowed sinc for each of the phases that an
// output can have between two inputs. What comes out does not depend on the chunks. Equal rates pass through.
const ZERO_CROSSINGS = 64; // of the sinc, on each side: outputs come 4 ms late at 16 kHz
const PASSED = 0.975; // of the lower rate's band, where the filter has fallen by half
const KAISER = 8; // about 80 dB of stop band

const divisor = (a, b) => (b ? divisor(b, a % b) : a);

// The modified Bessel function of the first kind and order 0, by its series.
function bessel(x) {
  let [sum, term] = [1, 1];
  for (let k = 1; term > 1e-12 * sum; k++) sum += term *= (x / (2 * k)) ** 2;
  return sum;
}

const sinc = (x) => (x ? Math.sin(Math.PI * x) / (Math.PI * x) : 1);

export class Resampler {
  #up;
  #down;
  #half; // inputs on each side of an output
  #filters = []; // by phase
  #inputs; // that are still needed
  #phase = 0; // of the next output, whose filter begins at the first input, in parts of an input

  constructor(rateIn, rateOut) {
    const common = divisor(rateIn, rateOut);
    this.#up = rateOut / common;
    this.#down = rateIn / common;
    const cutoff = PASSED * Math.min(1, rateOut / rateIn);
    this.#half = Math.ceil(ZERO_CROSSINGS / cutoff);
    this.#inputs = new Float32Array(this.#half - 1);
    if (rateIn === rateOut) return;
    for (let phase = 0; phase < this.#up; phase++) {
      const taps = Float64Array.from({ length: 2 * this.#half }, (_, k) => {
        const t = k - this.#half + 1 - phase / this.#up;
        return sinc(cutoff * t) * bessel(KAISER * Math.sqrt(Math.max(0, 1 - (t / this.#half) ** 2)));
      });
      const sum = taps.reduce((a, b) => a + b);
      this.#filters.push(taps.map((tap) => tap / sum));
    }
  }

  // The outputs that these samples complete.
  push(samples) {
    if (!this.#filters.length) return samples;
    const inputs = new Float32Array(this.#inputs.length + samples.length);
    inputs.set(this.#inputs);
    inputs.set(samples, this.#inputs.length);
    const outputs = [];
    let at = 0;
    for (; at + 2 * this.#half <= inputs.length; ) {
      const filter = this.#filters[this.#phase];
      let sum = 0;
      for (let k = 0; k < filter.length; k++) sum += filter[k] * inputs[at + k];
      outputs.push(sum);
      this.#phase += this.#down;
      at += Math.floor(this.#phase / this.#up);
      this.#phase %= this.#up;
    }
    this.#inputs = inputs.slice(at);
    return Float32Array.from(outputs);
  }

  // The stream is over: the outputs that are left, of inputs that have been heard, and some of the silence after them.
  flush() {
    return this.#filters.length ? this.push(new Float32Array(this.#half)) : new Float32Array(0);
  }
}
