// OpenAI's client for Node drives every route: `node check.mjs URL ADAPTER_FOLDER`.
import assert from "node:assert/strict";
import OpenAI from "openai";

const [, , baseURL, folder] = process.argv;
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const post = (path, body) => client.post(path, { body });

const models = await client.models.list();
assert.deepEqual(models.data.map((model) => model.id), ["brook"]);
assert.equal((await client.models.retrieve("brook")).id, "brook");

const messages = [{ role: "user", content: [{ type: "text", text: "Once" }] }];
const common = { model: "brook", temperature: 0, seed: 7, user: "someone" };
const chat = await client.chat.completions.create({ ...common, messages, max_completion_tokens: 12, n: 2 });
assert.equal(chat.choices.length, 2);
const said = chat.choices[0].message.content;
assert.ok(said.length > 0);

let streamed = "";
let usage;
const stream = await client.chat.completions.create({
  ...common, messages, max_completion_tokens: 12, stream: true, stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(streamed, said);
assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);

const completion = await client.completions.create({ ...common, prompt: ["Once", "The"], max_tokens: 6, logprobs: 2 });
assert.equal(completion.choices.length, 2);
assert.equal(completion.choices[0].logprobs.tokens.length, completion.choices[0].logprobs.token_logprobs.length);
let continued = "";
for await (const chunk of await client.completions.create({ ...common, prompt: "Once", max_tokens: 6, stream: true })) {
  continued += chunk.choices[0]?.text ?? "";
}
assert.equal(continued, completion.choices[0].text);

const response = await client.responses.create({ model: "brook", temperature: 0, input: "Once", max_output_tokens: 12, store: false });
assert.equal(response.output_text, said);
let pieces = "";
for await (const event of await client.responses.create({ model: "brook", temperature: 0, input: "Once", max_output_tokens: 12, stream: true })) {
  if (event.type === "response.output_text.delta") pieces += event.delta;
}
assert.equal(pieces, said);

const schema = {
  type: "object", properties: { colour: { enum: ["red", "blue"] } }, required: ["colour"], additionalProperties: false,
};
const form = { type: "json_schema", json_schema: { name: "thing", schema, strict: true } };
const thing = await client.chat.completions.create({ ...common, messages, max_completion_tokens: 60, response_format: form });
assert.ok(["red", "blue"].includes(JSON.parse(thing.choices[0].message.content).colour));
const parsed = await client.responses.create({
  model: "brook", input: "Once", max_output_tokens: 60, text: { format: { type: "json_schema", name: "thing", schema, strict: true } },
});
assert.ok(["red", "blue"].includes(JSON.parse(parsed.output_text).colour));
await assert.rejects(
  client.chat.completions.create({ ...common, messages, tools: [{ type: "function", function: { name: "tide" } }] }),
  (error) => error instanceof OpenAI.BadRequestError && error.code === "tools_not_supported",
);

await post("/load_lora_adapter", { lora_name: "poet", lora_path: folder });
const poet = await client.completions.create({ ...common, model: "poet", prompt: "Once", max_tokens: 6 });
assert.notEqual(poet.choices[0].text, completion.choices[0].text);
await post("/unload_lora_adapter", { lora_name: "poet" });
await assert.rejects(
  client.completions.create({ ...common, model: "poet", prompt: "Once", max_tokens: 6 }),
  (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found",
);
await assert.rejects(
  client.chat.completions.create({ ...common, messages, n: 1000 }),
  (error) => error instanceof OpenAI.BadRequestError && error.param === "n",
);
const top = baseURL.replace(/\/v1$/, "");
assert.equal((await (await fetch(`${top}/health`)).json()).status, "ok");
assert.ok((await (await fetch(`${top}/openapi.json`)).json()).paths["/v1/models"]);
console.log("every route answered");
