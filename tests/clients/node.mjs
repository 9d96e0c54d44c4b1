// OpenAI's library for Node, asking about a picture: node node.mjs URL PICTURE
import { readFileSync } from "node:fs";
import OpenAI from "openai";

const [url, picture] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const shown = `data:image/jpeg;base64,${readFileSync(picture).toString("base64")}`;
const messages = [
  {
    role: "user",
    content: [
      { type: "image_url", image_url: { url: shown } },
      { type: "text", text: "Describe the picture." },
    ],
  },
];
const request = { model: "glimpse-demo", temperature: 0, messages };
const answer = (await client.chat.completions.create(request)).choices[0].message.content;

const pieces = [];
for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
  if (chunk.choices[0].delta.content) pieces.push(chunk.choices[0].delta.content);
}

messages.push({ role: "assistant", content: answer }, { role: "user", content: "How many circles are there?" });
const next = await client.chat.completions.create(request);
const told = { answer, pieces, next: next.choices[0].message.content, cached: next.usage.prompt_tokens_details.cached_tokens };
console.log(JSON.stringify(told));
