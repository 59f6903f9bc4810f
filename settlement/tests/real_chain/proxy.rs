//! A node that is not what it should be: it stands before a real one and changes what it likes.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::anvil::post;

/// What becomes of one question: the answer to give instead, or `None` to ask the real node.
pub(crate) type Before = Box<dyn Fn(&Value) -> Option<Answer> + Send + Sync>;
/// Changes the real node's answer to a question.
pub(crate) type After = Box<dyn Fn(&Value, &mut Value) + Send + Sync>;

pub(crate) enum Answer {
    /// An error of JSON-RPC with these words.
    Error(&'static str),
    /// Bytes instead of the whole answer, whatever else was asked.
    Bytes(Vec<u8>),
    /// Nothing, for ever.
    Silence,
}

#[derive(Default)]
struct Rules {
    before: Option<Before>,
    after: Option<After>,
    requests: usize,
}

pub(crate) struct Proxy {
    pub(crate) url: String,
    rules: Arc<Mutex<Rules>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Before the node at `target`; honest at first.
    pub(crate) async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (rules, target) = (Arc::new(Mutex::new(Rules::default())), target.to_string());
        let shared = rules.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                tokio::spawn(serve(stream, target.clone(), shared.clone()));
            }
        });
        Self { url, rules, task }
    }

    pub(crate) fn before(&self, rule: impl Fn(&Value) -> Option<Answer> + Send + Sync + 'static) {
        self.rules.lock().unwrap().before = Some(Box::new(rule));
    }

    pub(crate) fn after(&self, rule: impl Fn(&Value, &mut Value) + Send + Sync + 'static) {
        self.rules.lock().unwrap().after = Some(Box::new(rule));
    }

    pub(crate) fn be_honest(&self) {
        let mut rules = self.rules.lock().unwrap();
        (rules.before, rules.after) = (None, None);
    }

    /// How many requests came, each with one question or many.
    pub(crate) fn requests(&self) -> usize {
        self.rules.lock().unwrap().requests
    }
}

async fn serve(stream: TcpStream, target: String, rules: Arc<Mutex<Rules>>) {
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    let Some(answer) = answer(&body, &target, &rules).await else {
        // Held open and silent, until the test ends.
        return std::future::pending().await;
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    let _ = stream
        .write_all(&[head.into_bytes(), answer].concat())
        .await;
}

async fn answer(body: &[u8], target: &str, rules: &Mutex<Rules>) -> Option<Vec<u8>> {
    let asked: Value = serde_json::from_slice(body).expect("JSON");
    let questions = asked
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![asked.clone()]);
    rules.lock().unwrap().requests += 1;
    let mut answers = Vec::new();
    for question in &questions {
        let instead = rules
            .lock()
            .unwrap()
            .before
            .as_ref()
            .and_then(|rule| rule(question));
        let answer = match instead {
            Some(Answer::Silence) => return None,
            Some(Answer::Bytes(bytes)) => return Some(bytes),
            Some(Answer::Error(message)) => {
                json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -32000, "message": message}})
            }
            None => {
                let bytes = post(target, question.to_string().into_bytes())
                    .await
                    .expect("the real node answers");
                let mut answer = serde_json::from_slice(&bytes).expect("JSON");
                if let Some(rule) = &rules.lock().unwrap().after {
                    rule(question, &mut answer);
                }
                answer
            }
        };
        answers.push(answer);
    }
    let whole = if asked.is_array() {
        Value::Array(answers)
    } else {
        answers.remove(0)
    };
    Some(whole.to_string().into_bytes())
}
