// What becomes of a stream on a server: its request is a line of JSON on standard input, its answer one on standard output.

import { readFileSync } from "node:fs";
import { WebSocket } from "./websocket.mjs";

const { connect } = await import(process.argv[2]);
const { urls, options, parts, cutAfter } = JSON.parse(readFileSync(0));
const Inputs = options.format === "pcm16" ? Int16Array : Float32Array;
let connections = 0;

// Its connections are lost, each after so many messages.
class Fragile extends WebSocket {
  constructor(url) {
    super(url);
    let left = cutAfter ?? Infinity;
    connections += 1;
    queueMicrotask(() => {
      const hear = this.onmessage;
      this.onmessage = (event) => {
        hear(event);
        if (--left === 0) this.lose();
      };
    });
  }
}

const stream = await connect(urls, { ...options, WebSocket: Fragile });
const { model } = stream;
// The inputs are overwritten as soon as they are pushed, and no call waits for another.
const pushed = parts.map((part) => {
  const inputs = Inputs.from(part);
  const outputs = stream.push(inputs);
  inputs.fill(1);
  return outputs;
});
const reset = stream.reset();
const pushedAgain = stream.push(Inputs.from(parts.flat()));
await stream.snapshot();
const outputs = (await Promise.all(pushed)).map((part) => [...part]);
await reset;
const again = [...(await pushedAgain)];
await stream.close();
console.log(JSON.stringify({ outputs, again, model, connections }));
