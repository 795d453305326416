// Where and when to connect again, and when to give up. Times are in seconds.

import { Code, ConnectionError, RefusedError } from "./exchange.js";

const PATH = "/v1/stream";
const FIRST_WAIT = 0.05;
const LONGEST_WAIT = 1;
const LONGEST_ANSWER = 20; // browsers let nobody send pings, so a lost connection is known by its silence
const PASSING = new Set([Code.IDLE, Code.TOO_FAST, Code.STORE_FAILED]);
// Refusals of one server: the others of the list may do better.
const OF_ONE_SERVER = new Set([Code.UNAUTHORISED, Code.UNKNOWN_MODEL, Code.UNKNOWN_STREAM, Code.TOO_MANY_STREAMS]);
// WebSocket's own codes for messages that are no better when they are sent again; so are all others from 4000 on.
const BAD_MESSAGE = new Set([1002, 1003, 1007, 1008, 1009]);

const refuses = (code) => code >= 4000 || BAD_MESSAGE.has(code);

// Why a connection ended, by the code and the reason of its close frame.
export function closed(code, reason) {
  if (!refuses(code)) return new ConnectionError(`the connection ended (code ${code})`);
  return new RefusedError(code, reason || "the server refused a message");
}

// The servers of a stream in turn, with longer and longer waits, until it is time to give up.
export class Reconnection {
  #urls;
  #giveUpAfter;
  #at = 0;
  #since = 0; // when the server last brought the stream on
  #pausedSince = null;
  #wait = FIRST_WAIT;
  #refusals = new Map(); // by server, since then
  #why = "no answer"; // of the last connection that was lost

  constructor(urls, giveUpAfter) {
    this.#urls = [urls].flat().map((url) => String(url).replace(/\/+$/, "") + PATH);
    if (!this.#urls.length) throw new RangeError("urls: expected one or more, got none");
    if (!(giveUpAfter > 0)) throw new RangeError(`giveUpAfter: expected seconds above 0, got ${giveUpAfter}`);
    this.#giveUpAfter = giveUpAfter;
  }

  // The server to try, or that was tried last.
  get url() {
    return this.#urls[this.#at];
  }

  // How long a server may take to answer. It has a part of the time only, so that another one has its turn.
  get answerSeconds() {
    return Math.min(LONGEST_ANSWER, this.#giveUpAfter / (this.#urls.length + 1));
  }

  // When it is time to give up, if nothing comes before.
  get end() {
    return this.#since + this.#giveUpAfter;
  }

  // A wait begins now, or what came now brought the stream on.
  restart(now) {
    this.#since = now;
    this.#pausedSince = null;
    this.#wait = FIRST_WAIT;
    this.#refusals.clear();
  }

  // From now on until `resume` it is the client that takes its time.
  pause(now) {
    this.#pausedSince = now;
  }

  resume(now) {
    if (this.#pausedSince !== null) this.#since += now - this.#pausedSince;
    this.#pausedSince = null;
  }

  // A connection failed or ended; the seconds to wait before the next. Throws the error if the next would fail as well.
  lost(error, opened) {
    const { code } = error;
    const passing = PASSING.has(code) || (opened && code === Code.TOO_MANY_STREAMS);
    if (refuses(code) && !passing) {
      this.#refusals.set(this.url, error);
      if (!OF_ONE_SERVER.has(code) || this.#urls.every((url) => this.#refusals.has(url))) throw error;
    }
    this.#why = error.message;
    this.#at = (this.#at + 1) % this.#urls.length;
    const wait = this.#wait * (0.5 + Math.random() / 2); // so that clients lost at one time come back at several
    this.#wait = Math.min(LONGEST_WAIT, 2 * this.#wait);
    return wait;
  }

  // The error of giving up.
  gaveUp() {
    const [refusal] = this.#refusals.values();
    return refusal ?? new ConnectionError(`no server answers: ${this.#why}`);
  }
}
