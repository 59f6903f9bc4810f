"""Requests and answers of the control API. Written from docs/openapi.json by
`python3 python/make_contract.py`; change the contract, not this file."""

from typing import Literal, TypedDict, Union

# The release whose contract this is.
VERSION = "0.1.0"


class AccountBalance(TypedDict):
    """What an account is paid, ever."""

    # The account.
    account: str
    # Base units.
    units: str


class AccountSignature(TypedDict):
    """A signature of an account."""

    # The account.
    account: str
    # r, s and v, hexadecimal.
    signature: str


class AccountView(TypedDict):
    """One account."""

    # sponsor, contributor, ...
    capacity: str
    # Millionths of an OPEN.
    micro_open: int


class AdapterView(TypedDict):
    """An adapter that some round certified."""

    # The base model it belongs to.
    base: str
    # Whether its bytes are in this home.
    here: bool
    # BLAKE3 of its canonical bytes: its id.
    id: str
    # The run's name.
    name: str
    # The round that certified it.
    round: int
    # The run.
    run: str
    # Bytes.
    size: int


# The answer to a question for evidence, in a word.
Outcome = Literal[
    "answered", "declined", "silent", "false_proof", "not_asked",
]


class Asked(TypedDict):
    """What came of asking a contributor for evidence."""

    # Proven spans that are boilerplate.
    boilerplate: int
    # The outcome in a word.
    outcome: Outcome
    # Why nothing is known of it, or what was left out; empty when there is nothing to say.
    why: str


class _AwaitedViewAlways(TypedDict):
    # Whether it is connected now.
    connected: bool
    # Its name.
    name: str
    # Its id.
    peer: str


class AwaitedView(_AwaitedViewAlways, total=False):
    """A peer that a round waits for."""

    # Seconds since it was last connected; null where this daemon has not seen it.
    seen_s: int | None


class BaseView(TypedDict):
    """The base model of a run, as it is here."""

    # Its name.
    base: str
    # Bytes that are here of one that is being fetched.
    bytes_done: int
    # Bytes a second since the fetch began.
    bytes_per_second: int
    # Bytes in all of one that is being fetched; 0 before its listing has come.
    bytes_total: int
    # Whether it is being fetched now.
    fetching: bool
    # Whether it is on this machine, whole.
    here: bool
    # Peers that send.
    providers: list[str]
    # Whether the run's creator lets members hand it on.
    shared: bool


class SignedRootView(TypedDict):
    """The root of one height."""

    # Whether no later root promises more of the deposit.
    closed: bool
    # Answers to a challenge of it, as `confirm` of the contract takes them, ordered by account.
    confirms: list[AccountSignature]
    # What members sign.
    digest: str
    # The height.
    height: int
    # Canonical bytes of the root, hexadecimal.
    root: str
    # Signatures that certificates put in order, ordered by account.
    signatures: list[AccountSignature]
    # What it promises, base units.
    total_units: str


class BooksView(TypedDict):
    """A run's books. Amounts are base units of the chain, 10^-18 OPEN, as decimal digits."""

    # What each account is paid under the root that was asked for, ordered by account.
    balances: list[AccountBalance]
    # The height that comes next.
    expected: int
    # Canonical bytes of its manifest, hexadecimal.
    manifest: str
    # The root of the height that was asked for, else of the last heights, the newest last. None before
    # the genesis, or where the books do not reach that height.
    roots: list[SignedRootView]
    # The run.
    run: str


class CauseView(TypedDict):
    """One cause of a change."""

    # length, unscored, no-gain, not-beyond-luck, absent, own-score, others-scores, worth.
    cause: str
    # What it did.
    micro_open: int


class SeatPart(TypedDict):
    """A seat of a committee."""

    # Its name.
    name: str
    # The peer.
    peer: str
    # Whether its precommit is in the certificate.
    signed: bool


class CertificatePart(TypedDict):
    """A certificate."""

    # The attempt in which it was decided.
    attempt: int
    # The committee, drawn anew from the roster before; who signed.
    committee: list[SeatPart]
    # Signatures that are enough.
    quorum: int
    # Its height.
    round: int
    # The state that follows.
    state: str
    # What was signed.
    value: str


class ChangeView(TypedDict):
    """Why a period paid more or less than the one before."""

    # What each cause did to it; they add up to it.
    causes: list[CauseView]
    # Earned now minus earned before.
    micro_open: int


# What kind of problem it is, for programs. - `malformed`: The request is not one that this version
# understands. - `unauthorised`: The bearer token is missing or wrong. - `unknown_route`: There is no
# such route or method: client and daemon differ in version. - `unknown_id`: No run, adapter or receipt
# of this home has that id. - `ambiguous_id`: The first digits of an id name more than one thing. -
# `not_followed`: The run is known, but this peer does not follow it. - `no_adapter`: The run has no
# certified adapter in this home yet. - `no_updates`: Updates of the run are missing in this home, so
# that nobody's part in it can be told. - `refused`: The node did not take the command, or it makes no
# sense now. - `beyond_bounds`: The run asks for more than the owner lets runs take of this machine. -
# `too_many_readers`: Every place for readers of events is taken. - `unreachable`: No connected peer gave
# what was asked for in time, or a daemon runs and does not answer. - `stopped`: The daemon is stopping
# or has stopped. - `not_running`: No daemon runs on the home. - `not_understood`: Client and daemon do
# not understand each other: their versions differ, or the connection broke. - `check_failed`: What was
# checked is wrong. - `misconduct`: What was checked holds, and proves that somebody broke the rules. -
# `interrupted`: Somebody ended the work before it was done. - `environment`: Arguments, files, network
# or disk: it could not be carried out.
Code = Literal[
    "malformed", "unauthorised", "unknown_route", "unknown_id", "ambiguous_id",
    "not_followed", "no_adapter", "no_updates", "refused", "beyond_bounds",
    "too_many_readers", "unreachable", "stopped", "not_running", "not_understood",
    "check_failed", "misconduct", "interrupted", "environment",
]


# What a member does.
RoleName = Literal[
    "contributor", "evaluator", "both",
]


class _JoinRequestAlways(TypedDict):
    # What to do in the run.
    role: RoleName


class JoinRequest(_JoinRequestAlways, total=False):
    """Asks for membership."""

    # Folder of the base model, when it is not `brook`.
    base: str | None
    # The shard, when it is not named as the run's Datanet.
    datanet: str | None
    # Text to score on; empty takes a part of the shard that is then not trained on.
    holdout: list[str]


class _CreateRequestAlways(TypedDict):
    # Canonical bytes of the manifest, hexadecimal.
    manifest: str


class CreateRequest(_CreateRequestAlways, total=False):
    """Opens a run."""

    # Folder of the base model, when it is not `brook`.
    base: str | None
    join: JoinRequest | None


class CreditView(TypedDict):
    """What a contributor earned in a run."""

    # Whether the sum is beyond luck: its positive scores count from then on.
    beyond_luck: bool
    # Credits: its part of what was given out, in billionths of a round.
    credit: int
    # Upper end of that interval.
    high_nanonats: int
    # Lower end of the sum's interval.
    low_nanonats: int
    # Standard deviation that the sum would have with random signs.
    luck_nanonats: int
    # Earned, in millionths of an OPEN.
    micro_open: int
    # Name for people.
    name: str
    # Its id.
    peer: str
    # Sum of its final scores.
    score_nanonats: int


class DisputeRequest(TypedDict):
    """A score that is disputed."""

    # Who made the sheet, by its id's first digits.
    evaluator: str
    # Whose score it is, by its id's first digits.
    peer: str
    # Why: one line, at most 160 bytes.
    reason: str
    # The round that the sheet judges.
    round: int


class DisputedScoreView(TypedDict):
    """A score that somebody disputes."""

    # Who opened the dispute.
    challenger: str
    # Whose score is disputed.
    peer: str
    # What the challenger says of it.
    reason: str
    # The round that the sheet judges.
    round: int


class _JurorViewAlways(TypedDict):
    # The peer.
    peer: str
    # Its seats.
    seats: int


class JurorView(_JurorViewAlways, total=False):
    """A juror."""

    # `holds`, `fails`, `unshown` or `unreached`; none while it has found nothing.
    finding: str | None


class SentenceView(TypedDict):
    """What the loser of a dispute pays out of its stake, as the contract's `slash` takes it."""

    # The loser's account.
    account: str
    # Hash of the place of the entry that opened the dispute.
    evidence: str
    # Signatures that certificates put in order, ordered by account.
    signatures: list[AccountSignature]
    # How much, base units as decimal digits.
    units: str


class _DisputeViewAlways(TypedDict):
    # Places of answers in the entry that this id names, of whose shares the check is; counted from 0.
    answers: list[int]
    # Whose word a jury recomputes: the evaluator's that made the sheet, or the server's that filed the
    # answers.
    author: str
    # Its id.
    id: str
    # Who judges, or judged last.
    jury: list[JurorView]
    # `called`, `sitting`, `appealable`, `over`, `upheld`, `unproven` or `lapsed`.
    stage: str


class DisputeView(_DisputeViewAlways, total=False):
    """One dispute, or one check of shares."""

    # Who appealed.
    appellant: str | None
    # Who lost.
    loser: str | None
    score: DisputedScoreView | None
    sentence: SentenceView | None
    # Until which height the jury sits, or the loser may appeal.
    until: int | None


class SheetView(TypedDict):
    """A sheet that can be disputed."""

    # Who made it.
    evaluator: str
    # The round that it judges.
    round: int
    # Whose scores became final with it.
    scored: list[str]


class DisputesView(TypedDict):
    """A run's disputes about score sheets, and checks of the shares of answers."""

    # Sheets that can be disputed now, the oldest round first.
    disputable: list[SheetView]
    # All that were opened, ordered by id.
    disputes: list[DisputeView]
    # The height that comes next.
    expected: int
    # The run.
    run: str


class DrawnWindow(TypedDict):
    """A shown window."""

    # From its leaf up to the root.
    path: list[str]
    # Its place in the hold-out, from 0.
    place: int
    # What blinds its leaf.
    salt: str
    # Its tokens.
    tokens: list[int]


# What a run is doing on this peer.
RunPhase = Literal[
    "known", "awaiting_manifest", "declined", "without_own_text", "gather", "train",
    "collect", "agree", "catch_up", "stopped", "offline", "finished",
]


class FollowingEvent(TypedDict):
    """A run is known and followed."""

    kind: Literal["following"]
    # The run.
    run: str


class PhaseEvent(TypedDict):
    """A phase of a round began. A stream begins with the phase of each run that it tells of."""

    kind: Literal["phase"]
    # The phase.
    phase: RunPhase
    # The round.
    round: int
    # The run.
    run: str


class TrainingEvent(TypedDict):
    """Local training advances."""

    kind: Literal["training"]
    # Loss of the last batch, nats a token.
    loss: float
    # The round.
    round: int
    # The run.
    run: str
    # Steps done.
    step: int
    # Steps in all.
    steps: int
    # Tokens trained on so far.
    tokens: int


class ContributedEvent(TypedDict):
    """An update arrived or was made here."""

    # Updates that are here.
    arrived: int
    # Updates expected.
    expected: int
    kind: Literal["contributed"]
    # Whose.
    peer: str
    # The round.
    round: int
    # The run.
    run: str


class CertifiedEvent(TypedDict):
    """A round is certified and its state derived here."""

    # Contributions included.
    included: int
    kind: Literal["certified"]
    # The round.
    round: int
    # The run.
    run: str
    # The state.
    state: str
    # Milliseconds from the certificate before, by the local clock.
    took_ms: int


class FinishedEvent(TypedDict):
    """The closing height is certified."""

    kind: Literal["finished"]
    # The run.
    run: str


class RefusedEvent(TypedDict):
    """A message of another peer was refused."""

    # The stable code of the refusal; `docs/protocol.md` lists them.
    code: int
    kind: Literal["refused"]
    # Who handed it on.
    peer: str
    # Why, in words.
    why: str


class EquivocationEvent(TypedDict):
    """A peer signed two different things at one place."""

    kind: Literal["equivocation"]
    # Who.
    peer: str
    # The run.
    run: str


class RefutedEvent(TypedDict):
    """A certified value does not follow from what this peer holds."""

    # The stable code of the refusal.
    code: int
    kind: Literal["refuted"]
    # The round.
    round: int
    # The run.
    run: str
    # What does not follow, in words.
    why: str


class DeclinedEvent(TypedDict):
    """A run asks for more than this peer gives."""

    kind: Literal["declined"]
    # The run.
    run: str
    # What it asks for, and how to give it.
    why: str


class _FailedEventAlways(TypedDict):
    kind: Literal["failed"]
    # What failed, and why.
    why: str


class FailedEvent(_FailedEventAlways, total=False):
    """A command, or work for a run, came to nothing."""

    # The run, if it is about one.
    run: str | None


class MissedEvent(TypedDict):
    """This reader was too slow, and events are lost to it."""

    # How many.
    events: int
    kind: Literal["missed"]


# Something that happened on a peer; `kind` says what.
EventView = Union[
    FollowingEvent,
    PhaseEvent,
    TrainingEvent,
    ContributedEvent,
    CertifiedEvent,
    FinishedEvent,
    RefusedEvent,
    EquivocationEvent,
    RefutedEvent,
    DeclinedEvent,
    FailedEvent,
    MissedEvent,
]


class ExplainRequest(TypedDict):
    """Which payout."""

    # The receipt by the first digits of its id, or RUN/ROUND/PEER.
    receipt: str


class PayoutPart(TypedDict):
    """A payout line."""

    # The account after the round.
    account_after_micro_open: int
    # The contributor's account of the run before the round.
    account_before_micro_open: int
    # Billionths of the committed weight that arrived in time: so much of the rest is paid.
    arrived_ppb: int
    # The most that the round pays.
    budget_micro_open: int
    # Sum of all scores of the round.
    gain_nanonats: int
    # What the contribution earned.
    micro_open: int
    # paid, no-gain, not-beyond-luck or unscored.
    outcome: str
    # What a nat of gain pays.
    price_per_nat_micro_open: int
    # What of it waits unallocated.
    waiting_micro_open: int
    # What its gain is worth at that price, within the budget, in the part that arrived: paid in by the
    # sponsor.
    worth_micro_open: int


class ReceiptPart(TypedDict):
    """A receipt."""

    # The state that was trained from.
    base_state: str
    # The block that carries it: its id.
    block: str
    # Place within the block.
    index: int
    # The block's place in the contributor's log.
    sequence: int
    # Tokens trained on.
    tokens: int
    # Hash of the encoded update.
    update: str
    # Its bytes.
    update_bytes: int


class SheetPart(TypedDict):
    """One evaluator's line about the contribution."""

    # The block that carries the sheet.
    block: str
    # The evaluator.
    evaluator: str
    # Upper end of that interval.
    high_nanonats: int
    # Lower end of its interval.
    low_nanonats: int
    # Standard deviation of the score were signs drawn by lot.
    luck_nanonats: int
    # Whether the median rests on it.
    middle: bool
    # Its name.
    name: str
    # Tokens it predicted.
    predicted: int
    # The path integral.
    score_nanonats: int
    # The block's place in the evaluator's log.
    sequence: int


class _ScorePartAlways(TypedDict):
    # Evaluators that may judge: all that the manifest names, but not the contributor itself.
    evaluators: int
    # Sheets that a final score needs.
    needed: int
    # Sheets of these that were certified, by rising score.
    sheets: list[SheetPart]


class ScorePart(_ScorePartAlways, total=False):
    """A final score."""

    # The median; `None` when too few sheets came.
    score_nanonats: int | None


class ShardPart(TypedDict):
    """What stands behind the receipt's shard root."""

    # The block that carries the join.
    block: str
    # How many of them count as its own.
    own_tokens: int
    # contributor or both.
    role: str
    # The Merkle root.
    root: str
    # The block's place in the contributor's log.
    sequence: int
    # The first round of the membership.
    since: int
    # Tokens that the join named.
    tokens: int


class SplitPart(TypedDict):
    """One contributor's part of what the round is worth."""

    # What that sum has to exceed: three times the luck of all these rounds.
    bar_nanonats: int
    # Whether it does. If not, the score does not count yet.
    beyond_luck: bool
    # Part of the round, billionths.
    credit: int
    # Whether the credit was rounded up: its remainder was among the largest.
    credit_rounded_up: bool
    # Its standard deviation were signs drawn by lot.
    luck_nanonats: int
    # What that pays.
    micro_open: int
    # Whether the amount was rounded up.
    micro_open_rounded_up: bool
    # Its name.
    name: str
    # The peer.
    peer: str
    # The final score.
    score_nanonats: int
    # Sum of the contributor's final scores up to this round.
    shown_nanonats: int


class _StepPartAlways(TypedDict):
    # Whether it was recomputed just now and found as certified.
    checked: bool
    # From what it was recomputed, or what is missing.
    how: str
    # payout, split, score, certificate, vector, receipt, shard.
    station: str


class StepPart(_StepPartAlways, total=False):
    """How far one station was checked."""

    # Where to get what is missing.
    mend: str | None


class VectorPart(TypedDict):
    """A contribution vector: the coefficient times the update."""

    # Their product, which the update was multiplied by.
    coefficient: float
    # What the rule left of that weight: clipping, turning away.
    factor: float
    # Contributions in the round.
    included: int
    # Numbers that it moved.
    moved: int
    # Numbers of the adapter.
    parameters: int
    # The run's rule.
    rule: str
    # Part of the round's weight, before the rule.
    token_share: float
    # Euclidean length of the update.
    update_norm: float
    # Euclidean length of the contribution vector.
    vector_norm: float


class _ExplanationAlways(TypedDict):
    # The certificate of the round.
    certificate: CertificatePart
    # The name it gave itself.
    name: str
    # What the round paid for it.
    payout: PayoutPart
    # The contributor.
    peer: str
    # Sum of the positive scores: the denominator of every credit.
    positive_nanonats: int
    # What the contributor signed.
    receipt: ReceiptPart
    # The training round.
    round: int
    # The run.
    run: str
    # Its name.
    run_name: str
    # Name and version of this layout.
    schema: str
    # The final score and the sheets it is the median of.
    score: ScorePart
    # The certificate of its scores, one height later.
    scored_by: CertificatePart
    # What it had committed to.
    shard: ShardPart
    # What the round is worth over all contributors, ordered by peer.
    split: list[SplitPart]
    # The walk, station by station.
    steps: list[StepPart]


class Explanation(_ExplanationAlways, total=False):
    """A payout and what stands behind it."""

    vector: VectorPart | None


class ExportRequest(TypedDict):
    """Writes an adapter of this home as a PEFT folder."""

    # Absolute path of the folder.
    dir: str
    # Adapter or run, in full or the first digits.
    id: str


class _FaultAlways(TypedDict):
    # Folder of the home below the one that was asked for.
    home: str
    # What does not hold.
    reason: str


class Fault(_FaultAlways, total=False):
    """Something that does not hold, or that somebody did who signed two things."""

    # The author of the statement.
    author: str | None
    # The round.
    round: int | None
    # The run, if it can be told.
    run: str | None
    # Its place in the author's log.
    sequence: int | None


class _FetchRequestAlways(TypedDict):
    # Absolute path of the folder.
    dir: str
    # Adapter or run, in full or the first digits.
    id: str
    # How long to try, in seconds; from 1 to 86,400.
    timeout_s: int


class FetchRequest(_FetchRequestAlways, total=False):
    """Fetches an adapter from the network, checks it and writes it as a PEFT folder."""

    # Addresses of peers to ask besides those that are connected.
    bootstrap: list[str]


class HoldoutProof(TypedDict):
    """`holdout-proof/1`: the windows that a round was scored on, with their place in what was
    committed."""

    # Hash of the base model whose tokens these are.
    base: str
    # Tokens of a window at most.
    context: int
    # The drawn windows, by rising place.
    drawn: list[DrawnWindow]
    # The evaluator whose hold-out it is.
    evaluator: str
    # Leaves behind the root.
    leaves: int
    # From the first leaf, which says the three lines before, up to the root.
    path: list[str]
    # The scored round.
    round: int
    # The run.
    run: str
    # Name and version of this layout.
    schema: str
    # Windows of the whole hold-out.
    windows: int


class Losses(TypedDict):
    """Mean losses on the drawn windows, nats a predicted token."""

    # After it.
    after: float
    # Before the round.
    before: float


class _HoldoutReportAlways(TypedDict):
    # Windows drawn.
    drawn: int
    # The evaluator whose hold-out it is.
    evaluator: str
    # The name it gave itself.
    name: str
    # What was not checked, and where to get what is missing.
    notes: list[str]
    # Tokens predicted in them.
    predicted: int
    # The root that its certified join names.
    root: str
    # The scored round.
    round: int
    # The run.
    run: str
    # Name and version of this layout.
    schema: str
    # The seed of the draw, from the certificate.
    seed: str
    # Of so many.
    windows: int


class HoldoutReport(_HoldoutReportAlways, total=False):
    """`holdout-check/1`: what was found of a proof that holds."""

    recomputed: Losses | None
    sheet: Losses | None


class InvitationView(TypedDict):
    """A ticket that this peer gave out."""

    # When it ends, seconds since 1970.
    expires: int
    # By what it is revoked.
    invitation: str
    # When it was made, seconds since 1970.
    made: int
    # Whether its owner took it back.
    revoked: bool
    # The run.
    run: str


class InviteRequest(TypedDict):
    """Invites to a run."""

    # Seconds until the ticket ends; from 60 to 7,776,000.
    expires_s: int
    # The run, in full or by its first digits.
    run: str


class LineView(TypedDict):
    """One round's line."""

    # Whether the peer's scores up to this round are beyond luck; before, none counts.
    beyond_luck: bool
    # Part of the round, billionths.
    credit: int
    # Upper end of that interval.
    high_nanonats: int
    # Lower end of its interval.
    low_nanonats: int
    # Standard deviation of the score were signs drawn by lot.
    luck_nanonats: int
    # What that paid.
    micro_open: int
    # The receipt that it is paid for, as `ledger explain` takes it.
    receipt: str
    # The round.
    round: int
    # The final score.
    score_nanonats: int
    # Whether no deposit covers the round: the credit stands, and nothing is paid.
    unfunded: bool


class MemberView(TypedDict):
    """A member of a run."""

    # Name for people.
    name: str
    # How many of them count as its own.
    own_tokens: int
    # Its id.
    peer: str
    # contributor, evaluator or both.
    role: str
    # Tokens that it committed to.
    tokens: int


class _OfferViewAlways(TypedDict):
    # Its base model.
    base: str
    # Bytes of the base model that would be fetched from peers; 0 where it is here, or nobody connected
    # has it to give.
    base_bytes: int
    # Its licence, as its listing says, with the file that names it; empty where nothing is known of it.
    base_licence: str
    # Whether the run's creator lets members hand the base on.
    base_shared: bool
    # The most that a round pays in OPEN, in millionths.
    budget_micro_open: int
    # Who opened it.
    creator: str
    # Its Datanet: the name of the shard that a member trains on.
    datanet: str
    # Whether it is over.
    finished: bool
    # Whether the base model is on this machine.
    has_base: bool
    # What would leave the machine, a sentence each.
    leaves: list[str]
    # Steps of a round on this machine.
    local_steps: int
    # Members.
    members: int
    # Its name.
    name: str
    # Training rounds in all.
    rounds: int
    # The run.
    run: str
    # What stays on it, a sentence each.
    stays: list[str]


class OfferView(_OfferViewAlways, total=False):
    """What a run asks of a member, and what would leave its machine."""

    # Last certified round.
    certified: int | None


# The way to a connected peer.
WayName = Literal[
    "lan", "direct", "relayed",
]


class _PathViewAlways(TypedDict):
    # Seconds for which it has been reached in this way.
    for_s: int
    # The peer's id.
    peer: str
    # `quic` or `tcp`.
    transport: str
    # The way.
    way: WayName


class PathView(_PathViewAlways, total=False):
    """How a connected peer is reached."""

    # Its address, or the relay's.
    address: str | None
    # Round trip in milliseconds.
    latency_ms: float | None
    # Packets lost, in a million; not known of TCP.
    lost_ppm: int | None


class _PeriodViewAlways(TypedDict):
    # Rounds that paid others only.
    absent: int
    # First round.
    first: int
    # Last round that is final.
    last: int
    # What the peer earned.
    micro_open: int
    # Rounds in which a positive score of the peer, or everybody's, was not beyond luck yet.
    not_beyond_luck: int
    # The others' positive scores in them, together, on average.
    others_nanonats: int
    # Its mean score in the rounds it took part in.
    score_nanonats: int
    # Rounds that paid, with a contribution of the peer that was not held back.
    taken: int
    # Rounds without final scores.
    unscored: int
    # Rounds that gained nothing.
    without_gain: int


class PeriodView(_PeriodViewAlways, total=False):
    """Some consecutive rounds of a statement."""

    change: ChangeView | None


class PostingView(TypedDict):
    """One change of one of the peer's accounts."""

    # As what: `contributor`, `evaluator`, `member`, `sponsor`.
    capacity: str
    # Into the account, or, negative, out of it.
    micro_open: int
    # The receipt that it is paid for, where there is one.
    receipt: str
    # The round; of what was given out at the end, the closing height.
    round: int
    # When its round was, as the authors of the round's receipts say: milliseconds since 1970.
    time_ms: int


class _ProblemAlways(TypedDict):
    # What kind.
    code: Code
    # What failed, and why.
    text: str


class Problem(_ProblemAlways, total=False):
    """A request or a command that came to nothing."""

    # What to do about it, where something is known.
    hint: str | None


class ProofView(TypedDict):
    """A payout with everything that proves it."""

    # To which account.
    account: str
    # Line, path, root, terms, signatures and stakes: the bytes of a bundle in hexadecimal digits.
    bundle: str
    # Height of the root that has the line.
    height: int
    # How much, in millionths of an OPEN.
    micro_open: int
    # Who was paid.
    peer: str
    # For which round.
    round: int
    # The run.
    run: str
    # `ledger-proof/1`.
    schema: str


class ProveRequest(TypedDict):
    """Which hold-out windows to show."""

    # The scored round.
    round: int
    # The run, in full or by its first digits.
    run: str


class ProvenSpan(TypedDict):
    """A span of an answer that stands in a shard."""

    # How it was matched.
    kind: str
    # The words.
    span: str
    # Loss of the base model over the span, nats: how little it had to expect it.
    surprise_nats: float
    # How many words.
    words: int


class Tokens(TypedDict):
    """An answer as a model gave it, which its text need not say: other tokens may spell the same."""

    # Ids of the answer's tokens, a closing end token included.
    answer: list[int]
    # Ids of the prompt's tokens.
    prompt: list[int]


class _QuestionAlways(TypedDict):
    # Adapter or run, in full or by the first digits; empty for the only one.
    id: str
    # Tokens of the adapter's own answer at most.
    max_tokens: int
    # The prompt.
    prompt: str


class Question(_QuestionAlways, total=False):
    """What is asked."""

    # The answer; None lets the adapter give one, greedily.
    answer: str | None
    tokens: Tokens | None


# What is wrong with how this peer can be reached.
ReachCode = Literal[
    "loopback_only", "udp_blocked", "mapping_varies", "no_way_in", "relay_down",
    "peer_relayed", "unreached",
]


class ReachWarning(TypedDict):
    """A warning with its kind."""

    # What kind.
    code: ReachCode
    # What is wrong, and what to do.
    text: str


class _RelayViewAlways(TypedDict):
    # Where it is, and whose.
    address: str
    # Whether this peer can be reached through it now.
    connected: bool


class RelayView(_RelayViewAlways, total=False):
    """A relay that this peer uses."""

    # Round trip in milliseconds.
    latency_ms: float | None
    # Why not, when it is not connected.
    why: str | None


class ServingView(TypedDict):
    """A relay that this peer serves."""

    # What others pass to `--via`.
    address: str
    # Bytes that it passed on since the daemon started.
    bytes: int
    # Peers that use it now.
    clients: int


class _ReachViewAlways(TypedDict):
    # Where it tells others that it is: TCP and UDP.
    addresses: list[str]
    # Connected peers.
    peers: list[PathView]
    # `loopback`, `lan` or `wan`.
    reach: str
    # Relays.
    relays: list[RelayView]
    # Layout of this answer.
    schema: str
    # What is degraded.
    warnings: list[ReachWarning]


class ReachView(_ReachViewAlways, total=False):
    """How this peer reaches others, and they it."""

    # Whether the router's port differs by destination; null while fewer than two relays were asked.
    mapping_varies: bool | None
    # Whether the router opened a port when it was asked; null where it was not asked.
    port_mapped: bool | None
    # What a relay sees of this peer over IPv4.
    public_v4: str | None
    # What a relay sees of this peer over IPv6.
    public_v6: str | None
    serving: ServingView | None
    # Whether UDP over IPv4 comes back from a relay; null while no relay was asked.
    udp_v4: bool | None
    # The same over IPv6.
    udp_v6: bool | None


class RunReport(TypedDict):
    """What was checked of a run."""

    # Accounts, whose balances sum to zero.
    accounts: int
    # Training rounds whose aggregate was recomputed from the updates.
    aggregates: int
    # Signed blocks.
    blocks: int
    # Folder of the home below the one that was asked for; `.` when it is that one.
    home: str
    # Certified heights, genesis and closing included.
    rounds: int
    # The run.
    run: str
    # Signatures of blocks and certificates.
    signatures: int
    # The last certified state.
    state: str
    # Training rounds among them.
    trained: int


class _ReportAlways(TypedDict):
    # What does not hold.
    faults: list[Fault]
    # What was not checked, and why that is not a fault.
    notes: list[str]
    # Runs, by home.
    runs: list[RunReport]
    # Whether everything holds.
    verified: bool


class Report(_ReportAlways, total=False):
    """What was checked, and what does not hold."""

    # What the home proves against others, and withstood: the ledger holds nevertheless.
    findings: list[Fault]


class _RoundViewAlways(TypedDict):
    # The adapter after it.
    adapter: str
    # Contributions included.
    included: int
    # The round.
    round: int
    # Its certified state.
    state_hash: str


class RoundView(_RoundViewAlways, total=False):
    """A certified round."""

    # The same after the round.
    loss_after: float | None
    # Median over evaluators of the mean loss before the round, nats per token.
    loss_before: float | None


class _RunBriefAlways(TypedDict):
    # Its base model.
    base: str
    # Its Datanet.
    datanet: str
    # Whether the closing height is certified.
    finished: bool
    # Members.
    members: int
    # Name for people.
    name: str
    # What it is doing.
    phase: RunPhase
    # Training rounds in all.
    rounds: int
    # The run's id.
    run: str


class RunBrief(_RunBriefAlways, total=False):
    """A run in one line."""

    # Whom the open round waits for.
    awaited: list[AwaitedView]
    # Last certified round; `None` before the genesis.
    certified: int | None
    # Whether a peer of the local network follows it.
    nearby: bool


class RunStatementView(TypedDict):
    """One run's part of a statement."""

    # The peer's accounts in this run.
    accounts: list[AccountView]
    # Where its money lies: `test`, a chain's number, or nothing.
    chain: str
    # Its part of what had waited, given out when the run closed, millionths of an OPEN.
    closing_micro_open: int
    # One line per round that the peer was scored in.
    lines: list[LineView]
    # Its name.
    name: str
    # The final rounds in parts of equal length, each compared with the one before.
    periods: list[PeriodView]
    # Every change of them, in the order of rounds.
    postings: list[PostingView]
    # The run.
    run: str
    # Rounds that nobody scored in time.
    unscored: list[int]


class SettlementView(TypedDict):
    """Where a run's money lies, in millionths of an OPEN."""

    # Height of the root that the chain accepted; 0: none.
    accepted_height: int
    # What the chain has accepted of that.
    accepted_micro_open: int
    # `test`, or the chain's number (EIP-155).
    chain: str
    # What accounts took.
    claimed_micro_open: int
    # Whether books and chain add up to the last unit. Known of the test chain only.
    conserved: bool
    # The settlement contract.
    contract: str
    # What the sponsor deposited, as certificates have seen it.
    deposited_micro_open: int
    # Members that signed another root than follows here: height and peer.
    dissent: list[str]
    # What answers brought into it.
    fees_micro_open: int
    # Its height.
    height: int
    # The run's name there: hash of its terms.
    key: str
    # Of both, what is not promised.
    left_micro_open: int
    # What the last root promises to accounts, of both.
    paid_micro_open: int
    # What went back to the sponsor.
    reclaimed_micro_open: int
    # Transactions of the last height that the test chain refused: from which account, and why.
    refused: list[str]
    # Digest of the last root, as members sign it.
    root: str
    # Stake of members that counts.
    staked_micro_open: int
    # What was earned by peers that have not said where they are paid, or said it too late.
    unbound_micro_open: int


class _RunViewAlways(RunBrief):
    # The most that a round pays in OPEN, in millionths.
    budget_micro_open: int
    # Who opened it.
    creator: str
    # Contributors' credits so far.
    credits: list[CreditView]
    # Who scores it.
    evaluators: list[str]
    # Certified rounds, the genesis first.
    history: list[RoundView]
    # OPEN for each nat that a round gains, in millionths.
    price_per_nat_micro_open: int
    # Its members.
    roster: list[MemberView]


class RunView(_RunViewAlways, total=False):
    """A run in full."""

    adapter: AdapterView | None
    settlement: SettlementView | None


class ServerView(TypedDict):
    """A server of answers in a daemon."""

    # Names of the adapters that are in memory.
    adapters: list[str]
    # Name of the base.
    base: str
    # What clients call their base URL.
    url: str


class Share(TypedDict):
    """One contributor's part of an answer."""

    # What came of asking it for them.
    asked: Asked
    # The run's Datanet.
    datanet: str
    # Spans of the answer that its text is proven to hold, without boilerplate.
    evidence: list[ProvenSpan]
    # Upper end of that interval.
    high_ppb: int
    # How much it lowered the answer's loss, nanonats a token; negative raised it and earns nothing.
    influence_nanonats: int
    # Lower end of the 95 % interval over the answer's tokens.
    low_ppb: int
    # The name it gave itself.
    name: str
    # The contributor.
    peer: str
    # Part of the answer in billionths.
    share_ppb: int


class StatementView(TypedDict):
    """What a peer did and earned, run by run."""

    # The peer.
    peer: str
    # Runs that mention it.
    runs: list[RunStatementView]
    # Sum over its accounts, millionths of an OPEN; negative for a sponsor.
    total_micro_open: int


class _StatusViewAlways(TypedDict):
    # What others pass to `--bootstrap`.
    addresses: list[str]
    # Bytes received.
    bytes_down: int
    # Bytes sent to other peers since the daemon started, both planes.
    bytes_up: int
    # Ids of connected peers.
    connected: list[str]
    # Its folder.
    home: str
    # Name for people.
    name: str
    # The peer's id.
    peer: str
    # Whether its daemon runs. If not, there are no addresses, connections, traffic and warnings.
    running: bool
    # Runs it follows.
    runs: list[RunBrief]
    # Version of the program.
    version: str
    # What is degraded, each with what to do.
    warnings: list[str]


class StatusView(_StatusViewAlways, total=False):
    """A peer."""

    # The account that this peer is paid at, on every chain for which its settings name no key file.
    account: str
    # The base URL of its gateway; nothing unless it was started with `--gateway` and is ready.
    gateway: str | None
    # How each of them is reached.
    paths: list[PathView]
    # How far it reaches: `loopback`, `lan` or `wan`.
    reach: str
    serving: ServerView | None


class Stopping(TypedDict):
    """The daemon has heard that it is to stop."""

    # Always true.
    stopping: bool


class _TicketRequestAlways(TypedDict):
    # The ticket.
    ticket: str


class TicketRequest(_TicketRequestAlways, total=False):
    """Takes a ticket: connects to the peers that it names and learns what the run is."""

    # Folder of the base model, when it is not `brook`.
    base: str | None


class TicketView(TypedDict):
    """A ticket that was made."""

    # When it ends, seconds since 1970.
    expires: int
    # By what it is revoked.
    invitation: str
    # Its name.
    name: str
    # Peers that it names, with where they are.
    peers: list[str]
    # The run.
    run: str
    # The ticket: what others pass to `tributary join`.
    ticket: str
    # What may keep others from using it.
    warnings: list[str]


class Why(TypedDict):
    """`why/1`."""

    # The adapter that answers.
    adapter: str
    # The same with the adapter.
    adapter_nats: float
    # What it says.
    answer: str
    # Mean loss of the answer's tokens without the adapter, nats.
    base_nats: float
    # What the shares cost beyond giving the answer, milliseconds.
    cost_ms: float
    # What the evidence cost beyond the shares, milliseconds.
    evidence_ms: float
    # How the shares were found.
    method: str
    # What the base would have said too, in billionths of the answer.
    nobody_ppb: int
    # What it was asked.
    prompt: str
    # The run.
    run: str
    # Name and version of this layout.
    schema: str
    # Contributors, the largest share first.
    shares: list[Share]
