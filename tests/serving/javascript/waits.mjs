// How long the client waits, in a time that passes only when nothing else happens, and with servers that are functions.

import { readFileSync } from "node:fs";

const { connect } = await import(process.argv[2]);

// Time, in seconds, and the timers set in it.
const timers = new Map();
let now = 0;
Object.defineProperty(globalThis, "performance", { value: { now: () => 1000 * now } });
const realTick = setImmediate;
globalThis.setTimeout = (call, wait) => {
  const timer = {};
  timers.set(timer, { call, at: now + Math.max(1, wait) / 1000 }); // Node waits for a millisecond at least
  return timer;
};
globalThis.clearTimeout = (timer) => timers.delete(timer);

// What a promise comes to, and when.
async function passing(promise) {
  let outcome;
  promise.then(
    (value) => (outcome = { value }),
    (error) => (outcome = { error: error.name, message: error.message }),
  );
  for (;;) {
    await new Promise((resolve) => realTick(resolve));
    if (outcome) return { ...outcome, at: now };
    const [timer, { call, at }] = [...timers].reduce((a, b) => (b[1].at < a[1].at ? b : a));
    timers.delete(timer);
    now = Math.max(now, at);
    call();
  }
}

// A WebSocket to a server, which is a function of what it hears: it gives what it says, or null to drop the connection.
function socketTo(servers, connections) {
  return class {
    constructor(url) {
      connections.push({ url, at: now });
      this.server = servers[new URL(url).hostname]();
      queueMicrotask(() => this.onopen());
    }

    send(message) {
      const answers = this.server(typeof message === "string" ? JSON.parse(message) : new DataView(message));
      setTimeout(() => {
        if (answers === null) this.onclose?.({ code: 1006, reason: "" });
        else for (const data of answers) this.onmessage?.({ data });
      }, 1000 * latency);
    }

    close() {}
  };
}

const opened = (limits) => JSON.stringify({ type: "opened", stream: "s", seq: 0, window: 4, max_frame: 4, rate: 1000,
  burst_seconds: 60, input_size: 1, output_size: 1, hop_length: 1, ...limits }); // prettier-ignore
const result = (input) => input.buffer.slice(0, 8); // no outputs

const SERVERS = {
  answers: (limits) => () => (heard) => [heard.type ? opened(limits) : result(heard)],
  "is silent": () => () => () => [],
  "is silent when it is open": () => () => (heard) => (heard.type ? [opened()] : []),
  "is silent when it has restored": () => () => (heard) => {
    if (heard.type === "restore") return [opened({ seq: 1 })];
    return heard.type ? [opened()] : null;
  },
  "answers inputs only": () => {
    let seq = 0;
    return () => (heard) => {
      if (["open", "restore"].includes(heard.type)) return [opened({ seq })];
      if (heard.type) return [];
      seq += 1;
      return [result(heard)];
    };
  },
  "drops every second input": () => {
    let seq = 0;
    return () => {
      const last = seq + 1;
      return (heard) => {
        if (heard.type) return [opened({ seq })];
        if (seq === last) return null;
        seq += 1;
        return [result(heard)];
      };
    };
  },
  "drops all": () => () => () => null,
  refuses: () => () => () => [JSON.stringify({ type: "error", code: 4404, message: "not here" })],
  "drops inputs": () => () => (heard) => (heard.type ? [opened()] : null),
};

const { servers, limits, options, numbers, then, latency } = JSON.parse(readFileSync(0));
const connections = [];
const named = Object.fromEntries(servers.map((server, i) => [`server${i}`, SERVERS[server](limits)]));
const WebSocket = socketTo(named, connections);
const urls = Object.keys(named).map((name) => `ws://${name}`);
async function run() {
  const stream = await connect(urls, { model: "m", ...options, WebSocket });
  await stream.push(new Float32Array(numbers));
  if (then) await stream[then]();
}
const { at, error = null, message = "" } = await passing(run());
console.log(JSON.stringify({ at, error, message, connections: connections.map(({ at, url }) => [at, url]), timers: timers.size }));
