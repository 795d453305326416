// Speech of one voice, gathered from the ticks of a stream in constant memory.
import { TICK_SECONDS, meanOutput, rounded } from "./ticks.js";

const ENOUGH_SECONDS = 2; // of speech of one voice without a pause: it is a recording of that voice

export class Gathering {
  #speaker;
  #whose = null;
  #since = null;

  constructor(speaker) {
    this.#speaker = speaker;
  }

  // Take a tick with speech of somebody (null: of nobody known), and the one before it; give what is enough, or null.
  take(before, tick, whose) {
    if (this.#since === null || whose !== this.#whose) [this.#since, this.#whose] = [before, whose];
    const seconds = rounded((tick.spoken - this.#since.spoken) * TICK_SECONDS, 1);
    if (seconds < ENOUGH_SECONDS) return null;
    const since = this.#since;
    this.#since = null;
    return { seconds, embedding: this.#speaker.embed(meanOutput(since, tick)) };
  }

  // Forget what is not enough yet.
  pause() {
    this.#since = null;
  }
}

// Two recordings of a voice as one.
export function joined(one, other) {
  const total = Float32Array.from(one.embedding, (value, i) => one.seconds * value + other.seconds * other.embedding[i]);
  const length = Math.hypot(...total);
  return { seconds: one.seconds + other.seconds, embedding: total.map((value) => value / length) };
}
