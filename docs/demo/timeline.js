// Who spoke when: what was reported, and where it has been decided, what was decided.
const TICK = 0.1;
const SILENT = ["", "(silence)", "(no speech)", "(listening)"];

export class Timeline {
  constructor(seconds) {
    this.kept = Math.round(seconds / TICK);
    this.clear();
  }

  clear() {
    this.labels = new Map();
    this.label = "";
    this.end = this.end ?? 0;
  }

  report(time, label) {
    const end = Math.round(time / TICK);
    this.#fill(this.end, end - 1, this.label);
    this.label = label;
    this.#fill(end - 1, end, label);
  }

  decide(start, end, label) {
    this.#fill(Math.round(start / TICK), Math.round(end / TICK), label);
  }

  rename(label, name) {
    for (const [tick, one] of this.labels) if (one === label) this.labels.set(tick, name);
    if (this.label === label) this.label = name;
  }

  // [start, end] of each stretch of one label, in seconds before now.
  stretches(label) {
    const found = [];
    for (let tick = this.end - this.kept; tick < this.end; tick++) {
      if (this.labels.get(tick) !== label) continue;
      const last = found[found.length - 1];
      if (last && last[1] === tick) last[1] = tick + 1;
      else found.push([tick, tick + 1]);
    }
    return found.map(([start, end]) => [(this.end - start) * TICK, (this.end - end) * TICK]);
  }

  #fill(start, end, label) {
    for (let tick = start; tick < end; tick++) this.labels.set(tick, label);
    this.end = Math.max(this.end, end);
    for (const tick of this.labels.keys()) {
      if (tick >= this.end - this.kept) break;
      this.labels.delete(tick);
    }
  }
}

export const isVoice = (label) => !SILENT.includes(label);
