// The channel of the app's Live tab: numbered JPEG frames over a WebSocket to space/live/server.py.
/** Open a channel. `told`: open(), answer(object), close(reason). */
export default function openSocket(told) {
  const socket = new WebSocket(address());
  let refused = "";
  socket.binaryType = "arraybuffer";
  socket.onopen = told.open;
  socket.onmessage = (event) => {
    const answer = JSON.parse(event.data);
    if (answer.frame === undefined) refused = answer.error;
    else told.answer(answer);
  };
  socket.onclose = () => told.close(refused || "The connection to the server was lost. Start again.");
  return {
    get busy() {
      return socket.readyState !== 1 || socket.bufferedAmount > 300000;
    },
    // Resolves once the frame has left, with whether it has.
    async send(number, frame) {
      const blob = await new Promise((done) => frame.toBlob(done, "image/jpeg", 0.85));
      const bytes = blob && (await blob.arrayBuffer());
      if (!bytes || socket.readyState !== 1) return false;
      const message = new Uint8Array(4 + bytes.byteLength);
      new DataView(message.buffer).setUint32(0, number, true);
      message.set(new Uint8Array(bytes), 4);
      socket.send(message);
      return true;
    },
    tune(threshold) {
      if (socket.readyState === 1) socket.send(JSON.stringify({threshold}));
    },
    close() {
      socket.close();
    },
  };
}

function address() {
  const root = new URL((window.gradio_config?.root || location.origin + location.pathname).replace(/\/?$/, "/"));
  root.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  root.search = root.hash = "";
  return new URL("live", root).href;
}
