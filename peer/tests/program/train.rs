//! `tributary train` and `adapter verify` as a person runs them: killed, resumed, given wrong things.

use std::path::Path;
use std::time::Duration;

use super::cli::{Running, json, program, run};

const PATIENCE: Duration = Duration::from_secs(120);
/// Enough that the process still trains when its first checkpoint is seen.
const STEPS: &str = "30";

/// A small text that is no shard of the demo.
fn text(folder: &Path) -> String {
    let path = folder.join("rhyme.txt");
    let lines: String = (0..400)
        .map(|n| format!("The {n}th ship went out to sea, and {n} came home again.\n"))
        .collect();
    std::fs::write(&path, lines).unwrap();
    path.display().to_string()
}

fn arguments<'a>(text: &'a str, out: &'a str, checkpoint: &'a str) -> Vec<&'a str> {
    vec![
        "train",
        text,
        "--out",
        out,
        "--steps",
        STEPS,
        "--context",
        "128",
        "--batch",
        "4",
        "--learning-rate",
        "2e-3",
        "--checkpoint",
        checkpoint,
        "--every",
        "5",
    ]
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_training_that_is_killed_resumes_to_the_same_bytes_and_proves_its_adapter() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| shown(&dir.path().join(name));
    let text = text(dir.path());
    let report = json(&arguments(&text, &at("straight"), &at("straight-kept")));
    assert_eq!(report["schema"], "train/1");
    assert_eq!(report["steps_done"], 30);
    assert!(report["loss_after"].as_f64().unwrap() < report["loss_before"].as_f64().unwrap());

    let (out, kept) = (at("killed"), at("killed-kept"));
    let mut command = program();
    command.args(arguments(&text, &out, &kept));
    let mut killed = Running::start(command, &dir.path().join("log"));
    killed.wait_for(&["step 5 saved"], PATIENCE);
    killed.kill();
    assert!(!Path::new(&out).join("adapter_config.json").exists());
    let resumed = json(&[arguments(&text, &out, &kept).as_slice(), &["--resume"]].concat());
    assert!(resumed["resumed_at"].as_u64().unwrap() >= 5, "{resumed}");
    let tensors =
        |folder: &str| std::fs::read(Path::new(folder).join("adapter_model.safetensors")).unwrap();
    assert!(tensors(&at("straight")) == tensors(&out), "other bytes");

    let verified = json(&["adapter", "verify", &out]);
    assert_eq!(verified["schema"], "adapter-verify/1");
    assert_eq!(verified["tensors"], 56);
    let mut damaged = tensors(&out);
    let last = damaged.len() - 4;
    damaged[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(Path::new(&out).join("adapter_model.safetensors"), damaged).unwrap();
    for command in [
        vec!["adapter", "verify", &out],
        vec!["generate", "--adapter", &out, "--prompt", "The"],
    ] {
        let output = run(&command);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("lora_"), "the tensor is not named: {error}");
    }
}

#[test]
fn what_cannot_be_trained_is_refused_before_it_starts() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| shown(&dir.path().join(name));
    let text = text(dir.path());
    let empty = at("empty.jsonl");
    std::fs::write(&empty, "{\"title\": \"no text\"}\n").unwrap();
    let out = at("out");
    let kept = at("kept");
    std::fs::create_dir(&kept).unwrap();
    let thesis = Path::new(&kept).join("thesis.txt");
    std::fs::write(&thesis, "thesis").unwrap();
    let cases: [(&[&str], &str); 7] = [
        (&[&text, "--out", &kept], "not empty"),
        (&["no-such-file.txt", "--out", &out], "no-such-file.txt"),
        (&[&empty, "--out", &out], "line 1"),
        (&[&text, "--out", &text], "rhyme.txt"),
        (
            &[&text, "--out", &out, "--base", "no-such-folder"],
            "no-such-folder",
        ),
        (&[&text, "--out", &out, "--base", "someone/model"], "hub"),
        (&[&text, "--out", &out, "--context", "1"], "context"),
    ];
    for (arguments, says) in cases {
        let output = run(&[&["train"], arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{error}");
        assert!(error.contains(says), "{arguments:?}: {error}");
        assert!(!Path::new(&out).join("adapter_config.json").exists());
    }
    assert_eq!(std::fs::read(&thesis).unwrap(), b"thesis");
    assert!(!Path::new(&kept).join("adapter_config.json").exists());
}

/// A training of tiny windows: what it learns is beside the point.
fn tiny<'a>(text: &'a str, out: &'a str, steps: &'a str) -> Vec<&'a str> {
    let mut of = vec!["train", text, "--out", out, "--steps", steps];
    of.extend(["--batch", "1", "--context", "32", "--rank", "2"]);
    of
}

#[test]
fn a_training_that_the_system_ends_keeps_its_checkpoint_and_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| shown(&dir.path().join(name));
    let (text, out, kept) = (text(dir.path()), at("out"), at("kept"));
    let mut command = program();
    command.args(tiny(&text, &out, "20000"));
    command.args(["--checkpoint", &kept, "--every", "10000"]);
    let mut training = Running::start(command, &dir.path().join("log"));
    training.wait_for(&["step 1/"], PATIENCE);
    let told = std::process::Command::new("kill")
        .arg(training.id().to_string())
        .status();
    assert!(told.unwrap().success());
    assert_eq!(training.ended(PATIENCE).code(), Some(130));
    assert!(Path::new(&kept).join("training.checkpoint").exists());
    assert!(Path::new(&out).join("adapter_model.safetensors").exists());
}

#[test]
fn an_adapter_of_one_step_changes_what_the_model_says() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| shown(&dir.path().join(name));
    let (text, out) = (text(dir.path()), at("out"));
    json(&tiny(&text, &out, "1"));
    json(&["adapter", "verify", &out]);
}

#[test]
fn an_adapter_is_replaced_only_when_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| shown(&dir.path().join(name));
    let (text, out) = (text(dir.path()), at("out"));
    let train = |seed: &str, force: &[&str]| {
        let fixed = tiny(&text, &out, "2");
        run(&[fixed.as_slice(), &["--seed", seed], force].concat())
    };
    let written = || std::fs::read(Path::new(&out).join("adapter_model.safetensors")).unwrap();
    assert!(train("1", &[]).status.success());
    let first = written();
    let refused = train("2", &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--force"));
    assert!(written() == first, "written over");
    assert!(train("2", &["--force"]).status.success());
    assert!(written() != first, "still the first");
}

#[test]
fn evaluation_and_training_read_the_same_rows_alike_under_every_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| shown(&dir.path().join(name));
    let text = text(dir.path());
    let lines: String = (0..12)
        .map(|n| format!("{{\"prompt\": \"Ship {n}\", \"completion\": \" sails at {n}.\"}}\n"))
        .collect();
    let array = format!("[{}]", lines.trim().replace('\n', ",\n"));
    let table: String = (0..12)
        .map(|n| format!("Ship {n}\t sails at {n}.\t{n}\n"))
        .collect();
    let written = [
        ("rows.jsonl", lines.clone()),
        ("rows.JSONL", format!("\u{feff}{lines}")),
        ("rows.txt", lines),
        ("rows.json", array),
        ("rows.tsv", format!("prompt\tcompletion\tid\n{table}")),
    ];
    let mut losses = Vec::new();
    for (name, content) in written {
        std::fs::write(at(name), content).unwrap();
        let eval = json(&["eval", "--text", &at(name), "--context", "32"]);
        assert_eq!(eval["rows"]["good"], 12, "{name}");
        losses.push(eval["nll"].as_f64().unwrap());
    }
    let out = at("out");
    let rows = at("rows.json");
    let trained = json(
        &[
            tiny(&text, &out, "1").as_slice(),
            &["--holdout-file", &rows],
        ]
        .concat(),
    );
    losses.push(trained["loss_before"].as_f64().unwrap());
    assert!(
        losses.iter().all(|loss| (loss - losses[0]).abs() < 1e-6),
        "{losses:?}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_log_that_cannot_be_written_stops_no_training() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| shown(&dir.path().join(name));
    let text = text(dir.path());
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let (reader, gone) = std::io::pipe().unwrap();
    drop(reader);
    for (name, log) in [
        ("full", std::process::Stdio::from(full)),
        ("gone", gone.into()),
    ] {
        let out = at(name);
        let mut command = program();
        command
            .args(tiny(&text, &out, "3"))
            .stderr(log)
            .stdout(std::process::Stdio::null());
        assert!(command.status().unwrap().success(), "{name}");
        assert!(Path::new(&out).join("adapter_model.safetensors").exists());
    }
}

#[test]
fn a_checkpoint_or_an_adapter_that_cannot_be_written_is_found_before_the_training() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| shown(&dir.path().join(name));
    let (text, out) = (text(dir.path()), at("out"));
    std::fs::write(at("file"), "in the way").unwrap();
    let kept = at("file/kept");
    let output = run(&[tiny(&text, &out, "2").as_slice(), &["--checkpoint", &kept]].concat());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("kept") && !error.contains("step 1/"),
        "{error}"
    );
    assert!(!Path::new(&out).exists());
}

#[test]
fn an_adapter_of_another_base_is_used_with_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let out = shown(&dir.path().join("out"));
    json(&tiny(&text(dir.path()), &out, "1"));
    let generate = [
        "generate",
        "--adapter",
        &out,
        "--prompt",
        "The",
        "--max-tokens",
        "1",
    ];
    let said = |output: std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said(run(&generate)).contains("warning"));
    let config = Path::new(&out).join("adapter_config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let renamed = text.replace("\"brook\"", "\"someone/Other-1B\"");
    assert_ne!(text, renamed);
    std::fs::write(&config, renamed).unwrap();
    let output = run(&generate);
    assert!(output.status.success());
    let said = said(output);
    assert!(
        said.contains("someone/Other-1B") && said.contains("brook"),
        "{said}"
    );
}
