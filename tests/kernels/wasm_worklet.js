// A model in an audio worklet: every sample is replaced by the model's output for it.
import { loadSync } from "./streamdrnn.js";

class Tagger extends AudioWorkletProcessor {
  constructor({ processorOptions: { file, module } }) {
    super();
    this.streams = loadSync(file, module).streams();
  }

  process([[input]], [[output]]) {
    output.set(this.streams.push(input));
    return true;
  }
}
registerProcessor("tagger", Tagger);
