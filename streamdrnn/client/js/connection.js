// Drives an exchange over one WebSocket after another, for as long as anything is waited for.

import { ConnectionError } from "./exchange.js";
import { closed } from "./reconnection.js";

const LONGEST_TIMER = 2 ** 31 - 1; // milliseconds

// Seconds, by a clock that never goes back.
export const clock = () => performance.now() / 1000;

export class Connection {
  #exchange;
  #servers;
  #WebSocket;
  #signal;
  #socket = null;
  #waiting = []; // conditions, and what to call when they are true or never will be
  #ended = null; // why nothing more will come
  #heardAt = 0; // when the server last said something or had nothing to answer
  #connectAt = 0;
  #timer;

  // `signal` ends all.
  constructor(exchange, servers, WebSocket, signal) {
    [this.#exchange, this.#servers, this.#WebSocket, this.#signal] = [exchange, servers, WebSocket, signal];
    signal?.throwIfAborted();
    signal?.addEventListener("abort", this.#abort);
  }

  #abort = () => this.end(this.#signal.reason);

  // Wait until a condition of the exchange is true. Rejects when the stream is refused, given up or ended.
  until(done) {
    return new Promise((resolve, reject) => {
      if (!this.#waiting.length) this.#servers.restart(clock());
      this.#waiting.push({ done, resolve, reject });
      this.#advance();
    });
  }

  // Disconnect for good; what is waited for is rejected.
  end(error) {
    this.#ended ??= error;
    this.#signal?.removeEventListener("abort", this.#abort);
    this.#disconnect();
    this.#advance();
  }

  // Do what there is to do now, and set the timer for what there will be.
  #advance() {
    clearTimeout(this.#timer);
    this.#waiting = this.#waiting.filter(({ done, resolve, reject }) => {
      if (done()) resolve();
      else if (this.#ended) reject(this.#ended);
      else return true;
      return false;
    });
    if (!this.#waiting.length) return;
    const now = clock();
    this.#servers.resume(now);
    if (now >= this.#servers.end) return this.end(this.#servers.gaveUp());
    if (this.#socket && this.#exchange.owed && now >= this.#answerBy) {
      return this.#lost(new ConnectionError(`no answer within ${this.#servers.answerSeconds} s`));
    }
    if (!this.#socket && now >= this.#connectAt) this.#connect();
    if (this.#ended) return;
    const next = this.#socket ? this.#send(now) : this.#connectAt;
    const wait = 1000 * (Math.min(next, this.#servers.end) - now);
    this.#timer = setTimeout(() => this.#advance(), Math.min(wait, LONGEST_TIMER));
  }

  #connect() {
    let socket;
    try {
      socket = new this.#WebSocket(this.#servers.url);
    } catch (error) {
      return this.end(error); // there can be no such URL
    }
    const greeting = this.#exchange.greeting();
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(greeting);
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = ({ code, reason }) => this.#lost(closed(code, reason));
    socket.onerror = ({ message }) => this.#lost(new ConnectionError(message || "the connection failed"));
    this.#socket = socket;
    this.#heardAt = clock();
  }

  get #answerBy() {
    return this.#heardAt + this.#servers.answerSeconds;
  }

  // Send what may be sent; when there will be more to do, if nothing comes before.
  #send(now) {
    if (!this.#exchange.owed) this.#heardAt = now;
    let message = this.#exchange.nextMessage();
    for (; message !== null && typeof message !== "number"; message = this.#exchange.nextMessage()) {
      this.#socket.send(message);
    }
    if (message === null) return this.#answerBy;
    if (this.#exchange.owed) return Math.min(now + message, this.#answerBy);
    this.#servers.pause(now);
    return now + message;
  }

  #hear(data) {
    this.#heardAt = clock();
    try {
      if (this.#exchange.receive(data)) this.#servers.restart(this.#heardAt);
    } catch (error) {
      return this.#lost(error);
    }
    this.#advance();
  }

  #lost(error) {
    this.#disconnect();
    try {
      this.#connectAt = clock() + this.#servers.lost(error, this.#exchange.opened !== null);
    } catch {
      return this.end(error);
    }
    this.#advance();
  }

  #disconnect() {
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.onerror = () => {}; // the package ws throws an error that nobody hears
    this.#socket.close();
    this.#socket = null;
  }
}
