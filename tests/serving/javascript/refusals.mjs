// What the client refuses, and how a signal ends it.

import { getEventListeners } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { WebSocket } from "./websocket.mjs";

const { connect } = await import(process.argv[2]);
const { url } = JSON.parse(readFileSync(0));
const tagger = { model: "tagger", format: "features", WebSocket };
const answers = {};

async function tell(name, call) {
  try {
    answers[name] = await call();
  } catch (error) {
    answers[name] = `${error.name}: ${error.message}`;
  }
}

await tell("no model", () => connect(url, { WebSocket }));
await tell("format", () => connect(url, { ...tagger, format: "mp3" }));
await tell("no time", () => connect(url, { ...tagger, giveUpAfter: 0 }));
await tell("no urls", () => connect([], tagger));
await tell("no url", () => connect("here", tagger));
delete globalThis.WebSocket; // of later Nodes
await tell("no WebSocket", () => connect(url, { model: "tagger" }));

const { signal } = new AbortController();
const stream = await connect(`${url}/`, { ...tagger, signal });
await tell("another array", () => stream.push(new Float64Array(3)));
await tell("no array", () => stream.push(3));
await tell("half a step", () => stream.push(new Float32Array(4)));
await tell("not finite", () => stream.push(Float32Array.of(1, 2, NaN)));
await tell("a later push", async () => (await stream.push(new Float32Array(3))).length);
await stream.close();
await tell("what listens to its signal then", () => getEventListeners(signal, "abort").length);
await tell("no path", () => connect(`${url}/elsewhere`, { ...tagger, giveUpAfter: 0.1 }));

await tell("ended before", () => connect(url, { ...tagger, signal: AbortSignal.abort() }));
const silent = createServer();
await new Promise((resolve) => silent.listen(0, "127.0.0.1", resolve));
const connecting = new AbortController();
silent.on("connection", () => connecting.abort());
const silentUrl = `ws://127.0.0.1:${silent.address().port}`;
await tell("ended while it connects", () => connect(silentUrl, { ...tagger, signal: connecting.signal }));
silent.close();

const waiting = new AbortController();
const ended = await connect(url, { ...tagger, signal: waiting.signal });
const last = ended.push(new Float32Array(3));
waiting.abort(new Error("enough"));
await tell("ended while it waits", () => last);
await tell("ended", () => ended.push(new Float32Array(3)));

console.log(JSON.stringify(answers)); // and it ends: nothing is left behind
