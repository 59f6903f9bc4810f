//! Checks that look at whole machines: after a restart, when a ledger grew, and when everything is over.

use std::collections::{BTreeMap, BTreeSet};

use tributary_attribution::fold::{FoldError, Funding};
use tributary_attribution::run_books::RunBooks;
use tributary_attribution::{Account, Balance, Books, fold};
use tributary_protocol::certificate::Certificate;
use tributary_protocol::entry::Entry;
use tributary_protocol::id::{BlockId, PeerId, Round, RunId, Scope, Seq};
use tributary_protocol::limits;
use tributary_protocol::log::Unverified;
use tributary_protocol::manifest::Manifest;
use tributary_protocol::node::RunView;
use tributary_protocol::round::{EntryRef, RoundValue};

use super::Broken;
use crate::machine::Machine;
use crate::network::NETWORK;

/// After a restart every durable block of an honest author and every durable certificate is known
/// again.
pub(super) fn everything_durable_is_back(
    machine: &Machine,
    run: &RunId,
    liars: &BTreeSet<PeerId>,
) -> Result<(), Broken> {
    const PROMISE: &str = "no acknowledged entry is lost";
    let view = machine.node.as_ref().and_then(|node| node.run(run));
    for bytes in machine.store.blocks() {
        let block = Unverified::decode(bytes, NETWORK)
            .map_err(|why| (PROMISE, format!("a durable block does not decode: {why}")))?;
        let (author, id) = (block.block().author, block.id());
        let here = match block.block().scope {
            Scope::Run(of) if of == *run => view.and_then(|v| v.log().block(author, &id)).is_some(),
            _ => true,
        };
        if !here && !liars.contains(&author) {
            let seq = block.block().seq;
            return Err((
                PROMISE,
                format!("block {seq} of {} after a restart", author.short()),
            ));
        }
    }
    let certified = view.map_or(0, |view| view.chain().len());
    let mut durable = 0;
    for (round, _) in machine.store.certificates(run) {
        if round.0 == durable {
            durable += 1;
        }
    }
    match certified >= durable as usize {
        true => Ok(()),
        false => Err((
            PROMISE,
            format!("{durable} certificates are durable, {certified} are known after a restart"),
        )),
    }
}

/// Whether a certificate admitted an author: what others said is not part of the ledger.
fn is_admitted(view: Option<RunView<'_>>, author: &PeerId) -> bool {
    view.is_some_and(|view| {
        let creator = view.manifest().map(|manifest| manifest.creator);
        let roster = view.head().map(|head| &head.roster);
        creator == Some(*author) || roster.is_some_and(|roster| roster.has_known(author))
    })
}

/// Whatever ever left a peer that was admitted is in this ledger at the end.
pub(super) fn everything_spoken_is_here(
    machine: &Machine,
    run: &RunId,
    spoken: &BTreeSet<(PeerId, BlockId)>,
) -> Result<(), Broken> {
    let view = machine.node.as_ref().and_then(|node| node.run(run));
    for (author, id) in spoken {
        if !is_admitted(view, author) {
            continue;
        }
        if view.is_none_or(|view| view.log().block(*author, id).is_none()) {
            let what = format!(
                "block {id:?} of {} is nowhere in this ledger",
                author.short()
            );
            return Err(("no acknowledged entry is lost", what));
        }
    }
    Ok(())
}

/// Every machine holds the same proofs: against each admitted author that was seen to write two histories, and against
/// nobody else.
pub(super) fn equivocators_are_proven(
    machine: &Machine,
    run: &RunId,
    forked: &BTreeSet<PeerId>,
    liars: &BTreeSet<PeerId>,
) -> Result<(), Broken> {
    const PROMISE: &str = "equivocators are proven everywhere, honest peers nowhere";
    let view = machine.node.as_ref().and_then(|node| node.run(run));
    let marks = view.map(|view| view.log().forks()).unwrap_or_default();
    for author in forked.iter().filter(|a| is_admitted(view, a)) {
        if !marks.iter().any(|mark| mark.author == *author) {
            let what = format!("{} forked its log and is not known for it", author.short());
            return Err((PROMISE, what));
        }
    }
    match marks.iter().find(|mark| !liars.contains(&mark.author)) {
        Some(mark) => Err((PROMISE, format!("a proof against {}", mark.author.short()))),
        None => Ok(()),
    }
}

/// Nobody, however much it signs, makes this peer keep more of its log than the certified rounds let it
/// have something to say; nor more on disk than twice that, forks and their proofs included.
pub(super) fn ledger_is_bounded(machine: &Machine, view: &RunView<'_>) -> Result<(), Broken> {
    const PROMISE: &str = "memory and disk are bounded";
    let rounds = view.chain().len() as u64;
    let most = (limits::FREE_BLOCKS + limits::BLOCKS_PER_ROUND * rounds) as usize;
    let log = view.log();
    for author in log.authors() {
        let counted = log.blocks_from(author, Seq(0)).len();
        if counted > most {
            let what = format!("{counted} blocks of {}, at most {most}", author.short());
            return Err((PROMISE, what));
        }
        // What waits for the block before it may count once more.
        let (bytes, most) = (
            log.weight(author) as u64,
            2 * (limits::FREE_LOG_BYTES + limits::LOG_BYTES_PER_ROUND * rounds),
        );
        if bytes > most {
            let what = format!("{bytes} bytes of {}, at most {most}", author.short());
            return Err((PROMISE, what));
        }
    }
    let (durable, authors) = (machine.store.blocks().len(), log.authors().count());
    match durable > 2 * most * authors {
        true => Err((
            PROMISE,
            format!("{durable} durable blocks of {authors} authors"),
        )),
        false => Ok(()),
    }
}

/// Certificates of a disk that were judged since the boot. A disk appends and a chain keeps what it has, so they need no
/// second look until the world ends.
#[derive(Default)]
pub(super) struct Judged {
    /// So many, in the disk's order.
    count: usize,
    /// Liars that they expose, by round.
    exposed: BTreeSet<(Round, PeerId)>,
}

/// Of several certificates for one round a disk holds, beside the one that is followed, one for each liar at most that
/// signed it as well: a contradiction is proven once.
pub(super) fn contradictions_are_kept_once(
    machine: &Machine,
    view: &RunView<'_>,
    liars: &BTreeSet<PeerId>,
    judged: &mut Judged,
) -> Result<(), Broken> {
    const PROMISE: &str = "a contradiction is kept once";
    let mut exposed = judged.exposed.clone();
    let mut is_gap = false;
    let run = view.id();
    let kept = machine.store.certificates(&run);
    for (round, bytes) in kept.skip(judged.count) {
        let Some(followed) = view.chain().get(round.0 as usize) else {
            // From here on everything is looked at again.
            is_gap = true;
            continue;
        };
        if !is_gap {
            judged.count += 1;
        }
        let second = Certificate::decode(bytes).map_err(|why| {
            (
                PROMISE,
                format!("a durable certificate does not decode: {why}"),
            )
        })?;
        if second.value == followed.value {
            continue;
        }
        let signed = |peer: &PeerId| followed.precommits.iter().any(|(other, _)| other == peer);
        let signers = second.precommits.iter().map(|(peer, _)| *peer);
        let both: Vec<PeerId> = signers.filter(signed).collect();
        if let Some(honest) = both.iter().find(|peer| !liars.contains(peer)) {
            let what = format!(
                "round {round}: {} is said to have signed two",
                honest.short()
            );
            return Err((PROMISE, what));
        }
        let before = exposed.len();
        exposed.extend(both.into_iter().map(|peer| (round, peer)));
        if exposed.len() == before {
            let what = format!("round {round}: a second certificate that exposes nobody new");
            return Err((PROMISE, what));
        }
        if !is_gap {
            judged.exposed.clone_from(&exposed);
        }
    }
    Ok(())
}

/// While less than a third of the evaluators lie, final scores stay within what honest sheets say.
pub(super) fn scores_are_within_honest_ones(
    view: &RunView<'_>,
    liars: &BTreeSet<PeerId>,
) -> Result<(), Broken> {
    const PROMISE: &str = "scores stay within what honest sheets span";
    let Some(manifest) = view.manifest() else {
        return Ok(());
    };
    let dishonest = manifest
        .scoring
        .evaluators
        .iter()
        .filter(|e| liars.contains(e));
    if 3 * dishonest.count() >= manifest.scoring.evaluators.len() {
        return Ok(());
    }
    let sheets: Vec<_> = (view.log().all())
        .filter_map(|(at, entry)| match entry {
            Entry::ScoreSheet(shown) if !liars.contains(&at.author) => Some(&shown.sheet),
            _ => None,
        })
        .collect();
    for certificate in view.chain() {
        let Some(judged) = certificate.value.round.previous() else {
            continue;
        };
        for last in &certificate.value.scores {
            let lines = (sheets.iter().filter(|sheet| sheet.round == judged))
                .flat_map(|sheet| &sheet.scores)
                .filter(|line| line.peer == last.peer)
                .map(|line| line.score);
            let span = lines.clone().min().zip(lines.max());
            if span.is_none_or(|(least, most)| last.score < least || last.score > most) {
                let what = format!(
                    "round {judged}: {} of {} where honest sheets span {span:?}",
                    last.score.0,
                    last.peer.short()
                );
                return Err((PROMISE, what));
            }
        }
    }
    Ok(())
}

/// All that the books of a run that settles follow from: what was certified, each with the filings that it names.
type Certified<'a> = Vec<(&'a RoundValue, BTreeMap<EntryRef, &'a Entry>)>;

fn certified<'a>(view: &RunView<'a>) -> Certified<'a> {
    let entry = |at: &EntryRef| Some((*at, view.log().entry(at)?));
    let values = view.chain().iter().map(|certificate| &certificate.value);
    values
        .map(|value| (value, value.filings.iter().filter_map(entry).collect()))
        .collect()
}

/// The books of a run that settles, from the certificates and the logs of one peer.
fn settled_books(certified: &Certified<'_>, manifest: &Manifest) -> Result<Books, FoldError> {
    let mut books = RunBooks::new(manifest);
    for (value, filings) in certified {
        let filings = filings.iter().map(|(at, entry)| (*at, (*entry).clone()));
        books.push(manifest, value, &filings.collect())?;
    }
    assert!(books.is_conserved(), "books and chain add up");
    Ok(books.books().clone())
}

/// Everybody's books say the same, add up to zero, and never pay more than the budgets.
pub(super) fn accounts_agree(machines: &[(usize, &Machine)], run: &RunId) -> Result<(), Broken> {
    const PROMISE: &str = "money is conserved";
    let mut first: Option<(usize, Books)> = None;
    // A virtual machine for every peer takes longer than the run: what is the same to the last byte is folded once.
    let mut last: Option<(Certified<'_>, Books)> = None;
    for &(peer, machine) in machines {
        let Some(view) = machine.node.as_ref().and_then(|node| node.run(run)) else {
            continue;
        };
        let Some(manifest) = view.manifest() else {
            continue;
        };
        let values = view.chain().iter().map(|certificate| &certificate.value);
        let folded = match manifest.payment.settlement {
            Some(_) => {
                let certified = certified(&view);
                match last.take().filter(|(known, _)| *known == certified) {
                    Some(known) => Ok(known),
                    None => settled_books(&certified, manifest).map(|books| (certified, books)),
                }
                .map(|known| last.insert(known).1.clone())
            }
            // Its sponsor has deposited what it offers.
            None => {
                fold::facts(manifest, values, &Funding::of_all_rounds(manifest)).and_then(Books::of)
            }
        };
        let books = folded.map_err(|why| (PROMISE, format!("peer {peer} cannot fold: {why}")))?;
        match books.total() {
            Ok(total) if total == Balance::default() => {}
            other => return Err((PROMISE, format!("peer {peer}: balances sum to {other:?}"))),
        }
        let paid = books.balance(*run, Account::Sponsor(manifest.creator)).0;
        let most = manifest.payment.budget_per_round.0 as i128 * i128::from(manifest.plan.rounds);
        if !(-most..=0).contains(&paid) {
            let what = format!("peer {peer}: the sponsor moved {paid} of {most} micro-OPEN");
            return Err((PROMISE, what));
        }
        match &first {
            None => first = Some((peer, books)),
            // Peers may have seen more or fewer epochs.
            Some((other, known)) if known.len() == books.len() && *known != books => {
                let what = format!("the books of peers {other} and {peer} differ");
                return Err((PROMISE, what));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
