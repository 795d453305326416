// A session that is steered while it listens: sound in, events out, in the words of `streamdrnn listen --json`.
import { Ear } from "./ear.js";
import { Enrolment, likenesses } from "./enrolment.js";
import { Identifier } from "./identifier.js";

const REPORT_TICKS = 10;
export const ENOUGH_SECONDS = 10; // clear speech that an enrolment waits for

// A report comes with every second, and at once when the label changes, or whether another voice speaks too.
//   speaker     the embedder with what belongs to it, see models.js
//   detectors   { speech, overlap }, see models.js
//   voices      Map of names to { seconds, embedding }
//   threshold   the probability from which a voice is named
//   sampleRate  of what is pushed
//   numberStrangers  as for Identifier; when there is a new one, or one has gone, an event "strangers" names all
export class Session {
  #ear;
  #identifier;
  #voices;
  #speaker;
  #sampleRate;
  #enrolment = null;
  #enrolling = ""; // whose voice, while one is enrolled
  #told = {}; // the last report
  #strangers = 0; // that were told
  #lost = 0;
  #gaps = 0;
  #computing = 0;

  constructor(speaker, detectors, voices, threshold, sampleRate, numberStrangers = false) {
    this.#speaker = speaker;
    this.#sampleRate = sampleRate;
    this.#voices = voices;
    this.#ear = new Ear(speaker.model, detectors, sampleRate);
    this.#identifier = new Identifier(speaker, voices, threshold, numberStrangers);
  }

  // Hear a chunk, before which some samples may have been lost.
  push(samples, lost = 0) {
    const started = performance.now();
    const events = lost ? this.#skip(lost) : [];
    events.push(...this.#report(this.#ear.push(samples)), ...this.#enrol());
    this.#computing += performance.now() - started;
    return events;
  }

  // Enrol the voice that is heard from now on; replaces an enrolment that is under way.
  enrol(name) {
    const events = this.stopEnrolling();
    this.#enrolment = new Enrolment(this.#speaker, true);
    this.#enrolling = name;
    return events;
  }

  // Nothing is kept.
  stopEnrolling() {
    if (!this.#enrolment) return [];
    this.#enrolment = null;
    return [{ event: "not enrolled", name: this.#enrolling, reason: "stopped before enough clear speech was heard" }];
  }

  // Enrol a stranger by what he has said.
  nameStranger(stranger, name) {
    const { recording, ended } = this.#identifier.takeStranger(stranger, name);
    const enrolled = this.#enrolled(name, { ...recording, warnings: [] });
    return [...ended.map(asEvent), ...this.#tellStrangers(), { ...enrolled, stranger }];
  }

  replaceVoices(voices) {
    this.#voices = voices;
    return this.#identifier.replaceVoices(voices).map(asEvent);
  }

  // Hear what follows afresh; the clock goes on.
  restart(voices) {
    return [...this.#report(this.#ear.flush()), ...this.replaceVoices(voices), ...this.#decide(this.#ear.skip(0))];
  }

  // The sound is over: what is left.
  finish() {
    const events = [...this.#report(this.#ear.flush()), ...this.#decide(this.#ear.finish())];
    return [...events, ...this.#identifier.finish(this.#ear.seconds).map(asEvent), ...this.stopEnrolling()];
  }

  // What it was like so far: seconds heard and lost, in how many places, and of computing per second of sound.
  get summary() {
    const seconds = this.#ear.seconds;
    return {
      event: "summary",
      seconds,
      dropped: this.#lost / this.#sampleRate,
      gaps: this.#gaps,
      real_time_factor: seconds ? this.#computing / 1000 / seconds : 0,
    };
  }

  #skip(lost) {
    const before = this.#report(this.#ear.flush());
    const gap = { event: "gap", time: this.#ear.seconds, seconds: lost / this.#sampleRate };
    this.#lost += lost;
    this.#gaps++;
    return [...before, gap, ...this.#decide(this.#ear.skip(lost))];
  }

  // Give ticks to whatever decides.
  #decide(ticks) {
    this.#enrolment?.hear(ticks);
    return this.#identifier.hear(ticks).map(asEvent);
  }

  // The same for ticks of what was heard just now: who speaks is told beside.
  #report(ticks) {
    const events = [];
    for (const tick of ticks) {
      events.push(...this.#decide([tick]));
      const now = this.#identifier.now();
      const { label = "", overlap = false } = this.#told;
      if (now.label !== label || now.overlap !== overlap || this.#identifier.ticks % REPORT_TICKS === 0) {
        this.#told = now;
        events.push({ event: "report", ...now });
      }
    }
    return [...events, ...this.#tellStrangers()];
  }

  #tellStrangers() {
    const { strangers } = this.#identifier;
    if (strangers.length === this.#strangers) return [];
    this.#strangers = strangers.length;
    return [{ event: "strangers", names: strangers }];
  }

  #enrol() {
    if (!this.#enrolment) return [];
    const name = this.#enrolling;
    const { progress } = this.#enrolment;
    if (progress.seconds < ENOUGH_SECONDS) {
      return [{ event: "enrolling", name, ...progress, enough: ENOUGH_SECONDS }];
    }
    const recording = this.#enrolment.finish();
    this.#enrolment = null;
    return [this.#enrolled(name, recording)];
  }

  #enrolled(name, { warnings, ...recording }) {
    const all = [...warnings, ...likenesses(this.#speaker, name, recording, this.#voices)];
    return { event: "enrolled", name, model: this.#speaker.id, ...recording, warnings: all };
  }
}

const asEvent = (segment) => ({ event: "segment", ...segment });
