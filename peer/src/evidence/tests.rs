//! What is believed of answers, and what an absence is called.

#![allow(
    clippy::single_range_in_vec_init,
    reason = "one span, not the numbers in it"
)]

use std::path::Path;

use tributary_attribution::lexical::{MAX_QUESTIONS, WINDOW_MS};
use tributary_protocol::fingerprint::words;
use tributary_protocol::time::Timestamp;

use super::*;
use crate::identity::Identity;
use crate::shard::Committed;

const TEXT: &str = "At dawn the miller opens the upper sluice and counts seven sacks of rye by the door. His dog sleeps on.";

fn committed(home: &HomePaths, text: &str) -> Commitment {
    let identity = Identity::from_seed([5; 32]);
    let base = (Default::default(), 64);
    let committed = Committed::new(&identity, base, vec![text.to_owned()], Vec::new());
    Commitment {
        shard: committed.write(home).unwrap(),
        fingerprints: committed.fingerprints().unwrap(),
    }
}

fn asking(answer: &str, contributors: &[Option<Commitment>]) -> Inquiry {
    Inquiry {
        run: RunId::default(),
        words: words(answer).map(|(_, word)| word).collect(),
        contributors: contributors
            .iter()
            .map(|c| (PeerId::default(), *c))
            .collect(),
    }
}

#[test]
fn a_shard_of_this_home_is_searched_and_others_are_not_asked() {
    let dir = tempfile::tempdir().unwrap();
    let home = HomePaths::new(dir.path());
    let mine = committed(&home, TEXT);
    let elsewhere = Commitment {
        shard: MerkleRoot::default(),
        ..mine
    };
    let quote = "He said: at dawn the miller opens the upper sluice and counts seven sacks of rye by the window.";
    let said = asking(quote, &[Some(mine), Some(elsewhere), None]).here(&home);
    assert_eq!(said[0], Reply::Proven(vec![2..18]));
    assert!(
        matches!(said[1], Reply::NotAsked(why) if why.contains("daemon")),
        "{said:?}"
    );
    assert!(
        matches!(said[2], Reply::NotAsked(why) if why.contains("committed")),
        "{said:?}"
    );
    let short = asking("the miller opens the sluice", &[Some(mine)]).here(&home);
    assert!(
        matches!(short[0], Reply::NotAsked(why) if why.contains("shorter")),
        "{short:?}"
    );
}

#[test]
fn spans_of_another_text_than_the_committed_one_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let home = HomePaths::new(dir.path());
    let (honest, other) = (
        committed(&home, TEXT),
        committed(&home, &format!("{TEXT} Nobody wakes it.")),
    );
    let asking = asking(TEXT, &[Some(honest)]);
    let spans = |commitment: &Commitment| {
        let shard = holder::open(&home, commitment).unwrap();
        Answer::new(Ok(shard.spans(&asking.words))).encode()
    };
    let said = asking.judge(&honest, Ok(&spans(&honest)));
    assert_eq!(said, Reply::Proven(vec![0..16]));
    // Everything about the other text's proof is in order but the root.
    let lie = asking.judge(&honest, Ok(&spans(&other)));
    assert!(
        matches!(&lie, Reply::False(why) if why.contains("committed")),
        "{lie:?}"
    );
    let noise = asking.judge(&honest, Ok(b"\x01\x09"));
    assert!(matches!(noise, Reply::False(_)), "{noise:?}");
}

#[test]
fn what_was_shown_is_on_the_disk_before_the_answer_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let home = HomePaths::new(dir.path());
    let text: String = (0..64).map(|n| format!("word{n} ")).collect();
    let shard = holder::open(&home, &committed(&home, &text)).unwrap();
    let ask_at = |file: &Path, count: usize, at| {
        let asked: Vec<String> = words(&text).take(count).map(|(_, word)| word).collect();
        // Nothing but the file remembers: each question is the first of a new life.
        let spans = holder::allowed(file, &shard, &asked, Timestamp(at));
        spans.map(|spans| spans.iter().map(|span| span.words().len()).sum::<usize>())
    };
    let ask = |count, at| ask_at(&home.evidence(), count, at);
    assert_eq!(ask(16, 0), Ok(16));
    let kept = std::fs::read_to_string(home.evidence()).unwrap();
    assert_eq!(ask(24, 1), Ok(16), "one step an hour");
    assert_eq!(ask(24, 1 + WINDOW_MS), Ok(24));
    for n in 0..MAX_QUESTIONS as u64 - 1 {
        assert_eq!(ask(0, 2 + WINDOW_MS + n), Ok(0));
    }
    assert_eq!(ask(0, 3 + WINDOW_MS), Err(Declined::Spent));
    // A file that cannot be read, and one that cannot be written, answer nothing.
    std::fs::write(home.evidence(), &kept[..kept.len() - 3]).unwrap();
    assert_eq!(ask(16, 0), Err(Declined::Spent));
    std::fs::remove_file(home.evidence()).unwrap();
    let nowhere = home.root().join("no folder/evidence");
    assert_eq!(ask_at(&nowhere, 16, 0), Err(Declined::Spent));
    assert_eq!(ask(16, 0), Ok(16));
}

#[test]
fn who_does_not_answer_is_never_said_to_hold_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mine = committed(&HomePaths::new(dir.path()), TEXT);
    let asking = asking(TEXT, &[Some(mine)]);
    let said = |answer: Result<&[u8], Unanswered>| asking.judge(&mine, answer);
    assert!(matches!(said(Err(Unanswered::Apart)), Reply::NotAsked(_)));
    assert!(matches!(
        said(Err(Unanswered::Silent("gone".into()))),
        Reply::Silent(_)
    ));
    let closed = Answer::new(Err(Declined::Closed)).encode();
    assert_eq!(said(Ok(&closed)), Reply::Declined(Declined::Closed));
}
