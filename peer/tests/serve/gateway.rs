//! The gateway: stock requests in, paid answers out, whatever its servers do.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use data_encoding::BASE64;
use serde_json::{Value, json};
use tributary_attribution::settlement::Address;
use tributary_attribution::test_chain::TestChain;

use crate::pay::{CHAT, account, home, on_wire, paid_server, question};
use crate::server::{LIMIT, Server};

pub(crate) struct Gateway {
    process: Child,
    at: Server,
    consumer: Address,
    home: tempfile::TempDir,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // One that ended already has nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Gateway {
    pub(crate) fn start(servers: &[SocketAddr]) -> Self {
        Self::start_with(servers, &[])
    }

    /// With these options too.
    pub(crate) fn start_with(servers: &[SocketAddr], options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let consumer = home(folder.path(), 2).address();
        let urls: Vec<String> = servers
            .iter()
            .map(|addr| format!("http://{addr}"))
            .collect();
        let mut process = Command::new(env!("CARGO_BIN_EXE_tributary"))
            .args([
                "--format",
                "json",
                "gateway",
                "--listen",
                "127.0.0.1:0",
                "--base",
                "brook",
                "--server",
                &urls.join(","),
            ])
            .args(options)
            .env("TRIBUTARY_HOME", folder.path())
            .env("TRIBUTARY_LOG", "info")
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(
            (&ready["schema"], &ready["consumer"]),
            (&json!("gateway/1"), &json!(consumer.to_string()))
        );
        let addr = ready["url"]
            .as_str()
            .unwrap()
            .trim_start_matches("http://")
            .trim_end_matches("/v1");
        let at = Server::at(addr.parse().unwrap());
        Self {
            process,
            at,
            consumer,
            home: folder,
        }
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap()
    }

    pub(crate) fn ask(&self, more: Value) -> crate::server::Reply {
        self.at.post(CHAT, &question(more))
    }

    /// A field of one server's spending, in micro-OPEN.
    pub(crate) fn spent(&self, server: usize, field: &str) -> u64 {
        let spending = self.at.get("/v1/spending").json();
        spending["servers"][server][field]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }
}

/// The account that gateways of these tests pay from.
fn consumer() -> Address {
    account(2).address()
}

/// A server that lists brook, wants `amount` for any request, and sends `paid` for a voucher.
fn fake(amount: u64, paid: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (server, chain) = (account(9).address(), TestChain::deployed());
    let terms = json!({
        "x402Version": 2, "error": "payment_required", "resource": {"url": "http://fake/v1"},
        "accepts": [{
            "scheme": "batch-settlement", "network": format!("eip155:{}", chain.chain.0), "amount": on_wire(amount),
            "asset": chain.token.to_string(), "payTo": server.to_string(), "maxTimeoutSeconds": 600,
            "extra": {
                "pricePrompt": "0", "priceAnswer": on_wire(1000), "promptTokens": 5, "maxTokens": 8,
                "receiverAuthorizer": server.to_string(), "withdrawDelay": 900, "name": "Test OPEN", "version": "1",
            },
        }],
    });
    let required = BASE64.encode(terms.to_string().as_bytes());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = request(&mut stream);
            let answer = if request.starts_with("get") {
                let list = json!({"object": "list", "data": [{"id": "brook"}]}).to_string();
                whole("200 OK", "", &list)
            } else if request.contains("payment-signature: ") {
                paid.clone()
            } else {
                whole(
                    "402 Payment Required",
                    &format!("payment-required: {required}\r\n"),
                    "{}",
                )
            };
            // A client that left needs no answer.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    addr
}

/// A whole request, in small letters.
fn request(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let read = stream.read(&mut part).unwrap_or(0);
        bytes.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            body.len() >= length.map_or(0, |length| length.parse().unwrap())
        });
        if whole || read == 0 {
            return text;
        }
    }
}

fn whole(status: &str, more: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n{more}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A stream that is cut off after these events.
fn cut(events: &[Value]) -> String {
    let events: String = events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{events}",
        events.len() + 100
    )
}

fn delta(text: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {"content": text}}]})
}

#[test]
fn a_client_that_knows_nothing_of_payments_is_answered_and_its_owner_told_what_that_cost() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), 1);
    let server = paid_server(folder.path(), consumer(), 10_000);
    let gateway = Gateway::start(&[server.addr]);
    assert_eq!(gateway.consumer, consumer());
    assert_eq!(
        gateway.at.get("/v1/models").json()["data"][0]["id"],
        "brook"
    );
    let whole = gateway.ask(json!({}));
    assert_eq!(whole.status, 200, "{whole:?}");
    assert!(
        !whole.json()["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .is_empty()
    );
    let first = gateway.spent(0, "owed");
    assert!(
        first > 0 && whole.head.contains(&format!("x-tributary-spent: {first}")),
        "{}",
        whole.head
    );
    let stream = gateway.ask(json!({"stream": true}));
    let events = stream.events();
    assert_eq!(events.last().unwrap(), "[DONE]");
    assert!(
        events
            .iter()
            .all(|event| !event.contains("maxClaimable") && !event.contains("\"payer\"")),
        "{events:?}"
    );
    let begun = std::time::Instant::now();
    while gateway.spent(0, "owed") <= first {
        assert!(begun.elapsed() < LIMIT, "the stream was never paid");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(
        (gateway.spent(0, "doubtful"), gateway.spent(0, "reserved")),
        (0, 0)
    );
}

#[test]
fn requests_at_the_same_time_are_all_answered() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), 1);
    let server = paid_server(folder.path(), consumer(), 100_000);
    let gateway = Gateway::start(&[server.addr]);
    std::thread::scope(|scope| {
        for at in 0..4 {
            let gateway = &gateway;
            scope.spawn(move || {
                let reply = gateway.ask(json!({"seed": at}));
                assert_eq!(reply.status, 200, "{reply:?}");
            });
        }
    });
    assert_eq!(
        (gateway.spent(0, "reserved"), gateway.spent(0, "doubtful")),
        (0, 0)
    );
}

#[test]
fn a_server_that_dies_before_the_first_token_is_replaced_by_another() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), 1);
    let server = paid_server(folder.path(), consumer(), 10_000);
    // Asked first, because nobody knows its price yet and it is named first.
    let role = json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]});
    let dying = fake(8, cut(&[role]));
    let gateway = Gateway::start(&[dying, server.addr]);
    let stream = gateway.ask(json!({"stream": true}));
    assert_eq!(stream.status, 200, "{stream:?}");
    let events = stream.events();
    assert!(
        events.last().unwrap() == "[DONE]"
            && !events.iter().any(|event| event.contains("\"error\"")),
        "{events:?}"
    );
    // All that its voucher was for may be lost, and nothing more.
    assert_eq!(
        (gateway.spent(0, "doubtful"), gateway.spent(0, "owed")),
        (8, 0)
    );
}

#[test]
fn a_client_whose_server_died_after_the_first_token_is_told_what_may_be_lost() {
    let dying = fake(8, cut(&[delta("Once upon")]));
    let gateway = Gateway::start(&[dying]);
    let stream = gateway.ask(json!({"stream": true}));
    let events = stream.events();
    let [.., error, done] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(done, "[DONE]");
    let error: Value = serde_json::from_str(error).unwrap();
    assert_eq!(error["error"]["code"], "server_lost");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("At most 8 micro-OPEN"), "{message}");
    assert!(events[0].contains("Once upon"));
}

#[test]
fn a_server_that_lies_about_its_tokens_is_paid_what_was_counted_and_never_again() {
    let answer = json!({
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1_000_000, "total_tokens": 1_000_005},
    });
    let settled = json!({
        "success": true, "payer": "0x", "transaction": "", "network": "eip155:1", "amount": on_wire(1_000_000), "extra": {},
    });
    let settled = BASE64.encode(settled.to_string().as_bytes());
    let liar = fake(
        8,
        whole(
            "200 OK",
            &format!("payment-response: {settled}\r\n"),
            &answer.to_string(),
        ),
    );
    let gateway = Gateway::start(&[liar]);
    assert_eq!(gateway.ask(json!({})).status, 200);
    assert!(gateway.spent(0, "owed") <= 8);
    let refused = gateway.ask(json!({}));
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (502, "no_server_answers")
    );
    let message = refused.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(message.contains("claimed more than it made"), "{message}");
}

#[test]
fn a_server_that_wants_more_than_its_own_prices_gets_no_voucher() {
    let dear = fake(9, String::new());
    let gateway = Gateway::start(&[dear]);
    let refused = gateway.ask(json!({}));
    assert_eq!(refused.code(), "no_server_answers");
    assert_eq!(gateway.spent(0, "signed"), 0);
}

#[test]
fn servers_that_are_not_there_are_named_and_no_page_of_a_stranger_spends() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gateway = Gateway::start(&[nobody]);
    let refused = gateway.ask(json!({}));
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (502, "no_server_reached")
    );
    let head = format!(
        "GET /v1/models HTTP/1.1\r\nhost: evil.example:{}\r\nconnection: close\r\n\r\n",
        gateway.at.addr.port()
    );
    let refused = gateway.at.send(head.as_bytes()).unwrap();
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (403, "host_unknown")
    );
}
