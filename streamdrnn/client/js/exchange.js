// The memory of a client, so that nothing is lost: no sockets here, only which messages go and what came.
// docs/serving.md describes the protocol; streamdrnn/client/exchange.py is the same in Python.

const VERSION = 1;
const FORMATS = { float32: "Float32Array", pcm16: "Int16Array", features: "Float32Array" };
const INPUT_HEADER = 16; // seq and ack, uint64
const RESULT_HEADER = 8; // seq, uint64

export const Code = Object.freeze({
  BAD_SEQUENCE: 4409,
  IDLE: 4408,
  STORE_FAILED: 4500,
  TOO_FAST: 4429,
  TOO_MANY_STREAMS: 4503,
  UNAUTHORISED: 4401,
  UNKNOWN_MODEL: 4404,
  UNKNOWN_STREAM: 4406,
});

export class ConnectionError extends Error {
  name = "ConnectionError";
}

export class RefusedError extends ConnectionError {
  name = "RefusedError";

  constructor(code, message) {
    super(`${message} (code ${code})`);
    this.code = code;
  }
}

// One stream as its client sees it, over as many connections as it takes.
export class Exchange {
  opened = null; // what the server said of the model and its limits; null before the first connection
  finished = false; // whether the server has closed the stream
  #model;
  #format;
  #token;
  #clock;
  #greeted = false; // whether the server of this connection has answered the greeting
  #sentBy = 0; // the last input that this connection was given
  #answeredHere = 0; // the last result that this connection gave
  #ack = 0; // the last result that any gave
  #last = 0; // the last input there is
  #saved = 0;
  #toSave = 0; // the last input that the server is to save
  #saveRequested = 0; // the last input that this connection was asked to save
  #closing = false;
  #closeRequested = false; // of this connection
  #unsaved = new Map(); // inputs by number that the server may yet forget; null is a reset
  #results = new Map();
  #budget = 0; // steps that may be sent now
  #budgetSince = 0;

  // `clock` gives seconds and never goes back.
  constructor(model, format, token, clock) {
    if (typeof model !== "string") throw new TypeError(`model: expected a string, got ${typeof model}`);
    if (!Object.hasOwn(FORMATS, format)) {
      throw new RangeError(`format: expected one of ${Object.keys(FORMATS)}, got ${format}`);
    }
    [this.#model, this.#format, this.#token, this.#clock] = [model, format, token, clock];
  }

  // The first message of a new connection.
  greeting() {
    this.#greeted = this.#closeRequested = false;
    this.#saveRequested = 0;
    const what = this.opened
      ? { type: "restore", stream: this.opened.stream, ack: this.#ack }
      : { type: "open", model: this.#model, format: this.#format };
    return JSON.stringify({ ...what, version: VERSION, token: this.#token });
  }

  // Put inputs in line, cut into messages of the size that the server takes; the numbers of the first and the last.
  add(inputs) {
    this.#check(inputs);
    const first = this.#last + 1;
    const size = this.opened.max_frame * this.#width;
    for (let start = 0; start === 0 || start < inputs.length; start += size) {
      this.#addMessage(inputs.slice(start, start + size));
    }
    return [first, this.#last];
  }

  // Put a reset in line; its number.
  addReset() {
    this.#addMessage(null);
    return this.#last;
  }

  // Ask the server to save all that is in line; the number of the last of it.
  addSnapshot() {
    this.#checkOpen();
    return (this.#toSave = this.#last);
  }

  // Ask the server to close the stream, after all that is in line.
  addClose() {
    this.#closing = true;
  }

  // The message to be sent now; or the seconds to wait before asking again; null: something must come first.
  nextMessage() {
    if (!this.#greeted) return null;
    if (this.#sentBy >= this.#toSave && this.#toSave > Math.max(this.#saved, this.#saveRequested)) {
      const wait = this.#pace(this.opened.max_frame / this.opened.hop_length);
      if (wait > 0) return wait;
      this.#saveRequested = this.#toSave;
      return JSON.stringify({ type: "snapshot" });
    }
    if (this.#sentBy >= this.#last) {
      if (!this.#closing || this.#closeRequested) return null;
      this.#closeRequested = true;
      return JSON.stringify({ type: "close" });
    }
    const seq = this.#sentBy + 1;
    if (seq > Math.min(this.#ack, this.#answeredHere) + this.opened.window) return null;
    const values = this.#unsaved.get(seq);
    const wait = this.#pace(values ? Math.max(1, values.length / (this.#width * this.opened.hop_length)) : 1);
    if (wait > 0) return wait;
    this.#sentBy = seq;
    return values ? packInput(seq, this.#ack, values) : JSON.stringify({ type: "reset", seq, ack: this.#ack });
  }

  // Whether the server of this connection has still to answer something.
  get owed() {
    return (
      !this.#greeted || this.#answeredHere < this.#sentBy || this.#saved < this.#saveRequested || this.#closeRequested
    );
  }

  // Take what the server sent; whether it brings the stream on.
  receive(message) {
    try {
      return typeof message === "string" ? this.#receiveText(JSON.parse(message)) : this.#receiveResult(message);
    } catch (error) {
      if (error instanceof ConnectionError) throw error;
      throw new ConnectionError(`the server does not keep to the protocol: ${error.message}`);
    }
  }

  // Whether the result of an input is here.
  answered(seq) {
    return seq <= this.#ack;
  }

  // Whether the server has saved an input.
  saved(seq) {
    return seq <= this.#saved;
  }

  // The outputs of some inputs, in their order; each can be taken once.
  take(first, last) {
    const parts = [];
    for (let seq = first; seq <= last; seq++) {
      parts.push(this.#results.get(seq));
      this.#results.delete(seq);
    }
    const outputs = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      outputs.set(part, at);
      at += part.length;
    }
    return outputs;
  }

  #checkOpen() {
    if (this.#closing) throw new ConnectionError("the stream is closed");
  }

  #addMessage(values) {
    this.#checkOpen();
    this.#unsaved.set(++this.#last, values);
  }

  // How many numbers one sample has, or one step of features.
  get #width() {
    return this.#format === "features" ? this.opened.input_size : 1;
  }

  #check(inputs) {
    const type = FORMATS[this.#format];
    const got = inputs?.[Symbol.toStringTag]; // the same in all frames of a page, unlike the constructors
    if (got !== type) throw new TypeError(`inputs: expected ${type}, got ${got ?? typeof inputs}`);
    if (inputs.length % this.#width) {
      throw new RangeError(`inputs: expected steps of ${this.#width} numbers, got ${inputs.length} numbers`);
    }
    if (!inputs.every(Number.isFinite)) throw new RangeError("inputs: expected finite values, got NaN or infinity");
  }

  #receiveText(fields) {
    if (typeof fields.type !== "string") throw new TypeError("a message has a type");
    if (fields.type === "opened") return this.#receiveOpened(fields);
    if (fields.type === "snapshot") {
      if (integer(fields.seq) <= this.#saved) return false;
      this.#saved = fields.seq;
      for (const seq of this.#unsaved.keys()) {
        if (seq > this.#saved) break;
        this.#unsaved.delete(seq);
      }
      return true;
    }
    if (fields.type === "closed") return (this.finished = true);
    if (fields.type === "error") {
      if (fields.code === Code.UNKNOWN_STREAM && this.#closing && this.answered(this.#last)) {
        return (this.finished = true); // it was closed, and the connection lost before it could say so
      }
      throw new RefusedError(integer(fields.code), fields.message);
    }
    return false;
  }

  #receiveOpened(fields) {
    const seq = integer(fields.seq);
    if (seq < this.#saved || seq > this.#last) {
      throw new RefusedError(Code.BAD_SEQUENCE, `the server continues after input ${seq}, which this stream is not at`);
    }
    const first = this.opened === null;
    this.opened = fields;
    this.#greeted = true;
    // Results up to seq that this client lacks come next; inputs after it are sent again.
    this.#sentBy = seq;
    this.#answeredHere = Math.min(this.#ack, seq);
    this.#budget = Math.min(this.#most, fields.burst ?? Infinity); // what earlier connections left of it
    this.#budgetSince = this.#clock();
    return first;
  }

  #receiveResult(data) {
    const row = Float32Array.BYTES_PER_ELEMENT * this.opened.output_size;
    if ((data.byteLength - RESULT_HEADER) % row) throw new RangeError(`a result of ${data.byteLength} bytes`);
    const seq = Number(new DataView(data).getBigUint64(0, true));
    this.#answeredHere = Math.max(this.#answeredHere, seq);
    if (this.answered(seq)) return false; // answered before the last connection was lost, and now again
    if (seq !== this.#ack + 1) throw new RangeError(`expected result ${this.#ack + 1}, got ${seq}`);
    this.#results.set(seq, new Float32Array(data, RESULT_HEADER));
    this.#ack = seq;
    return true;
  }

  // Half of what the server grants: what is sent evenly may arrive bunched.
  get #most() {
    return (this.opened.rate * this.opened.burst_seconds) / 2;
  }

  // Spend steps; 0, or else the seconds to wait first.
  #pace(steps) {
    const now = this.#clock();
    const { rate } = this.opened;
    this.#budget = Math.min(this.#most, this.#budget + (now - this.#budgetSince) * rate);
    this.#budgetSince = now;
    if (steps > this.#budget && this.#budget < this.#most) return (Math.min(steps, this.#most) - this.#budget) / rate;
    this.#budget -= steps;
    return 0;
  }
}

function integer(value) {
  if (!Number.isSafeInteger(value)) throw new TypeError(`expected an integer, got ${value}`);
  return value;
}

function packInput(seq, ack, values) {
  const message = new DataView(new ArrayBuffer(INPUT_HEADER + values.byteLength));
  message.setBigUint64(0, BigInt(seq), true);
  message.setBigUint64(8, BigInt(ack), true);
  new Uint8Array(message.buffer, INPUT_HEADER).set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  return message.buffer;
}
