// The client's memory without its sockets: calls of an Exchange, one a line of standard input.

import { createInterface } from "node:readline";

const { Exchange } = await import(process.argv[2]);
let exchange;

const plain = (message) => (message instanceof ArrayBuffer ? { bytes: [...new Uint8Array(message)] } : message);
const calls = {
  open: (model, format) => void (exchange = new Exchange(model, format, undefined, () => performance.now() / 1000)),
  greeting: () => exchange.greeting(),
  add: (inputs) => exchange.add(Float32Array.from(inputs)),
  add_reset: () => exchange.addReset(),
  next_message: () => plain(exchange.nextMessage()),
  receive: (message) => exchange.receive(message.bytes ? Uint8Array.from(message.bytes).buffer : message),
  answered: (seq) => exchange.answered(seq),
  take: (first, last) => [...exchange.take(first, last)],
};

for await (const line of createInterface({ input: process.stdin })) {
  const [call, ...values] = JSON.parse(line);
  let answer;
  try {
    answer = { value: calls[call](...values) };
  } catch ({ name, message, code }) {
    answer = { error: name, message, code };
  }
  console.log(JSON.stringify(answer));
}
