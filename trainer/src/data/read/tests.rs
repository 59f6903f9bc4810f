//! Rows of every format, and everything that can be wrong with them.

use super::*;
use crate::data::limits::MAX_ROW_BYTES;
use crate::data::{Conversation, Message, Packing, Windows};
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
    let messages = vec![Message::new("user", "q"), Message::new("assistant", "r")];
    let said = Record::Messages(Conversation {
        messages,
        tools: None,
    });
    assert_eq!(records(&dataset), [text("a"), pair("", "b"), said]);
    // The copy of the first message, and a name of the row's own.
    let unused: Vec<&str> = dataset.report.unused.keys().map(String::as_str).collect();
    assert_eq!(unused, ["id", "prompt"]);
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
    assert!(
        error.contains("of its header (a, b): it has neither"),
        "{error}"
    );
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

/// What is read of the same bytes under each of these names.
fn under_names(bytes: &[u8]) -> Vec<(Format, Vec<Record>)> {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "a.jsonl",
        "a.JSONL",
        "a.json",
        "a.csv",
        "a.tsv",
        "a.txt",
        "a.parquet.gz",
        "a",
        "a.tmp",
    ];
    let read = |name: &&str| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let dataset = Dataset::read(&path, &ReadOptions::default()).unwrap();
        (dataset.format(), records(&dataset))
    };
    names.iter().map(read).collect()
}

#[test]
fn the_same_rows_are_read_alike_whatever_the_file_is_called_and_however_it_is_written() {
    let expected = vec![text("one"), text("two; or, more")];
    let lines = "{\"text\": \"one\", \"n\": 1}\n\n{\"text\": \"two; or, more\", \"n\": 2}";
    let array = "[\n  {\"text\": \"one\"},\n  {\"text\": \"two; or, more\"}\n]";
    let comma = "n,text\n1,one\n2,\"two; or, more\"\n";
    let semicolon = "text;n\r\none;1\r\n\"two; or, more\";2\r\n";
    let tab = "n\ttext\n1\tone\n2\ttwo; or, more\n";
    let written = [
        (Format::Jsonl, lines),
        (Format::Json, array),
        (Format::Csv, comma),
        (Format::Csv, semicolon),
        (Format::Csv, tab),
    ];
    for (format, content) in written {
        let marked = format!("\u{feff}{content}").into_bytes();
        let wide: Vec<u8> = ("\u{feff}".chars().chain(content.chars()))
            .flat_map(|c| (c as u16).to_le_bytes())
            .collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, content.as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let frame = ruzstd::encoding::compress_to_vec(content.as_bytes(), level);
        // A file may hold several frames one after the other.
        let half = content.len() / 2;
        let frames = [&content[..half], &content[half..]]
            .map(|part| ruzstd::encoding::compress_to_vec(part.as_bytes(), level));
        let frames = frames.concat();
        for bytes in [content.as_bytes(), &marked, &wide, &gzip, &frame, &frames] {
            for read in under_names(bytes) {
                assert_eq!(read, (format, expected.clone()), "{content}");
            }
        }
    }
}

#[test]
fn running_text_is_text_under_every_name_that_claims_no_rows() {
    let folder = tempfile::tempdir().unwrap();
    let manual = "[{note} Write lines such as\n{\"text\": \"one\"}\nand [no others].\n";
    let read = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, manual).unwrap();
        Dataset::read(&path, &ReadOptions::default())
    };
    for name in ["a.txt", "a.md", "a.bin", "README"] {
        assert_eq!(read(name).unwrap().format(), Format::Text, "{name}");
    }
    for name in ["a.jsonl", "a.json", "a.csv", "a.parquet"] {
        match read(name) {
            // The one line that is a row is used, and the others are named.
            Ok(dataset) => assert_eq!((name, dataset.report.bad), ("a.jsonl", 2)),
            Err(error) => assert!(error.to_string().contains(name), "{error}"),
        }
    }
}

#[test]
fn text_that_is_no_text_is_refused_with_the_line() {
    let wide: Vec<u8> = "one\ntwo"
        .chars()
        .flat_map(|c| (c as u16).to_le_bytes())
        .collect();
    for bytes in [&wide[..], b"one\0", b"one\n\xff"] {
        let error = Dataset::from_bytes("a.txt", bytes, &ReadOptions::default()).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("line 1") || error.contains("line 2"),
            "{error}"
        );
    }
    let error = read(Format::Csv, b"text\nx\0\n").unwrap_err().to_string();
    assert!(
        error.contains("line 2: its field 1 holds a NUL byte"),
        "{error}"
    );
}

#[test]
fn files_that_are_cut_short_or_packed_badly_are_damaged() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &b"{\"text\": \"one\"}\n".repeat(9000)).unwrap();
    let gzip = gzip.finish().unwrap();
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let zstd = ruzstd::encoding::compress_to_vec(&b"{\"text\": \"one\"}\n".repeat(9000)[..], level);
    let odd = b"\xff\xfeo\0n";
    for bytes in [
        &gzip[..gzip.len() / 2],
        &zstd[..zstd.len() / 2],
        &zstd[..6],
        odd,
    ] {
        let error = Dataset::from_bytes("a", bytes, &ReadOptions::default()).unwrap_err();
        assert!(matches!(error, DatasetError::Damaged { .. }), "{error}");
    }
}

#[test]
fn what_people_call_rows_is_read_or_refused_with_the_nearest_form() {
    let alpaca = br#"{"instruction": "add", "input": "1 2", "output": "3"}"#;
    let instruction = Record::Instruction {
        system: String::new(),
        instruction: "add".into(),
        input: "1 2".into(),
        output: "3".into(),
    };
    assert_eq!(
        records(&read(Format::Jsonl, alpaca).unwrap()),
        std::slice::from_ref(&instruction)
    );
    let table = b"instruction\tinput\toutput\nadd\t1 2\t3\n";
    assert_eq!(records(&read(Format::Csv, table).unwrap()), [instruction]);

    let shared = br#"{"system": "be kind", "conversations": [{"from": "human", "value": "hi"},
        {"from": "gpt", "value": "hello"}]}"#;
    let shared = String::from_utf8_lossy(shared).replace('\n', " ");
    let plain = r#"{"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "text", "text": "hello"}]}]}"#;
    let plain = plain.replace('\n', " ");
    let two = format!("{shared}\n{plain}");
    let dataset = read(Format::Jsonl, two.as_bytes()).unwrap();
    let said: Vec<Vec<(String, String)>> = (dataset.rows.iter())
        .map(|row| {
            let Record::Messages(conversation) = &row.record else {
                panic!("{row:?}");
            };
            let messages = conversation.messages.iter();
            messages
                .map(|m| (m.role.clone(), m.text().into_owned()))
                .collect()
        })
        .collect();
    assert_eq!(said[0], said[1]);
    assert_eq!(said[0].len(), 3);

    let refused = [
        (
            r#"{"question": "q", "answer": "a"}"#,
            "rename \"question\" and \"answer\"",
        ),
        (r#"{"content": "q"}"#, "rename \"content\" to \"text\""),
        (r#"{"x": 1}"#, "write {\"text\": \"...\"}"),
        (
            r#"{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}"#,
            "only {\"type\": \"text\", \"text\": \"...\"} is read",
        ),
        (
            r#"{"conversations": [{"from": "function_call", "value": "x"}]}"#,
            "tool_calls",
        ),
        (
            r#"{"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]}"#,
            "neither 0 nor 1",
        ),
    ];
    for (row, says) in refused {
        let error = read(Format::Jsonl, row.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("line 1"), "{error}");
    }
}

#[test]
fn calls_and_tools_keep_their_order_and_arguments_become_objects() {
    let row = r#"{"tools": "[{\"type\": \"function\", \"name\": \"f\"}]", "messages": [
        {"role": "user", "content": "hi", "weight": 1}, {"role": "assistant", "content": null, "weight": 0,
        "tool_calls": [{"function": {"name": "f", "arguments": "{\"z\": 1, \"a\": 2}"}}]},
        {"role": "tool", "content": "5"}, {"role": "assistant", "content": "five"}]}"#;
    let dataset = read(Format::Jsonl, row.replace('\n', " ").as_bytes()).unwrap();
    let Record::Messages(conversation) = &dataset.rows[0].record else {
        panic!("{dataset:?}");
    };
    let json = |text: &str| serde_json::from_str::<crate::json::Json>(text).unwrap();
    let tools = json(r#"[{"type": "function", "name": "f"}]"#);
    assert_eq!(conversation.tools, Some(tools));
    let calls = json(r#"[{"function": {"name": "f", "arguments": {"z": 1, "a": 2}}}]"#);
    assert_eq!(conversation.messages[1].more[0].1, calls);
    let learned: Vec<bool> = conversation.messages.iter().map(|m| m.learned).collect();
    assert_eq!(learned, [true, false, true, true]);
}

#[test]
fn rows_without_use_and_files_without_rows_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let options = ReadOptions::default();
    std::fs::write(path("b.jsonl"), "{}\n{}\n").unwrap();
    let error = Dataset::read(&path("b.jsonl"), &options)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("b.jsonl") && error.contains("line 2"),
        "{error}"
    );
    for name in ["none.jsonl", "."] {
        let error = Dataset::read(&path(name), &options).unwrap_err();
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
    let unused: Vec<&String> = dataset.report.unused.keys().collect();
    assert_eq!(unused, ["id"]);
    let zstd: &[u8] = include_bytes!("../../../tests/data/pairs-zstd.parquet");
    let brotli: &[u8] = include_bytes!("../../../tests/data/pairs-brotli.parquet");
    for packed in [zstd, brotli] {
        let dataset = read(Format::Parquet, packed).unwrap();
        assert_eq!(self::records(&dataset), records);
        for at in (0..packed.len()).step_by(7) {
            let mut flipped = packed.to_vec();
            flipped[at] ^= 0x41;
            let _ = read(Format::Parquet, &flipped);
        }
    }
    let gzip: &[u8] = include_bytes!("../../../tests/data/talks-gzip.parquet");
    // Pages of the second version, whose levels are not packed.
    let zstd: &[u8] = include_bytes!("../../../tests/data/talks-zstd.parquet");
    let talks = [gzip, zstd].map(|talks| read(Format::Parquet, talks).unwrap());
    assert_eq!(talks[0].rows, talks[1].rows);
    let [dataset, _] = talks;
    let Record::Messages(conversation) = &dataset.rows[0].record else {
        panic!("{dataset:?}");
    };
    let messages = &conversation.messages;
    assert_eq!((messages.len(), &*messages[1].text()), (2, "hello"));
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
