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

  // One more state: where the first is the best now, and was so all along, it is the new one instead.
  splitFirstState() {
    const added = this.#best.length;
    this.#best.push(this.#best[0]);
    this.#best[0] -= this.#switchCost;
    this.#cameFrom = this.#cameFrom.map((step) => [...step, step[0] === 0 ? added : step[0]]);
  }

  #path() {
    const path = this.#cameFrom.length ? [best(this.#best)] : [];
    for (let step = this.#cameFrom.length - 1; step > 0; step--) path.push(this.#cameFrom[step][path.at(-1)]);
    return path.reverse();
  }
}

const CRUMB_SECONDS = 0.5;
const labelOf = ({ speaker, nobody }) => speaker ?? nobody;

// Joins the decisions of single ticks, { speaker, nobody, score, probability, overlap }, into segments, { start, end, speaker,
// score, probability, label, overlap }, in seconds. The speaker is null where nobody speaks, or nobody who is enrolled; then the
// label is that of nobody. Score and probability are the means of the ticks', and the overlap is for how long another voice
// speaks at the same time. A decision that holds for less than half a second makes no segment: its time goes to the segment
// before it, or at the beginning to the one after it.
export class TurnBuilder {
  #tick;
  #enough;
  #ticks = 0;
  #turn = null; // the segment under way: { decision, start, ticks, sums, overlap }
  #newest = null; // the same, or what may come after it

  constructor(tick) {
    this.#tick = tick;
    this.#enough = Math.round(CRUMB_SECONDS / tick);
  }

  // Take the decision for the next tick; give the segment that it ends, if it does.
  push(decision) {
    const isOf = (run) => run !== null && labelOf(decision) === labelOf(run.decision);
    if (!isOf(this.#newest)) {
      const crumb = this.#newest;
      const start = this.#turn ? this.#ticks : 0;
      this.#newest = isOf(this.#turn) ? this.#turn : { decision, start, ticks: 0, sums: [0, 0], overlap: 0 };
      if (crumb !== this.#turn) (this.#turn ?? this.#newest).overlap += crumb.overlap;
    }
    const newest = this.#newest;
    const turn = this.#turn;
    newest.ticks++;
    newest.overlap += decision.overlap;
    newest.sums = [newest.sums[0] + decision.score, newest.sums[1] + decision.probability];
    this.#ticks++;
    if (newest === turn || newest.ticks < this.#enough) return null;
    this.#turn = newest;
    return turn && this.#segment(turn, this.#tick * newest.start);
  }

  // From now on, what is under way with a label is this speaker's, or (null) nobody's with another label.
  relabel(label, speaker, nobody) {
    for (const run of [this.#turn, this.#newest]) {
      if (run && labelOf(run.decision) === label) run.decision = { ...run.decision, speaker, nobody };
    }
  }

  // The last segment, up to the stream's end in seconds.
  finish(end) {
    const last = this.#turn ?? this.#newest;
    if (last !== this.#newest) last.overlap += this.#newest.overlap;
    return last && this.#segment(last, end);
  }

  #segment(run, end) {
    const [score, probability] = run.sums.map((sum) => rounded(sum / run.ticks, 4));
    return {
      start: rounded(this.#tick * run.start, 3),
      end: rounded(end, 3),
      speaker: run.decision.speaker,
      score,
      probability,
      label: labelOf(run.decision),
      overlap: rounded(this.#tick * run.overlap, 3),
    };
  }
}
