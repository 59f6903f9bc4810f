//! How the command line explains itself: commands by what a person wants, examples, completions, the manual.
//!
//! The tree itself is in `args`; what clap cannot be told there is put around it here. Empty environment variables
//! count as unset: that is how scripts clear them.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use clap_complete::Shell;

use super::Cli;
use crate::problem::{Code, Problem};
use crate::terminal::output::{one_line, raw};
use crate::terminal::{Failure, Format};

/// Commands by what a person wants.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "See it, and run a peer",
        &["demo", "init", "up", "down", "status", "gc"],
    ),
    ("Meet others", &["invite", "join", "reach", "relay"]),
    ("You have text, or open a run", &["datanet", "run"]),
    (
        "You are owed something, or check others",
        &["ledger", "dispute", "why"],
    ),
    (
        "You pay for a run, or are paid on a real chain",
        &["budget", "stake", "unstake", "settle", "price"],
    ),
    (
        "You want an adapter",
        &["adapter", "generate", "serve", "gateway", "eval"],
    ),
    (
        "You have a model and files, and no network",
        &["train", "base"],
    ),
    ("Programs and shells", &["api", "completions", "man"]),
];

/// Exit codes, as every help ends with them.
const EXIT_CODES: &str = "Exit codes:
  0    done
  1    failed: what was checked is wrong
  2    usage: cannot be carried out with these arguments, files or settings, or on this machine
  3    no daemon runs on the home, or it stopped meanwhile
  4    refused: the peer or the network did not take it, or nobody answered in time
  5    what was checked holds, and proves that somebody broke the rules (`ledger verify`)
  130  ended early by a key or a signal; what was done until then is kept";

/// Examples by command.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "demo",
        &[
            "tributary demo",
            "tributary demo --peers 4 --rounds 3 --data my-texts",
        ],
    ),
    ("init", &["tributary init --name amy"]),
    (
        "up",
        &[
            "tributary up",
            "tributary up --detach",
            "tributary up --reach wan",
            "tributary up --reach wan --relay 203.0.113.7:7842",
            "tributary up --serve --serve-adapter poet=3f9a0c11d2",
            "tributary up --gateway http://192.0.2.7:8420 --gateway-base brook",
            "tributary up --chain-rpc http://127.0.0.1:8545 --chain-key account.key",
            "tributary up --listen 0.0.0.0:4001 --bootstrap /ip4/192.0.2.7/tcp/4001/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp",
        ],
    ),
    ("down", &["tributary down"]),
    (
        "invite",
        &[
            "tributary invite 3f9a0c11d2",
            "tributary invite 3f9a0c11d2 --expires 12h",
            "tributary invite --list",
            "tributary invite --revoke 9f3c0d5e7a1b2c4d",
        ],
    ),
    (
        "join",
        &[
            "tributary join tribTICKET --data diary.txt letters.jsonl",
            "tributary join tribTICKET --read-only --out poet",
        ],
    ),
    (
        "reach",
        &["tributary reach", "tributary reach --format json"],
    ),
    ("relay", &["tributary relay 203.0.113.7:7842 --for PEER"]),
    (
        "serve",
        &[
            "tributary serve",
            "tributary serve --base SmolLM2-135M --adapter poet=poet --listen 127.0.0.1:8420",
            "tributary serve --price-prompt 100 --price-answer 400 --allow-file allowances",
        ],
    ),
    (
        "gateway",
        &[
            "tributary gateway --server http://127.0.0.1:8420 --base brook",
            "tributary gateway --server http://192.0.2.7:8420,http://192.0.2.8:8420 --budget 500000",
        ],
    ),
    ("status", &["tributary status", "tributary status --watch"]),
    (
        "datanet add",
        &["tributary datanet add notes diary.txt letters.jsonl"],
    ),
    (
        "datanet remove",
        &["tributary datanet remove notes diary.txt"],
    ),
    ("datanet list", &["tributary datanet list --files"]),
    (
        "run create",
        &["tributary run create run.toml --join --holdout neutral.txt"],
    ),
    (
        "run join",
        &[
            "tributary run join 3f9a0c11d2",
            "tributary run join 3f9a0c11d2 --base SmolLM2-135M --datanet notes",
        ],
    ),
    ("run leave", &["tributary run leave 3f9a0c11d2"]),
    (
        "run list",
        &["tributary run list", "tributary run list --nearby"],
    ),
    ("run show", &["tributary run show 3f9a0c11d2 --format json"]),
    ("run watch", &["tributary run watch 3f9a0c11d2"]),
    (
        "run rm",
        &[
            "tributary run rm 3f9a0c11d2",
            "tributary run rm 3f9a0c11d2 --yes",
        ],
    ),
    ("gc", &["tributary gc --dry-run", "tributary gc"]),
    (
        "adapter export",
        &[
            "tributary adapter export 3f9a0c11d2 poet",
            "tributary adapter export ./poet poet.gguf --gguf --base SmolLM2-135M",
        ],
    ),
    (
        "adapter get",
        &["tributary adapter get 3f9a0c11d2 poet --bootstrap 192.0.2.7:4001"],
    ),
    (
        "adapter watch",
        &[
            "tributary adapter watch 3f9a0c11d2 --out rounds",
            "tributary adapter watch 3f9a0c11d2 --out rounds --serve http://127.0.0.1:8080 --name poet",
        ],
    ),
    (
        "adapter verify",
        &["tributary adapter verify poet --base SmolLM2-135M"],
    ),
    ("adapter list", &["tributary adapter list"]),
    (
        "ledger verify",
        &[
            "tributary ledger verify",
            "tributary ledger verify --full --home copy",
        ],
    ),
    (
        "ledger statement",
        &[
            "tributary ledger statement",
            "tributary ledger statement 3f9a0c11d2 --by 5",
            "tributary ledger statement --export beancount",
        ],
    ),
    (
        "ledger proof",
        &["tributary ledger proof 3f9a0c11d2/4 payout.json"],
    ),
    ("ledger check", &["tributary ledger check payout.json"]),
    ("ledger explain", &["tributary ledger explain 3f9a0c11d2/4"]),
    (
        "ledger prove-holdout",
        &["tributary ledger prove-holdout 3f9a0c11d2 4 proof.json"],
    ),
    (
        "ledger check-holdout",
        &["tributary ledger check-holdout proof.json"],
    ),
    (
        "dispute open",
        &[
            "tributary dispute open 3f9a0c11d2 7 e41b 9c07 --reason \"its windows say half of that\"",
        ],
    ),
    ("dispute list", &["tributary dispute list 3f9a0c11d2"]),
    (
        "dispute appeal",
        &["tributary dispute appeal 3f9a0c11d2 d51e"],
    ),
    (
        "settle deploy",
        &[
            "tributary settle deploy --chain-id 1612 --token 0x2222222222222222222222222222222222222222 --chain-rpc http://127.0.0.1:8545",
            "tributary settle deploy --chain-id 31337 --test-token",
        ],
    ),
    ("settle status", &["tributary settle status 3f9a0c11d2"]),
    ("settle post", &["tributary settle post 3f9a0c11d2"]),
    (
        "settle challenge",
        &["tributary settle challenge 3f9a0c11d2"],
    ),
    ("settle confirm", &["tributary settle confirm 3f9a0c11d2"]),
    ("settle sweep", &["tributary settle sweep 3f9a0c11d2"]),
    ("settle halt", &["tributary settle halt 3f9a0c11d2"]),
    ("settle reclaim", &["tributary settle reclaim 3f9a0c11d2"]),
    (
        "settle sentence",
        &["tributary settle sentence 3f9a0c11d2 d51e"],
    ),
    ("settle collect", &["tributary settle collect 3f9a0c11d2"]),
    (
        "settle claim",
        &[
            "tributary settle claim 3f9a0c11d2",
            "tributary settle claim 3f9a0c11d2 --all",
        ],
    ),
    ("settle watch", &["tributary settle watch 3f9a0c11d2"]),
    ("stake", &["tributary stake 3f9a0c11d2 5"]),
    ("unstake", &["tributary unstake 3f9a0c11d2 0"]),
    ("budget", &["tributary budget 3f9a0c11d2 100"]),
    (
        "price",
        &[
            "tributary price 3f9a0c11d2",
            "tributary price 3f9a0c11d2 --chain-rpc http://127.0.0.1:8545",
        ],
    ),
    ("why", &["tributary why --prompt \"Of light\""]),
    (
        "train",
        &[
            "tributary train rows.jsonl --out adapter",
            "tributary train rows.jsonl --out adapter --base SmolLM2-135M --epochs 3 --checkpoint kept",
        ],
    ),
    (
        "eval",
        &["tributary eval --adapter poet --text opticks.txt"],
    ),
    (
        "generate",
        &[
            "tributary generate --adapter poet --prompt \"In the beginning\" --max-tokens 40",
            "tributary generate --base SmolLM2-135M-Instruct --chat --prompt \"Who are you?\"",
        ],
    ),
    ("base export", &["tributary base export brook brook"]),
    ("api openapi", &["tributary api openapi"]),
    ("completions", &["tributary completions bash"]),
    ("man", &["tributary man manual"]),
];

/// The tree as people are shown it.
pub(super) fn command() -> clap::Command {
    let mut command = with_set_variables_only(Cli::command());
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}Options:\n{{options}}{{after-help}}",
        groups(&command)
    );
    for (path, examples) in EXAMPLES {
        let names: Vec<&str> = path.split(' ').collect();
        command = at(command, &names, &|command: clap::Command| {
            command.after_help(format!("Examples:\n  {}", examples.join("\n  ")))
        });
    }
    for group in Cli::command()
        .get_subcommands()
        .filter(|c| c.has_subcommands())
    {
        let path = format!("{} ", group.get_name());
        let first = EXAMPLES
            .iter()
            .filter(|(of, _)| of.starts_with(&path))
            .map(|(_, examples)| examples[0]);
        let text = format!("Examples:\n  {}", first.collect::<Vec<_>>().join("\n  "));
        command = command.mut_subcommand(group.get_name(), |command| command.after_help(text));
    }
    command.help_template(template).after_help(EXIT_CODES)
}

/// The commands of the top, a line each.
fn groups(command: &clap::Command) -> String {
    let mut out = String::new();
    for (title, names) in GROUPS {
        out.push_str(&format!("{title}:\n"));
        for name in *names {
            let about = command
                .find_subcommand(name)
                .and_then(clap::Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            out.push_str(&format!("  {name:<12} {about}\n"));
        }
        out.push('\n');
    }
    out
}

/// Changes the command at a path of names.
fn at(
    command: clap::Command,
    names: &[&str],
    change: &dyn Fn(clap::Command) -> clap::Command,
) -> clap::Command {
    match names {
        [] => change(command),
        [name, rest @ ..] => command.mut_subcommand(*name, |command| at(command, rest, change)),
    }
}

/// Without the environment variables that are set to nothing.
fn with_set_variables_only(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        let is_empty =
            |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
        match arg.get_env().is_some_and(is_empty) {
            true => arg.env(None::<&'static str>),
            false => arg,
        }
    });
    command.mut_subcommands(with_set_variables_only)
}

/// Reads the arguments. What they ask for themselves (help, the version) and what is wrong with them is printed, and
/// the exit code given.
pub(super) fn parse(arguments: &[OsString]) -> Result<Cli, ExitCode> {
    let mut command = command();
    let parsed = (command.try_get_matches_from_mut(arguments))
        .and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        match error.use_stderr() && is_json(arguments) {
            true => usage(&error).print(Format::Json),
            // There is nowhere to tell that it cannot be told.
            false => drop(error.print()),
        }
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

/// Whether the arguments, as far as they can be understood, ask for JSON.
fn is_json(arguments: &[OsString]) -> bool {
    let mut words = arguments.iter().take_while(|word| *word != "--");
    let mut previous = None;
    words.any(|word| {
        let named = word == "--format=json" || (word == "json" && previous == Some("--format"));
        previous = word.to_str();
        named
    })
}

/// What is wrong with the arguments, for programs.
fn usage(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    // What follows is for people who look at a terminal.
    let said = text.split("\n\nUsage:").next().unwrap_or_default();
    let said = said
        .split("\n\nFor more information")
        .next()
        .unwrap_or_default();
    let said = said.trim().trim_start_matches("error: ");
    let said: Vec<String> = said.split("\n\n").map(one_line).collect();
    let said = said.join("; ");
    Failure::from(Problem::new(Code::Malformed, said).hint("see the command with --help"))
}

/// Prints what lets a shell complete commands.
pub(super) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "tributary", &mut script);
    raw(&script)
}

/// Writes the manual into a new folder.
pub(super) fn manual(dir: &Path) -> Result<usize, Failure> {
    let failed = |e: std::io::Error| {
        Failure::environment(format!("cannot write the manual to {}: {e}", dir.display()))
            .hint("name a new folder")
    };
    let occupied = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
    }
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(command(), dir).map_err(failed)?;
    Ok(std::fs::read_dir(dir).map_err(failed)?.count())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn leaves(command: &clap::Command, path: &str, out: &mut Vec<String>) {
        for sub in command.get_subcommands() {
            let path = format!("{path} {}", sub.get_name());
            match sub.has_subcommands() {
                true => leaves(sub, &path, out),
                false => out.push(path.trim().to_owned()),
            }
        }
    }

    #[test]
    fn every_command_has_an_example_that_parses_and_a_place_in_the_help() {
        let mut all = Vec::new();
        leaves(&Cli::command(), "", &mut all);
        let mut shown: Vec<String> = EXAMPLES
            .iter()
            .map(|(path, _)| (*path).to_owned())
            .collect();
        all.sort();
        shown.sort();
        assert_eq!(all, shown);
        for (path, examples) in EXAMPLES {
            for example in *examples {
                let words = super::super::tests::shell_words(example);
                assert!(
                    example.starts_with(&format!("tributary {path}")),
                    "{example}"
                );
                command()
                    .try_get_matches_from(words)
                    .unwrap_or_else(|e| panic!("{example}: {e}"));
            }
        }
        let help = command().render_help().to_string();
        for sub in Cli::command().get_subcommands() {
            let line = format!("\n  {} ", sub.get_name());
            assert_eq!(help.matches(&line).count(), 1, "{line:?} in {help}");
        }
        assert!(help.contains("no daemon runs"), "{help}");
        let group = at_help(&["run"]);
        assert!(
            group.contains("Examples:") && group.contains("run watch 3f"),
            "{group}"
        );
        let long = at_help(&["run", "join"]);
        assert!(
            long.contains("Examples:") && long.contains("--home"),
            "{long}"
        );
    }

    fn at_help(names: &[&str]) -> String {
        let mut command = command();
        command.build();
        let mut at = &mut command;
        for name in names {
            at = at.find_subcommand_mut(name).unwrap();
        }
        at.render_help().to_string()
    }

    #[test]
    fn json_is_asked_for_by_arguments_that_do_not_parse() {
        let asks = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
            is_json(&words)
        };
        assert!(asks("tributary --format json nonsense"));
        assert!(asks("tributary nonsense --format=json"));
        assert!(!asks("tributary nonsense --format text json"));
        assert!(!asks("tributary generate -- --format json"));
        let error = Cli::try_parse_from(["tributary", "eval", "--txt", "x"]).unwrap_err();
        let failure = usage(&error);
        assert_eq!(failure.exit_code(), 2);
        let said = failure.message();
        assert!(said.contains("--txt") && !said.contains("Usage"), "{said}");
    }

    #[test]
    fn the_manual_has_a_page_for_each_command_and_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("manual");
        let pages = manual(&at).unwrap();
        assert!(pages > 30, "{pages}");
        let page = std::fs::read_to_string(at.join("tributary-run-join.1")).unwrap();
        assert!(
            page.contains("Examples") && page.contains("holdout"),
            "{page}"
        );
        assert!(manual(&at).unwrap_err().message().contains("exists"));
    }
}
