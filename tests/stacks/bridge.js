// A WebSocket server in front of the collector. Each message goes to it as a POST, and its answer
// goes back as a message; heartbeats stay here.
//
//   NODE_EXTRA_CA_CERTS=CA node bridge.js PEM PORT COLLECTOR HANG-UPS
//
// PEM holds key and certificate; PORT 0 is any. After each of the first HANG-UPS messages the
// connection breaks, unanswered; every other one of them was given to the collector before.
// Prints a line of JSON for all that happens.
"use strict";
const fs = require("fs");
const https = require("https");
const { WebSocketServer } = require("ws");

const [pem, port, collector, hangUps] = process.argv.slice(2);
const key = fs.readFileSync(pem);
const server = https.createServer({ key, cert: key });
const say = (what) => console.log(JSON.stringify({ at: Date.now(), ...what }));

function post(path, body) {
  return new Promise((resolve, reject) => {
    const headers = { "Content-Type": "application/json" };
    const request = https.request(collector + path, { method: "POST", headers }, (answer) => {
      let text = "";
      answer.on("data", (piece) => (text += piece)).on("end", () => resolve(text));
    });
    request.on("error", reject).end(body);
  });
}

let messages = 0;
new WebSocketServer({ server }).on("connection", (socket, upgrade) => {
  say({ connection: upgrade.url });
  socket.on("ping", () => say({ ping: true }));
  socket.on("close", (code) => say({ close: code }));
  socket.on("error", (error) => say({ error: error.message }));
  socket.on("message", async (data, isBinary) => {
    const text = data.toString();
    if (isBinary) return say({ error: "a binary message" });
    if (text.startsWith('{"type":"heartbeat"')) return say({ heartbeat: JSON.parse(text) });
    const number = messages++;
    say({ message: number });
    const breaks = number < Number(hangUps);
    const answer = breaks && number % 2 ? "" : await post(upgrade.url, text).catch(() => null);
    if (breaks || answer === null) socket.terminate();
    else socket.send(answer);
  });
});
server.listen(Number(port), "127.0.0.1", () => say({ port: server.address().port }));
