// A client of `streamdrnn serve`; streamdrnn.d.ts says what everything takes and gives.

import { Connection, clock } from "./connection.js";
import { ConnectionError, Exchange, RefusedError } from "./exchange.js";
import { Reconnection } from "./reconnection.js";

export { ConnectionError, RefusedError };

export async function connect(urls, options = {}) {
  const { model, format = "float32", token, giveUpAfter = 30, signal, WebSocket = globalThis.WebSocket } = options;
  if (!WebSocket) throw new TypeError("WebSocket: expected a constructor, as there is none here; see the package ws");
  const exchange = new Exchange(model, format, token, clock);
  const connection = new Connection(exchange, new Reconnection(urls, giveUpAfter), WebSocket, signal);
  await connection.until(() => exchange.opened !== null);
  return new Stream(exchange, connection);
}

class Stream {
  #exchange;
  #connection;

  constructor(exchange, connection) {
    [this.#exchange, this.#connection] = [exchange, connection];
  }

  get id() {
    return this.#exchange.opened.stream;
  }

  get model() {
    const opened = this.#exchange.opened;
    return {
      name: opened.model,
      kind: opened.kind,
      format: opened.format,
      inputSize: opened.input_size,
      outputSize: opened.output_size,
      sampleRate: opened.sample_rate,
      hopLength: opened.hop_length,
      maxFrame: opened.max_frame,
      window: opened.window,
      rate: opened.rate,
      burstSeconds: opened.burst_seconds,
    };
  }

  async push(inputs) {
    const [first, last] = this.#exchange.add(inputs);
    await this.#connection.until(() => this.#exchange.answered(last));
    return this.#exchange.take(first, last);
  }

  async reset() {
    const seq = this.#exchange.addReset();
    await this.#connection.until(() => this.#exchange.answered(seq));
    this.#exchange.take(seq, seq);
  }

  async snapshot() {
    const seq = this.#exchange.addSnapshot();
    await this.#connection.until(() => this.#exchange.saved(seq));
  }

  async close() {
    this.#exchange.addClose();
    await this.#connection.until(() => this.#exchange.finished);
    this.#connection.end(new ConnectionError("the stream is closed"));
  }
}
