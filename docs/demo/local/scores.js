// From embeddings to probabilities, as the package's scores.py: a cosine is normalised by those with a cohort of other voices,
// and calibrated to the logarithm of a likelihood ratio.
export const THRESHOLD = 0.5; // the probability from which a voice is named

const MOST_KNOWN = 0.8;
const [TEST_SECONDS, ENROLMENT_SECONDS] = [[0.5, 5], [5, 20]];
const SLOPE = 20;

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const clamp = (value, [low, high]) => Math.min(Math.max(value, low), high);

// { cohort, nearest, weights }, from the notes of a model's file.
export function readScorer(notes, embeddingSize) {
  if (!notes.calibration) return { cohort: [], nearest: 0, weights: [-SLOPE * Number(notes.threshold), SLOPE, 0, 0, 0] };
  const bytes = Int8Array.from(atob(notes.cohort), (character) => character.charCodeAt(0));
  const cohort = [];
  for (let at = 0; at < bytes.length; at += embeddingSize) {
    const row = bytes.subarray(at, at + embeddingSize);
    const length = Math.hypot(...row);
    cohort.push(Float32Array.from(row, (value) => value / length));
  }
  return { cohort, ...JSON.parse(notes.calibration) };
}

// The scorer with this added to all log likelihood ratios.
export const shifted = (scorer, offset) => ({
  ...scorer,
  weights: scorer.weights.map((weight, i) => (i ? weight : weight + offset)),
});

// Enrolled voices, [{ seconds, embedding }], ready to be compared with.
export class Voices {
  #scorer;
  #voices;

  constructor(scorer, voices) {
    this.#scorer = scorer;
    this.#voices = voices.map((voice) => ({ ...voice, statistics: this.#statistics(voice.embedding) }));
  }

  // { cosines, logRatios } of so many seconds of speech.
  compare(embedding, seconds) {
    const [mean, deviation] = this.#statistics(embedding);
    const test = Math.log(clamp(seconds, TEST_SECONDS));
    const cosines = this.#voices.map((voice) => dot(voice.embedding, embedding));
    const logRatios = this.#voices.map((voice, i) => {
      const score = ((cosines[i] - mean) / deviation + (cosines[i] - voice.statistics[0]) / voice.statistics[1]) / 2;
      const enrolment = Math.log(clamp(voice.seconds, ENROLMENT_SECONDS));
      return dot(this.#scorer.weights, [1, score, test, enrolment, score * test]);
    });
    return { cosines, logRatios };
  }

  // Mean and standard deviation of the cosines with the nearest of the cohort.
  #statistics(embedding) {
    if (!this.#scorer.cohort.length) return [0, 1];
    const cosines = Float64Array.from(this.#scorer.cohort, (other) => dot(other, embedding)).sort();
    const nearest = cosines.subarray(-this.#scorer.nearest);
    const mean = nearest.reduce((sum, value) => sum + value) / nearest.length;
    const variance = nearest.reduce((sum, value) => sum + (value - mean) ** 2, 0) / nearest.length;
    return [mean, Math.max(Math.sqrt(variance), 1e-3)];
  }
}

// The logarithm of how much more probable each of so many voices is than nobody's, before anything is heard.
const logPrior = (voices) => {
  const known = Math.min(voices / (voices + 1), MOST_KNOWN);
  return Math.log(known / voices / (1 - known));
};

// How probable it is that it is nobody's voice, and each of those compared with.
export function probabilities(logRatios) {
  const joint = [0, ...logRatios.map((ratio) => ratio + logPrior(logRatios.length))];
  const most = Math.max(...joint);
  const likelihoods = joint.map((value) => Math.exp(value - most));
  const sum = likelihoods.reduce((a, b) => a + b);
  return likelihoods.map((value) => value / sum);
}

// The logarithms of the odds of each voice to nobody's, 0 where a probability is the threshold; the first is nobody's.
export function logOdds(logRatios, threshold) {
  const reached = Math.log(threshold / (1 - threshold));
  return [0, ...logRatios.map((ratio) => ratio + logPrior(logRatios.length) - reached)];
}
