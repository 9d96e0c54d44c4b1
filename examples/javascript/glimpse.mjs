// Asks Glimpse about a picture: the same file in the browser and in Node.

const PIECE = 64 * 1024;

// Browsers have it, Node from 22 on; before, `npm install ws`.
const Socket = globalThis.WebSocket ?? (await import("ws")).default;

/**
 * Yields the answer in pieces.
 *
 * @param {string} url of the socket, such as ws://127.0.0.1:8080/ws
 * @param {Uint8Array} picture the file's bytes
 * @param {string} question
 * @param {string} [key] an API key, where the server asks for one
 */
export async function* ask(url, picture, question, key) {
  const socket = new Socket(url, ["glimpse.v1"]);
  const arrived = [];
  let wake = () => {};
  const say = (message) => socket.send(JSON.stringify(message));
  socket.onmessage = (event) => (arrived.push(JSON.parse(event.data)), wake());
  socket.onclose = (event) => (arrived.push({ type: "closed", code: event.code }), wake());
  socket.onerror = () => {};

  async function next() {
    while (arrived.length === 0) await new Promise((resolve) => (wake = resolve));
    const message = arrived.shift();
    if (message.type === "error") throw new Error(message.message);
    if (message.type === "closed") throw new Error(`the server closed with ${message.code}`);
    return message;
  }

  try {
    // A browser can send no headers with a WebSocket, so the key comes in the first message.
    socket.onopen = () => key && say({ type: "hello", token: key });
    let message = await next();
    while (message.type !== "welcome") message = await next();

    say({ type: "upload", upload: 1, bytes: picture.length });
    // The question need not wait for the picture, nor the picture for the question.
    say({ type: "ask", request: "1", text: question, upload: 1 });
    const window = message.limits.upload_window;
    let received = 0;
    for (let at = 0; at < picture.length; at += PIECE) {
      const piece = picture.subarray(at, at + PIECE);
      // No more than a window ahead of what the server has.
      while (at + piece.length > received + window) {
        message = await next();
        if (message.type === "upload_progress") received = message.received;
      }
      const frame = new Uint8Array(4 + piece.length);
      new DataView(frame.buffer).setUint32(0, 1);
      frame.set(piece, 4);
      socket.send(frame);
    }
    for (;;) {
      message = await next();
      if (message.type === "token") yield message.text;
      if (message.type === "done") return;
    }
  } finally {
    // 1000 ends the session, and with it all that the server holds of it.
    socket.close(1000);
  }
}
