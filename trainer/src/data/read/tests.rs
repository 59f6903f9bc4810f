//! Rows of every format, and everything that can be wrong with them.

use super::*;
use crate::data::limits::MAX_ROW_BYTES;
use crate::data::{Message, Packing, Windows};
use crate::testing::tiny_base;

fn read(format: Format, bytes: &[u8]) -> Result<Dataset, DatasetError> {
    let options = ReadOptions {
        format: Some(format),
        ..ReadOptions::default()
    };
    Dataset::from_bytes("file", bytes, &options)
}

fn strict(format: Format, bytes: &[u8]) -> DatasetError {
    let options = ReadOptions {
        format: Some(format),
        strict: true,
        ..ReadOptions::default()
    };
    Dataset::from_bytes("file", bytes, &options).unwrap_err()
}

fn records(dataset: &Dataset) -> Vec<Record> {
    dataset.rows.iter().map(|row| row.record.clone()).collect()
}

fn text(text: &str) -> Record {
    Record::Text(text.into())
}

fn pair(prompt: &str, completion: &str) -> Record {
    Record::Completion {
        prompt: prompt.into(),
        completion: completion.into(),
    }
}

/// `line 3: reason` of each bad row.
fn bad(dataset: &Dataset) -> Vec<String> {
    let examples = &dataset.report.examples;
    examples.iter().map(ToString::to_string).collect()
}

#[test]
fn jsonl_rows_hold_texts_pairs_or_conversations() {
    let lines = "\u{feff}{\"text\": \"a\", \"id\": 7}\r\n\r\n{\"prompt\": \"\", \"completion\": \"b\"}\n\
        {\"prompt\": \"x\", \"text\": null, \"messages\": [{\"role\": \"user\", \"content\": \"q\"}, \
        {\"role\": \"assistant\", \"content\": \"r\", \"tool_calls\": []}]}";
    let dataset = read(Format::Jsonl, lines.as_bytes()).unwrap();
    let message = |role: &str, content: &str| Message {
        role: role.into(),
        content: content.into(),
    };
    let said = vec![message("user", "q"), message("assistant", "r")];
    assert_eq!(
        records(&dataset),
        [text("a"), pair("", "b"), Record::Messages(said)]
    );
    let places: Vec<Place> = dataset.rows.iter().map(|row| row.place).collect();
    assert_eq!(places, [1, 3, 4].map(Place::Line));
    assert_eq!((dataset.report.good, dataset.report.bad), (3, 0));
}

#[test]
fn every_bad_line_is_counted_with_its_number_and_reason() {
    let mut lines = b"{\"text\": \"good\"}\n".to_vec();
    lines.extend_from_slice(b"{\"text\": \"cut\n");
    lines.extend_from_slice(b"{\"text\": \"\xff\"}\n");
    lines.extend_from_slice(b"[1]\n{\"text\": 5}\n{\"txt\": \"x\"}\n{\"prompt\": \"p\"}\n");
    lines.extend_from_slice(b"{\"text\": \" \"}\n{\"messages\": [{\"role\": \"user\"}]}\n");
    lines.extend_from_slice(b"{\"messages\": [{\"role\": \"user\", \"content\": \"u\"}]}\n");
    lines.extend_from_slice(&[b'['; 100_000]);
    let dataset = read(Format::Jsonl, &lines).unwrap();
    assert_eq!((dataset.report.good, dataset.report.bad), (1, 10));
    let reasons = bad(&dataset);
    let expected = [
        "line 2: it is not JSON: EOF while parsing a string at column",
        "line 3: it is not UTF-8",
        "line 4: it is not a JSON object",
        "line 5: its \"text\" is a number, not a string",
        "line 6: it has neither",
        "line 7: it has a \"prompt\" without a \"completion\"",
        "line 8: its \"text\" is empty",
        "line 9: message 1: it has no \"content\"",
    ];
    assert_eq!(reasons.len(), expected.len());
    for (reason, expected) in reasons.iter().zip(expected) {
        assert!(reason.starts_with(expected), "{reason}");
    }
    let shown = dataset.report.to_string();
    assert!(
        shown.starts_with("1 rows used, 10 bad\n  line 2"),
        "{shown}"
    );
    assert!(shown.ends_with("and 2 more"), "{shown}");
    let error = strict(Format::Jsonl, &lines).to_string();
    assert!(error.contains("file, line 2: it is not JSON"), "{error}");
}

#[test]
fn a_line_without_end_is_one_bad_row_and_the_next_is_read() {
    let mut lines = vec![b'x'; MAX_ROW_BYTES + 5];
    lines.extend_from_slice(b"\n{\"text\": \"good\"}\n");
    let dataset = read(Format::Jsonl, &lines).unwrap();
    assert_eq!(records(&dataset), [text("good")]);
    assert_eq!(
        bad(&dataset),
        [format!("line 1: it is longer than {MAX_ROW_BYTES} bytes")]
    );
}

#[test]
fn json_arrays_count_rows() {
    let array =
        b"\xef\xbb\xbf [{\"text\": \"a\"}, 3, {\"prompt\": \"p\", \"completion\": \"c\"}]\n";
    let dataset = read(Format::Json, array).unwrap();
    assert_eq!(records(&dataset), [text("a"), pair("p", "c")]);
    assert_eq!(bad(&dataset), ["row 2: it is not a JSON object"]);
    let error = strict(Format::Json, array).to_string();
    assert!(error.contains("file, row 2: it is not"), "{error}");
    for broken in ["{\"text\": \"a\"}", "[{\"text\": \"a\"}", "[1] 2", "", "["] {
        let error = read(Format::Json, broken.as_bytes()).unwrap_err();
        assert!(matches!(error, DatasetError::Malformed { .. }), "{error}");
    }
    let deep = [b"[".repeat(200), b"]".repeat(200)].concat();
    assert!(read(Format::Json, &deep).is_err());
}

#[test]
fn tables_are_read_by_the_names_of_their_columns() {
    let table = "\u{feff}id, prompt ,completion\r\n1,\"a \"\"b\"\"\r\nc\",d\r\n2,e\r\n3,f,g,h\r\n4,i,\r\n5,,j\r\n";
    let dataset = read(Format::Csv, table.as_bytes()).unwrap();
    assert_eq!(records(&dataset), [pair("a \"b\"\nc", "d"), pair("", "j")]);
    assert_eq!(
        bad(&dataset),
        [
            "line 4: it has 2 fields where the header has 3",
            "line 5: it has 4 fields where the header has 3",
            "line 6: its \"completion\" is empty",
        ]
    );
    let dataset = read(Format::Csv, b"text\nx\n\xff\ny\n").unwrap();
    assert_eq!(records(&dataset), [text("x"), text("y")]);
    assert_eq!(bad(&dataset), ["line 3: its field 1 is not UTF-8"]);
    let error = read(Format::Csv, b"a,b\n1,2\n").unwrap_err().to_string();
    assert!(error.contains("its header (a, b) names neither"), "{error}");
}

#[test]
fn an_unclosed_quote_is_one_long_bad_row() {
    let mut table = b"text\nx\n\"".to_vec();
    table.resize(MAX_ROW_BYTES + 100, b'y');
    let dataset = read(Format::Csv, &table).unwrap();
    assert_eq!(dataset.report.bad, 1);
    assert!(bad(&dataset)[0].contains("a quote may not be closed"));
}

#[test]
fn a_text_is_one_passage_without_mark_and_carriage_returns() {
    let dataset = read(Format::Text, b"\xef\xbb\xbfa\r\nb\r\n").unwrap();
    assert_eq!(records(&dataset), [Record::Passage("a\nb\n".into())]);
    let error = read(Format::Text, b"a\nb\n\xffc").unwrap_err().to_string();
    assert!(error.contains("line 3 is not UTF-8"), "{error}");
    assert!(read(Format::Text, b" \n").is_err());
}

#[test]
fn files_go_by_their_ending_unless_told_and_useless_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let options = ReadOptions::default();
    std::fs::write(path("a.csv"), "text\nabc\n").unwrap();
    assert_eq!(
        Dataset::read(&path("a.csv"), &options).unwrap().rows.len(),
        1
    );
    std::fs::write(path("a.bin"), "{\"text\": \"abc\"}").unwrap();
    let error = Dataset::read(&path("a.bin"), &options).unwrap_err();
    assert!(matches!(error, DatasetError::Format { .. }), "{error}");
    let told = ReadOptions {
        format: Some(Format::Jsonl),
        ..options
    };
    assert_eq!(Dataset::read(&path("a.bin"), &told).unwrap().rows.len(), 1);
    std::fs::write(path("b.jsonl"), "{}\n{}\n").unwrap();
    let error = Dataset::read(&path("b.jsonl"), &options)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("b.jsonl") && error.contains("line 2"),
        "{error}"
    );
    for name in ["none.jsonl", "."] {
        let error = Dataset::read(&path(name), &told).unwrap_err();
        assert!(matches!(error, DatasetError::Read { .. }), "{error}");
    }
}

#[test]
fn completions_are_learned_with_their_end_and_prompts_are_not() {
    let base = tiny_base();
    let lines =
        b"{\"prompt\": \"abc\", \"completion\": \"de\"}\n{\"text\": \"fg\"}\n{\"messages\": \
        [{\"role\": \"assistant\", \"content\": \"x\"}]}";
    let dataset = read(Format::Jsonl, lines).unwrap();
    let encoded = dataset.encode(&base, None).unwrap();
    let [pair, text] = &encoded.documents[..] else {
        panic!("{encoded:?}");
    };
    // Letters from 4, the end token is 2.
    assert_eq!(pair.tokens, [4, 5, 6, 7, 8, 2]);
    let learned = vec![false, false, false, true, true, true];
    assert_eq!(pair.learned, Some(learned));
    assert_eq!((&text.tokens[..], text.predicted()), (&[9, 10, 2][..], 2));
    assert_eq!((encoded.report.good, encoded.report.bad), (2, 1));
    let example = encoded.report.examples[0].to_string();
    assert!(example.starts_with("line 3") && example.contains("no chat template"));
    let (windows, _) = Windows::pack(encoded.documents, 16, Packing::Fit).unwrap();
    assert_eq!((windows.len(), windows.predicted()), (1, 5));
    let batch = windows.batch(&[0]);
    assert_eq!(batch.targets, [-1, -1, 7, 8, 2, -1, 10, 2, -1]);
    assert_eq!(batch.firsts.unwrap()[..], [0, 0, 0, 0, 0, 0, 6, 6, 6]);
}

#[test]
fn a_dataset_of_text_cuts_like_the_plain_way() {
    let base = tiny_base();
    let words = "the quick brown fox jumps over the lazy dog ".repeat(3);
    let dataset = read(Format::Text, words.as_bytes()).unwrap();
    let documents = dataset.encode(&base, None).unwrap().documents;
    let (windows, _) = Windows::pack(documents, 16, Packing::Apart).unwrap();
    let plain = Windows::from_text(&base, &words, 16).unwrap();
    assert_eq!(windows, plain);
    assert_eq!(windows.digest(), plain.digest());
    let other = Windows::from_text(&base, &words[1..], 16).unwrap();
    assert_ne!(other.digest(), plain.digest());
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_tables_are_read_by_their_columns_and_damaged_ones_refused() {
    // Made by `tests/data/make.py`.
    let pairs = include_bytes!("../../../tests/data/pairs-snappy.parquet");
    let dataset = read(Format::Parquet, pairs).unwrap();
    let records = records(&dataset);
    assert_eq!(records[0], pair("Where is it?", "Up the river."));
    assert_eq!(records.len(), 60);
    assert_eq!(bad(&dataset), ["row 2: its \"completion\" is empty"]);
    let talks = include_bytes!("../../../tests/data/talks-gzip.parquet");
    let dataset = read(Format::Parquet, talks).unwrap();
    let Record::Messages(messages) = &dataset.rows[0].record else {
        panic!("{dataset:?}");
    };
    assert_eq!((messages.len(), messages[1].content.as_str()), (2, "hello"));
    assert_eq!(
        bad(&dataset),
        ["row 2: the assistant says nothing in its \"messages\""]
    );
    for length in [0, 3, 4, 12, pairs.len() / 2, pairs.len() - 1] {
        assert!(read(Format::Parquet, &pairs[..length]).is_err(), "{length}");
    }
    for at in (0..pairs.len()).step_by(7) {
        let mut flipped = pairs.to_vec();
        flipped[at] ^= 0x41;
        // Never a panic; flipped letters of a text cannot be told.
        let _ = read(Format::Parquet, &flipped);
    }
}
