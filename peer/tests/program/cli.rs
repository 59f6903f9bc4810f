//! Runs the program as a person would, for tests of whole processes.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program under test.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
    command
        .env_remove("TRIBUTARY_HOME")
        .env_remove("TRIBUTARY_LOG");
    command
}

/// Runs to the end.
pub(crate) fn run(args: &[&str]) -> Output {
    let output = program().args(args).output();
    output.expect("the program starts")
}

/// Runs to the end, which must be a success, and gives the JSON that it answers.
pub(crate) fn json(args: &[&str]) -> serde_json::Value {
    let output = run(&[args, &["--format", "json"]].concat());
    assert!(
        output.status.success(),
        "{args:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!(
            "{args:?} answered no JSON ({e}): {}",
            String::from_utf8_lossy(&output.stdout)
        )
    })
}

/// A process that is killed when the test ends, however it ends.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command` with its stderr in the file `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Self {
        let file = std::fs::File::create(log).expect("a log file");
        let child = command.stdout(Stdio::null()).stderr(file).spawn();
        Self {
            child: child.expect("the program starts"),
            log: log.to_owned(),
        }
    }

    /// What it wrote to stderr so far.
    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        let mut file = std::fs::File::open(&self.log).expect("the log file");
        file.read_to_string(&mut text).expect("log lines are text");
        text
    }

    /// Waits until the log has one of `words`.
    pub(crate) fn wait_for(&mut self, words: &[&str], patience: Duration) {
        wait(patience, &format!("{words:?} in the log"), || {
            let log = self.log();
            let found = words.iter().any(|words| log.contains(words));
            let ended = self.child.try_wait().expect("a child of ours");
            assert!(
                found || ended.is_none(),
                "ended before {words:?}:\n{}",
                self.log()
            );
            found.then_some(())
        });
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&mut self, patience: Duration) -> std::process::ExitStatus {
        let child = &mut self.child;
        wait(patience, "end", || {
            child.try_wait().expect("a child of ours")
        })
    }

    /// SIGKILL, no chance to clean up.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again until `found` finds something.
pub(crate) fn wait<T>(patience: Duration, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(start.elapsed() < patience, "no {what} within {patience:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
