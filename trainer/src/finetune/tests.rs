//! From files to an adapter, all the way.

use std::path::Path;

use super::*;
use crate::session::StepReport;
use crate::testing::tiny_base;

/// A file of rows of which one is bad.
fn rows(folder: &Path) -> PathBuf {
    let path = folder.join("rows.jsonl");
    let mut lines = String::from("not json\n");
    for i in 0..40 {
        let animal = ["ab", "cde", "fghi", "jklmn"][i % 4];
        let row = match i % 2 {
            0 => format!(
                "{{\"prompt\": \"say {animal}\", \"completion\": \" {animal} {animal}\"}}\n"
            ),
            _ => format!("{{\"text\": \"{animal} {animal} {animal}\"}}\n"),
        };
        lines += &row;
    }
    std::fs::write(&path, lines).unwrap();
    path
}

fn options() -> FinetuneOptions {
    FinetuneOptions {
        length: Length::Epochs(6.0),
        batch: 2,
        accumulate: 2,
        context: 32,
        learning_rate: 2e-2,
        held_out: HeldOut::Share(0.1),
        ..FinetuneOptions::default()
    }
}

fn run(
    files: &[PathBuf],
    options: &FinetuneOptions,
    stop_at: u32,
) -> Result<(Finetuned, Vec<String>), FinetuneError> {
    let mut said = Vec::new();
    let mut note = |event: &FinetuneEvent| {
        if !matches!(event, FinetuneEvent::Working { .. }) {
            said.push(event.to_string());
        }
        match event {
            FinetuneEvent::Step(StepReport { step, .. }) if *step == stop_at => Control::Stop,
            _ => Control::Continue,
        }
    };
    let made = finetune(&tiny_base(), None, files, options, &mut note)?;
    Ok((made, said))
}

#[test]
fn a_file_of_rows_becomes_an_adapter_that_lowers_the_held_out_loss() {
    let folder = tempfile::tempdir().unwrap();
    let (made, said) = run(&[rows(folder.path())], &options(), 0).unwrap();
    let summary = &made.summary;
    let (before, after) = (summary.loss_before.unwrap(), summary.loss_after.unwrap());
    assert!(after < before - 0.3, "{summary}");
    assert!(summary.is_complete());
    assert_eq!(summary.data.files[0].rows.bad, 1);
    let held = summary.data.held_out.unwrap();
    assert_eq!((held.documents, summary.data.train.documents), (4, 36));
    assert_eq!(
        said.iter().filter(|s| s.starts_with("step ")).count(),
        summary.steps as usize
    );
    assert!(said[0].contains("line 1: it is not JSON"), "{}", said[0]);
    let json = serde_json::to_value(summary).unwrap();
    assert_eq!(
        json["data"]["files"][0]["rows"]["examples"][0]["place"]["line"],
        1
    );
    let shown = summary.to_string();
    assert!(
        shown.contains("1 rows of the data could not be used"),
        "{shown}"
    );
    let (again, _) = run(&[rows(folder.path())], &options(), 0).unwrap();
    assert_eq!(again.adapter, made.adapter);
}

#[test]
fn a_stopped_training_resumes_to_the_same_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let files = [rows(folder.path())];
    let (straight, _) = run(&files, &options(), 0).unwrap();
    let keeping = |resume| FinetuneOptions {
        checkpoint: Some(CheckpointOptions {
            folder: folder.path().join("kept"),
            every: 3,
            resume,
        }),
        ..options()
    };
    let (stopped, said) = run(&files, &keeping(true), 5).unwrap();
    assert_eq!(stopped.summary.steps_done, 5);
    assert!(!stopped.summary.is_complete());
    let saved: Vec<&String> = said.iter().filter(|s| s.contains("saved in")).collect();
    assert_eq!(saved.len(), 2, "{saved:?}");
    let in_the_way = run(&files, &keeping(false), 0);
    assert!(matches!(in_the_way, Err(FinetuneError::Exists(_))));
    let (resumed, _) = run(&files, &keeping(true), 0).unwrap();
    assert_eq!(resumed.summary.resumed_at, 5);
    assert_eq!(resumed.adapter, straight.adapter);
    assert_eq!(resumed.summary.predicted, straight.summary.predicted);
}

#[test]
fn the_same_rows_give_the_same_adapter_and_loss_whatever_the_file_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["ab", "cde", "fghi", "jklmn", "op"];
    let rows: Vec<String> = (0..20)
        .map(|i| format!("{0} {0} {1}", words[i % 5], words[i % 3]))
        .collect();
    let lines: String = rows
        .iter()
        .map(|row| format!("{{\"text\": \"{row}\"}}\n"))
        .collect();
    let array = format!("[{}]", lines.trim().replace('\n', ","));
    let table: String = rows.iter().map(|row| format!("{row};1\n")).collect();
    let written = [
        ("a.jsonl", lines.clone()),
        ("b.JSONL", lines.clone()),
        ("c.ndjson", format!("\u{feff}{lines}")),
        ("d.txt", lines),
        ("e.json", array),
        ("f.csv", format!("text;n\n{table}")),
    ];
    let short = FinetuneOptions {
        length: Length::Steps(3),
        ..options()
    };
    let trained = written.map(|(name, content)| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let (made, _) = run(&[path], &short, 0).unwrap();
        (
            made.adapter,
            made.summary.loss_before,
            made.summary.loss_after,
        )
    });
    assert!(trained.iter().all(|one| *one == trained[0]));
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_refused_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let options = FinetuneOptions {
        checkpoint: Some(CheckpointOptions {
            folder: file.join("kept"),
            every: 3,
            resume: false,
        }),
        ..options()
    };
    let error = run(&[folder.path().join("none.txt")], &options, 0).unwrap_err();
    assert!(matches!(error, FinetuneError::Save(_)), "{error}");
    assert!(error.to_string().contains("kept"), "{error}");
}

#[test]
fn a_training_resumed_with_another_rank_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let files = [rows(folder.path())];
    let keeping = |rank, alpha| FinetuneOptions {
        rank,
        alpha,
        checkpoint: Some(CheckpointOptions {
            folder: folder.path().join("kept"),
            every: 3,
            resume: true,
        }),
        ..options()
    };
    run(&files, &keeping(4, 8), 4).unwrap();
    for (other, says) in [
        (keeping(8, 8), "its rank is 4, this one's is 8"),
        (keeping(4, 16), "its alpha is 8"),
    ] {
        let error = run(&files, &other, 0).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(run(&files, &keeping(4, 8), 0).is_ok());
}

#[test]
fn a_training_that_diverges_keeps_what_it_did_before() {
    let folder = tempfile::tempdir().unwrap();
    let kept = CheckpointOptions {
        folder: folder.path().join("kept"),
        every: 1000,
        resume: false,
    };
    let options = FinetuneOptions {
        learning_rate: 1e36,
        warm_up: 0.0,
        checkpoint: Some(kept.clone()),
        ..options()
    };
    let error = run(&[rows(folder.path())], &options, 0).unwrap_err();
    assert!(matches!(error, FinetuneError::Session(_)), "{error}");
    assert!(kept.path().exists());
}

#[test]
fn a_training_of_one_step_moves_the_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let one = FinetuneOptions {
        length: Length::Steps(1),
        warm_up: 7.0,
        ..options()
    };
    let (made, _) = run(&[rows(folder.path())], &one, 0).unwrap();
    let shape = made.adapter.shape().clone();
    let b = shape
        .segments()
        .into_iter()
        .filter(|s| s.factor == tributary_protocol::adapter::Factor::B);
    assert!(
        b.into_iter()
            .any(|s| made.adapter.segment(&s).iter().any(|v| *v != 0.0))
    );
}

#[test]
fn files_that_would_make_the_machine_swap_are_refused_with_numbers_unless_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let huge = folder.path().join("huge.txt");
    std::fs::File::create(&huge)
        .unwrap()
        .set_len(4 << 40)
        .unwrap();
    let error = run(std::slice::from_ref(&huge), &options(), 0).unwrap_err();
    assert!(
        matches!(error, FinetuneError::TooMuchData { .. }),
        "{error}"
    );
    let error = error.to_string();
    assert!(
        error.contains("4096 GiB") && error.contains("49152 GiB"),
        "{error}"
    );
}

#[test]
fn a_few_steps_encode_a_few_megabytes_of_a_large_file_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.txt");
    let line = "row row row your boat gently down the stream\n";
    std::fs::write(&path, line.repeat(600_000)).unwrap();
    let few = FinetuneOptions {
        length: Length::Steps(2),
        ..options()
    };
    let (made, said) = run(std::slice::from_ref(&path), &few, 0).unwrap();
    let enough = made.summary.data.files[0].enough.unwrap();
    assert_eq!(enough.of, 27_000_000);
    assert!((8 << 20..10 << 20).contains(&enough.kept), "{enough:?}");
    assert!(said[0].contains("are enough for the steps"), "{}", said[0]);
    // Held out by windows, as of a whole text.
    let held = made.summary.data.held_out.unwrap();
    assert!(
        held.windows * 8 < made.summary.data.train.windows,
        "{held:?}"
    );
    let (again, _) = run(&[path], &few, 0).unwrap();
    assert_eq!(again.adapter, made.adapter);
}

#[test]
fn somebody_who_says_stop_while_data_is_read_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let mut told = 0;
    let mut stop = |event: &FinetuneEvent| match event {
        FinetuneEvent::Working { done, .. } if *done > 0 => {
            told += 1;
            Control::Stop
        }
        _ => Control::Continue,
    };
    let made = finetune(
        &tiny_base(),
        None,
        &[rows(folder.path())],
        &options(),
        &mut stop,
    );
    assert!(matches!(made, Err(FinetuneError::Stopped)));
    assert_eq!(told, 1);
}

#[test]
fn a_text_is_held_out_by_windows_and_another_file_may_be_measured_on() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.txt");
    std::fs::write(
        &text,
        "row row row your boat gently down the stream ".repeat(20),
    )
    .unwrap();
    let short = FinetuneOptions {
        length: Length::Steps(2),
        ..options()
    };
    let (made, _) = run(std::slice::from_ref(&text), &short, 0).unwrap();
    let data = &made.summary.data;
    assert_eq!(data.held_out.unwrap().windows, 3);
    assert_eq!(data.train.windows, 26);
    let other = FinetuneOptions {
        held_out: HeldOut::File(rows(folder.path())),
        ..short
    };
    let (made, _) = run(&[text], &other, 0).unwrap();
    assert_eq!(made.summary.data.held_out.unwrap().documents, 40);
    assert_eq!(made.summary.data.files.len(), 2);
}

#[test]
fn what_makes_no_training_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let files = [rows(folder.path())];
    let refused = |options: FinetuneOptions| run(&files, &options, 0).err().unwrap().to_string();
    let error = refused(FinetuneOptions {
        context: 65,
        ..options()
    });
    assert!(error.contains("between 2 and the model's 64"), "{error}");
    let error = refused(FinetuneOptions {
        length: Length::Epochs(f64::NAN),
        ..options()
    });
    assert!(error.contains("epochs is NaN"), "{error}");
    let error = refused(FinetuneOptions {
        held_out: HeldOut::Share(1.0),
        ..options()
    });
    assert!(error.contains("below 1"), "{error}");
    let error = refused(FinetuneOptions {
        rank: 100_000,
        ..options()
    });
    assert!(error.contains("rank"), "{error}");
    let error = refused(FinetuneOptions {
        batch: 1 << 40,
        ..options()
    });
    assert!(error.contains("batch times accumulation"), "{error}");
    assert!(matches!(
        run(&[], &options(), 0),
        Err(FinetuneError::NoData)
    ));
}
