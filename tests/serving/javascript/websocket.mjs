// A WebSocket for Node before 22, which has none: the parts that the client uses, for servers that send whole messages.

import { randomBytes } from "node:crypto";
import { connect } from "node:net";

const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

export class WebSocket {
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;
  #socket;
  #open = false;
  #rest = Buffer.alloc(0);
  #end = { code: 1006, reason: "" };

  constructor(url) {
    const { hostname, port, host, pathname, protocol } = new URL(url);
    if (protocol !== "ws:") throw new SyntaxError(`expected a URL of ws, got ${url}`);
    const request =
      `GET ${pathname} HTTP/1.1\r\nHost: ${host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\n\r\n`;
    this.#socket = connect(port, hostname, () => this.#socket.write(request));
    this.#socket.on("data", (data) => this.#read(data));
    this.#socket.on("error", (error) => this.onerror?.(error));
    this.#socket.on("close", () => this.onclose?.(this.#end));
  }

  send(data) {
    if (typeof data === "string") this.#write(TEXT, Buffer.from(data));
    else this.#write(BINARY, Buffer.from(data));
  }

  close() {
    if (!this.#open) return this.#socket.destroy();
    this.#write(CLOSE, Buffer.from([1000 >> 8, 1000 & 255]));
    this.#socket.end();
  }

  // Lose the connection, without another word.
  lose() {
    this.#socket.destroy();
  }

  #write(opcode, payload) {
    const head = Buffer.alloc(payload.length < 126 ? 2 : payload.length < 65536 ? 4 : 10);
    head[0] = 0x80 | opcode;
    head[1] = 0x80 | (head.length === 2 ? payload.length : head.length === 4 ? 126 : 127);
    if (head.length === 4) head.writeUInt16BE(payload.length, 2);
    if (head.length === 10) head.writeBigUInt64BE(BigInt(payload.length), 2);
    const mask = randomBytes(4);
    this.#socket.write(Buffer.concat([head, mask, payload.map((byte, i) => byte ^ mask[i % 4])]));
  }

  #read(data) {
    this.#rest = Buffer.concat([this.#rest, data]);
    if (!this.#open) {
      const end = this.#rest.indexOf("\r\n\r\n");
      if (end < 0) return;
      if (!this.#rest.toString("latin1", 0, end).startsWith("HTTP/1.1 101")) return this.#socket.destroy();
      this.#rest = this.#rest.subarray(end + 4);
      this.#open = true;
      this.onopen?.({});
    }
    while (this.#readFrame());
  }

  #readFrame() {
    const frame = this.#rest;
    const head = frame.length < 2 ? Infinity : frame[1] < 126 ? 2 : frame[1] === 126 ? 4 : 10;
    if (frame.length < head) return false;
    const size = head === 2 ? frame[1] : head === 4 ? frame.readUInt16BE(2) : Number(frame.readBigUInt64BE(2));
    if (frame.length < head + size) return false;
    const payload = frame.subarray(head, head + size);
    this.#rest = frame.subarray(head + size);
    const opcode = frame[0] & 15;
    if (opcode === TEXT) this.onmessage?.({ data: payload.toString() });
    else if (opcode === BINARY) this.onmessage?.({ data: new Uint8Array(payload).buffer });
    else if (opcode === PING) this.#write(PONG, payload);
    else if (opcode === CLOSE) {
      if (size >= 2) this.#end = { code: payload.readUInt16BE(0), reason: payload.toString("utf8", 2) };
      this.#write(CLOSE, payload);
      this.#socket.end();
    }
    return true;
  }
}
