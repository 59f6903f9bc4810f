//! Shares of answers that a certificate drew: what their server shows, and what a juror makes of it.
//!
//! ```text
//!   Answers (in the log) ─┬─ hashes of request, response, text ──► do they name what is shown? ─┐
//!   Shown (from the server) ── body, tokens ────────────────────────────────────────────────────┴─► shares, computed again
//!                         └─ shares that the payer agreed to ───────────────────────────────────────► near enough?
//! ```
//!
//! The payer signed hashes of what it asked and what it read, and the server the tokens that it answered with, so nothing else
//! can be shown. The prompt's tokens follow from the body and the base.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tributary_attribution::run_books::Matter;
use tributary_attribution::voucher::ChannelId;
use tributary_ledger::{Archive, ArchivedRun};
use tributary_protocol::entry::Entry;
use tributary_protocol::filing::{Answers, Finding, PaidAnswer};
use tributary_protocol::id::{MicroOpen, PeerId, Ppb, RunId};
use tributary_protocol::limits::MAX_EVIDENCE_BYTES;
use tributary_protocol::round::EntryRef;

use crate::home::HomePaths;
use crate::model;
use crate::serve::reading::Reading;
use crate::serve::said::{Said, SaidFolder, text_hash};
use crate::why::{self, Question, Tokens};

/// Billionths of an answer by which two machines' shares of it may differ in all: far more than rounding makes of them, and
/// the most that a server can shift unseen.
const APART: u64 = 10_000_000;

/// What a server shows of answers that were drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shown {
    /// In the order of their places; one without what was said is not kept any more.
    pub(super) answers: Vec<(u8, Option<Said>)>,
}

/// The entry of a run that is named so.
fn entry<'a>(run: &'a ArchivedRun, at: &EntryRef) -> Option<&'a Answers> {
    match run.log.entry(at)? {
        Entry::Answers(answers) => Some(answers),
        _ => None,
    }
}

/// An answer of an entry, and what its channel was charged with it.
fn charged(answers: &Answers, place: u8) -> Option<(&PaidAnswer, MicroOpen)> {
    let answer = answers.answers.get(usize::from(place))?;
    let upto = answers.answers.iter().take(usize::from(place) + 1);
    let fees: u128 = upto.map(|one| one.fee.0).sum();
    Some((answer, MicroOpen(answers.before.0 + fees)))
}

/// What this server kept of answers that were drawn, from one on, as many as fit an answer.
pub(super) fn show(
    (archive, home): (&Archive, &HomePaths),
    (run, matter): (RunId, &Matter),
    (channel, from): (impl Fn(&Answers) -> Option<ChannelId>, usize),
) -> Option<Vec<u8>> {
    let Matter::Shares { answers: at, drawn } = matter else {
        return None;
    };
    let run = archive.runs.iter().find(|one| one.id == run)?;
    let answers = entry(run, at)?;
    let folder = SaidFolder::beside(&home.channels());
    let channel = channel(answers)?;
    let mut shown = Shown::default();
    let mut bytes = serde_json::to_vec(&shown).ok()?;
    for place in drawn.iter().skip(from) {
        let said = charged(answers, *place).and_then(|(_, upto)| folder.find(channel, upto));
        shown.answers.push((*place, said));
        let more = serde_json::to_vec(&shown).ok()?;
        if more.len() > MAX_EVIDENCE_BYTES {
            // One that no message carries is shown to nobody, and counts as not kept.
            if shown.answers.len() == 1 {
                shown.answers[0].1 = None;
                bytes = serde_json::to_vec(&shown).ok()?;
            }
            break;
        }
        bytes = more;
    }
    Some(bytes)
}

/// What comes of computing the shares of shown answers again.
///
/// # Errors
/// What is missing here, so that nothing is known.
pub(super) fn judge(
    (archive, home): (&Archive, &HomePaths),
    (run, matter): (RunId, &Matter),
    shown: &Shown,
) -> Result<Finding, String> {
    let Matter::Shares { answers: at, drawn } = matter else {
        return Err("it is about a score".to_owned());
    };
    let found = archive.runs.iter().find(|one| one.id == run);
    let found = found.ok_or("the run is not in this home")?;
    let manifest = found
        .manifest
        .as_ref()
        .ok_or("the run has no manifest here")?;
    let answers = entry(found, at).ok_or("the answers are not in this home")?;
    let base = manifest.model.base.hash.to_string();
    let folder = model::folder_of(home, &base);
    let reading = reading(folder.as_deref(), &base)?;
    let last = found.certificates.last().map(|c| c.value.adapter.hash.0);
    for place in drawn {
        let (answer, _) = charged(answers, *place).ok_or("the answers are others than drawn")?;
        // A server may name whatever adapter it likes, one of another run as well.
        if last != Some(answer.adapter) {
            return Err("the answers are not of the run's last adapter".to_owned());
        }
        let said = shown.answers.iter().find(|(shown, _)| shown == place);
        let Some(said) = said.and_then(|(_, said)| said.as_ref()) else {
            return Ok(Finding::Unshown);
        };
        let Some(tokens) = asked(&reading, answer, said) else {
            return Ok(Finding::Unshown);
        };
        let question = Question {
            id: run.to_string(),
            prompt: String::new(),
            answer: None,
            max_tokens: 0,
            tokens: Some(tokens),
        };
        let computed = why::ask(archive, home, &question).map_err(|why| why.to_string())?;
        let computed = computed.why.shares.iter().filter_map(|line| {
            let peer: PeerId = line.peer.parse().ok()?;
            Some((peer, Ppb(line.share_ppb)))
        });
        let agreed = answer.shares.as_ref().map(|agreed| &agreed.shares[..]);
        if !are_near(agreed.unwrap_or_default(), &computed.collect::<Vec<_>>()) {
            return Ok(Finding::Fails);
        }
    }
    Ok(Finding::Holds)
}

fn reading(folder: Option<&Path>, base: &str) -> Result<Reading, String> {
    let reading = Reading::of(folder)?;
    match reading.base() == base {
        true => Ok(reading),
        false => Err("the run's base is not on this machine".to_owned()),
    }
}

/// The tokens of a request and its answer, if they are what the answer's entry names and its payer signed.
fn asked(reading: &Reading, answer: &PaidAnswer, said: &Said) -> Option<Tokens> {
    let agreed = answer.shares.as_ref()?;
    let told = reading.told(&said.body, &said.answer).ok()?;
    let named = (answer.request, answer.response, agreed.text);
    let shown = (said.request(), said.response(), text_hash(&told.text));
    (named == shown).then(|| Tokens {
        prompt: told.prompt,
        answer: said.answer.clone(),
    })
}

/// Whether two lists of shares say the same; what each leaves of one billion is nobody's.
fn are_near(one: &[(PeerId, Ppb)], other: &[(PeerId, Ppb)]) -> bool {
    let of = |list: &[(PeerId, Ppb)], peer: &PeerId| {
        let found = list.iter().find(|(named, _)| named == peer);
        found.map_or(0, |(_, share)| u64::from(share.0))
    };
    let whole = |list: &[(PeerId, Ppb)]| list.iter().map(|(_, share)| u64::from(share.0)).sum();
    let mut peers: Vec<PeerId> = one.iter().chain(other).map(|(peer, _)| *peer).collect();
    peers.sort_unstable();
    peers.dedup();
    let apart: u64 = (peers.iter())
        .map(|peer| of(one, peer).abs_diff(of(other, peer)))
        .sum();
    let nobody: u64 = u64::abs_diff(whole(one), whole(other));
    // What one gains another loses, so each difference is counted twice.
    apart + nobody <= 2 * APART
}

#[cfg(test)]
mod tests {
    use tributary_protocol::filing::{AgreedShares, EvmAddress, EvmSignature};
    use tributary_protocol::hash::Digest;

    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId(Digest::from_bytes([n; 32]))
    }

    #[test]
    fn shares_are_near_that_differ_by_rounding_and_not_by_what_pays() {
        let half = [(peer(1), Ppb(500_000_000)), (peer(2), Ppb(300_000_000))];
        let rounded = [(peer(1), Ppb(500_000_900)), (peer(2), Ppb(299_999_000))];
        assert!(are_near(&half, &rounded));
        let shifted = [(peer(1), Ppb(520_000_000)), (peer(2), Ppb(280_000_000))];
        assert!(!are_near(&half, &shifted));
        let friend = [(peer(3), Ppb(800_000_000))];
        assert!(!are_near(&half, &friend));
        // What was nobody's is given to somebody.
        let more = [(peer(1), Ppb(700_000_000)), (peer(2), Ppb(300_000_000))];
        assert!(!are_near(&half, &more));
        assert!(are_near(&[], &[]));
    }

    fn paid(said: &Said, text: &str) -> PaidAnswer {
        PaidAnswer {
            adapter: Digest::default(),
            request: said.request(),
            response: said.response(),
            prompt_tokens: 1,
            answer_tokens: 1,
            fee: MicroOpen(1),
            shares: Some(AgreedShares {
                text: text_hash(text),
                shares: Vec::new(),
                signature: EvmSignature([0; 65]),
            }),
        }
    }

    #[test]
    fn a_server_shows_nothing_but_what_its_payer_asked_and_read() {
        let reading = Reading::of(None).expect("the embedded base");
        let body = r#"{"model": "m", "prompt": "The ferry leaves"}"#;
        let said = Said::new(body, &[300, 301, 302]);
        let told = reading.told(body, &said.answer).expect("a request");
        let answer = paid(&said, &told.text);
        let tokens = asked(&reading, &answer, &said).expect("what was said");
        assert_eq!(
            (tokens.prompt, tokens.answer),
            (told.prompt, vec![300, 301, 302])
        );
        // Another question, other tokens, and a text that the payer did not read.
        let other = Said::new(
            r#"{"model": "m", "prompt": "The bakery opens"}"#,
            &said.answer,
        );
        assert_eq!(asked(&reading, &answer, &other), None);
        assert_eq!(asked(&reading, &answer, &Said::new(body, &[300])), None);
        assert_eq!(asked(&reading, &paid(&other, &told.text), &said), None);
        assert_eq!(asked(&reading, &paid(&said, "something else"), &said), None);
    }

    #[test]
    fn a_charge_is_what_the_channel_came_to_with_the_answer() {
        let said = Said::new("{}", &[]);
        let answers = Answers {
            payer: EvmAddress::default(),
            payer_authorizer: EvmAddress::default(),
            withdraw_delay_s: 900,
            salt: [0; 32],
            before: MicroOpen(5),
            answers: vec![paid(&said, "a"), paid(&said, "b")],
        };
        let upto = |place| charged(&answers, place).map(|(_, upto)| upto.0);
        assert_eq!([upto(0), upto(1), upto(2)], [Some(6), Some(7), None]);
    }
}
