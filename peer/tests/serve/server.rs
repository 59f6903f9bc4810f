//! A `tributary serve` process, and a client that sends exactly the bytes it is given.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// For anything that must happen; longer than every time bound of the server.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    /// None for one of this process.
    process: Option<Child>,
    pub(crate) addr: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // Whoever stopped it already has nothing to kill.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The code of a refusal, which must have the whole shape of OpenAI's.
    pub(crate) fn code(&self) -> String {
        let body = self.json();
        let error = body["error"]
            .as_object()
            .unwrap_or_else(|| panic!("{body}"));
        for field in ["message", "type", "param", "code"] {
            assert!(error.contains_key(field), "{body}");
        }
        assert!(!error["message"].as_str().unwrap().is_empty());
        error["code"].as_str().unwrap().to_owned()
    }

    /// The data of each event.
    pub(crate) fn events(&self) -> Vec<String> {
        let text = std::str::from_utf8(&self.body).unwrap();
        let data = text.split("\n\n").flat_map(|event| event.lines());
        data.filter_map(|line| line.strip_prefix("data: "))
            .map(str::to_owned)
            .collect()
    }
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    pub(crate) fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
        command.args(["--format", "json", "serve", "--threads", "1"]);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command
            .env_remove("TRIBUTARY_HOME")
            .env_remove("TRIBUTARY_SERVE_TOKEN")
            .env_remove("TRIBUTARY_LOG");
        let mut process = (command.args(arguments).envs(environment.iter().copied()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(ready["schema"], "serve/1");
        let url = ready["url"].as_str().unwrap();
        let addr = url
            .strip_prefix("http://")
            .unwrap()
            .strip_suffix("/v1")
            .unwrap();
        Self {
            process: Some(process),
            addr: addr.parse().unwrap(),
        }
    }

    /// One that runs in this process.
    pub(crate) fn at(addr: SocketAddr) -> Self {
        Self {
            process: None,
            addr,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// What comes back for these bytes until the server closes; None for nothing at all.
    pub(crate) fn send(&self, bytes: &[u8]) -> Option<Reply> {
        let mut stream = self.connect();
        // A server that refuses early does not read the rest.
        let _ = stream.write_all(bytes);
        read(stream)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send(self.head("GET", path, "\r\n").as_bytes())
            .unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(&self.request(path, &body.to_string())).unwrap()
    }

    /// A request that is well formed but for its body.
    pub(crate) fn request(&self, path: &str, body: &str) -> Vec<u8> {
        self.request_of(path, body.as_bytes())
    }

    pub(crate) fn request_of(&self, path: &str, body: &[u8]) -> Vec<u8> {
        let more = format!(
            "content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut bytes = self.head("POST", path, &more).into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }

    /// The beginning of a request; `more` ends it.
    pub(crate) fn head(&self, method: &str, path: &str, more: &str) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{more}",
            self.addr
        )
    }

    /// Asks it to stop, as Ctrl-C does; whether it ended well.
    #[cfg(unix)]
    pub(crate) fn interrupt(&mut self) -> bool {
        let process = self.process.as_mut().expect("started here");
        let id = process.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &id])
                .status()
                .unwrap()
                .success()
        );
        process.wait().unwrap().success()
    }
}

/// Everything until the server closes.
pub(crate) fn read(mut stream: TcpStream) -> Option<Reply> {
    let mut bytes = Vec::new();
    // A reset after the answer is an end as well.
    let _ = stream.read_to_end(&mut bytes);
    parse(&bytes)
}

pub(crate) fn parse(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec())
        .unwrap()
        .to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = &bytes[end + 4..];
    let body = match head.contains("transfer-encoding: chunked") {
        true => unchunked(body),
        false => body.to_vec(),
    };
    Some(Reply { status, head, body })
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let length = std::str::from_utf8(&bytes[..end]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        let rest = &bytes[end + 2..];
        body.extend_from_slice(&rest[..length.min(rest.len())]);
        if length == 0 || rest.len() < length + 2 {
            break;
        }
        bytes = &rest[length + 2..];
    }
    body
}
