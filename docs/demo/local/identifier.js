// Who speaks when, and who speaks now, from a stream of ticks, in constant memory.
import { TICK_SECONDS, hasSpeech, meanOutput, rounded, tickZero } from "./ticks.js";
import { FixedLagViterbi, TurnBuilder } from "./turns.js";

const REACH_TICKS = 5; // a moment is judged by the outputs from this long before it to this long after it
const LAG_TICKS = 8;
const SWITCH_COST = 0.6;
const SILENCE_TICKS = 5; // a moment is silent if nobody speaks so near to it
const FORGET_TICKS = 30; // who speaks now is judged by the speech of the present turn that is no older than this
const MIN_EVIDENCE_SECONDS = 1.5; // with less speech than this nobody is named yet

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

// Attributes a stream of ticks to enrolled voices. A decision about a moment is made 1.3 s after it, when what follows has
// been heard; now() does not wait for that.
//   speaker    { hiddenSize, embed(mean output) }
//   voices     Map of names to embeddings; without any, every voice is unknown
//   threshold  the cosine below which a voice is nobody's
export class Identifier {
  ticks = 0; // that have been heard
  #speaker;
  #threshold;
  #notes;
  #judged = 0; // ticks that have been scored
  #undecided = []; // the cosines of scored ticks, null in silence
  #turns = new TurnBuilder(TICK_SECONDS);
  #voices;
  #path;
  #decidedState;
  #decidedStart;

  constructor(speaker, voices, threshold) {
    this.#speaker = speaker;
    this.#threshold = threshold;
    this.#notes = [tickZero(speaker.hiddenSize)];
    this.#use(voices);
  }

  get names() {
    return [...this.#voices.keys()];
  }

  // The segments that have ended, by the ticks that follow, in order of time.
  hear(ticks) {
    const ended = [];
    for (const tick of ticks) {
      this.#notes.push(tick);
      if (this.#notes.length > FORGET_TICKS + REACH_TICKS + 2) this.#notes.shift();
      this.ticks++;
      if (this.ticks - this.#judged > REACH_TICKS) ended.push(...this.#judge());
    }
    return ended;
  }

  // Go on with other voices; what is undecided is decided now, and returned as by hear().
  replaceVoices(voices) {
    const ended = this.#path.undecided().flatMap((state) => this.#decide(state));
    this.#use(voices);
    return ended;
  }

  // The stream is over, after so many seconds: the segments that are left.
  finish(seconds) {
    const ended = [];
    while (this.#judged < this.ticks) ended.push(...this.#judge());
    for (const state of this.#path.undecided()) ended.push(...this.#decide(state));
    const last = this.#turns.finish(seconds);
    return last ? [...ended, last] : ended;
  }

  // Who speaks now, by the running embedding of the present turn, the last three seconds of it: the label is a name,
  // "(unknown)", "(listening)" (too little evidence yet) or "(silence)"; the score under "(unknown)" is the one to reach.
  now() {
    const last = this.#notes.at(-1);
    const first = this.#note(Math.max(this.#turnStart(), this.ticks - FORGET_TICKS) - 1);
    const evidence = rounded((last.spoken - first.spoken) * TICK_SECONDS, 3);
    const names = this.names;
    const heard = last.frames > first.frames;
    const cosines = heard ? this.#cosines(first, last) : [];
    let [speaker, label] = [null, "(listening)"];
    if (!this.#speechNear(this.ticks - SILENCE_TICKS, this.ticks - 1)) label = "(silence)";
    else if (evidence >= MIN_EVIDENCE_SECONDS) {
      const most = Math.max(...cosines);
      speaker = most >= this.#threshold ? names[cosines.indexOf(most)] : null;
      label = speaker ?? "(unknown)";
    }
    const scores = heard ? [...names.map((name, i) => [name, cosines[i]]), ["(unknown)", this.#threshold]] : [];
    const time = rounded(this.ticks * TICK_SECONDS, 3);
    return { time, speaker, label, scores: Object.fromEntries(scores), evidence, level: last.level };
  }

  #use(voices) {
    this.#voices = voices;
    this.#path = new FixedLagViterbi(1 + voices.size, SWITCH_COST, LAG_TICKS);
    this.#decidedState = 0;
    this.#decidedStart = this.#judged - this.#undecided.length;
  }

  // The note at the end of a tick, or the nearest there is.
  #note(tick) {
    const oldest = this.ticks - this.#notes.length;
    return this.#notes[Math.min(Math.max(tick - oldest, 0), this.#notes.length - 1)];
  }

  #speechNear(first, last) {
    for (let tick = first; tick <= last; tick++) if (hasSpeech(this.#note(tick))) return true;
    return false;
  }

  #cosines(first, last) {
    const embedding = this.#speaker.embed(meanOutput(first, last));
    return [...this.#voices.values()].map((voice) => dot(voice, embedding));
  }

  // The tick with which the present turn began, as it looks now.
  #turnStart() {
    const states = [this.#decidedState, ...this.#path.undecided()];
    let start = this.#judged;
    while (states.length > 1 && states.at(-1) === states.at(-2)) {
      states.pop();
      start--;
    }
    return states.length > 1 ? start - 1 : this.#decidedStart;
  }

  // Score the next tick; give the segments that this decides.
  #judge() {
    const tick = this.#judged++;
    const first = this.#note(tick - REACH_TICKS - 1);
    const last = this.#note(tick + REACH_TICKS);
    const silent = last.frames === first.frames || !this.#speechNear(tick - SILENCE_TICKS, tick + SILENCE_TICKS);
    const cosines = silent ? null : this.#cosines(first, last);
    this.#undecided.push(cosines);
    // 0 for nobody, and in silence for everybody.
    const scores = [0, ...Array.from(this.#voices, (_, i) => (cosines ? cosines[i] - this.#threshold : 0))];
    const state = this.#path.push(scores);
    return state === undefined ? [] : this.#decide(state);
  }

  // Take the path's decision for the oldest undecided tick.
  #decide(state) {
    if (state !== this.#decidedState) {
      this.#decidedState = state;
      this.#decidedStart = this.#judged - this.#undecided.length;
    }
    const cosines = this.#undecided.shift();
    let [speaker, score] = [null, 0];
    if (cosines) {
      speaker = state ? this.names[state - 1] : null;
      // With nobody enrolled the nearest voice is as far as can be; 0 would be silence.
      score = state ? cosines[state - 1] : cosines.length ? Math.max(...cosines) : -1;
    }
    const ended = this.#turns.push(speaker, score);
    return ended ? [ended] : [];
  }
}
