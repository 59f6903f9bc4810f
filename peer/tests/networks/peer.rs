//! A peer as its owner has it: a home, the commands that are typed, and the daemon, all on one device.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use patchbay::Device;
use serde_json::Value;

use super::ground::end_processes;

/// How long a command may take that asks a daemon something.
const ANSWER: Duration = Duration::from_secs(60);
/// What a relay writes: whom it refuses, who comes and goes, and packets that it can pass on to nobody.
const RELAY_LOG: &str = "warn,iroh_relay=debug,tributary_peer=debug";
/// How often something that must happen is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// One peer.
pub(crate) struct Peer {
    pub(crate) name: String,
    home: PathBuf,
    /// Where it is; on the machine itself without one.
    device: Option<Device>,
    daemon: RefCell<Option<Child>>,
    commands: Cell<u32>,
}

/// A command that was typed and goes on.
pub(crate) struct Typed {
    child: Child,
    out: PathBuf,
    line: String,
    pub(crate) since: Instant,
}

impl Drop for Typed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Typed {
    fn said(&self) -> String {
        let read = |kind| fs::read_to_string(self.out.with_extension(kind)).unwrap_or_default();
        format!("{}{}", read("out"), read("err"))
    }

    /// Its status once it is over.
    ///
    /// # Errors
    /// What it printed, when it failed.
    pub(crate) fn over(&mut self) -> Result<bool, String> {
        match self.child.try_wait() {
            Ok(None) => Ok(false),
            Ok(Some(status)) if status.success() => Ok(true),
            Ok(Some(status)) => Err(format!("{}: {status}: {}", self.line, self.said())),
            Err(why) => Err(format!("{}: {why}", self.line)),
        }
    }

    fn wait(&mut self, limit: Duration) -> Result<ExitStatus, String> {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if self.since.elapsed() < limit => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(None) => return Err(format!("{} goes on: {}", self.line, self.said())),
                Err(why) => return Err(format!("{}: {why}", self.line)),
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Peer {
    /// A peer that nobody has typed anything for.
    pub(crate) fn new(dir: &Path, name: &str, device: Option<&Device>) -> Self {
        Self {
            name: name.to_owned(),
            home: dir.join(name),
            device: device.cloned(),
            daemon: RefCell::default(),
            commands: Cell::default(),
        }
    }

    /// A peer with a key and text of its own.
    pub(crate) fn init(dir: &Path, name: &str, device: Option<&Device>) -> Result<Self, String> {
        let peer = Self::new(dir, name, device);
        peer.ask(&["init", "--name", name])?;
        peer.ask(&["datanet", "add", "birds", &text(dir, name)?])?;
        Ok(peer)
    }

    /// Its id; to be asked before its daemon starts, or when it answers.
    pub(crate) fn id(&self) -> Result<String, String> {
        text_of(&self.ask(&["status"])?, "peer")
    }

    fn start(&self, mut command: Command) -> Result<Child, String> {
        match &self.device {
            None => command.spawn().map_err(|why| why.to_string()),
            Some(device) => device
                .spawn_command_sync(command)
                .map_err(|why| format!("{why:#}")),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
        command.arg("--home").arg(&self.home);
        command.args(["--format", "json"]).args(arguments);
        command.env_remove("TRIBUTARY_HOME");
        command.stdin(Stdio::null());
        command
    }

    /// Types a command and does not wait for its end.
    pub(crate) fn type_in(&self, arguments: &[&str]) -> Result<Typed, String> {
        self.commands.set(self.commands.get() + 1);
        let out = self.home.parent().unwrap_or(Path::new("/"));
        let out = out.join(format!("{}-command-{}", self.name, self.commands.get()));
        let file = |kind| File::create(out.with_extension(kind)).map_err(|why| why.to_string());
        let mut command = self.command(arguments);
        command.stdout(file("out")?).stderr(file("err")?);
        let since = Instant::now();
        let line = format!("{}: tributary {}", self.name, arguments.join(" "));
        let child = self
            .start(command)
            .map_err(|why| format!("{line}: {why}"))?;
        Ok(Typed {
            child,
            out,
            line,
            since,
        })
    }

    /// Types a command and gives its JSON.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Value, String> {
        let mut typed = self.type_in(arguments)?;
        let status = typed.wait(ANSWER)?;
        let out = fs::read(typed.out.with_extension("out")).unwrap_or_default();
        let said = || format!("{}: {status}: {}", typed.line, typed.said());
        let answer = status
            .success()
            .then(|| serde_json::from_slice(&out).ok())
            .flatten();
        let answer = answer.ok_or_else(said);
        for kind in ["out", "err"] {
            let _ = fs::remove_file(typed.out.with_extension(kind));
        }
        answer
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn up(&self, options: &[&str]) -> Result<(), String> {
        let mut arguments = vec!["up"];
        arguments.extend(options);
        let mut command = self.command(&arguments);
        command.stdout(Stdio::null());
        command.stderr(appended(&self.log_file())?);
        *self.daemon.borrow_mut() = Some(self.start(command)?);
        self.until("the daemon answers", ANSWER, || self.reach().is_some())
            .map(drop)
    }

    /// Starts a relay that stands alone, and waits until it says where it is.
    pub(crate) fn relay(&self, at: &str, serves: &str) -> Result<String, String> {
        let out = self.home.with_extension("relay");
        let file = File::create(&out).map_err(|why| why.to_string())?;
        let mut command = self.command(&["relay", at, "--for", serves]);
        if std::env::var_os("TRIBUTARY_LOG").is_none() {
            command.env("TRIBUTARY_LOG", RELAY_LOG);
        }
        let log = appended(&self.relay_log_file())?;
        command.stdout(file).stderr(log);
        *self.daemon.borrow_mut() = Some(self.start(command)?);
        let mut address = None;
        self.until("the relay says where it is", ANSWER, || {
            let said = fs::read(&out).unwrap_or_default();
            let said: Option<Value> = serde_json::from_slice(&said).ok();
            address = said.and_then(|said| text_of(&said, "address").ok());
            address.is_some()
        })?;
        address.ok_or_else(|| "a relay without an address".to_owned())
    }

    fn log_file(&self) -> PathBuf {
        self.home.join("daemon.log")
    }

    /// What a relay that stands alone writes for its owner.
    fn relay_log_file(&self) -> PathBuf {
        self.home.with_extension("log")
    }

    /// The end of what the daemon or relay wrote for its owner.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.log_file());
        let log = log.or_else(|_| fs::read_to_string(self.relay_log_file()));
        let log = log.unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// How it reaches others; `None` while no daemon answers.
    pub(crate) fn reach(&self) -> Option<Value> {
        self.ask(&["reach"]).ok()
    }

    /// A run as its daemon shows it.
    pub(crate) fn view(&self, run: &str) -> Value {
        self.ask(&["run", "show", run]).unwrap_or_default()
    }

    /// Seconds until it holds.
    pub(crate) fn until(
        &self,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut() -> bool,
    ) -> Result<f64, String> {
        let start = Instant::now();
        while !holds() {
            if start.elapsed() > limit {
                let limit = limit.as_secs();
                return Err(format!(
                    "{}: not so within {limit} s: {what}\n{}",
                    self.name,
                    self.log()
                ));
            }
            std::thread::sleep(LOOK);
        }
        Ok(start.elapsed().as_secs_f64())
    }

    /// How another peer is reached now.
    pub(crate) fn path(&self, other: &str) -> Option<Value> {
        let reach = self.reach()?;
        let mut paths = reach["peers"].as_array()?.iter();
        paths.find(|path| path["peer"] == other).cloned()
    }

    /// The last certified round; 0 before the first.
    pub(crate) fn certified(&self, run: &str) -> u64 {
        self.view(run)["certified"].as_u64().unwrap_or(0)
    }

    pub(crate) fn finished(&self, run: &str) -> bool {
        self.view(run)["finished"] == true
    }

    /// SIGKILL to the daemon, whoever started it.
    pub(crate) fn kill(&self) {
        if let Some(mut daemon) = self.daemon.borrow_mut().take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        end_processes(&self.home);
    }
}

fn appended(path: &Path) -> Result<File, String> {
    let log = fs::OpenOptions::new().create(true).append(true).open(path);
    log.map_err(|why| format!("{}: {why}", path.display()))
}

/// A text of an answer.
pub(crate) fn text_of(answer: &Value, field: &str) -> Result<String, String> {
    let text = answer[field].as_str().map(str::to_owned);
    text.ok_or_else(|| format!("no {field} in {answer}"))
}

/// Whether a path goes straight to the peer.
pub(crate) fn is_direct(path: &Value) -> bool {
    path["way"] == "direct" || path["way"] == "lan"
}

/// Plain sentences, different for each word.
pub(crate) fn text(dir: &Path, word: &str) -> Result<String, String> {
    let line =
        |n| format!("The {word} of the valley counts {n} birds and says so to the {word}.\n");
    let path = dir.join(format!("{word}.txt"));
    fs::write(&path, (0..600).map(line).collect::<String>()).map_err(|why| why.to_string())?;
    Ok(path.to_string_lossy().into_owned())
}

/// What a run of small peers on brook is like.
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) members: u32,
}

impl Plan {
    /// Has the peer open such a run and join it; gives the run.
    pub(crate) fn open(&self, dir: &Path, peer: &Peer) -> Result<String, String> {
        let Self { rounds, members } = self;
        let file = format!(
            r#"
name = "valley"
base = "brook"
datanet = "birds"
rounds = {rounds}
evaluators = ["self"]
score_windows = 2
min_members = {members}
min_contributions = 1
[adapter]
rank = 2
alpha = 4
[training]
local_steps = 2
batch = 2
context = 32
[deadlines]
round_ms = 30_000
grace_ms = 2_000
propose_ms = 3_000
vote_ms = 1_500
"#
        );
        let path = dir.join("run.toml");
        fs::write(&path, file).map_err(|why| why.to_string())?;
        let (path, neutral) = (path.to_string_lossy(), text(dir, "neighbour")?);
        let created = peer.ask(&["run", "create", &path, "--join", "--holdout", &neutral])?;
        text_of(&created, "run")
    }
}

/// A ticket to the run.
pub(crate) fn ticket(peer: &Peer, run: &str) -> Result<String, String> {
    text_of(&peer.ask(&["invite", run])?, "ticket")
}
