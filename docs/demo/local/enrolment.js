// From the sound of one voice to what is kept of it.
import { TICK_SECONDS, hasSpeech, meanOutput, plusDifference, rounded, tickZero } from "./ticks.js";

const MIN_SECONDS = 1; // less clear speech than this is no enrolment

// Listens to one voice until enough clear speech has been heard: speech by the detector's judgement, not clipped.
// With midStream it begins while a tick may be under way: the first one, in part from before, is left out.
export class Enrolment {
  #speaker;
  #last;
  #clear;
  #begun;

  constructor(speaker, midStream = false) {
    this.#speaker = speaker;
    this.#last = this.#clear = tickZero(speaker.hiddenSize);
    this.#begun = !midStream;
  }

  get progress() {
    const { level, clipped } = this.#last;
    return { seconds: rounded(this.#clear.spoken * TICK_SECONDS, 1), level, speaking: hasSpeech(this.#last), clipped };
  }

  hear(ticks) {
    for (const tick of ticks) {
      if (this.#begun && hasSpeech(tick) && !tick.clipped) {
        this.#clear = {
          ...this.#clear,
          total: plusDifference(this.#clear.total, this.#last.total, tick.total),
          frames: this.#clear.frames + tick.frames - this.#last.frames,
          spoken: this.#clear.spoken + 1,
        };
      }
      this.#begun = true;
      this.#last = tick;
    }
  }

  // What was heard of the voice: { seconds, embedding }.
  finish() {
    const { seconds } = this.progress;
    if (seconds < MIN_SECONDS) {
      throw new Error(`${seconds.toFixed(1)} s of clear speech, expected ${MIN_SECONDS} s or more`);
    }
    const mean = meanOutput(tickZero(this.#speaker.hiddenSize), this.#clear);
    return { seconds, embedding: this.#speaker.embed(mean) };
  }
}
