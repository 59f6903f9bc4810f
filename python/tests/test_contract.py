"""The client speaks the contract of the control API: every route, its token, its body, its answers."""

import json
import pathlib
import re
import sys
import tempfile
import threading
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from common import REPOSITORY, sample

import tributary
from tributary import Daemon

sys.path.insert(0, str(REPOSITORY / "python"))
import make_contract  # noqa: E402

CONTRACT = json.loads((REPOSITORY / "docs" / "openapi.json").read_text(encoding="utf-8"))
EVENTS = [
    {"kind": "phase", "run": "ab", "round": 1, "phase": "train"},
    {"kind": "training", "run": "ab", "round": 1, "step": 1, "steps": 2, "loss": 4.5, "tokens": 64},
    {"kind": "finished", "run": "ab"},
]


class Fake(BaseHTTPRequestHandler):
    """Answers with what `answers` has for a route, and keeps what it was asked."""

    asked: ClassVar[list[dict[str, Any]]] = []
    answers: ClassVar[dict[str, tuple[int, str]]] = {}

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        path, _, query = self.path.partition("?")
        Fake.asked.append(
            {"route": (self.command, path), "query": query, "body": body, "token": self.headers["Authorization"]}
        )
        status, text = Fake.answers.get(path, (404, '{"code": "unknown_route", "text": "no such route"}'))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_POST = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def daemon(**answers: tuple[int, str]) -> Iterator[Daemon]:
    Fake.asked, Fake.answers = [], {path.replace("_", "/"): answer for path, answer in answers.items()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Fake)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Daemon(f"127.0.0.1:{server.server_address[1]}", "secret", timeout_s=10)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def stream(events: list[dict[str, Any]]) -> str:
    return ": alive\n\n" + "".join(f"event: {e['kind']}\ndata: {json.dumps(e)}\n\n" for e in events)


def call_all(peer: Daemon) -> None:
    """Every method once; what it answers is another test's."""
    asks = [
        peer.status,
        peer.stop,
        peer.metrics,
        peer.runs,
        lambda: peer.run("ab"),
        lambda: peer.create("00", join={"role": "both"}),
        lambda: peer.join("ab"),
        lambda: peer.leave("ab"),
        lambda: peer.disputes("ab"),
        lambda: peer.dispute("ab", 7, "e4", "9c", "twice that"),
        lambda: peer.appeal("ab", "d5"),
        lambda: peer.base("ab"),
        lambda: peer.fetch_base("ab"),
        lambda: peer.books("ab", 2),
        peer.reach,
        lambda: peer.invite("ab"),
        peer.invitations,
        lambda: peer.revoke("ab"),
        lambda: peer.ticket("trib"),
        peer.adapters,
        lambda: peer.export("ab", "x"),
        lambda: peer.fetch("ab", "x"),
        lambda: peer.statement("ab", 2),
        peer.verify,
        lambda: peer.explain("ab"),
        lambda: peer.proof("ab"),
        lambda: peer.prove_holdout("ab", 1),
        lambda: peer.check_holdout({"schema": "holdout-proof/1"}),  # type: ignore[typeddict-item]
        lambda: peer.why("Of light"),
        lambda: peer.why(id="ab", tokens={"prompt": [5, 6], "answer": [7]}),
        lambda: peer.events("ab"),
    ]
    for ask in asks:
        try:
            ask()
        except tributary.RefusedError as error:
            assert error.code == "unknown_route", error


class Contract(unittest.TestCase):
    def operation(self, asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        method, path = asked["route"]
        for template, operations in CONTRACT["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) and method.lower() in operations:
                return f"{method} {template}", operations[method.lower()]
        raise AssertionError(f"the contract has no {method} {path}")

    def test_the_types_are_written_from_the_contract(self) -> None:
        written = (REPOSITORY / "python/src/tributary/contract.py").read_text(encoding="utf-8")
        self.assertEqual(written, make_contract.contract(), "run `python3 python/make_contract.py`")

    def test_every_route_has_a_method_and_every_request_its_form(self) -> None:
        with daemon() as peer:
            call_all(peer)
            asked = list(Fake.asked)
        seen = set()
        for one in asked:
            name, operation = self.operation(one)
            seen.add(name)
            self.assertEqual(one["token"], "Bearer secret", name)
            parameters = {p["name"] for p in operation.get("parameters", []) if p["in"] == "query"}
            self.assertLessEqual({pair.split("=")[0] for pair in one["query"].split("&") if pair}, parameters, name)
            content = operation.get("requestBody", {}).get("content")
            self.assertEqual(one["body"] is not None, content is not None, name)
            if content and not name.endswith("check-holdout"):
                kind = content["application/json"]["schema"]["$ref"].rsplit("/", 1)[-1]
                schema = CONTRACT["components"]["schemas"][kind]
                self.assertLessEqual(set(schema["required"]), set(one["body"]), name)
                self.assertLessEqual(set(one["body"]), set(schema["properties"]), name)
        routes = {f"{m.upper()} {path}" for path, ms in CONTRACT["paths"].items() for m in ms}
        self.assertEqual(seen, routes)


class Answers(unittest.TestCase):
    def test_an_answer_comes_as_the_daemon_gave_it(self) -> None:
        with daemon(_v1_status=(200, json.dumps(sample("status.json")))) as peer:
            self.assertEqual(peer.status(), sample("status.json"))

    def test_a_problem_is_raised_with_its_code_and_hint(self) -> None:
        problem = {"code": "not_followed", "text": "this peer does not follow it", "hint": "join it"}
        with daemon(_v1_runs_ab=(409, json.dumps(problem))) as peer:
            with self.assertRaises(tributary.RefusedError) as caught:
                peer.run("ab")
        self.assertEqual((caught.exception.code, caught.exception.hint), ("not_followed", "join it"))
        self.assertEqual(str(caught.exception), "this peer does not follow it (join it)")

    def test_an_answer_of_another_release_is_refused_by_what_it_lacks(self) -> None:
        older = {key: value for key, value in sample("status.json").items() if key != "warnings"}
        with daemon(_v1_status=(200, json.dumps(older))) as peer:
            with self.assertRaisesRegex(tributary.SchemaError, "/v1/status lacks warnings; this reads the contract of"):
                peer.status()

    def test_an_answer_that_is_no_problem_either_is_refused(self) -> None:
        with daemon(_v1_runs=(502, "<html>"), _v1_status=(200, "[]")) as peer:
            with self.assertRaisesRegex(tributary.SchemaError, "status 502"):
                peer.runs()
            with self.assertRaisesRegex(tributary.SchemaError, "no JSON object"):
                peer.status()

    def test_events_come_one_by_one_until_the_stream_ends(self) -> None:
        with daemon(_v1_events=(200, stream(EVENTS))) as peer:
            self.assertEqual(list(peer.events("ab")), EVENTS)
            self.assertEqual(Fake.asked[0]["query"], "run=ab")

    def test_a_daemon_that_is_gone_is_unreachable(self) -> None:
        with daemon() as peer:
            pass
        with self.assertRaises(tributary.RefusedError) as caught:
            peer.status()
        self.assertEqual(caught.exception.code, "unreachable")

    def test_a_home_without_a_daemon_says_how_to_start_one(self) -> None:
        with tempfile.TemporaryDirectory() as home:
            with self.assertRaisesRegex(tributary.MissingError, "tributary up --home"):
                Daemon.of_home(home)
            (pathlib.Path(home) / "control.json").write_text('{"addr": "127.0.0.1:1"}', encoding="utf-8")
            with self.assertRaisesRegex(tributary.SchemaError, "control.json"):
                Daemon.of_home(home)


if __name__ == "__main__":
    unittest.main()
