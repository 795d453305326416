// What is known of a stream of sound at the end of every tenth of a second.
export const TICK_SECONDS = 0.1;
export const SPEECH = 0.5; // from this on a tick counts as speech
const OVERLAP = 0.4; // from this mean probability up two people speak at once
export const NEAR_TICKS = 3; // a tick is judged by those so near to it, too: whether two people speak at once in it

// total: the sum of the model's outputs so far, in ticks with speech; frames: how many those are; spoken: the ticks with
// speech so far; speech: how sure the detector was at most that there is speech in this tick; level: its level in dBFS;
// clipped: whether it was too loud for the microphone; overlap: the mean probability in it that two people speak at once.
export const tickZero = (hiddenSize) => ({
  total: new Float64Array(hiddenSize),
  frames: 0,
  spoken: 0,
  speech: 0,
  level: -120,
  clipped: false,
  overlap: 0,
});

export const hasSpeech = (tick) => tick.speech >= SPEECH;
export const isOfOneVoice = (tick) => hasSpeech(tick) && tick.overlap < OVERLAP;
export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// Whether two people speak at once in neighbouring ticks, by the probability of each.
export const isOverlapped = (probabilities) => mean(probabilities) >= OVERLAP;

// Relative to a full-scale square wave.
export function levelDbfs(samples) {
  let power = 0;
  for (const sample of samples) power += sample * sample;
  return 10 * Math.log10(Math.max(samples.length ? power / samples.length : 0, 1e-12));
}

// The mean output over the speech between two ticks; there must be some.
export function meanOutput(first, last) {
  const frames = last.frames - first.frames;
  return Float32Array.from(last.total, (sum, i) => (sum - first.total[i]) / frames);
}

// The total of one tick, and what was added from one tick to another.
export const plusDifference = (total, before, after) => total.map((sum, i) => sum + after[i] - before[i]);

export const rounded = (value, digits) => Math.round(value * 10 ** digits) / 10 ** digits;
