"""The control API of a running daemon (`docs/openapi.json`), a method for each route.

A daemon listens on this machine alone. Its home's `control.json`, which only the owner can read, holds the address and
the token. Ids may be given in full or by their first digits.
"""

import http.client
import json
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode

from .contract import (
    VERSION,
    AdapterView,
    BaseView,
    BooksView,
    CreateRequest,
    DisputeRequest,
    DisputesView,
    EventView,
    Explanation,
    HoldoutProof,
    HoldoutReport,
    InvitationView,
    InviteRequest,
    JoinRequest,
    OfferView,
    ProofView,
    ReachView,
    Report,
    RoleName,
    RunBrief,
    RunView,
    StatementView,
    StatusView,
    Stopping,
    TicketRequest,
    TicketView,
    Tokens,
    Why,
)
from .errors import MissingError, RefusedError, SchemaError
from .schema import PathLike

Answer = TypeVar("Answer", bound=Mapping[str, Any])


class Daemon:
    """A running daemon. Every method sends one request; none keeps a connection but `events`."""

    def __init__(self, address: str, token: str, timeout_s: float = 600.0) -> None:
        self.address = address
        self._token = token
        self._timeout_s = timeout_s

    @classmethod
    def of_home(cls, home: PathLike, timeout_s: float = 600.0) -> "Daemon":
        """The daemon that runs on a home."""
        path = Path(home) / "control.json"
        try:
            control = json.loads(path.read_text(encoding="utf-8"))
            return cls(control["addr"], control["token"], timeout_s)
        except FileNotFoundError as error:
            raise MissingError(
                f"no daemon runs on the home {home}; start it with `tributary up --home {home}`"
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SchemaError(
                f"cannot use {path} ({error}); stop the daemon, delete the file, start the daemon again"
            ) from error

    def status(self) -> StatusView:
        """How the peer is, and its runs."""
        return self._one(StatusView, "GET", "/v1/status")

    def stop(self) -> Stopping:
        """Stops the daemon."""
        return self._one(Stopping, "POST", "/v1/stop")

    def metrics(self) -> str:
        """Counters of the daemon as Prometheus text."""
        return self._send("GET", "/metrics").decode("utf-8")

    def runs(self) -> list[RunBrief]:
        """Runs that the peer follows, and those that its neighbours follow."""
        return self._many(RunBrief, "/v1/runs")

    def run(self, id: str) -> RunView:
        """One run: settings, members, rounds, credits."""
        return self._one(RunView, "GET", f"/v1/runs/{quote(id)}")

    def books(self, id: str, height: int | None = None) -> BooksView:
        """A run's manifest, its roots with their signatures, and what the root of `height` pays each account."""
        asked = {} if height is None else {"height": height}
        return self._one(BooksView, "GET", _with_query(f"/v1/runs/{quote(id)}/books", asked))

    def create(self, manifest: str, base: str | None = None, join: JoinRequest | None = None) -> RunBrief:
        """Opens a run from its manifest's canonical bytes in hexadecimal; `Home.create_run` opens one from a file."""
        body: CreateRequest = {"manifest": manifest, "base": base, "join": join}
        return self._one(RunBrief, "POST", "/v1/runs", body)

    def join(
        self,
        id: str,
        role: RoleName = "contributor",
        datanet: str | None = None,
        holdout: list[str] | None = None,
        base: str | None = None,
    ) -> RunBrief:
        """Asks for membership from the next round on."""
        body: JoinRequest = {"role": role, "datanet": datanet, "holdout": holdout or [], "base": base}
        return self._one(RunBrief, "POST", f"/v1/runs/{quote(id)}/join", body)

    def leave(self, id: str) -> RunBrief:
        """Asks to leave from the next round on."""
        return self._one(RunBrief, "POST", f"/v1/runs/{quote(id)}/leave")

    def disputes(self, id: str) -> DisputesView:
        """A run's disputes about score sheets, and which sheets can be disputed."""
        return self._one(DisputesView, "GET", f"/v1/runs/{quote(id)}/disputes")

    def dispute(self, id: str, round: int, evaluator: str, peer: str, reason: str) -> DisputesView:
        """Disputes what `evaluator` scored `peer` in `round`, at a bond out of the peer's stake."""
        body: DisputeRequest = {"round": round, "evaluator": evaluator, "peer": peer, "reason": reason}
        return self._one(DisputesView, "POST", f"/v1/runs/{quote(id)}/disputes", body)

    def appeal(self, id: str, dispute: str) -> DisputesView:
        """Has a larger jury judge again, as who lost."""
        return self._one(DisputesView, "POST", f"/v1/runs/{quote(id)}/disputes/{quote(dispute)}/appeal")

    def base(self, id: str) -> BaseView:
        """Whether the base model of a run is on this machine, and how far it is fetched from peers."""
        return self._one(BaseView, "GET", f"/v1/runs/{quote(id)}/base")

    def fetch_base(self, id: str) -> BaseView:
        """Fetches the base model of a run from peers, unless it is here; returns once it is whole."""
        return self._one(BaseView, "POST", f"/v1/runs/{quote(id)}/base")

    def reach(self) -> ReachView:
        """How the peer reaches others and they it, and what is in the way."""
        return self._one(ReachView, "GET", "/v1/reach")

    def invite(self, run: str, expires_s: int = 7 * 24 * 3600) -> TicketView:
        """Makes a ticket to a run, which others pass to `tributary join`."""
        body: InviteRequest = {"run": run, "expires_s": expires_s}
        return self._one(TicketView, "POST", "/v1/invitations", body)

    def invitations(self) -> list[InvitationView]:
        """Tickets that this peer gave out."""
        return self._many(InvitationView, "/v1/invitations")

    def revoke(self, invitation: str) -> list[InvitationView]:
        """Takes a ticket back."""
        return self._many(InvitationView, f"/v1/invitations/{quote(invitation)}/revoke", "POST")

    def ticket(self, ticket: str, base: str | None = None) -> OfferView:
        """Connects to the peers of a ticket and tells what the run is. Joins nothing."""
        body: TicketRequest = {"ticket": ticket, "base": base}
        return self._one(OfferView, "POST", "/v1/tickets", body)

    def adapters(self) -> list[AdapterView]:
        """Certified adapters of the home."""
        return self._many(AdapterView, "/v1/adapters")

    def export(self, id: str, folder: PathLike) -> AdapterView:
        """Writes a certified adapter of the home as a PEFT folder."""
        return self._one(AdapterView, "POST", "/v1/adapters/export", {"id": id, "dir": _absolute(folder)})

    def fetch(self, id: str, folder: PathLike, bootstrap: list[str] | None = None, timeout_s: int = 60) -> AdapterView:
        """Fetches an adapter from the network, checks it against its certificates and writes it as a PEFT folder."""
        body = {"id": id, "dir": _absolute(folder), "bootstrap": bootstrap or [], "timeout_s": timeout_s}
        return self._one(AdapterView, "POST", "/v1/adapters/fetch", body)

    def statement(self, run: str | None = None, by: int | None = None) -> StatementView:
        """What the peer did and earned, in periods of `by` rounds."""
        asked = {key: value for key, value in (("run", run), ("by", by)) if value is not None}
        return self._one(StatementView, "GET", _with_query("/v1/ledger/statement", asked))

    def verify(self) -> Report:
        """Checks everything that the home relies on."""
        return self._one(Report, "GET", "/v1/ledger/verify")

    def explain(self, receipt: str) -> Explanation:
        """Why a contribution was paid what it was."""
        return self._one(Explanation, "POST", "/v1/ledger/explain", {"receipt": receipt})

    def proof(self, receipt: str) -> ProofView:
        """What a contribution was paid, with everything that proves it."""
        return self._one(ProofView, "POST", "/v1/ledger/proof", {"receipt": receipt})

    def prove_holdout(self, run: str, round: int) -> HoldoutProof:
        """Which hold-out windows this evaluator scored a round on, and that it had committed to them."""
        return self._one(HoldoutProof, "POST", "/v1/ledger/prove-holdout", {"run": run, "round": round})

    def check_holdout(self, proof: HoldoutProof) -> HoldoutReport:
        """Whether such a proof of an evaluator holds."""
        return self._one(HoldoutReport, "POST", "/v1/ledger/check-holdout", proof)

    def why(
        self,
        prompt: str = "",
        answer: str | None = None,
        id: str = "",
        max_tokens: int = 64,
        tokens: Tokens | None = None,
    ) -> Why:
        """Who shaped an answer of an adapter; without `answer`, the adapter gives one.

        `tokens` holds the exact tokens of prompt and answer in place of both texts; nobody is asked for evidence then.
        """
        body = {"id": id, "prompt": prompt, "answer": answer, "max_tokens": max_tokens, "tokens": tokens}
        return self._one(Why, "POST", "/v1/why", body)

    def events(self, run: str | None = None) -> Generator[EventView, None, None]:
        """What happens, as it happens: of one run until it is finished, else of everything until the daemon stops.

        The connection is open when this returns, so that nothing that happens later is missed.
        """
        connection, response = self._open("GET", _with_query("/v1/events", {} if run is None else {"run": run}))
        return _events(connection, response)

    def _one(self, kind: type[Answer], method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        answer = self._json(method, path, body)
        return _checked(kind, answer, f"{method} {path}")

    def _many(self, kind: type[Answer], path: str, method: str = "GET") -> list[Answer]:
        answer = self._json(method, path, None)
        if not isinstance(answer, list):
            raise _foreign(f"{method} {path}", "is no list")
        return [_checked(kind, one, f"{method} {path}") for one in answer]

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        try:
            return json.loads(self._send(method, path, body))
        except ValueError as error:
            raise _foreign(f"{method} {path}", f"is not JSON ({error})") from error

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        connection, response = self._open(method, path, body)
        try:
            return response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def _open(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Sends a request and returns the answer's beginning; a problem in place of an answer is raised."""
        connection = http.client.HTTPConnection(self.address, timeout=self._timeout_s)
        headers = {"Authorization": f"Bearer {self._token}"}
        content = None
        if body is not None:
            content, headers["Content-Type"] = json.dumps(body), "application/json"
        try:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            if response.status < 300:
                return connection, response
            told = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._unreachable(error) from error
        connection.close()
        raise _problem(told, f"{method} {path}", response.status)

    def _unreachable(self, error: Exception) -> RefusedError:
        text = f"the daemon at {self.address} does not answer ({error})"
        return RefusedError("unreachable", text, "see whether it runs with `tributary status`")


def _events(
    connection: http.client.HTTPConnection, response: http.client.HTTPResponse
) -> Generator[EventView, None, None]:
    """Server-sent events until the stream ends or the reader closes it; a comment only keeps the connection alive."""
    data: list[str] = []
    try:
        for raw in response:
            line = raw.decode("utf-8").rstrip("\r\n")
            if line.startswith("data:"):
                data.append(line.removeprefix("data:").removeprefix(" "))
            elif not line and data:
                event = json.loads("\n".join(data))
                data = []
                yield cast(EventView, event)
    except (OSError, http.client.HTTPException) as error:
        raise RefusedError("unreachable", f"the stream of events broke off ({error})", "open it again") from error
    finally:
        connection.close()


def _problem(told: bytes, where: str, status: int) -> RefusedError | SchemaError:
    try:
        problem = json.loads(told)
        return RefusedError(problem["code"], problem["text"], problem.get("hint"))
    except (ValueError, KeyError, TypeError):
        return _foreign(where, f"has the status {status} and names no problem")


def _checked(kind: type[Answer], answer: Any, where: str) -> Answer:
    required: frozenset[str] = cast(Any, kind).__required_keys__
    if not isinstance(answer, dict):
        raise _foreign(where, "is no JSON object")
    missing = sorted(required - set(answer))
    if missing:
        raise _foreign(where, f"lacks {', '.join(missing)}")
    return cast(Answer, answer)


def _foreign(where: str, what: str) -> SchemaError:
    return SchemaError(
        f"the daemon's answer to {where} {what}; this reads the contract of {VERSION}: "
        "use the daemon and the Python package of one release"
    )


def _with_query(path: str, asked: Mapping[str, object]) -> str:
    return f"{path}?{urlencode(asked)}" if asked else path


def _absolute(folder: PathLike) -> str:
    return str(Path(folder).absolute())
