/** How inputs are written: samples from -1 to 1, samples of 16 bits, or the network's inputs, step by step. */
export type Format = "float32" | "pcm16" | "features";

/** A WebSocket constructor, such as the browser's or the one of the package ws. */
export type WebSocketConstructor = new (url: string) => {
  binaryType: string;
  onopen: any;
  onmessage: any;
  onclose: any;
  onerror: any;
  send(data: any): void;
  close(): void;
};

export interface Options {
  /** The name by which the server has the model. */
  model: string;
  /** "float32" if not given. A model that takes no samples needs "features". */
  format?: Format;
  /** If the server wants one. */
  token?: string;
  /**
   * Seconds for which a call waits while no server brings the stream on; 30 if not given. Each server has a part of them to
   * answer in, and at most 20 s, so that another one has its turn.
   */
  giveUpAfter?: number;
  /**
   * Ends the stream at any moment: calls that wait reject with its reason, and the connection is closed. The server keeps
   * the stream for a while, as if the connection were lost.
   */
  signal?: AbortSignal;
  /** If there is no global one, as in Node before 22. */
  WebSocket?: WebSocketConstructor;
}

/** The server's description of the model, and its limits. */
export interface Model {
  readonly name: string;
  /** The class of the model, such as "SpeakerEmbedder". */
  readonly kind: string;
  readonly format: Format;
  /** Numbers of one input: 1, a sample, or those of a step of features. */
  readonly inputSize: number;
  /** Numbers of one output. */
  readonly outputSize: number;
  /** Samples per second; null for features. */
  readonly sampleRate: number | null;
  /** Samples from one step to the next; 1 for features. */
  readonly hopLength: number;
  /** The most samples, or steps of features, in one message. The client cuts longer inputs. */
  readonly maxFrame: number;
  /** Messages that the client may send beyond the last result. */
  readonly window: number;
  /** Steps per second that the stream may send on average. The client keeps to it. */
  readonly rate: number;
  /** How much of that it may send at once. */
  readonly burstSeconds: number;
}

/**
 * A stream on a server. When the connection or the server is lost it continues on the next one, and inputs that were not
 * saved there are sent again: none is lost, and none counts twice. It connects again only when a call needs it.
 *
 * Calls need not wait for one another: they take effect in the order in which they are made. Each may reject with a
 * {@link RefusedError}, or with a {@link ConnectionError} when no server answers; so do all later ones then.
 */
export interface Stream {
  /** A secret: any client that knows it can take over the stream. */
  readonly id: string;
  readonly model: Model;
  /**
   * Send inputs, and wait for the outputs of the steps that they complete.
   *
   * @param inputs any number of samples, or (steps, inputSize) features: an Int16Array for "pcm16", else a Float32Array of
   * finite values. It is copied.
   * @returns (steps, outputSize), flat.
   * @throws TypeError, RangeError the inputs are none of these; nothing has been sent then.
   */
  push(inputs: Float32Array | Int16Array): Promise<Float32Array>;
  /** Start the stream anew, as one that has had no inputs. */
  reset(): Promise<void>;
  /** Let the server save the stream with all inputs pushed before. */
  snapshot(): Promise<void>;
  /** End the stream; the server deletes it. */
  close(): Promise<void>;
}

/** No server answers, or the stream is closed. */
export class ConnectionError extends Error {}

/** The server refused what the client asked for, and asking again would not help. */
export class RefusedError extends ConnectionError {
  /** One of the codes of the protocol, or WebSocket's own. */
  readonly code: number;
}

/**
 * Open a stream.
 *
 * @param urls the server's, as in "ws://127.0.0.1:8765"; or several with the same store, tried in turn.
 * @throws RefusedError every server refuses.
 * @throws ConnectionError no server answers.
 * @throws TypeError, RangeError, SyntaxError an argument is none of those described.
 */
export function connect(urls: string | readonly string[], options: Options): Promise<Stream>;
