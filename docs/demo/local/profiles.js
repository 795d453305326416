// Enrolled voices: { name, model, seconds, embedding } for each recording, as `streamdrnn profiles --export` has them.
const FORMAT = "streamdrnn profiles 1";
const KEY = "streamdrnn profiles";
const MAX_NAME = 64;

export function checkName(name) {
  const printable = /^(?:[^\p{C}\p{Z}]| )+$/u.test(name);
  if (!name.trim() || [...name].length > MAX_NAME || !printable) {
    throw new Error(`name: expected 1 to ${MAX_NAME} printable characters`);
  }
}

// The embedding of each voice by name: the mean of its recordings by their lengths.
export function voicesOf(recordings) {
  const sums = new Map();
  for (const { name, seconds, embedding } of recordings) {
    const before = sums.get(name);
    sums.set(name, Float64Array.from(embedding, (value, i) => seconds * value + (before?.[i] ?? 0)));
  }
  const names = [...sums.keys()].sort();
  return new Map(
    names.map((name) => {
      const length = Math.hypot(...sums.get(name));
      return [name, Float32Array.from(sums.get(name), (value) => value / length)];
    }),
  );
}

// In the browser's storage, which is of this page's address alone.
export class BrowserProfiles {
  removable = true;

  get recordings() {
    const stored = JSON.parse(localStorage.getItem(KEY) ?? "null");
    return stored?.format === FORMAT ? stored.recordings : [];
  }

  async add(recording) {
    this.#keep([...this.recordings, recording]);
  }

  async remove(name) {
    this.#keep(this.recordings.filter((recording) => recording.name !== name));
  }

  #keep(recordings) {
    localStorage.setItem(KEY, JSON.stringify({ format: FORMAT, recordings }));
  }
}

// In the user's folder, by the program that served the page.
export class ServerProfiles {
  removable = false;

  constructor(recordings) {
    this.recordings = recordings;
  }

  async add(recording) {
    const answer = await fetch("recordings", { method: "POST", body: JSON.stringify(recording) });
    if (!answer.ok) throw new Error(await answer.text());
    this.recordings = [...this.recordings, recording];
  }
}
