//! Shards: nothing lost in cutting, nothing swapped or flipped after committing.

use proptest::prelude::*;

use super::*;
use crate::home::HomePaths;
use crate::identity::Identity;
use tributary_ledger::holdout::leaves;
use tributary_protocol::hash::Digest;

const BASE: (Digest, u32) = (Digest::from_bytes([1; 32]), 64);

fn home() -> (tempfile::TempDir, HomePaths, Identity) {
    let dir = tempfile::tempdir().unwrap();
    let paths = HomePaths::new(dir.path().join("home"));
    (dir, paths, Identity::from_seed([3; 32]))
}

fn text(paragraphs: usize) -> String {
    (0..paragraphs)
        .map(|i| format!("{i} {}\n\n", "some words of a paragraph ".repeat(30)))
        .collect()
}

/// A window a passage, of its bytes.
fn cut(passages: &[String]) -> Result<Vec<Vec<u32>>, String> {
    let tokens = |passage: &String| passage.bytes().map(u32::from).collect();
    Ok(passages.iter().map(tokens).collect())
}

proptest! {
    #[test]
    fn passages_joined_give_the_text_back(text in "(\\PC|\n){0,9000}") {
        let cut = passages(&text);
        prop_assert_eq!(cut.concat(), text);
        prop_assert!(cut.iter().all(|p| p.len() <= 2 * PASSAGE_BYTES + 4));
    }
}

#[test]
fn a_tenth_is_held_out_and_nothing_is_lost_or_doubled() {
    for count in [0, 1, 2, 9, 10, 11, 95, 100] {
        let all: Vec<String> = (0..count).map(|i| i.to_string()).collect();
        let (train, holdout) = split(all.clone());
        let mut both: Vec<String> = train.iter().chain(&holdout).cloned().collect();
        both.sort();
        let mut sorted = all;
        sorted.sort();
        assert_eq!(both, sorted);
        assert_eq!(holdout.is_empty(), count < 2, "{count}");
        assert!(holdout.len() <= 1 + count / 10, "{count}");
    }
}

#[test]
fn added_files_are_committed_and_read_back() {
    let (dir, home, identity) = home();
    let file = dir.path().join("notes.txt");
    std::fs::write(&file, text(40)).unwrap();
    let view = add(&home, "notes", std::slice::from_ref(&file)).unwrap();
    assert_eq!(view.files, ["notes.txt"]);
    assert_eq!(add(&home, "notes", &[file]).unwrap(), view, "adding twice");
    assert_eq!(list(&home).unwrap(), [view]);
    let both = Committed::gather(&home, &identity, BASE, "notes", (true, true), &[], cut).unwrap();
    assert!(both.train.len() >= 9 * both.holdout.len());
    let root = both.write(&home).unwrap();
    assert_eq!(Committed::read(&home, &root).unwrap(), both);
    assert_eq!(Committed::check_all(&home).unwrap(), 1);
    let other = Committed::gather(
        &home,
        &Identity::from_seed([4; 32]),
        BASE,
        "notes",
        (true, true),
        &[],
        cut,
    );
    assert_ne!(other.unwrap().root(), root, "the salt is the peer's secret");
}

#[test]
fn every_flipped_bit_of_a_committed_shard_is_noticed() {
    let (_dir, home, identity) = home();
    let committed = Committed::new(
        &identity,
        BASE,
        vec!["a\n".into(), "b".into()],
        vec![vec![7, 8]],
    );
    let root = committed.write(&home).unwrap();
    let path = home.shards().join("committed").join(format!("{root}.json"));
    let good = std::fs::read(&path).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &bad).unwrap();
        let error = Committed::read(&home, &root).expect_err("a damaged shard was accepted");
        assert!(error.to_string().contains("damaged"), "{error}");
    }
}

#[test]
fn training_and_holdout_cannot_be_swapped_under_one_root() {
    let (_dir, _home, identity) = home();
    let one = Committed::new(&identity, BASE, vec!["a".into()], vec![vec![98]]);
    let two = Committed::new(&identity, BASE, vec!["a".into(), "b".into()], vec![]);
    assert_ne!(one.root(), two.root());
}

#[test]
fn jsonl_gives_a_passage_a_line_and_names_the_bad_line() {
    let (dir, home, identity) = home();
    let good = dir.path().join("good.jsonl");
    std::fs::write(&good, "{\"text\":\"one\",\"id\":4}\n\n{\"text\":\"two\"}\n").unwrap();
    add(&home, "chat", &[good]).unwrap();
    let shard = Committed::gather(&home, &identity, BASE, "chat", (true, false), &[], cut).unwrap();
    assert_eq!(shard.train, ["one\n\n", "two\n\n"]);
    let bad = dir.path().join("bad.jsonl");
    std::fs::write(&bad, "{\"text\":\"one\"}\n{\"txt\":\"two\"}\n").unwrap();
    let error = add(&home, "chat", &[bad]).unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
}

#[test]
fn the_same_rows_make_the_same_passages_whatever_the_file_is_called() {
    let (dir, home, _) = home();
    let lines = "{\"text\":\"one\"}\n{\"text\":\"two\"}\n";
    let written = [
        ("a.jsonl", lines.to_owned()),
        ("a.JSONL", lines.to_owned()),
        ("a.ndjson", format!("\u{feff}{lines}")),
        ("a.txt", lines.to_owned()),
        (
            "a.json",
            "[{\"text\":\"one\"},{\"text\":\"two\"}]".to_owned(),
        ),
        ("a.csv", "text,label\none,1\n\"two\",2\n".to_owned()),
    ];
    for (name, content) in written {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        assert_eq!(
            read_passages(&path).unwrap(),
            ["one\n\n", "two\n\n"],
            "{name}"
        );
    }
    let mut told = Vec::new();
    let table = dir.path().join("a.csv");
    let mut tell = |line: &str| told.push(line.to_owned());
    add_telling(&home, "n", &[table], &mut tell).unwrap();
    let [line] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(line.contains("read as a table: 2 rows used"), "{line}");
    assert!(line.contains("label"), "{line}");
}

#[test]
fn a_file_that_its_owner_calls_tmp_is_kept_and_what_a_crash_left_is_not_read() {
    let (dir, home, _) = home();
    let notes = dir.path().join("notes.tmp");
    std::fs::write(&notes, "some notes").unwrap();
    let view = add(&home, "n", &[notes]).unwrap();
    assert_eq!(view.files, ["notes.tmp"]);
    let unfinished = dir.path().join("notes.tributary-part");
    std::fs::write(&unfinished, "some notes").unwrap();
    let error = add(&home, "n", &[unfinished]).unwrap_err();
    assert!(error.to_string().contains("rename it"), "{error}");
    let left = home
        .shards()
        .join("n/files/0123.notes.txt.x7.tributary-part");
    std::fs::write(left, "half a fi").unwrap();
    assert_eq!(list(&home).unwrap(), [view]);
}

#[test]
fn data_that_cannot_be_used_is_refused_with_the_mend() {
    let (dir, home, identity) = home();
    let place = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let binary = place("x.bin", &[0xff, 0xfe, 0]);
    let empty = place("empty.txt", b" \n");
    let wide = place("wide.txt", b"o\0n\0e\0");
    let talk = place(
        "talk.jsonl",
        b"{\"messages\": [{\"role\": \"assistant\", \"content\": \"hi\"}]}",
    );
    for (name, files, words) in [
        ("n", vec![dir.path().join("none.txt")], "check the path"),
        ("n", vec![dir.path().to_owned()], "is a folder"),
        ("n", vec![binary], "UTF-8"),
        ("n", vec![empty], "it is empty"),
        ("n", vec![wide], "NUL byte"),
        ("n", vec![talk], "it is a conversation"),
        ("../up", vec![], "letters, digits"),
        ("committed", vec![], "letters, digits"),
    ] {
        let error = add(&home, name, &files).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(
        list(&home).unwrap(),
        [],
        "a refused file left something behind"
    );
    let none =
        Committed::gather(&home, &identity, BASE, "poems", (true, false), &[], cut).unwrap_err();
    assert!(none.to_string().contains("datanet add poems"), "{none}");
}

#[test]
fn two_files_of_one_name_are_not_mixed_up() {
    let (dir, home, _) = home();
    std::fs::create_dir(dir.path().join("b")).unwrap();
    let (one, two) = (dir.path().join("x.txt"), dir.path().join("b/x.txt"));
    std::fs::write(&one, "one").unwrap();
    std::fs::write(&two, "two").unwrap();
    add(&home, "n", &[one]).unwrap();
    let error = add(&home, "n", &[two]).unwrap_err();
    assert!(error.to_string().contains("rename"), "{error}");
}

#[test]
fn each_window_is_shown_alone_and_neither_moved_nor_recounted() {
    let (_dir, _home, identity) = home();
    let train: Vec<String> = ["a", "b", "c"].map(String::from).into();
    let committed = Committed::new(&identity, BASE, train, vec![vec![1, 2], vec![3, 4]]);
    let (root, leaves) = (committed.root(), committed.leaves());
    let head = committed.head();
    assert_eq!((head.windows, head.leaves, leaves.len()), (2, 6, 6));
    let proof = tributary_protocol::merkle::prove(&leaves, 0).unwrap();
    assert!(proof.verify(&root, &head.leaf()));
    for other in [
        leaves::Head { windows: 1, ..head },
        leaves::Head { leaves: 5, ..head },
        leaves::Head {
            context: 65,
            ..head
        },
    ] {
        assert!(!proof.verify(&root, &other.leaf()), "{other:?}");
    }
    for (place, window) in (1u64..).zip(&committed.holdout) {
        let proof = tributary_protocol::merkle::prove(&leaves, place as usize).unwrap();
        let salt = committed.leaf_salt(place);
        assert!(proof.verify(&root, &leaves::window(&salt, window)));
        assert!(!proof.verify(&root, &leaves::window(&committed.leaf_salt(0), window)));
        assert!(!proof.verify(&root, &leaves::window(&salt, &[9, 9])));
    }
    assert_ne!(committed.leaf_salt(1), committed.leaf_salt(2));
}

#[test]
fn files_are_removed_by_their_names_and_what_was_committed_stays() {
    let (dir, home, _) = home();
    let file = |name: &str, paragraphs| {
        let path = dir.path().join(name);
        std::fs::write(&path, text(paragraphs)).unwrap();
        path
    };
    add(
        &home,
        "notes",
        &[file("a.txt", 3), file("b.txt", 4), file("c.txt", 5)],
    )
    .unwrap();
    let wrong = remove(&home, "notes", &["a.txt".into(), "d.txt".into()]).unwrap_err();
    assert!(
        wrong.to_string().contains("d.txt") && wrong.to_string().contains("c.txt"),
        "{wrong}"
    );
    assert_eq!(list(&home).unwrap()[0].files.len(), 3, "some were removed");
    let removed = remove(&home, "notes", &["b.txt".into()]).unwrap();
    assert_eq!((removed.removed.len(), removed.left.len()), (1, 2));
    remove(&home, "notes", &[]).unwrap();
    let nothing = remove(&home, "notes", &[]).unwrap_err();
    assert!(matches!(nothing, ShardError::Missing { .. }), "{nothing}");
    assert!(dir.path().join("a.txt").exists(), "the owner's own file");
    add(&home, "notes", &[dir.path().join("a.txt")]).unwrap();
}

#[test]
fn commands_that_add_at_once_do_not_both_take_one_name() {
    let (dir, home, _) = home();
    let adders: Vec<_> = (0..6)
        .map(|n| {
            let folder = dir.path().join(n.to_string());
            std::fs::create_dir(&folder).unwrap();
            let file = folder.join("same.txt");
            std::fs::write(&file, text(30 + n)).unwrap();
            let home = home.clone();
            std::thread::spawn(move || add(&home, "notes", &[file]).is_ok())
        })
        .collect();
    let added = adders.into_iter().map(|adder| adder.join().unwrap());
    assert_eq!(added.filter(|added| *added).count(), 1);
    assert_eq!(list(&home).unwrap()[0].files, ["same.txt"]);
}
