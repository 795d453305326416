// Who speaks when, and who speaks now, from a stream of ticks, in constant memory.
import { NEAR_TICKS, TICK_SECONDS, hasSpeech, isOverlapped, meanOutput, rounded, tickZero } from "./ticks.js";
import { THRESHOLD, Voices, logOdds, probabilities } from "./scores.js";
import { Strangers } from "./strangers.js";
import { FixedLagViterbi, TurnBuilder } from "./turns.js";

const REACH_TICKS = 5; // a moment is judged by the outputs from this long before it to this long after it
const LAG_TICKS = 8;
const EVIDENCE_PER_TICK = 1 / 3; // the windows of neighbouring ticks overlap: each adds this part of what its ratio says
const SWITCH_COST = 1.4; // of a change of speakers, in the unit of log likelihood ratios
const SILENCE_TICKS = 5; // a moment is silent if nobody speaks so near to it
const FORGET_TICKS = 30; // who speaks now is judged by the speech of the present turn that is no older than this
const [PROBABLE_SECONDS, CERTAIN_SECONDS] = [1, 1.5]; // with less speech nobody is named, and nobody for certain
const CERTAIN = 0.9; // with a lower probability a name is said to be probable
const LOUD_DBFS = -45; // sound without speech is no silence if all of it is as loud as this
const [UNKNOWN, LISTENING, SILENCE, NO_SPEECH] = ["(unknown)", "(listening)", "(silence)", "(no speech)"];

// Attributes a stream of ticks to enrolled voices. A decision about a moment is made 1.3 s after it, when what follows has
// been heard; now() does not wait for that.
//   speaker    { hiddenSize, embed(mean output), scorer }
//   voices     Map of names to { seconds, embedding }; without any, every voice is unknown
//   threshold  the probability from which a voice is named
//   numberStrangers  voices that nobody enrolled have numbers: "Speaker 1", "Speaker 2", ...
export class Identifier {
  ticks = 0; // that have been heard
  #speaker;
  #threshold;
  #notes;
  #judged = 0; // ticks that have been scored
  #undecided = []; // of scored ticks: { nobody } where nobody speaks, else with { cosines, shares }
  #turns = new TurnBuilder(TICK_SECONDS);
  #known;
  #names;
  #strangers;
  #voices;
  #path;
  #decidedState;
  #decidedStart;

  constructor(speaker, voices, threshold = THRESHOLD, numberStrangers = false) {
    this.#speaker = speaker;
    this.#strangers = numberStrangers ? new Strangers(speaker) : null;
    this.#threshold = threshold;
    this.#notes = [tickZero(speaker.hiddenSize)];
    this.#use(voices);
  }

  get names() {
    return this.#names;
  }

  // Strangers who have a number.
  get strangers() {
    return this.#strangers ? [...this.#strangers.voices.keys()] : [];
  }

  // Whose voices are told apart: who is enrolled, and strangers who have a number.
  get #labels() {
    return [...this.#names, ...this.strangers];
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

  // A stranger has a name now: give what he has said, and forget him. What is undecided is decided now. { recording, ended }
  takeStranger(stranger, name) {
    const recording = this.#strangers?.voices.get(stranger);
    if (!recording) throw new Error(`${stranger}: no such stranger`);
    const ended = this.#path.undecided().flatMap((state) => this.#decide(state));
    this.#turns.relabel(stranger, name, UNKNOWN);
    this.#strangers.voices.delete(stranger);
    this.#use(this.#known);
    return { recording, ended };
  }

  // The stream is over, after so many seconds: the segments that are left.
  finish(seconds) {
    const ended = [];
    while (this.#judged < this.ticks) ended.push(...this.#judge());
    for (const state of this.#path.undecided()) ended.push(...this.#decide(state));
    const last = this.#turns.finish(seconds);
    return last ? [...ended, last] : ended;
  }

  // Who speaks now, by the running embedding of the present turn, the last three seconds of it. The speaker is a name if that
  // is certain; the label is for people: a name, "probably" one, "(unknown)", "(listening)" (it cannot be told yet),
  // "(no speech)" or "(silence)". Scores are cosines; under "(unknown)" stands how probable it is that it is nobody's voice.
  // The overlap is whether another voice speaks at the same time; the label is the louder one's.
  now() {
    const last = this.#notes.at(-1);
    const first = this.#note(Math.max(this.#turnStart(), this.ticks - FORGET_TICKS) - 1);
    const evidence = rounded((last.spoken - first.spoken) * TICK_SECONDS, 3);
    let [scores, probability] = [{}, {}];
    if (last.frames > first.frames) {
      const { cosines, logRatios } = this.#compare(first, last);
      const [nobody, ...known] = probabilities(logRatios);
      const labels = this.#labels;
      scores = Object.fromEntries(labels.map((name, i) => [name, cosines[i]]));
      probability = Object.fromEntries([...labels.map((name, i) => [name, known[i]]), [UNKNOWN, nobody]]);
    }
    const near = [this.ticks - SILENCE_TICKS, this.ticks - 1];
    const [speaker, label] = this.#speechNear(...near) ? this.#judgement(probability, evidence) : [null, this.#sound(...near)];
    const time = rounded(this.ticks * TICK_SECONDS, 3);
    const speaks = label !== SILENCE && label !== NO_SPEECH;
    const overlap = speaks && this.#overlapped(this.ticks - 1 - 2 * NEAR_TICKS, this.ticks - 1);
    return { time, speaker, label, scores, evidence, level: last.level, probability, overlap };
  }

  #judgement(probability, evidence) {
    if (evidence < PROBABLE_SECONDS) return [null, LISTENING];
    const certain = evidence >= CERTAIN_SECONDS;
    const labels = this.#labels;
    const best = labels.reduce((a, b) => (probability[b] > probability[a] ? b : a), labels[0]);
    if (best === undefined || probability[best] < this.#threshold) {
      return [null, certain && probability[UNKNOWN] >= 1 - this.#threshold ? UNKNOWN : LISTENING];
    }
    if (!certain || probability[best] < CERTAIN) return [null, `probably ${best}`];
    return [this.#names.includes(best) ? best : null, best];
  }

  #use(voices) {
    this.#known = voices;
    this.#names = [...voices.keys()];
    this.#compareWithAll();
    this.#path = new FixedLagViterbi(1 + this.#labels.length, SWITCH_COST, LAG_TICKS);
    this.#decidedState = 0;
    this.#decidedStart = this.#judged - this.#undecided.length;
  }

  #compareWithAll() {
    const strangers = this.#strangers ? this.#strangers.voices.values() : [];
    this.#voices = new Voices(this.#speaker.scorer, [...this.#known.values(), ...strangers]);
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

  #overlapped(first, last) {
    return isOverlapped(Array.from({ length: last - first + 1 }, (_, i) => this.#note(first + i).overlap));
  }

  // The label of ticks without speech.
  #sound(first, last) {
    for (let tick = first; tick <= last; tick++) if (this.#note(tick).level < LOUD_DBFS) return SILENCE;
    return NO_SPEECH;
  }

  // The speech between two ticks against each voice; there must be some.
  #compare(first, last) {
    const embedding = this.#speaker.embed(meanOutput(first, last));
    return this.#voices.compare(embedding, (last.spoken - first.spoken) * TICK_SECONDS);
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
    const near = [tick - SILENCE_TICKS, tick + SILENCE_TICKS];
    let evidence = new Array(1 + this.#labels.length).fill(0); // where nobody speaks, the same for all
    if (last.frames === first.frames || !this.#speechNear(...near)) {
      this.#undecided.push({ nobody: this.#sound(...near) });
    } else {
      const { cosines, logRatios } = this.#compare(first, last);
      this.#undecided.push({ nobody: UNKNOWN, cosines, shares: probabilities(logRatios) });
      evidence = logOdds(logRatios, this.#threshold).map((odds) => EVIDENCE_PER_TICK * odds);
    }
    const state = this.#path.push(evidence);
    return state === undefined ? [] : this.#decide(state);
  }

  // Take the path's decision for the oldest undecided tick.
  #decide(state) {
    if (state !== this.#decidedState) {
      this.#decidedState = state;
      this.#decidedStart = this.#judged - this.#undecided.length;
    }
    const { nobody, cosines, shares } = this.#undecided.shift();
    const tick = this.#judged - this.#undecided.length - 1;
    let decision = { speaker: null, nobody, score: 0, probability: 0, overlap: false };
    if (cosines) {
      const label = state ? this.#labels[state - 1] : nobody;
      const speaker = this.#names.includes(label) ? label : null;
      // With nobody enrolled the nearest voice is as far as can be.
      const score = state ? cosines[state - 1] : Math.max(-1, ...cosines);
      const overlap = this.#overlapped(tick - NEAR_TICKS, tick + NEAR_TICKS);
      decision = { speaker, nobody: label, score, probability: shares[state], overlap };
    }
    const ended = this.#turns.push(decision);
    if (this.#strangers) this.#gather(tick, decision);
    return ended ? [ended] : [];
  }

  // Give a stranger a number when a decided tick completes enough speech, or learn more of one who has it.
  #gather(tick, { speaker, nobody: label, overlap }) {
    const { gathering } = this.#strangers;
    if (speaker !== null || label === SILENCE || label === NO_SPEECH || overlap) {
      gathering.pause();
      return;
    }
    const whose = label === UNKNOWN ? null : label;
    const recording = gathering.take(this.#note(tick - 1), this.#note(tick), whose);
    if (!recording) return;
    if (whose !== null) {
      this.#strangers.join(whose, recording);
    } else {
      const [nobody] = probabilities(this.#voices.compare(recording.embedding, recording.seconds).logRatios);
      const name = nobody >= 1 - this.#threshold ? this.#strangers.add(recording, this.#names) : null;
      if (name === null) return;
      this.#path.splitFirstState();
      this.#undecided = this.#undecided.map((one) => {
        if (!one.cosines) return one;
        return { ...one, cosines: [...one.cosines, 0], shares: [...one.shares, one.shares[0]] };
      });
      this.#turns.relabel(UNKNOWN, null, name);
    }
    this.#compareWithAll();
  }
}
