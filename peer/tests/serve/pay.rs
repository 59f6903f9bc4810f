//! A server that is paid, by bytes written by hand as x402 has them.

use std::path::Path;

use data_encoding::BASE64;
use serde_json::{Value, json};
use tributary_attribution::settlement::{Address, BaseUnits, EvmKey};
use tributary_attribution::test_chain::TestChain;
use tributary_attribution::voucher::{ChannelConfig, Voucher};
use tributary_peer::identity::Identity;
use tributary_protocol::sign::SecretKey;

use crate::server::{Reply, Server};

pub(crate) const CHAT: &str = "/v1/chat/completions";
/// Micro-OPEN for 1,000 tokens.
const PROMPT: u64 = 1000;
const ANSWER: u64 = 5000;

/// A home with a key, and the key of its account.
pub(crate) fn home(folder: &Path, seed: u8) -> EvmKey {
    let identity = Identity::from_seed([seed; 32]);
    identity.create_file(&folder.join("key")).unwrap();
    account(seed)
}

/// The account of the peer of a home.
pub(crate) fn account_of(home: &Path) -> Address {
    let identity = Identity::read_file(&home.join("key")).unwrap();
    EvmKey::of_peer(&SecretKey::from_seed(*identity.seed())).address()
}

/// The key of the account that a peer of this seed is paid at.
pub(crate) fn account(seed: u8) -> EvmKey {
    EvmKey::of_peer(&SecretKey::from_seed([seed; 32]))
}

/// An amount of micro-OPEN as the wire has it.
pub(crate) fn on_wire(micro: u64) -> String {
    (u128::from(micro) * 1_000_000_000_000).to_string()
}

/// A server that is paid, and grants `consumer` so much.
pub(crate) fn paid_server(home: &Path, consumer: Address, granted: u64) -> Server {
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

/// What a voucher of `key` for `server` looks like in a header; totals are micro-OPEN.
fn payment(key: &EvmKey, server: Address, total: u64) -> String {
    let chain = TestChain::deployed();
    let (scheme, payer) = (chain.channels_deployment(), key.address());
    let config = ChannelConfig {
        payer,
        payer_authorizer: payer,
        receiver: server,
        receiver_authorizer: server,
        token: chain.token,
        withdraw_delay_s: 900,
        salt: [1; 32],
    };
    let (channel, max) = (
        config.id(&scheme),
        BaseUnits(on_wire(total).parse().unwrap()),
    );
    let signature = key.sign(&Voucher::digest(channel, max, &scheme));
    let payment = json!({
        "x402Version": 2,
        "accepted": {
            "scheme": "batch-settlement", "network": format!("eip155:{}", chain.chain.0), "amount": "1",
            "asset": chain.token.to_string(), "payTo": server.to_string(), "maxTimeoutSeconds": 600, "extra": {},
        },
        "payload": {
            "type": "voucher",
            "channelConfig": {
                "payer": payer.to_string(), "payerAuthorizer": payer.to_string(),
                "receiver": server.to_string(), "receiverAuthorizer": server.to_string(),
                "token": chain.token.to_string(), "withdrawDelay": 900, "salt": format!("0x{}", "01".repeat(32)),
            },
            "voucher": {
                "channelId": channel.to_string(),
                "maxClaimableAmount": max.0.to_string(),
                "signature": signature.to_string(),
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
    let receiver = home(folder.path(), 1).address();
    let key = account(2);
    let server = paid_server(folder.path(), key.address(), 10_000);
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
    assert_eq!(terms["payTo"], receiver.to_string());
    let price: u128 = terms["amount"].as_str().unwrap().parse().unwrap();
    let price = u64::try_from(price / 1_000_000_000_000).unwrap();
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
        (&json!(true), &json!(on_wire(cost)))
    );
    let left = settled["extra"]["left"].clone();
    assert_eq!(left, on_wire(10_000 - cost));
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
    let receiver = home(folder.path(), 1).address();
    let key = account(2);
    let body = question(json!({}));
    let voucher = payment(&key, receiver, 100);
    let server = paid_server(folder.path(), key.address(), 10_000);
    let (first, raw) = ask(&server, &body, Some(&voucher));
    assert_eq!(first.status, 200, "{first:?}");
    let left = header(&first, "payment-response", &raw)["extra"]["left"].clone();
    // Dropping kills it.
    drop(server);
    let server = paid_server(folder.path(), key.address(), 10_000);
    let (replayed, _) = ask(&server, &question(json!({"max_tokens": 1})), Some(&voucher));
    assert_eq!(replayed.code(), "voucher_replayed");
    let (again, raw) = ask(&server, &body, Some(&voucher));
    assert_eq!(again.json()["choices"], first.json()["choices"]);
    assert_eq!(
        header(&again, "payment-response", &raw)["extra"]["left"],
        left
    );
}

/// Has x402's client for Node pay, where `npm ci` has installed it; false where it has not.
pub(crate) fn node_pays(server: &Server, key: &EvmKey, model: &str, kind: &str) -> bool {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/serve/node");
    if !folder.join("node_modules/@x402").is_dir() {
        eprintln!(
            "skipped: {} has no node_modules; run `npm ci` there",
            folder.display()
        );
        return false;
    }
    let secret = format!("0x{}", data_encoding::HEXLOWER.encode(&*key.to_bytes()));
    let output = std::process::Command::new("node")
        .arg(folder.join("pay.mjs"))
        .args([&server.url(), &secret, model, kind])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("paid for every answer"),
        "{said}"
    );
    true
}

#[test]
fn x402s_client_for_node_pays_with_an_allowance_and_catches_up_after_a_lost_response() {
    let folder = tempfile::tempdir().unwrap();
    home(folder.path(), 1);
    let key = account(2);
    let server = paid_server(folder.path(), key.address(), 10_000);
    node_pays(&server, &key, "brook", "allowance");
}
