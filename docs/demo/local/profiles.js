// Enrolled voices: { name, model, seconds, embedding } for each recording, as `streamdrnn profiles --export` has them.
const FORMAT = "streamdrnn profiles 1";
const KEY = "streamdrnn profiles";
const MAX_NAME = 64;

// A name as profiles have it: without spaces around it, accents composed; of a known profile as that writes it.
export function cleanName(name, known) {
  const cleaned = name.normalize("NFC").trim();
  const printable = /^(?:[^\p{C}\p{Z}]| )+$/u.test(cleaned);
  if (!cleaned || [...cleaned].length > MAX_NAME || !printable) {
    throw new Error(`name: expected 1 to ${MAX_NAME} printable characters`);
  }
  if (/^\(.*\)$/.test(cleaned)) throw new Error("name: expected no brackets around it");
  return known.find((one) => plain(one) === plain(cleaned)) ?? cleaned;
}

const plain = (name) => name.normalize("NFC").trim().toLowerCase();

// The recordings of each voice as one, by name: { seconds, embedding }, their seconds in all, and the mean by length.
export function voicesOf(recordings) {
  const sums = new Map();
  for (const { name, seconds, embedding } of recordings) {
    const before = sums.get(name) ?? { seconds: 0, embedding: [] };
    sums.set(name, {
      seconds: before.seconds + seconds,
      embedding: Float64Array.from(embedding, (value, i) => seconds * value + (before.embedding[i] ?? 0)),
    });
  }
  const names = [...sums.keys()].sort();
  return new Map(
    names.map((name) => {
      const { seconds, embedding } = sums.get(name);
      const length = Math.hypot(...embedding);
      return [name, { seconds, embedding: Float32Array.from(embedding, (value) => value / length) }];
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
