// The models of a page: of speakers, of speech, and of overlapped speech.
import { load } from "../runtime/streamdrnn.js";
import { readScorer } from "./scores.js";

// { model, hiddenSize, scorer, id, embed }: the scorer makes log likelihood ratios of its cosines, calibrated with the model;
// the id is what its profiles are marked with, a digest of its file.
export async function readSpeaker(file, module) {
  const model = await load(file, { module });
  if (model.info.head !== "embedder" || !model.info.sampleRate) throw new Error("expected a speaker model");
  const streams = model.streams();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", file));
  return {
    model,
    hiddenSize: model.info.hiddenSize,
    scorer: readScorer(notesOf(file), model.info.outputSize),
    id: Array.from(digest.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join(""),
    embed: (mean) => streams.readOut(mean),
  };
}

// { model, threshold }: the model's outputs are the logarithm of the odds of what it detects, which is there above the threshold.
export async function readDetector(file, module) {
  return { model: await load(file, { module }), threshold: Number(notesOf(file).threshold) };
}

// As the package's model_notes: a safetensors file begins with the length of its JSON header.
function notesOf(file) {
  const length = Number(new DataView(file).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 8, length)));
  return JSON.parse(header.__metadata__.notes);
}
