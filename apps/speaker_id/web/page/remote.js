// The program that served the page hears.
export function openRemote(sampleRate, { take, gone }) {
  const socket = new WebSocket(`ws://${location.host}/listen`);
  return new Promise((resolve, reject) => {
    const hearing = {
      hear: (samples) => socket.readyState === WebSocket.OPEN && socket.send(samples),
      ask: (request) => socket.send(JSON.stringify(request)),
      close: () => {
        socket.onclose = null;
        socket.close();
      },
    };
    socket.onopen = () => socket.send(JSON.stringify({ type: "open", sample_rate: sampleRate }));
    socket.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      take(event);
      if (event.event === "ready") resolve(hearing);
    };
    socket.onclose = () => {
      const reason = "the connection to streamdrnn is gone";
      reject(new Error(reason));
      gone(reason);
    };
  });
}
