//! From files to an adapter, all the way.

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
        said.push(event.to_string());
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
