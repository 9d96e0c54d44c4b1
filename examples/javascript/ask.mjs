// node ask.mjs harbour.jpg 'How many boats are there?' [ws://127.0.0.1:8080/ws]
// An API key goes into GLIMPSE_API_KEY.

import { readFile } from "node:fs/promises";
import { ask } from "./glimpse.mjs";

const [picture, question, url = "ws://127.0.0.1:8080/ws"] = process.argv.slice(2);
if (!question) {
  console.error("usage: node ask.mjs PICTURE QUESTION [URL]");
  process.exit(2);
}
for await (const piece of ask(url, await readFile(picture), question, process.env.GLIMPSE_API_KEY)) {
  process.stdout.write(piece);
}
process.stdout.write("\n");
