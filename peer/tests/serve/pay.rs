//! A server that is paid, by bytes written by hand as x402 has them.

use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value, json};
use tributary_peer::identity::Identity;
use tributary_peer::serve::voucher::Channel;
use tributary_protocol::id::{MicroOpen, PeerId};
use tributary_protocol::sign::SecretKey;

use crate::server::{Reply, Server};

pub(crate) const CHAT: &str = "/v1/chat/completions";
/// Micro-OPEN for 1,000 tokens.
const PROMPT: u64 = 1000;
const ANSWER: u64 = 5000;

/// A home with a key, and that key.
pub(crate) fn home(folder: &Path, seed: u8) -> SecretKey {
    let identity = Identity::from_seed([seed; 32]);
    identity.create_file(&folder.join("key")).unwrap();
    SecretKey::from_seed(*identity.seed())
}

/// A server that is paid, and grants `consumer` so much.
pub(crate) fn paid_server(home: &Path, consumer: PeerId, granted: u64) -> Server {
    let (prompt, answer) = (PROMPT.to_string(), ANSWER.to_string());
    let allow = format!("{consumer}={granted}");
    let arguments = [
        "--price-prompt",
        &prompt,
        "--price-answer",
        &answer,
        "--allow",
        &allow,
    ];
    Server::start_with(&arguments, &[("TRIBUTARY_HOME", home.to_str().unwrap())])
}

pub(crate) fn question(more: Value) -> Value {
    let mut body = json!({"model": "brook", "messages": [{"role": "user", "content": "Once"}], "max_tokens": 8});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

/// A header that holds base64 of JSON.
fn header(reply: &Reply, name: &str, raw: &[u8]) -> Value {
    // The head of a reply is in small letters, and base64 is not.
    let text = String::from_utf8_lossy(raw);
    let line = text
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")));
    let line = line.unwrap_or_else(|| panic!("no {name}: {reply:?}"));
    let value = line.split_once(": ").unwrap().1.trim();
    serde_json::from_slice(&BASE64.decode(value.as_bytes()).unwrap()).unwrap()
}

/// What a voucher of `key` for `server` looks like in a header.
fn payment(key: &SecretKey, server: PeerId, total: u128) -> String {
    let channel = Channel {
        server,
        consumer: key.peer_id(),
        number: 1,
    };
    let signature = channel.sign(key, MicroOpen(total));
    let payment = json!({
        "x402Version": 2,
        "accepted": {
            "scheme": "batch-settlement", "network": "tributary:1", "amount": "1", "asset": "OPEN",
            "payTo": format!("0x{server}"), "maxTimeoutSeconds": 600, "extra": {},
        },
        "payload": {
            "type": "voucher",
            "channelConfig": {
                "payer": format!("0x{}", key.peer_id()), "payerAuthorizer": format!("0x{}", key.peer_id()),
                "receiver": format!("0x{server}"), "receiverAuthorizer": format!("0x{server}"),
                "token": "OPEN", "withdrawDelay": 0, "salt": format!("0x{:064x}", 1),
            },
            "voucher": {
                "channelId": format!("0x{}", channel.id()),
                "maxClaimableAmount": total.to_string(),
                "signature": format!("0x{}", HEXLOWER.encode(&signature.0)),
            },
        },
    });
    BASE64.encode(payment.to_string().as_bytes())
}

/// The reply, and its bytes.
fn ask(server: &Server, body: &Value, payment: Option<&str>) -> (Reply, Vec<u8>) {
    use std::io::{Read, Write};
    let body = body.to_string();
    let payment = payment.map_or_else(String::new, |payment| {
        format!("payment-signature: {payment}\r\n")
    });
    let more = format!(
        "content-type: application/json\r\n{payment}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = server.connect();
    stream
        .write_all(server.head("POST", CHAT, &more).as_bytes())
        .unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).unwrap();
    (crate::server::parse(&raw).unwrap(), raw)
}

#[test]
fn a_request_is_paid_with_a_voucher_and_charged_what_was_made_once_for_its_repeats() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = home(folder.path(), 1).peer_id();
    let key = SecretKey::from_seed([2; 32]);
    let server = paid_server(folder.path(), key.peer_id(), 10_000);
    let body = question(json!({}));
    let (refused, raw) = ask(&server, &body, None);
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (402, "payment_required")
    );
    let required = header(&refused, "payment-required", &raw);
    assert_eq!(
        (&required["x402Version"], &required["error"]),
        (&json!(2), &json!("payment_required"))
    );
    let terms = &required["accepts"][0];
    assert_eq!(terms["payTo"], format!("0x{receiver}"));
    let price: u128 = terms["amount"].as_str().unwrap().parse().unwrap();
    let (low, _) = ask(&server, &body, Some(&payment(&key, receiver, price - 1)));
    assert_eq!((low.status, low.code().as_str()), (402, "voucher_too_low"));
    let voucher = payment(&key, receiver, price);
    let (whole, raw) = ask(&server, &body, Some(&voucher));
    assert_eq!(whole.status, 200, "{whole:?}");
    let usage = whole.json()["usage"].clone();
    let count = |name: &str| usage[name].as_u64().unwrap();
    let cost =
        (count("prompt_tokens") * PROMPT + count("completion_tokens") * ANSWER).div_ceil(1000);
    let settled = header(&whole, "payment-response", &raw);
    assert_eq!(
        (&settled["success"], &settled["amount"]),
        (&json!(true), &json!(cost.to_string()))
    );
    let left = settled["extra"]["left"].clone();
    assert_eq!(left, (10_000 - cost).to_string());
    // A repeat: the same answer although it is drawn by chance, and nothing more to pay.
    let (again, raw) = ask(&server, &body, Some(&voucher));
    assert_eq!(again.json()["choices"], whole.json()["choices"]);
    assert_eq!(
        header(&again, "payment-response", &raw)["extra"]["left"],
        left
    );
    let (replayed, _) = ask(&server, &question(json!({"max_tokens": 1})), Some(&voucher));
    assert_eq!(
        (replayed.status, replayed.code().as_str()),
        (402, "voucher_replayed")
    );
    // In a stream the receipt is the last event.
    let next = payment(&key, receiver, 2 * price);
    let (stream, _) = ask(&server, &question(json!({"stream": true})), Some(&next));
    let events = stream.events();
    let settled: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
    assert_eq!(
        (events.last().unwrap().as_str(), &settled["success"]),
        ("[DONE]", &json!(true))
    );
}

#[test]
fn a_server_that_is_killed_forgets_neither_a_voucher_nor_a_charge() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = home(folder.path(), 1).peer_id();
    let key = SecretKey::from_seed([2; 32]);
    let body = question(json!({}));
    let voucher = payment(&key, receiver, 100);
    let server = paid_server(folder.path(), key.peer_id(), 10_000);
    let (first, raw) = ask(&server, &body, Some(&voucher));
    assert_eq!(first.status, 200, "{first:?}");
    let left = header(&first, "payment-response", &raw)["extra"]["left"].clone();
    // Dropping kills it.
    drop(server);
    let server = paid_server(folder.path(), key.peer_id(), 10_000);
    let (replayed, _) = ask(&server, &question(json!({"max_tokens": 1})), Some(&voucher));
    assert_eq!(replayed.code(), "voucher_replayed");
    let (again, raw) = ask(&server, &body, Some(&voucher));
    assert_eq!(again.json()["choices"], first.json()["choices"]);
    assert_eq!(
        header(&again, "payment-response", &raw)["extra"]["left"],
        left
    );
}
