//! The till: asked before anything is computed, told exactly once what was made, and heard by the client.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tributary_engine::registry::RegistryLimits;
use tributary_engine::{EngineOptions, Precision};
use tributary_peer::serve::adapters::{AdapterOptions, Fetch};
use tributary_peer::serve::till::{Asked, Bill, Made, Receipt, Till};
use tributary_peer::serve::{Refusal, ServeOptions, start};

use crate::server::{LIMIT, Server};

const CHAT: &str = "/v1/chat/completions";

/// Wants a coin in the header `coin`, and writes down what it was told.
#[derive(Default)]
struct Coins {
    asked: std::sync::Mutex<Vec<(usize, usize)>>,
    made: Arc<std::sync::Mutex<Vec<Made>>>,
}

struct Paid(Arc<std::sync::Mutex<Vec<Made>>>);

impl Till for Coins {
    fn admit<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Result<Box<dyn Bill>, Refusal>> {
        Box::pin(async move {
            if !asked.headers.contains_key("coin") {
                let status = 402.try_into().unwrap();
                let mut refusal = Refusal::new(status, "payment_required", "pay a coin");
                let header = ("payment-required".parse().unwrap(), "one".parse().unwrap());
                refusal.headers.push(header);
                return Err(refusal);
            }
            let tokens = (asked.prompt_tokens, asked.max_tokens);
            self.asked.lock().unwrap().push(tokens);
            Ok(Box::new(Paid(self.made.clone())) as Box<dyn Bill>)
        })
    }
}

impl Bill for Paid {
    fn settle(self: Box<Self>, made: Made) -> BoxFuture<'static, Receipt> {
        self.0.lock().unwrap().push(made);
        Box::pin(async move {
            let told = made.answer_tokens.to_string();
            Receipt {
                headers: vec![("payment-response".parse().unwrap(), told.parse().unwrap())],
                event: Some(("payment".into(), json!({"paid": made.answer_tokens}))),
            }
        })
    }
}

/// A server of this process, its till, and what it runs on.
fn serving(
    most_waiting: usize,
    most_running: usize,
) -> (Server, Arc<Coins>, tokio::runtime::Runtime) {
    let coins = Arc::new(Coins::default());
    let options = ServeOptions {
        base: "brook".into(),
        adapters: Vec::new(),
        keep: AdapterOptions {
            limits: RegistryLimits::default(),
            cache: PathBuf::new(),
            fetch_unnamed: false,
            fetch_timeout_s: 1,
        },
        fetch: Fetch::Nobody,
        listen: "127.0.0.1:0".parse().unwrap(),
        hosts: Vec::new(),
        tokens: Vec::new(),
        engine: EngineOptions {
            precision: Precision::F32,
            threads: 1,
            cache_bytes: 1 << 28,
            most_waiting,
            most_running,
        },
        till: coins.clone(),
        channels: None,
        cashiers: None,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(start(options)).unwrap();
    let addr = server.addr();
    // Until the runtime ends.
    runtime.spawn(async move {
        let _server = server;
        std::future::pending::<()>().await;
    });
    (Server::at(addr), coins, runtime)
}

fn paid(server: &Server, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let more = format!(
        "coin: 1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    server.head("POST", CHAT, &more).into_bytes()
}

fn question(more: Value) -> Value {
    let mut body = json!({"model": "brook", "messages": [{"role": "user", "content": "Once"}], "max_tokens": 6});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn nobody_is_answered_without_paying_and_everybody_is_told_what_was_paid() {
    let (server, coins, _runtime) = serving(8, 4);
    let refused = server.post(CHAT, &question(json!({})));
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (402, "payment_required")
    );
    assert!(
        refused.head.contains("payment-required: one"),
        "{}",
        refused.head
    );
    assert!(coins.asked.lock().unwrap().is_empty());
    let whole = server
        .send(&paid(&server, &question(json!({"n": 2}))))
        .unwrap();
    assert_eq!(whole.status, 200, "{whole:?}");
    let usage = whole.json()["usage"].clone();
    let count = |name: &str| usage[name].as_u64().unwrap() as usize;
    let made = coins.made.lock().unwrap().clone();
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].answer_tokens, count("completion_tokens"));
    assert_eq!(made[0].prompt_tokens, 2 * count("prompt_tokens"));
    assert!(!made[0].failed);
    assert_eq!(*coins.asked.lock().unwrap(), [(made[0].prompt_tokens, 12)]);
    let told = format!("payment-response: {}", made[0].answer_tokens);
    assert!(whole.head.contains(&told), "{}", whole.head);
    let stream = server
        .send(&paid(&server, &question(json!({"stream": true}))))
        .unwrap();
    let events = stream.events();
    let [.., receipt, done] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(done, "[DONE]");
    let receipt: Value = serde_json::from_str(receipt).unwrap();
    assert_eq!(receipt["paid"], coins.made.lock().unwrap()[1].answer_tokens);
}

#[test]
fn an_answer_that_nobody_waits_for_is_settled_once() {
    let (server, coins, _runtime) = serving(8, 4);
    let mut stream = server.connect();
    stream
        .write_all(&paid(
            &server,
            &question(json!({"stream": true, "max_tokens": 400})),
        ))
        .unwrap();
    stream.read_exact(&mut [0; 15]).unwrap();
    drop(stream);
    let began = Instant::now();
    while coins.made.lock().unwrap().is_empty() {
        assert!(began.elapsed() < LIMIT, "never settled");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(200));
    let made = coins.made.lock().unwrap().clone();
    assert_eq!(made.len(), 1);
    assert!(!made[0].failed && made[0].answer_tokens <= 400);
}

#[test]
fn a_request_that_is_not_taken_costs_nothing() {
    let (server, coins, _runtime) = serving(1, 1);
    // One answer is made, one may wait, and a request is taken whole or not at all.
    let body = question(json!({"n": 4, "max_tokens": 400}));
    let refused = server.send(&paid(&server, &body)).unwrap();
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "queue_full")
    );
    assert!(refused.head.contains("retry-after: "), "{}", refused.head);
    let made = coins.made.lock().unwrap().clone();
    assert_eq!(made.len(), 1);
    assert!(made[0].failed && made[0].answer_tokens == 0);
}
