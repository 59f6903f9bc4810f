//! The till with its folder, asked as the server asks it.

use axum::http::{HeaderMap, HeaderValue};
use serde_json::Map;
use tributary_attribution::settlement::{BaseUnits, EvmKey};
use tributary_attribution::voucher::{ChannelConfig, Voucher};
use tributary_engine::request::Consumer;
use tributary_protocol::hash;

use super::*;
use crate::serve::quote::named;
use crate::serve::x402::{Payment, Required, Settled, Terms};
use tributary_attribution::voucher::Authorization;

const PRICES: Prices = Prices {
    prompt: MicroOpen(1000),
    answer: MicroOpen(2000),
};

struct Scene {
    folder: tempfile::TempDir,
    key: EvmKey,
    server: Address,
}

fn key(seed: u8) -> EvmKey {
    EvmKey::from_bytes(&[seed; 32]).unwrap()
}

/// An amount of micro-OPEN as the wire has it.
fn on_wire(micro: u128) -> String {
    format!("{micro}000000000000")
}

impl Scene {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            key: key(1),
            server: key(2).address(),
        }
    }

    fn open(&self, granted: u128) -> Result<Allowance, DiskError> {
        let grants = [(self.key.address(), MicroOpen(granted))];
        Allowance::open(
            &self.folder.path().join("allowances"),
            self.server,
            PRICES,
            grants,
        )
    }

    fn channel(&self) -> ChannelConfig {
        let payer = self.key.address();
        ChannelConfig {
            payer,
            payer_authorizer: payer,
            receiver: self.server,
            receiver_authorizer: self.server,
            token: x402::chain().token,
            withdraw_delay_s: MIN_WITHDRAW_DELAY_S,
            salt: [0; 32],
        }
    }

    fn payment(&self, channel: &ChannelConfig, total: u128) -> HeaderMap {
        self.payment_of(channel, BaseUnits(total * 1_000_000_000_000), None)
    }

    fn payment_of(
        &self,
        channel: &ChannelConfig,
        max: BaseUnits,
        deposit: Option<BaseUnits>,
    ) -> HeaderMap {
        let scheme = x402::chain().channels_deployment();
        let id = channel.id(&scheme);
        let voucher = Voucher {
            channel: id,
            max,
            signature: self.key.sign(&Voucher::digest(id, max, &scheme)),
        };
        let wanted = Requirements {
            receiver: self.server,
            receiver_authorizer: self.server,
            token: channel.token,
            withdraw_delay_s: channel.withdraw_delay_s,
        };
        let terms = Terms::new(&wanted, &scheme, MicroOpen(0), Map::new());
        let deposit = deposit.map(|amount| {
            let (token, times) = (x402::token(), 0..1 << 33);
            let signed =
                Authorization::sign(&self.key, channel, amount, &scheme, &token, times, [1; 32]);
            (amount, signed)
        });
        let deposit = deposit.as_ref().map(|(amount, signed)| (*amount, signed));
        let payment = Payment::new(terms, channel, &voucher, deposit);
        let (name, value) = named(x402::SIGNATURE, &payment);
        HeaderMap::from_iter([(name, value)])
    }
}

/// A request with 10 tokens of prompt and 5 of answer: 20 micro-OPEN.
async fn ask(till: &Allowance, headers: &HeaderMap, body: &[u8]) -> Result<Box<dyn Bill>, Refusal> {
    till.admit(Asked {
        headers,
        consumer: Consumer::default(),
        model: "brook",
        prompt_tokens: 10,
        max_tokens: 5,
        body: hash::blob(body),
        origin: None,
    })
    .await
}

fn made(answer_tokens: usize) -> Made {
    Made {
        prompt_tokens: 10,
        answer_tokens,
        ..Made::default()
    }
}

fn required(refusal: &Refusal) -> Required {
    let header = refusal
        .headers
        .iter()
        .find(|(name, _)| name.as_str() == x402::REQUIRED);
    x402::decoded(header.unwrap().1.as_bytes()).unwrap()
}

#[tokio::test]
async fn a_request_without_a_payment_is_told_what_it_costs_and_one_with_it_what_it_cost() {
    let scene = Scene::new();
    let till = scene.open(100).unwrap();
    let refusal = ask(&till, &HeaderMap::new(), b"a").await.err().unwrap();
    assert_eq!(
        (refusal.status.as_u16(), refusal.code),
        (402, "payment_required")
    );
    let terms = &required(&refusal).accepts[0];
    assert_eq!(
        (terms.amount().unwrap(), &terms.pay_to),
        (MicroOpen(20), &scene.server.to_string())
    );
    let paid = scene.payment(&scene.channel(), 20);
    let bill = ask(&till, &paid, b"a").await.unwrap();
    let receipt = bill.settle(made(2)).await;
    let settled: Settled = x402::decoded(receipt.headers[0].1.as_bytes()).unwrap();
    assert_eq!(
        (&settled.amount, settled.extra["left"].as_str()),
        (&on_wire(14), Some(on_wire(86).as_str()))
    );
    assert_eq!(
        receipt.event.unwrap().1,
        serde_json::to_value(&settled).unwrap()
    );
}

#[tokio::test]
async fn every_voucher_that_is_not_good_is_refused_by_its_own_name() {
    let scene = Scene::new();
    let till = scene.open(100).unwrap();
    let code = async |headers: &HeaderMap, body: &[u8]| {
        let refusal = ask(&till, headers, body).await.err().unwrap();
        (refusal.status.as_u16(), refusal.code)
    };
    let channel = scene.channel();
    let other = |change: fn(&mut ChannelConfig)| {
        let mut other = channel;
        change(&mut other);
        other
    };
    type Change = fn(&mut ChannelConfig);
    let changes: [(&str, Change); 6] = [
        ("wrong_server", |c| c.receiver = c.payer),
        ("wrong_server", |c| c.receiver_authorizer = c.payer),
        ("wrong_token", |c| c.token = c.payer),
        ("wrong_delay", |c| c.withdraw_delay_s += 1),
        ("bad_signature", |c| {
            c.payer = c.receiver;
            c.payer_authorizer = c.receiver;
        }),
        // Else whoever names a payer draws on its allowance.
        ("other_authorizer", |c| c.payer_authorizer = c.receiver),
    ];
    for (wanted, change) in changes {
        let paid = scene.payment(&other(change), 20);
        assert_eq!(code(&paid, b"a").await, (402, wanted));
    }
    let paid = scene.payment_of(&channel, BaseUnits(20_000_000_000_001), None);
    assert_eq!(code(&paid, b"a").await, (402, "voucher_amount"));
    let paid = scene.payment_of(&channel, BaseUnits(1 << 50), Some(BaseUnits(1 << 60)));
    assert_eq!(code(&paid, b"a").await, (402, "deposits_not_taken"));
    assert_eq!(
        code(&scene.payment(&channel, 19), b"a").await,
        (402, "voucher_too_low")
    );
    let stranger = Scene {
        key: key(9),
        ..Scene::new()
    };
    assert_eq!(
        code(&stranger.payment(&stranger.channel(), 20), b"a").await,
        (402, "unknown_consumer")
    );
    let mut twice = scene.payment(&channel, 20);
    twice.append(x402::SIGNATURE, HeaderValue::from_static("x"));
    assert_eq!(code(&twice, b"a").await, (400, "payment_malformed"));
    let paid = scene.payment(&channel, 60);
    let bill = ask(&till, &paid, b"a").await.unwrap();
    assert_eq!(code(&paid, b"a").await, (409, "repeat_in_flight"));
    assert_eq!(code(&paid, b"b").await, (402, "voucher_replayed"));
    assert_eq!(
        code(&scene.payment(&channel, 59), b"b").await,
        (402, "voucher_falling")
    );
    bill.settle(made(5)).await;
}

#[tokio::test]
async fn whoever_has_spent_its_allowance_is_told_where_it_stands() {
    let scene = Scene::new();
    let till = scene.open(100).unwrap();
    let channel = scene.channel();
    let first = ask(&till, &scene.payment(&channel, 60), b"a")
        .await
        .unwrap();
    first.settle(made(5)).await;
    // 20 of 100 are spent.
    let refusal = {
        let mut bills = Vec::new();
        for total in [100, 120, 140, 160] {
            bills.push(
                ask(&till, &scene.payment(&channel, total), b"c")
                    .await
                    .unwrap(),
            );
        }
        ask(&till, &scene.payment(&channel, 180), b"c")
            .await
            .err()
            .unwrap()
    };
    assert_eq!(refusal.code, "allowance_exhausted");
    let extra = &required(&refusal).accepts[0].extra;
    let state = &extra["channelState"];
    assert_eq!(state["chargedCumulativeAmount"], on_wire(20));
    assert_eq!(extra["voucherState"]["signedMaxClaimable"], on_wire(160));
}

#[tokio::test]
async fn a_repeat_draws_the_same_answer_and_another_voucher_another() {
    let scene = Scene::new();
    let till = scene.open(1000).unwrap();
    let seed = async |total: u128, body: &[u8]| {
        let bill = ask(&till, &scene.payment(&scene.channel(), total), body)
            .await
            .unwrap();
        let seed = bill.seed().unwrap();
        bill.settle(made(5)).await;
        seed
    };
    let first = seed(20, b"a").await;
    assert_eq!(seed(20, b"a").await, first);
    assert_ne!(seed(40, b"a").await, first);
}

#[tokio::test]
async fn nothing_that_was_told_is_lost_when_the_server_stops_at_any_moment() {
    let scene = Scene::new();
    let channel = scene.channel();
    // Each try stops the server at another moment; a copy of the folder is what it finds afterwards.
    let till = scene.open(1000).unwrap();
    let bill = ask(&till, &scene.payment(&channel, 20), b"a")
        .await
        .unwrap();
    let admitted = copy(&scene);
    bill.settle(made(5)).await;
    let settled = copy(&scene);
    drop(till);
    // After the voucher was taken: it pays for its own request and for no other.
    let till = admitted.open(1000).unwrap();
    let replayed = ask(&till, &scene.payment(&channel, 20), b"b")
        .await
        .err()
        .unwrap();
    assert_eq!(replayed.code, "voucher_replayed");
    let bill = ask(&till, &scene.payment(&channel, 20), b"a")
        .await
        .unwrap();
    let settled_twice = bill.settle(made(5)).await.event.unwrap().1;
    assert_eq!(settled_twice["extra"]["left"], on_wire(980));
    // After it was charged: a repeat costs nothing more.
    let till = settled.open(1000).unwrap();
    let bill = ask(&till, &scene.payment(&channel, 20), b"a")
        .await
        .unwrap();
    assert_eq!(
        bill.settle(made(5)).await.event.unwrap().1["extra"]["left"],
        on_wire(980)
    );
}

fn copy(scene: &Scene) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("allowances")).unwrap();
    for entry in std::fs::read_dir(scene.folder.path().join("allowances")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(
            entry.path(),
            folder.path().join("allowances").join(entry.file_name()),
        )
        .unwrap();
    }
    Scene {
        folder,
        key: scene.key.clone(),
        server: scene.server,
    }
}

#[tokio::test]
async fn a_bill_that_nobody_settles_costs_nothing_and_frees_what_it_held() {
    let scene = Scene::new();
    let till = scene.open(20).unwrap();
    drop(
        ask(&till, &scene.payment(&scene.channel(), 20), b"a")
            .await
            .unwrap(),
    );
    let bill = ask(&till, &scene.payment(&scene.channel(), 40), b"b")
        .await
        .unwrap();
    assert_eq!(
        bill.settle(made(5)).await.event.unwrap().1["amount"],
        on_wire(20)
    );
}

#[tokio::test]
async fn a_voucher_that_cannot_be_written_down_is_not_taken() {
    let scene = Scene::new();
    let till = scene.open(100).unwrap();
    // A folder in the file's place cannot be replaced.
    let file = scene
        .folder
        .path()
        .join("allowances")
        .join(format!("{}.json", scene.key.address()));
    std::fs::create_dir(&file).unwrap();
    let paid = scene.payment(&scene.channel(), 20);
    let refusal = ask(&till, &paid, b"a").await.err().unwrap();
    assert_eq!(
        (refusal.status.as_u16(), refusal.code),
        (503, "voucher_not_kept")
    );
    std::fs::remove_dir(&file).unwrap();
    // Nothing is held for it, and it is good still.
    let bill = ask(&till, &paid, b"a").await.unwrap();
    assert_eq!(
        bill.settle(made(5)).await.event.unwrap().1["extra"]["left"],
        on_wire(80)
    );
}

#[test]
fn two_servers_do_not_share_a_folder_and_a_damaged_account_is_told() {
    let scene = Scene::new();
    let till = scene.open(100).unwrap();
    assert!(matches!(scene.open(100), Err(DiskError::Held(_))));
    drop(till);
    let file = scene
        .folder
        .path()
        .join("allowances")
        .join(format!("{}.json", scene.key.address()));
    for damaged in [
        "",
        "{}",
        r#"{"schema":"account/1","charged":"x","closed":null,"channels":[]}"#,
    ] {
        std::fs::write(&file, damaged).unwrap();
        let error = scene.open(100).err().unwrap();
        assert!(matches!(error, DiskError::Damaged { .. }), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
    let old = file.with_file_name(format!("{}.json", "a".repeat(64)));
    let text = r#"{"schema":"allowance/1","charged":"1","floor":0,"channels":[]}"#;
    std::fs::write(&old, text).unwrap();
    let error = scene.open(100).err().unwrap();
    assert!(error.to_string().contains("earlier version"), "{error}");
}

#[tokio::test]
async fn a_total_that_was_passed_is_answered_so_that_clients_of_x402_catch_up() {
    let scene = Scene::new();
    let till = scene.open(1000).unwrap();
    let channel = scene.channel();
    let bill = ask(&till, &scene.payment(&channel, 90), b"a")
        .await
        .unwrap();
    bill.settle(made(2)).await;
    let refusal = ask(&till, &scene.payment(&channel, 34), b"b").await;
    let refusal = refusal.err().unwrap();
    let asked = required(&refusal);
    assert_eq!(
        (refusal.code, asked.error.as_deref()),
        ("voucher_falling", Some(x402::MISMATCH))
    );
    // 14 are charged and 90 are signed: the first total that is new is 91.
    let terms = &asked.accepts[0];
    assert_eq!(terms.amount().unwrap(), MicroOpen(77));
    assert_eq!(terms.extra_amount("price").unwrap(), MicroOpen(20));
    assert_eq!(
        terms.state("voucherState", "signedMaxClaimable"),
        Some(on_wire(90).as_str())
    );
    // The same client is asked for that at once, because it may know only what was charged.
    let unpaid = ask(&till, &HeaderMap::new(), b"b").await.err().unwrap();
    let terms = &required(&unpaid).accepts[0];
    assert_eq!(terms.amount().unwrap(), MicroOpen(77));
    assert!(terms.state("channelState", "balance").is_none());
    let bill = ask(&till, &scene.payment(&channel, 14 + 77), b"b")
        .await
        .unwrap();
    bill.settle(made(2)).await;
}
