// The page hears by itself: no sound leaves it. What openLocal and openRemote give: hear(samples), ask(request), close().
export function openLocal(sampleRate, setup, profiles, { take, gone }) {
  const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  const { recordings } = profiles;
  const { threshold, offset, numberStrangers } = setup;
  worker.postMessage({ type: "open", sampleRate, threshold, offset, numberStrangers, recordings });

  async function keep({ name, seconds, embedding, model, warnings, stranger }) {
    try {
      await profiles.add({ name, model, seconds, embedding: [...embedding] });
    } catch (error) {
      take({ event: "not enrolled", name, reason: error.message });
      return;
    }
    worker.postMessage({ type: "voices", recordings: profiles.recordings });
    take({ event: "enrolled", name, seconds, warnings, stranger });
  }

  return new Promise((resolve, reject) => {
    worker.onerror = (event) => {
      const error = new Error(event.message || "the page's worker could not be started");
      reject(error);
      gone(error.message);
    };
    worker.onmessage = ({ data }) => {
      if (data.event === "enrolled") keep(data);
      else take(data);
      if (data.event === "error") reject(new Error(data.message));
      if (data.event !== "ready") return;
      resolve({
        hear: (samples) => {
          const captured = performance.timeOrigin + performance.now();
          worker.postMessage({ type: "samples", samples, captured }, [samples.buffer]);
        },
        ask: (request) => worker.postMessage({ ...request, recordings: profiles.recordings }),
        close: () => worker.terminate(),
      });
    };
  });
}
