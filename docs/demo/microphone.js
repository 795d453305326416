// Gathers the microphone's samples, of which a worklet gets 128 at a time, into messages of about 20 ms.
class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.samples = new Float32Array(128 * Math.ceil(sampleRate / 50 / 128));
    this.filled = 0;
  }

  process(inputs) {
    const channels = inputs[0];
    if (channels.length) {
      const scale = 1 / channels.length;
      for (let i = 0; i < channels[0].length; i++) {
        let sum = 0;
        for (const channel of channels) sum += channel[i];
        this.samples[this.filled++] = sum * scale;
      }
      if (this.filled === this.samples.length) {
        this.port.postMessage(this.samples);
        this.filled = 0;
      }
    }
    return true;
  }
}
registerProcessor("microphone", Microphone);
