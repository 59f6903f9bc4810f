//! `docs/protocol.md` names what the code does: every limit with its value, every domain, every code.

use tributary_protocol::codec::CodecError;
use tributary_protocol::hash::Domain;
use tributary_protocol::limits;
use tributary_protocol::reject::Rejection;

const DOCS: &str = include_str!("../../docs/protocol.md");
const LIMITS: &str = include_str!("../src/limits.rs");

macro_rules! limits {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), limits::$name as u128)),*] };
}

fn values() -> Vec<(&'static str, u128)> {
    [of_adapters_and_logs(), of_runs(), of_messages()].concat()
}

fn of_adapters_and_logs() -> Vec<(&'static str, u128)> {
    limits![
        MAX_RANK,
        MAX_ALPHA,
        MAX_MODULES,
        MAX_MODULE_NAME_BYTES,
        MAX_ADAPTER_PARAMETERS,
        MAX_BLOCK_BYTES,
        MAX_BLOCK_ENTRIES,
        MAX_SEEN_HEADS,
        MAX_SEQ,
        MAX_PENDING_BLOCKS,
        MAX_PENDING_IN_SCOPE,
        MAX_PENDING_BYTES,
        MAX_STRANGER_BLOCKS,
        MAX_STRANGER_BLOCK_BYTES,
        MAX_STRANGER_ENTRIES,
        MAX_STRANGERS_BYTES,
        REPEAT_JOIN_MS,
        FREE_BLOCKS,
        BLOCKS_PER_ROUND,
        FREE_LOG_BYTES,
        LOG_BYTES_PER_ROUND,
        ENTRY_BYTES,
        MAX_AUTHORS,
    ]
    .to_vec()
}

fn of_runs() -> Vec<(&'static str, u128)> {
    limits![
        MAX_MANIFEST_BYTES,
        BASE_PIECE_BYTES,
        MAX_BASE_FILES,
        MAX_FILE_NAME_BYTES,
        MAX_BASE_BYTES,
        MAX_LICENCE_BYTES,
        MAX_LISTING_BYTES,
        MAX_ROUNDS,
        MAX_HEIGHT,
        EPOCH_WAIT_MS,
        EPOCH_REST_MS,
        MAX_FILINGS,
        MAX_FILINGS_PER_AUTHOR,
        MAX_TRANSACTION_BYTES,
        MAX_ANSWERS,
        MAX_ANSWER_SHARES,
        MAX_REASON_BYTES,
        MAX_SETTLEMENT_S,
        MAX_LOCAL_STEPS,
        MAX_BATCH,
        MAX_CONTEXT,
        MAX_SCORE_WINDOWS,
        MAX_DEADLINE_MS,
        MAX_BUDGET_MICRO_OPEN,
        MAX_PRICE_MICRO_OPEN,
        MAX_TOKENS,
        MAX_NANO_NATS,
        MAX_NAME_BYTES,
        MAX_STAKE,
        MAX_ANCHORED_STAKES,
        MAX_ANCHORED_CHANNELS,
        ANCHOR_AGE_MS,
        MAX_CHAIN_FACTS,
        MAX_EVALUATORS,
        MAX_MEMBERS,
        MAX_CHANGES_PER_ROUND,
        MAX_CALLED,
        MAX_CALLS,
        MAX_INCLUDED,
        PUBLIC_TURNS,
        IDLE_REQUESTS,
        MAX_COMMITTEE,
        MAX_CERTIFICATE_BYTES,
        MAX_RELAYED_PER_SLOT,
        MAX_EARLY_MESSAGES,
        TIMELY_ATTEMPTS,
        MAX_ATTEMPTS_AHEAD,
        REPEATED_ATTEMPTS,
        MAX_CONSENSUS_WAIT_MS,
    ]
    .to_vec()
}

fn of_messages() -> Vec<(&'static str, u128)> {
    limits![
        MAX_GOSSIP_BYTES,
        MAX_DIRECT_BYTES,
        MAX_BLOCKS_PER_MESSAGE,
        MAX_HEADS_PER_MESSAGE,
        MAX_RANGES,
        MAX_CERTIFICATES_PER_MESSAGE,
        MAX_WANTED_BLOCKS,
        MAX_CONSENSUS_BYTES,
        MAX_UPDATE_BYTES,
        MAX_SKETCH,
        MAX_TOKENS_PER_WORD,
        BLOCK_WORDS,
        MIN_SPAN_WORDS,
        MAX_QUESTION_WORDS,
        MAX_QUESTION_BYTES,
        MAX_SPANS,
        MAX_EVIDENCE_BYTES,
    ]
    .to_vec()
}

/// 1234567 as `1,234,567`.
fn grouped(value: u128) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[test]
fn every_limit_is_listed_with_its_value() {
    let declared: Vec<&str> = (LIMITS.lines())
        .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next())
        .collect();
    let listed: Vec<&str> = values().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        declared, listed,
        "limits.rs and this test name the same limits in order"
    );
    let rows: Vec<String> = (values().into_iter())
        .map(|(name, value)| format!("| `{name}` | {} |", grouped(value)))
        .collect();
    let missing: Vec<&String> = rows.iter().filter(|row| !DOCS.contains(*row)).collect();
    assert!(
        missing.is_empty(),
        "put these rows into docs/protocol.md: {missing:#?}"
    );
}

#[test]
fn every_domain_that_names_something_is_listed() {
    for domain in [
        Domain::Block,
        Domain::Manifest,
        Domain::RoundValue,
        Domain::State,
        Domain::Roster,
        Domain::Heads,
        Domain::Proposal,
        Domain::Vote,
        Domain::Committee,
        Domain::Participants,
        Domain::Evaluators,
        Domain::Jury,
        Domain::Filings,
        Domain::Payout,
        Domain::ScoreSeed,
        Domain::SheetSeal,
        Domain::AdapterInit,
        Domain::MerkleLeaf,
        Domain::MerkleNode,
        Domain::Gram,
        Domain::Ticket,
        Domain::Sketch,
        Domain::SketchCommitment,
        Domain::Blinding,
        Domain::BaseModel,
        Domain::Adapter,
    ] {
        let quoted = format!("`{}`", domain.context());
        assert!(
            DOCS.contains(&quoted),
            "{quoted} is not in docs/protocol.md"
        );
    }
}

#[test]
fn every_rejection_code_is_listed_under_its_name() {
    for (rejection, name) in [
        (Rejection::Codec(CodecError::Malformed), "Codec"),
        (Rejection::Signature, "Signature"),
        (Rejection::Network, "Network"),
        (Rejection::Link, "Link"),
        (Rejection::Unauthorised, "Unauthorised"),
        (Rejection::Limit(""), "Limit"),
        (Rejection::Contradiction(""), "Contradiction"),
        (Rejection::Blob(""), "Blob"),
        (Rejection::Certificate(""), "Certificate"),
        (Rejection::Equivocator, "Equivocator"),
    ] {
        let row = format!("| {} | {name} |", rejection.code());
        assert!(DOCS.contains(&row), "{row} is not in docs/protocol.md");
    }
}
