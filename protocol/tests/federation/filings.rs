//! Filings: certificates put them in order, each once, and heights go on after the closing while somebody files.

use tributary_protocol::entry::{Entry, Role};
use tributary_protocol::event::{Command, Notice};
use tributary_protocol::filing::Transaction;
use tributary_protocol::id::{Round, RunId};
use tributary_protocol::limits;
use tributary_protocol::round::{EntryRef, RoundValue};
use tributary_protocol::state::{self, choose_filings};
use tributary_protocol::test_utils::attack::{ask, begun, view};
use tributary_protocol::test_utils::fixture;
use tributary_protocol::test_utils::net::{Net, join, manifest};

const ROUNDS: u32 = 6;

fn file(net: &mut Net, node: usize, run: RunId, byte: u8) {
    let transaction = Transaction {
        data: vec![byte],
        ..fixture::transaction()
    };
    let filings = vec![Entry::Transaction(transaction)];
    net.command(node, Command::File { run, filings });
}

/// Filings that a node's certificates name, in their order: height, author, what was filed.
fn filed(net: &Net, node: usize, run: &RunId) -> Vec<(Round, usize, u8)> {
    let view = view(net, node, run);
    let mut out = Vec::new();
    for certificate in view.chain() {
        for at in &certificate.value.filings {
            let Some(Entry::Transaction(transaction)) = view.log().entry(at) else {
                panic!("not the transaction that was filed");
            };
            let author = net.ids.iter().position(|id| *id == at.author);
            let author = author.expect("a member");
            out.push((certificate.round(), author, transaction.data[0]));
        }
    }
    out
}

fn round(net: &Net, node: usize, run: &RunId) -> Option<Round> {
    view(net, node, run).head().map(|head| head.round)
}

fn all_at(net: &Net, run: &RunId, least: Round) -> bool {
    (0..net.nodes.len()).all(|node| round(net, node, run) >= Some(least))
}

#[test]
fn a_filing_is_put_in_order_by_the_next_heights_and_once() {
    let (mut net, run) = begun(4, 4);
    for byte in 0..6 {
        file(&mut net, 1, run, byte);
    }
    file(&mut net, 2, run, 9);
    let end = Round(ROUNDS + 1);
    assert!(net.run_until(300_000, |net| all_at(net, &run, end)));
    let filed = filed(&net, 0, &run);
    let of = |who: usize| -> Vec<u8> {
        let of = filed.iter().filter(|(_, author, _)| *author == who);
        of.map(|(_, _, byte)| *byte).collect()
    };
    assert_eq!(of(1), [0, 1, 2, 3, 4, 5], "in the order of the log");
    assert_eq!(of(2), [9]);
    let first = filed[0].0;
    let at_first = filed
        .iter()
        .filter(|(round, author, _)| *round == first && *author == 1);
    assert!(at_first.count() <= limits::MAX_FILINGS_PER_AUTHOR);
}

#[test]
fn heights_go_on_after_the_closing_only_while_somebody_files() {
    let (mut net, run) = begun(4, 4);
    let closing = Round(ROUNDS + 1);
    assert!(net.run_until(300_000, |net| all_at(net, &run, closing)));
    let idle = net.now_ms + 600_000;
    net.run_until(600_000, |net| net.now_ms >= idle);
    assert!((0..4).all(|node| round(&net, node, &run) == Some(closing)));
    let before = view(&net, 0, &run)
        .head()
        .map(|head| (head.adapter, head.roster.clone()));

    file(&mut net, 3, run, 1);
    assert!(net.run_until(60_000, |net| all_at(net, &run, closing.next())));
    net.crash(2);
    file(&mut net, 1, run, 2);
    let third = closing.next().next();
    let live = |net: &Net| {
        [0, 1, 3]
            .iter()
            .all(|n| round(net, *n, &run) >= Some(third))
    };
    assert!(net.run_until(60_000, live));
    net.restart(2);
    assert!(net.run_until(60_000, |net| all_at(net, &run, third)));
    for node in 0..4 {
        assert_eq!(
            filed(&net, node, &run),
            [(closing.next(), 3, 1), (third, 1, 2)]
        );
        let head = view(&net, node, &run).head();
        assert_eq!(head.map(|head| (head.adapter, head.roster.clone())), before);
    }
    let finished = |notice: &&Notice| matches!(notice, Notice::Finished(_));
    assert_eq!(
        net.notices[0].iter().filter(finished).count(),
        1,
        "a run ends once"
    );
}

#[test]
fn an_epoch_that_does_more_than_order_filings_does_not_follow() {
    let (mut net, run) = begun(4, 4);
    let closing = Round(ROUNDS + 1);
    assert!(net.run_until(300_000, |net| all_at(net, &run, closing)));
    let before = view(&net, 0, &run).head().expect("closed").clone();
    file(&mut net, 1, run, 1);
    assert!(net.run_until(60_000, |net| all_at(net, &run, closing.next())));
    let view = view(&net, 0, &run);
    let manifest = view.manifest().expect("known");
    let value = &view.chain().last().expect("an epoch").value;
    let follows = |value: &RoundValue| state::follow(manifest, run, Some(&before), value).is_ok();
    assert!(follows(value));
    let mut linked = value.clone();
    linked.link = fixture::any_digest(1);
    let mut leaving = value.clone();
    leaving.leaves = value.filings.clone();
    let mut judging = value.clone();
    judging.sheets = value.filings.clone();
    judging.seals = value.filings.clone();
    let mut unordered = value.clone();
    unordered.filings.extend(value.filings.clone());
    let mut trained = value.clone();
    trained.adapter.hash = tributary_protocol::id::BlobHash(fixture::any_digest(2));
    for mut other in [linked, leaving, judging, unordered, trained] {
        if state::conclude(manifest, Some(&before), &mut other).is_ok() {
            assert!(!follows(&other), "{other:?}");
        }
    }
}

#[test]
fn who_is_no_member_files_nothing_and_an_entry_of_the_node_is_no_filing() {
    let (mut net, run) = begun(5, 4);
    let follow = Command::Follow { run, join: None };
    net.command(4, follow);
    assert!(net.run_until(60_000, |net| round(net, 4, &run).is_some()));
    file(&mut net, 4, run, 1);
    let filings = vec![Entry::Leave];
    net.command(1, Command::File { run, filings });
    let refused = |node: usize| -> Vec<&str> {
        let notices = net.notices[node].iter();
        notices
            .filter_map(|notice| match notice {
                Notice::CommandFailed { why, .. } => Some(why.as_str()),
                _ => None,
            })
            .collect()
    };
    assert!(refused(4)[0].starts_with("only members file in a run"));
    assert!(refused(1)[0].starts_with("this entry is none that the books are kept by"));
}

#[test]
fn a_member_that_joins_later_files_like_the_others() {
    let (mut net, run) = begun(5, 4);
    let request = Some(join(4, Role::Contributor).into());
    net.command(4, Command::Follow { run, join: request });
    let is_member = |net: &Net| {
        let head = view(net, 4, &run).head();
        head.is_some_and(|head| head.roster.get(&net.ids[4]).is_some())
    };
    assert!(net.run_until(120_000, is_member));
    file(&mut net, 4, run, 7);
    let end = Round(ROUNDS + 1);
    assert!(net.run_until(300_000, |net| all_at(net, &run, end)));
    assert!(
        filed(&net, 0, &run)
            .iter()
            .any(|(_, author, byte)| (*author, *byte) == (4, 7))
    );
}

#[test]
fn one_author_that_files_much_takes_no_place_from_others() {
    let place = |author: u8, seq: u64| EntryRef {
        author: fixture::peer(author),
        seq: tributary_protocol::id::Seq(seq),
        block: tributary_protocol::id::BlockId(fixture::any_digest(1)),
        index: 0,
    };
    let authors: Vec<u8> = (1..=100).collect();
    let mut waiting: Vec<EntryRef> = (0..500).map(|seq| place(1, seq)).collect();
    waiting.extend(authors[1..].iter().map(|author| place(*author, 3)));
    let order = authors.iter().map(|author| fixture::peer(*author));
    let chosen = choose_filings(waiting, order);
    let of_first = chosen.iter().filter(|at| at.author == fixture::peer(1));
    assert_eq!(of_first.count(), limits::MAX_FILINGS_PER_AUTHOR);
    let authors_served = authors
        .iter()
        .filter(|author| chosen.iter().any(|at| at.author == fixture::peer(**author)));
    assert_eq!(authors_served.count(), 100);
}

/// A large ledger fills every answer with the logs of the first authors, which are strangers' to who has no certificate. The
/// creator's log comes last, so that nobody learns the manifest from it.
#[test]
fn a_newcomer_learns_the_manifest_of_a_run_whose_ledger_fills_many_answers() {
    let mut net = Net::new(6);
    // The creator is the last member by id, and node 5 the newcomer.
    let last = (0..5).max_by_key(|node| net.ids[*node]).expect("nodes");
    let manifest = manifest(net.ids[last], Vec::new(), 5, ROUNDS);
    let run = manifest.run_id();
    net.command(last, Command::Create(Box::new(manifest)));
    for node in 0..5 {
        ask(&mut net, node, run);
    }
    let all = |net: &Net| (0..5).all(|node| round(net, node, &run) >= Some(Round(0)));
    assert!(net.run_until(60_000, all), "genesis");
    for byte in 0..14 {
        for node in 0..5 {
            let data = vec![byte; limits::MAX_TRANSACTION_BYTES];
            let filings = vec![Entry::Transaction(Transaction {
                data,
                ..fixture::transaction()
            })];
            net.command(node, Command::File { run, filings });
        }
    }
    assert!(net.run_until(300_000, |net| {
        (0..5).all(|n| round(net, n, &run) >= Some(Round(3)))
    }));
    let log = view(&net, 0, &run).log();
    let weight = |author| -> usize { log.blocks(author).map(|block| block.bytes().len()).sum() };
    let before: usize = log
        .authors()
        .filter(|a| *a != net.ids[last])
        .map(weight)
        .sum();
    assert!(before > limits::MAX_DIRECT_BYTES, "{before} bytes");
    net.command(5, Command::Follow { run, join: None });
    assert!(net.run_until(60_000, |net| round(net, 5, &run) >= Some(Round(3))));
}
