// Voices that nobody enrolled, told apart by numbers.
import { Gathering, joined } from "./gathering.js";

const MOST = 20;

// What they have said, in constant memory. voices: Map of names ("Speaker 1") to { seconds, embedding }.
export class Strangers {
  voices = new Map();
  gathering;
  #number = 0;

  constructor(speaker) {
    this.gathering = new Gathering(speaker);
  }

  // A new stranger, whose name is none of the known; null if there are too many already.
  add(recording, known) {
    if (this.voices.size === MOST) return null;
    do this.#number++;
    while (known.includes(`Speaker ${this.#number}`)); // a number is given once, also when its stranger has a name now
    const name = `Speaker ${this.#number}`;
    this.voices.set(name, recording);
    return name;
  }

  // A known stranger has said more.
  join(name, more) {
    this.voices.set(name, joined(this.voices.get(name), more));
  }
}
