"""OpenAI's client for Python drives every route of `tributary serve`; skipped where the programs are not there."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest
import urllib.request
from typing import Any

import httpx2
import openai
from common import needs_programs

from tributary.programs import find

MESSAGES: Any = [{"role": "user", "content": "Once"}]
COMMON: Any = {"temperature": 0, "seed": 7, "user": "someone"}


@needs_programs
class Serving(unittest.TestCase):
    process: subprocess.Popen[str]
    client: openai.OpenAI

    @classmethod
    def setUpClass(cls) -> None:
        arguments = ["--format", "json", "serve", "--base", "brook", "--listen", "127.0.0.1:0", "--threads", "1"]
        environment = {name: value for name, value in os.environ.items() if name != "TRIBUTARY_SERVE_TOKEN"}
        cls.process = subprocess.Popen(
            [str(find("tributary")), *arguments], stdout=subprocess.PIPE, text=True, env=environment
        )
        cls.addClassCleanup(cls.stop)
        assert cls.process.stdout is not None
        url = json.loads(cls.process.stdout.readline())["url"]
        cls.client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
        cls.addClassCleanup(cls.client.close)

    @classmethod
    def stop(cls) -> None:
        cls.process.terminate()
        cls.process.wait(60)
        assert cls.process.stdout is not None
        cls.process.stdout.close()

    def chat(self, **more: Any) -> Any:
        return self.client.chat.completions.create(
            model="brook", messages=MESSAGES, **{"max_completion_tokens": 12, **COMMON, **more}
        )

    def test_models_are_listed_and_found(self) -> None:
        self.assertEqual([model.id for model in self.client.models.list()], ["brook"])
        self.assertEqual(self.client.models.retrieve("brook").object, "model")
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("gpt-4o")

    def test_a_chat_in_pieces_is_the_chat_at_once(self) -> None:
        whole = self.chat(n=2, logprobs=True, top_logprobs=2)
        said = whole.choices[0].message.content
        self.assertEqual(len(whole.choices), 2)
        self.assertTrue(said)
        tokens = whole.choices[0].logprobs.content
        self.assertEqual(b"".join(bytes(token.bytes) for token in tokens).decode("utf-8", "replace"), said)
        self.assertEqual(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens)
        self.assertEqual(whole.usage.prompt_tokens_details.cached_tokens, 0)
        pieces, usage = "", None
        for chunk in self.chat(stream=True, stream_options={"include_usage": True}):
            if chunk.choices:
                pieces += chunk.choices[0].delta.content or ""
            usage = chunk.usage or usage
        self.assertEqual(pieces, said)
        self.assertIsNotNone(usage)

    def test_stop_strings_end_an_answer(self) -> None:
        whole = self.chat().choices[0].message.content
        stop = whole[len(whole) // 2 :][:3]
        stopped = self.chat(stop=[stop])
        self.assertEqual(stopped.choices[0].message.content, whole[: whole.index(stop)])
        self.assertEqual(stopped.choices[0].finish_reason, "stop")

    def test_texts_are_continued(self) -> None:
        create: Any = self.client.completions.create
        whole = create(model="brook", prompt=["Once", "The"], max_tokens=6, logprobs=2, **COMMON)
        self.assertEqual([choice.index for choice in whole.choices], [0, 1])
        first = whole.choices[0]
        self.assertEqual("".join(first.logprobs.tokens), first.text)
        stream = create(model="brook", prompt="Once", max_tokens=6, stream=True, **COMMON)
        self.assertEqual("".join(chunk.choices[0].text for chunk in stream), first.text)

    def test_responses_are_answered(self) -> None:
        create: Any = self.client.responses.create
        asked = {"model": "brook", "input": "Once", "temperature": 0, "max_output_tokens": 12}
        whole = create(**asked, store=False)
        self.assertEqual(whole.output_text, self.chat().choices[0].message.content)
        events = list(create(**asked, stream=True))
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        self.assertEqual("".join(deltas), whole.output_text)
        self.assertEqual(events[-1].response.output_text, whole.output_text)
        with self.assertRaises(openai.BadRequestError) as refused:
            create(**asked, store=True)
        self.assertEqual(refused.exception.param, "store")

    def test_a_form_is_kept_to(self) -> None:
        schema = {
            "type": "object",
            "properties": {"colour": {"enum": ["red", "blue"]}},
            "required": ["colour"],
            "additionalProperties": False,
        }
        form = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema, "strict": True}}
        whole = self.chat(response_format=form, max_completion_tokens=60, temperature=1)
        self.assertIn(json.loads(whole.choices[0].message.content)["colour"], ("red", "blue"))
        with self.assertRaises(openai.BadRequestError) as refused:
            self.chat(tools=[{"type": "function", "function": {"name": "tide"}}])
        self.assertEqual(refused.exception.code, "tools_not_supported")

    def test_adapters_that_cannot_be_loaded_are_refused(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "adapter_config.json").write_text("{}", encoding="utf-8")
            with self.assertRaises(openai.BadRequestError) as refused:
                body = {"lora_name": "poet", "lora_path": folder}
                self.client.post("/load_lora_adapter", body=body, cast_to=httpx2.Response)
        self.assertEqual(refused.exception.code, "adapter_unreadable")
        with self.assertRaises(openai.NotFoundError):
            self.client.post("/unload_lora_adapter", body={"lora_name": "poet"}, cast_to=httpx2.Response)

    def test_what_is_wrong_is_named(self) -> None:
        with self.assertRaises(openai.NotFoundError) as missing:
            self.client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        self.assertEqual(missing.exception.code, "model_not_found")
        with self.assertRaises(openai.BadRequestError) as refused:
            self.chat(n=1000)
        self.assertEqual(refused.exception.param, "n")

    def test_the_contract_and_health_are_there(self) -> None:
        top = str(self.client.base_url).removesuffix("/v1/")
        with urllib.request.urlopen(f"{top}/health", timeout=60) as answer:
            self.assertEqual(json.load(answer), {"status": "ok"})
        with urllib.request.urlopen(f"{top}/openapi.json", timeout=60) as answer:
            self.assertIn("/v1/chat/completions", json.load(answer)["paths"])
