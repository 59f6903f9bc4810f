//! What people bring to the program and meet in it first: pipes, full disks, missing things, typing errors.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use super::cli::{Running, json, program, run, wait};

const PATIENCE: Duration = Duration::from_secs(60);

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A daemon on a new home, and a way to ask it.
struct Peer {
    home: String,
    _daemon: Running,
}

impl Peer {
    fn up(dir: &Path, name: &str, options: &[&str]) -> Self {
        let home = shown(&dir.join(name));
        json(&["--home", &home, "init", "--name", name]);
        let mut command = program();
        command.args(["--home", &home, "up"]).args(options);
        let peer = Self {
            home,
            _daemon: Running::start(command, &dir.join(format!("{name}.log"))),
        };
        wait(PATIENCE, "answer", || {
            (peer.status()["running"] == true).then_some(())
        });
        peer
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        run(&[&["--home", &self.home], arguments].concat())
    }

    fn status(&self) -> serde_json::Value {
        let output = self.ask(&["--format", "json", "status"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }
}

#[test]
fn arguments_that_do_not_parse_are_refused_in_the_format_that_was_asked_for() {
    let output = run(&["eval", "--txt", "x", "--format", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let problem: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(problem["code"], "malformed");
    assert!(
        problem["text"].as_str().unwrap().contains("--txt"),
        "{problem}"
    );
    let output = run(&["eval", "--txt", "x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("Usage:"));
}

#[test]
fn commands_without_a_home_need_none_and_empty_variables_are_unset() {
    let without = |arguments: &[&str]| {
        let mut command = program();
        command.env_remove("HOME").env_remove("XDG_DATA_HOME");
        for name in ["TRIBUTARY_HOME", "TRIBUTARY_DEVICE", "TRIBUTARY_LOG"] {
            command.env(name, "");
        }
        command.args(arguments).output().unwrap()
    };
    let said = without(&["generate", "--prompt", "-1", "--max-tokens", "1"]);
    assert!(said.status.success(), "{}", stderr(&said));
    assert!(without(&["api", "openapi"]).status.success());
    let script = without(&["completions", "bash"]);
    assert!(String::from_utf8_lossy(&script.stdout).contains("prove-holdout"));
    let refused = without(&["status"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("--home"), "{}", stderr(&refused));
}

#[test]
fn help_names_every_exit_code_and_groups_commands_by_what_a_person_wants() {
    let help = String::from_utf8_lossy(&run(&["--help"]).stdout).into_owned();
    for part in [
        "You have text",
        "You want an adapter",
        "Exit codes:",
        "130",
        "--format",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
    let of_train = String::from_utf8_lossy(&run(&["train", "--help"]).stdout).into_owned();
    assert!(of_train.contains("Examples:"), "{of_train}");
}

#[test]
#[cfg(unix)]
fn a_pipe_that_nobody_writes_to_is_refused_and_one_of_the_shell_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| shown(&dir.path().join(name));
    let (pipe, home) = (at("pipe"), at("home"));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    json(&["--home", &home, "init"]);
    let began = Instant::now();
    for arguments in [
        vec!["train", &pipe, "--out", &at("out")],
        vec!["eval", "--text", &pipe],
        vec!["--home", &home, "datanet", "add", "notes", &pipe],
        vec!["--home", &home, "ledger", "check-holdout", &pipe],
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            stderr(&output).contains("may never end"),
            "{}",
            stderr(&output)
        );
    }
    assert!(began.elapsed() < PATIENCE);
    assert!(!dir.path().join("out").exists());
    let mut command = program();
    command.args(["eval", "--context", "32", "--text", "/dev/stdin"]);
    let mut eval = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let words = "A ship went out to sea and came home again. ".repeat(20);
    std::io::Write::write_all(&mut eval.stdin.take().unwrap(), words.as_bytes()).unwrap();
    assert!(eval.wait().unwrap().success());
}

#[test]
#[cfg(target_os = "linux")]
fn a_home_that_a_full_disk_left_half_made_is_made_by_the_next_init() {
    let dir = tempfile::tempdir().unwrap();
    let home = shown(&dir.path().join("home"));
    let limited = std::process::Command::new("bash")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 0; exec \"$0\" --home \"$1\" init --name bob 2>/dev/null",
        ])
        .args([env!("CARGO_BIN_EXE_tributary"), &home])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(limited.code(), Some(2));
    assert!(!Path::new(&home).join("key").exists());
    let made = json(&["--home", &home, "init", "--name", "bob"]);
    assert_eq!(made["name"], "bob");
}

#[test]
fn training_goes_on_only_where_there_is_something_to_go_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| shown(&dir.path().join(name));
    std::fs::write(
        at("t.txt"),
        "A ship went out to sea and came home. ".repeat(60),
    )
    .unwrap();
    let (text, out, kept) = (at("t.txt"), at("out"), at("kept"));
    let train = |kept: &str| {
        let fixed = [
            "train",
            &text,
            "--out",
            &out,
            "--steps",
            "1",
            "--context",
            "32",
        ];
        run(&[&fixed[..], &["--checkpoint", kept, "--resume"]].concat())
    };
    let refused = train(&kept);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("kept"), "{}", stderr(&refused));
    assert!(!Path::new(&out).exists() && !Path::new(&kept).exists());
    std::fs::create_dir(&kept).unwrap();
    std::fs::create_dir(&out).unwrap();
    let begun = train(&kept);
    assert!(begun.status.success(), "{}", stderr(&begun));
    assert!(
        stderr(&begun).contains("at its beginning"),
        "{}",
        stderr(&begun)
    );

    let mine = at("mine");
    std::fs::create_dir(&mine).unwrap();
    let failed = run(&["train", &at("none.txt"), "--out", &mine]);
    assert_eq!(failed.status.code(), Some(2));
    assert!(Path::new(&mine).exists(), "a folder of somebody's is gone");
}

#[test]
fn a_daemon_says_why_nobody_answers_and_what_it_is_asked_wrongly() {
    let dir = tempfile::tempdir().unwrap();
    let host = Peer::up(dir.path(), "host", &[]);
    let address = host.status()["addresses"][0].as_str().unwrap().to_owned();
    let (place, _) = address.split_once("/p2p/").unwrap();
    let wrong = format!("{place}/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp");
    let amy = Peer::up(
        dir.path(),
        "amy",
        &["--bootstrap", &wrong, "--bootstrap", "127.0.0.1:1"],
    );
    let warnings = wait(PATIENCE, "two reasons", || {
        let text = amy.status()["warnings"].to_string();
        (text.contains("nobody listens") && text.contains("mend the id")).then_some(text)
    });
    assert!(
        warnings.contains("/tcp/1") && warnings.contains(&wrong),
        "{warnings}"
    );
    let log = std::fs::read_to_string(dir.path().join("amy.log")).unwrap();
    assert_eq!(log.matches("nobody listens").count(), 1, "once: {log}");

    let unknown = amy.ask(&["run", "show", "abcdef"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("abcdef"), "{}", stderr(&unknown));
    let file = dir.path().join("run.toml");
    let text = "name = \"x\"\nbase = \"brook\"\ndatanet = \"n\"\nrounds = 3\n[training]\ncontext = 100000\n";
    std::fs::write(&file, text).unwrap();
    let refused = amy.ask(&["run", "create", &shown(&file)]);
    assert!(stderr(&refused).contains("1024"), "{}", stderr(&refused));
    let runs = amy.ask(&["--format", "json", "run", "list"]);
    assert_eq!(String::from_utf8_lossy(&runs.stdout).trim(), "[]");

    let home = shown(&dir.path().join("amy"));
    drop(amy);
    let gone = run(&["--home", &home, "run", "join", "abcdef"]);
    assert_eq!(gone.status.code(), Some(3), "{}", stderr(&gone));
}

#[test]
#[cfg(target_os = "linux")]
fn a_daemon_goes_on_when_its_log_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let home = shown(&dir.path().join("home"));
    json(&["--home", &home, "init"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let mut daemon = program()
        .args(["--home", &home, "up", "--bootstrap", "127.0.0.1:1"])
        .stderr(full.unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let running = || json(&["--home", &home, "status"])["running"] == true;
    wait(PATIENCE, "answer", || running().then_some(()));
    std::thread::sleep(Duration::from_secs(1));
    assert!(running());
    json(&["--home", &home, "down"]);
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
}
