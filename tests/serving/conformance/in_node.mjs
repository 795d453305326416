// Conversations in Node, one a line of standard input; the argument is the client's module.

import { createInterface } from "node:readline";
import { converse } from "./converse.mjs";
import { WebSocket } from "../javascript/websocket.mjs";

const client = await import(process.argv[2]);
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await converse(JSON.parse(line), client, WebSocket)));
}
