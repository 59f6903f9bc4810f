//! A child process that answers one line with one line.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use crate::Failure;
use crate::work::{ADAPTER, MODEL};

/// A running child; it ends when its input closes.
pub(crate) struct Child {
    process: std::process::Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Child {
    /// This program as a child.
    pub(crate) fn ours(
        folder: &Path,
        threads: usize,
        windows: usize,
        context: usize,
    ) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--child");
        command.env("RAYON_NUM_THREADS", threads.to_string());
        Self::start(command, folder, &[windows, context])
    }

    /// PyTorch + PEFT as a child.
    pub(crate) fn peft(
        folder: &Path,
        threads: usize,
        windows: usize,
        context: usize,
    ) -> Result<Self, Failure> {
        let python = std::env::var("TRIBUTARY_PYTHON").unwrap_or_else(|_| "python3".into());
        let mut command = Command::new(python);
        command.arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/benches/training/peft_child.py"
        ));
        Self::start(command, folder, &[threads, windows, context])
    }

    fn start(mut command: Command, folder: &Path, numbers: &[usize]) -> Result<Self, Failure> {
        command.args([folder.join(MODEL), folder.join(ADAPTER)]);
        command.args(numbers.iter().map(usize::to_string));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let input = process.stdin.take();
        let output = process.stdout.take().ok_or("the child has no output")?;
        let mut child = Self {
            process,
            input,
            output: BufReader::new(output),
        };
        match child.line()?.as_str() {
            "ready" => Ok(child),
            other => Err(format!("the child said {other:?} instead of ready").into()),
        }
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        match self.output.read_line(&mut line)? {
            0 => Err("the child ended".into()),
            _ => Ok(line.trim().to_owned()),
        }
    }

    /// Sends a command and returns the answer.
    pub(crate) fn ask(&mut self, command: &str) -> Result<String, Failure> {
        // Threads of the other side that still spin after its turn must not be timed.
        std::thread::sleep(std::time::Duration::from_millis(300));
        let input = self.input.as_mut().ok_or("the child's input is closed")?;
        writeln!(input, "{command}")?;
        self.line()
    }

    pub(crate) fn numbers(&mut self, command: &str) -> Result<Vec<f64>, Failure> {
        let answer = self.ask(command)?;
        let numbers = answer.split_whitespace().map(str::parse);
        Ok(numbers.collect::<Result<_, _>>()?)
    }

    pub(crate) fn number(&mut self, command: &str) -> Result<f64, Failure> {
        let numbers = self.numbers(command)?;
        Ok(*numbers.first().ok_or("the child answered nothing")?)
    }

    /// Milliseconds and loss of one step.
    pub(crate) fn step(&mut self) -> Result<(f64, f64), Failure> {
        match self.numbers("step")?.as_slice() {
            [ms, loss] => Ok((*ms, *loss)),
            other => Err(format!("a step answered {other:?}").into()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.input = None;
        // It was told to end; how it did is of no interest any more.
        let _ = self.process.wait();
    }
}
