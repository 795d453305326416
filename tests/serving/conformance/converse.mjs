// The JavaScript client's part of a conversation.

// Do what a client is asked, one after the other; a report of each.
export async function converse({ urls, options, asks }, { connect, RefusedError, ConnectionError }, WebSocket) {
  let stream;
  const does = {
    connect: async () => {
      stream = await connect(urls, { ...options, WebSocket });
      return { stream: stream.id, output_size: stream.model.outputSize };
    },
    push: async ({ inputs }) => ({ outputs: [...(await stream.push(Float32Array.from(inputs)))] }),
    reset: async () => (await stream.reset(), {}),
    snapshot: async () => (await stream.snapshot(), {}),
    close: async () => (await stream.close(), {}),
    together: async ({ calls }) => ({ reports: await Promise.all(calls.map(report)) }),
  };
  async function report(ask) {
    try {
      return await does[ask.call](ask);
    } catch (error) {
      if (error instanceof RefusedError) return { refused: error.code, message: error.message };
      if (error instanceof ConnectionError) return { lost: true, message: error.message };
      throw error;
    }
  }
  const reports = [];
  for (const ask of asks) reports.push(await report(ask));
  return reports;
}
