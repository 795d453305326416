// From scores to turns: who speaks when, decided a fixed time late.
import { rounded } from "./ticks.js";

const best = (values) => values.indexOf(Math.max(...values));

// The most likely sequence of states, where staying is free and every change has a price: by so much the summed scores of
// a change must win. A state is decided `lag` steps after its own, when later evidence has been heard.
export class FixedLagViterbi {
  #switchCost;
  #lag;
  #best;
  #cameFrom = []; // of the last lag + 1 steps: for each state the one before it

  constructor(states, switchCost, lag) {
    this.#switchCost = switchCost;
    this.#lag = lag;
    this.#best = new Array(states).fill(0);
  }

  // Take the scores of one step; give the state of `lag` steps ago once there is one.
  push(scores) {
    const change = best(this.#best);
    const changed = this.#best[change] - this.#switchCost;
    this.#cameFrom.push(this.#best.map((value, state) => (value >= changed ? state : change)));
    if (this.#cameFrom.length > this.#lag + 1) this.#cameFrom.shift();
    const sums = this.#best.map((value, state) => scores[state] + Math.max(value, changed));
    const most = Math.max(...sums); // only differences matter, and a long stream must not overflow them
    this.#best = sums.map((sum) => sum - most);
    return this.#cameFrom.length > this.#lag ? this.#path()[0] : undefined;
  }

  // The states of the last `lag` steps as they look now; later steps may change them.
  undecided() {
    return this.#lag ? this.#path().slice(-this.#lag) : [];
  }

  #path() {
    const path = this.#cameFrom.length ? [best(this.#best)] : [];
    for (let step = this.#cameFrom.length - 1; step > 0; step--) path.push(this.#cameFrom[step][path.at(-1)]);
    return path.reverse();
  }
}

// Joins the decisions of single ticks into segments: { start, end, speaker, score }, in seconds. The speaker is null in
// silence and for a voice that nobody enrolled; the score is the mean of the ticks', 0 in silence.
export class TurnBuilder {
  #tick;
  #speaker = null;
  #start = 0;
  #ticks = 0;
  #score = 0;

  constructor(tick) {
    this.#tick = tick;
  }

  // Take the decision for the next tick; give the segment that it ends, if it does.
  push(speaker, score) {
    let ended = null;
    // Silence and a voice that nobody enrolled are both nobody's, and yet two things.
    if (this.#ticks && (speaker !== this.#speaker || (score === 0) !== (this.#score === 0))) {
      ended = this.#segment(this.#tick * (this.#start + this.#ticks));
      this.#start += this.#ticks;
      this.#ticks = this.#score = 0;
    }
    this.#speaker = speaker;
    this.#ticks++;
    this.#score += score;
    return ended;
  }

  // The last segment, up to the stream's end in seconds.
  finish(end) {
    return this.#ticks ? this.#segment(end) : null;
  }

  #segment(end) {
    return {
      start: rounded(this.#tick * this.#start, 3),
      end: rounded(end, 3),
      speaker: this.#speaker,
      score: rounded(this.#score / this.#ticks, 4),
    };
  }
}
