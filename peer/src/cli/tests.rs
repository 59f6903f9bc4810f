//! The command line as it is typed: what parses, and how failures read.

use clap::{CommandFactory, Parser as _};
use std::path::Path;

use super::*;
use crate::problem::Code;
use crate::terminal::Format;
use args::{AdapterCommand, RunCommand};

fn parsed(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("tributary").chain(line.split_whitespace()))
}

fn failed(home: &Path, line: &str) -> Failure {
    let line = format!("--home {} {line}", home.display());
    dispatch(parsed(&line).unwrap()).expect_err(&line)
}

#[test]
fn the_tree_of_commands_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_of_the_readme_parses() {
    let readme = include_str!("../../../README.md");
    let mut count = 0;
    for line in readme.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(command) = line
            .strip_prefix("tributary ")
            .or_else(|| line.strip_prefix("cargo run --release -- "))
        else {
            continue;
        };
        // What stands behind another command is that command's.
        let command = command.split(" && ").next().unwrap_or_default();
        let mut words = shell_words(command);
        // A word for an id, in place of an id.
        words
            .iter_mut()
            .filter(|word| *word == "ID")
            .for_each(|word| *word = "3f".to_owned());
        let parsed = Cli::try_parse_from(std::iter::once("tributary".to_owned()).chain(words));
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        count += 1;
    }
    assert!(count >= 12, "only {count} commands found");
}

/// Words as a shell would split them, with double quotes only.
pub(super) fn shell_words(line: &str) -> Vec<String> {
    let parts: Vec<&str> = line.trim_end_matches('&').split('"').collect();
    let mut words = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        if at % 2 == 1 {
            words.push((*part).to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

#[test]
fn home_and_format_stand_anywhere() {
    for line in [
        "--home /h --format json status",
        "status --home /h --format json",
        "status --format json --home /h",
    ] {
        let cli = parsed(line).unwrap();
        assert_eq!(cli.home.as_deref(), Some(Path::new("/h")));
        assert_eq!(cli.format, Format::Json);
    }
}

#[test]
fn options_have_the_documented_defaults() {
    let Command::Demo(demo) = parsed("demo").unwrap().command else {
        panic!("not a demo");
    };
    assert_eq!(
        (demo.peers, demo.rounds, demo.base.as_str()),
        (None, None, "brook")
    );
    let Command::Eval(eval) = parsed("eval --text x").unwrap().command else {
        panic!("not an eval");
    };
    assert_eq!(eval.context, None);
    let line = "adapter get ab dir --bootstrap 1.2.3.4:5 --bootstrap 1.2.3.4:6";
    let Command::Adapter(AdapterCommand::Get { bootstrap, .. }) = parsed(line).unwrap().command
    else {
        panic!("not a get");
    };
    assert_eq!(bootstrap.len(), 2);
    let line = "run create f.toml --join --holdout a --holdout b";
    let Command::Run(RunCommand::Create { join, holdout, .. }) = parsed(line).unwrap().command
    else {
        panic!("not a create");
    };
    assert!(join && holdout.len() == 2);
}

#[test]
fn usage_errors_exit_with_two() {
    for line in [
        "",
        "nonsense",
        "demo --peers 1",
        "eval",
        "datanet add x",
        "run join",
    ] {
        let error = parsed(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn options_of_a_server_or_gateway_need_it() {
    for (switch, options) in [
        (
            "--serve",
            &[
                "--serve-base brook",
                "--serve-adapter a=b",
                "--serve-listen 127.0.0.1:0",
                "--serve-host a.example",
                "--serve-token-file f",
                "--serve-precision int8",
                "--serve-threads 2",
                "--serve-cache 64",
                "--serve-adapter-memory 64",
                "--price-prompt 1",
                "--price-answer 1",
                "--allow-file f",
            ][..],
        ),
        (
            "--gateway http://127.0.0.1:1",
            &[
                "--gateway-listen 127.0.0.1:0",
                "--gateway-most 1",
                "--gateway-budget 1",
                "--gateway-base brook",
                "--gateway-agree",
                "--gateway-token-file f",
            ],
        ),
    ] {
        for option in options {
            parsed(&format!("up {switch} {option}")).unwrap_or_else(|e| panic!("{option}: {e}"));
            let error = parsed(&format!("up {option}")).expect_err(option);
            assert_eq!(error.exit_code(), 2, "{option}");
            let name = switch.split(' ').next().unwrap();
            assert!(error.to_string().contains(name), "{option}: {error}");
        }
        let known = Cli::command();
        let up = known.find_subcommand("up").unwrap();
        let prefix = switch.split(' ').next().unwrap();
        let of_it = up.get_arguments().filter_map(clap::Arg::get_long);
        let of_it = of_it.filter(|long| format!("--{long}").starts_with(&format!("{prefix}-")));
        let tried = options.iter().filter(|option| option.starts_with(prefix));
        assert_eq!(
            of_it.count(),
            tried.count(),
            "an option of {prefix} is not tried"
        );
    }
}

#[test]
fn serve_and_up_agree_on_what_is_served_when_nothing_is_said() {
    let Command::Serve(alone) = parsed("serve").unwrap().command else {
        panic!("not a serve");
    };
    let Command::Up(up) = parsed("up --serve --gateway http://127.0.0.1:1")
        .unwrap()
        .command
    else {
        panic!("not an up");
    };
    let said = format!("{alone:?}");
    assert_eq!(said, format!("{:?}", up.serve.wanted().unwrap()));
    let line = "gateway --server http://127.0.0.1:1";
    let Command::Gateway(alone) = parsed(line).unwrap().command else {
        panic!("not a gateway");
    };
    let said = format!("{alone:?}");
    assert_eq!(said, format!("{:?}", up.gateway.wanted().unwrap()));
}

#[test]
fn a_missing_home_says_how_to_make_one() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("none");
    for line in ["up", "datanet list", "ledger verify"] {
        let failure = failed(&home, line);
        assert_eq!(failure.exit_code(), 2, "{line}: {failure}");
        assert!(
            failure.to_string().contains("tributary init"),
            "{line}: {failure}"
        );
    }
}

#[test]
fn without_a_daemon_commands_say_how_to_start_it() {
    let dir = tempfile::tempdir().unwrap();
    dispatch(parsed(&format!("--home {} init", dir.path().display())).unwrap()).unwrap();
    for line in ["status --watch", "run leave ab", "run watch ab", "down"] {
        let failure = failed(dir.path(), line);
        assert_eq!(failure.exit_code(), 3);
        assert!(
            failure.to_string().contains("tributary up"),
            "{line}: {failure}"
        );
    }
    let failure = failed(dir.path(), "adapter get ab out");
    assert!(failure.to_string().contains("--bootstrap"), "{failure}");
}

#[test]
fn a_stopped_home_answers_what_only_reads() {
    let dir = tempfile::tempdir().unwrap();
    dispatch(parsed(&format!("--home {} init", dir.path().display())).unwrap()).unwrap();
    for line in ["status", "run list", "adapter list", "ledger statement"] {
        let line = format!("--home {} {line}", dir.path().display());
        dispatch(parsed(&line).unwrap()).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
    let failure = failed(dir.path(), "run show ab");
    assert_eq!(failure.problem().code, Code::UnknownId, "{failure}");
    let nowhere = dir.path().join("none");
    for line in ["status", "run list", "adapter list"] {
        let failure = failed(&nowhere, line);
        assert!(
            failure.to_string().contains("tributary init"),
            "{line}: {failure}"
        );
    }
}

#[test]
fn a_second_init_keeps_the_first_key() {
    let dir = tempfile::tempdir().unwrap();
    let init =
        || dispatch(parsed(&format!("--home {} init --name amy", dir.path().display())).unwrap());
    init().unwrap();
    let key = std::fs::read(dir.path().join("key")).unwrap();
    let failure = init().unwrap_err();
    assert!(
        failure.to_string().contains("never overwritten"),
        "{failure}"
    );
    assert_eq!(std::fs::read(dir.path().join("key")).unwrap(), key);
}

#[test]
fn a_damaged_key_stops_the_daemon_before_anything_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    dispatch(parsed(&format!("--home {} init", dir.path().display())).unwrap()).unwrap();
    let key = dir.path().join("key");
    let mut bytes = std::fs::read(&key).unwrap();
    bytes[30] ^= 1;
    std::fs::write(&key, &bytes).unwrap();
    let failure = failed(dir.path(), "up");
    assert!(failure.to_string().contains("damaged"), "{failure}");
    assert_eq!(std::fs::read(&key).unwrap(), bytes);
}

#[test]
fn a_port_in_use_is_named_with_the_mend() {
    let dir = tempfile::tempdir().unwrap();
    dispatch(parsed(&format!("--home {} init", dir.path().display())).unwrap()).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = taken.local_addr().unwrap();
    let failure = failed(dir.path(), &format!("up --listen {socket}"));
    assert!(failure.to_string().contains("--listen"), "{failure}");
    let failure = failed(dir.path(), &format!("up --control {socket}"));
    assert!(failure.to_string().contains("port 0"), "{failure}");
    let failure = failed(dir.path(), "up --bootstrap here");
    assert!(failure.to_string().contains("IP:PORT"), "{failure}");
}

#[test]
fn bad_models_adapters_and_texts_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let text = dir.path().join("t.txt");
    std::fs::write(&text, "some text to predict").unwrap();
    let text = text.display();
    // What is not there is the environment's fault; a folder that holds something else fails the check.
    for (line, code, words) in [
        (format!("eval --base /nowhere --text {text}"), 2, "brook"),
        (
            format!("eval --base {} --text {text}", empty.display()),
            1,
            "config.json",
        ),
        (
            format!("eval --adapter /nowhere --text {text}"),
            2,
            "adapter export",
        ),
        (
            format!("eval --adapter {} --text {text}", empty.display()),
            1,
            "adapter_config.json",
        ),
        ("eval --text /nowhere.txt".to_owned(), 2, "/nowhere.txt"),
        (
            format!("eval --base in/nothing --text {text}"),
            2,
            "in/nothing",
        ),
        (
            format!("eval --base ./in/nothing --text {text}"),
            2,
            "in/nothing",
        ),
        ("adapter verify /nowhere".to_owned(), 2, "adapter export"),
        (
            format!("eval --text {text} --context 1025"),
            2,
            "--context 1024",
        ),
    ] {
        let failure = failed(dir.path(), &line);
        assert_eq!(failure.exit_code(), code, "{line}");
        assert!(failure.to_string().contains(words), "{line}: {failure}");
    }
}

#[test]
fn a_demo_refuses_the_home_of_a_peer() {
    let dir = tempfile::tempdir().unwrap();
    dispatch(parsed(&format!("--home {} init", dir.path().display())).unwrap()).unwrap();
    let failure = failed(dir.path(), "demo");
    assert!(failure.to_string().contains("another folder"), "{failure}");
}

#[test]
fn an_id_is_checked_before_anybody_is_asked() {
    for line in [
        "run show a/b",
        "run join ..",
        "adapter export 12g out",
        "ledger statement ab/3",
    ] {
        let error = parsed(line).expect_err(line);
        assert!(error.to_string().contains("run list"), "{line}: {error}");
    }
    let Command::Run(RunCommand::Show { id }) = parsed("run show AB12").unwrap().command else {
        panic!("not a show");
    };
    assert_eq!(id, "ab12");
}

#[test]
fn a_prompt_may_begin_with_a_dash() {
    let Command::Generate(generate) = parsed("generate --prompt -1 --seed 3").unwrap().command
    else {
        panic!("not a generate");
    };
    assert_eq!((generate.prompt.as_str(), generate.seed), ("-1", 3));
    parsed("why --prompt --well --answer -no").unwrap();
}

#[test]
fn init_touches_no_folder_with_other_things_and_keeps_settings_that_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("thesis")).unwrap();
    std::fs::write(at("thesis/chapter.txt"), "one").unwrap();
    let refused = failed(&at("thesis"), "init");
    assert!(refused.to_string().contains("chapter.txt"), "{refused}");
    assert_eq!(std::fs::read_dir(at("thesis")).unwrap().count(), 1);

    std::fs::create_dir(at("home")).unwrap();
    let mine = "# mine\nname = \"amy\"\n";
    std::fs::write(at("home/config.toml"), mine).unwrap();
    let refused = failed(&at("home"), "init --name bob");
    assert!(refused.to_string().contains("--name"), "{refused}");
    assert!(!at("home/key").exists());
    dispatch(parsed(&format!("--home {} init", at("home").display())).unwrap()).unwrap();
    let kept = std::fs::read_to_string(at("home/config.toml")).unwrap();
    assert_eq!(kept, mine);
}

#[test]
fn a_home_without_its_key_says_what_can_be_done_with_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ledger.redb"), "").unwrap();
    let failure = failed(dir.path(), "ledger statement");
    assert!(failure.to_string().contains("ledger verify"), "{failure}");
}

#[test]
fn what_to_do_next_names_the_folder_again() {
    assert_eq!(call(None), "tributary");
    if std::env::var_os("TRIBUTARY_HOME").is_none() {
        assert_eq!(call(Some(Path::new("amy"))), "tributary --home amy");
        assert_eq!(
            call(Some(Path::new("my peer's"))),
            r"tributary --home 'my peer'\''s'"
        );
    }
}
