//! Transactions under hard conditions: prices that leap, programs that end, disks that are full, accounts that others use.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tributary_settlement::{
    ActionError, Config, Done, FeeError, Node, Purpose, Request, SendError, Sender, Table,
    TableError, Until, Wallet,
};

use crate::anvil::number;
use crate::proxy::{Answer, Proxy};
use crate::world::{MEMBERS, SPONSOR, World, config, key, open, sender};

fn mint(world: &World, seed: u8, amount: u128) -> Request {
    world.token.mint(key(seed).address(), open(amount)).into()
}

fn purpose() -> Purpose {
    Purpose::new(&[&"mint"])
}

/// Price of a unit of gas that the first transaction on its way offers, wei.
async fn offered(sender: &Sender) -> u128 {
    sender.on_its_way().await[0].most_per_gas_wei
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leap_of_the_price_is_refused_with_the_cost_and_the_setting_that_bounds_it() {
    let Some(world) = World::new().await else {
        return;
    };
    let node = Node::connect(config(&world.anvil.url)).await.unwrap();
    let sender = sender(node, world.folder.path(), 15);
    let spike = 500_000_000_000_u64;
    world
        .anvil
        .rpc(
            "anvil_setNextBlockBaseFeePerGas",
            json!([format!("{spike:#x}")]),
        )
        .await;
    world.anvil.mine(1).await;
    let error = sender
        .submit(&purpose(), mint(&world, 15, 1))
        .await
        .unwrap_err();
    assert!(
        matches!(error, SendError::Fees(FeeError::Spike { .. })),
        "{error}"
    );
    for part in ["501.000 gwei", "most_per_gas_wei", "100.000 gwei"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(world.sent(15).await, 0);
    assert!(sender.on_its_way().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_became_too_cheap_is_replaced_within_the_ceiling_and_done_once() {
    let Some(world) = World::new().await else {
        return;
    };
    let ceiling = Config {
        most_per_gas_wei: 20_000_000_000,
        ..config(&world.anvil.url)
    };
    let node = Node::connect(ceiling).await.unwrap();
    let sender = sender(node, world.folder.path(), 15);
    let nonce = sender
        .submit(&purpose(), mint(&world, 15, 1))
        .await
        .unwrap();
    let first = offered(&sender).await;
    let leap = async |wei: u128| {
        world
            .anvil
            .rpc(
                "anvil_setNextBlockBaseFeePerGas",
                json!([format!("{wei:#x}")]),
            )
            .await;
        world.anvil.mine(1).await;
    };
    leap(8_000_000_000).await;
    assert_eq!(world.sent(15).await, 0, "no block takes it at {first}");
    sender.advance().await.unwrap();
    let second = offered(&sender).await;
    assert!(
        second * 8 >= first * 9 && second <= 20_000_000_000,
        "{first}, then {second}"
    );
    // Beyond the ceiling nothing more is offered, and what was sent stays.
    leap(40_000_000_000).await;
    let error = sender.advance().await.unwrap_err();
    assert!(
        matches!(error, SendError::Fees(FeeError::Stuck { .. })),
        "{error}"
    );
    assert_eq!(offered(&sender).await, second);
    leap(1_000_000_000).await;
    let _running = world.anvil.run();
    let receipt = sender
        .send(&purpose(), mint(&world, 15, 1), Until::Final)
        .await
        .unwrap();
    assert_eq!((receipt.nonce, world.sent(15).await), (nonce, 1));
    assert_eq!(world.holds(15).await, open(11));
}

/// A table in memory that can be full.
#[derive(Default)]
struct Disk {
    bytes: Mutex<Option<Vec<u8>>>,
    is_full: AtomicBool,
}

impl Table for Disk {
    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.bytes.lock().unwrap().clone())
    }

    fn save(&self, bytes: &[u8]) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        *self.bytes.lock().unwrap() = Some(bytes.to_vec());
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nothing_is_sent_and_afterwards_everything_is_as_before() {
    let Some(world) = World::new().await else {
        return;
    };
    let disk = Arc::new(Disk::default());
    let node = Node::connect(config(&world.anvil.url)).await.unwrap();
    let sender = Sender::open(node, Wallet::from(key(15)), disk.clone()).unwrap();
    disk.is_full.store(true, Ordering::Relaxed);
    let error = sender
        .submit(&purpose(), mint(&world, 15, 1))
        .await
        .unwrap_err();
    assert!(
        matches!(error, SendError::Table(TableError::Write(_))),
        "{error}"
    );
    assert!(error.to_string().contains("nothing was sent"), "{error}");
    let pool = world.anvil.rpc("txpool_status", json!([])).await;
    assert_eq!((number(&pool["pending"]), number(&pool["queued"])), (0, 0));
    assert!(sender.on_its_way().await.is_empty());
    disk.is_full.store(false, Ordering::Relaxed);
    let _running = world.anvil.run();
    sender
        .send(&purpose(), mint(&world, 15, 1), Until::Final)
        .await
        .unwrap();
    assert_eq!((world.sent(15).await, world.holds(15).await), (1, open(11)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_down_and_not_sent_is_sent_by_the_next_start_with_the_same_bytes() {
    let Some(world) = World::new().await else {
        return;
    };
    let proxy = Proxy::start(&world.anvil.url).await;
    let refused = |asked: &serde_json::Value| {
        (asked["method"] == "eth_sendRawTransaction").then_some(Answer::Error("no"))
    };
    proxy.before(refused);
    let node = Node::connect(config(&proxy.url)).await.unwrap();
    let first = sender(node, world.folder.path(), 15);
    first.submit(&purpose(), mint(&world, 15, 1)).await.unwrap();
    let written = first.on_its_way().await;
    let pool = world.anvil.rpc("txpool_status", json!([])).await;
    assert_eq!(number(&pool["pending"]), 0, "nothing was sent");
    drop(first);
    let _running = world.anvil.run();
    let node = Node::connect(config(&world.anvil.url)).await.unwrap();
    let second = sender(node, world.folder.path(), 15);
    assert_eq!(second.on_its_way().await, written);
    // Whatever is asked for now under this purpose, the first is what there is.
    let receipt = second
        .send(&purpose(), mint(&world, 15, 5), Until::Final)
        .await
        .unwrap();
    assert_eq!(receipt.hash, written[0].hash);
    assert_eq!((world.sent(15).await, world.holds(15).await), (1, open(11)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_and_not_final_is_found_again_by_the_next_start() {
    let Some(world) = World::new().await else {
        return;
    };
    let start = async || {
        let node = Node::connect(config(&world.anvil.url)).await.unwrap();
        sender(node, world.folder.path(), 15)
    };
    let first = start().await;
    first.submit(&purpose(), mint(&world, 15, 1)).await.unwrap();
    let written = first.on_its_way().await;
    drop(first);
    // In the pool.
    let second = start().await;
    second
        .submit(&purpose(), mint(&world, 15, 1))
        .await
        .unwrap();
    assert_eq!(second.on_its_way().await, written);
    world.anvil.mine(1).await;
    drop(second);
    // In a block.
    let third = start().await;
    third.advance().await.unwrap();
    assert_eq!(third.on_its_way().await, written);
    world.anvil.mine(4).await;
    drop(third);
    // Final before anybody looked.
    let fourth = start().await;
    let receipt = fourth
        .resume(&purpose(), Until::Final)
        .await
        .unwrap()
        .expect("on its way");
    assert_eq!(receipt.hash, written[0].hash);
    assert!(fourth.on_its_way().await.is_empty());
    assert_eq!(fourth.resume(&purpose(), Until::Final).await.unwrap(), None);
    assert_eq!((world.sent(15).await, world.holds(15).await), (1, open(11)));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_and_the_transaction_does_not() {
    let Some(world) = World::new().await else {
        return;
    };
    let hasty = Config {
        patience: Duration::from_millis(200),
        ..config(&world.anvil.url)
    };
    let sender = sender(Node::connect(hasty).await.unwrap(), world.folder.path(), 15);
    let error = sender
        .send(&purpose(), mint(&world, 15, 1), Until::Final)
        .await
        .unwrap_err();
    assert!(matches!(error, SendError::OnItsWay { .. }), "{error}");
    world.anvil.mine(5).await;
    sender
        .resume(&purpose(), Until::Final)
        .await
        .unwrap()
        .expect("on its way");
    assert_eq!(world.holds(15).await, open(11));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_others_use_is_refused_until_theirs_is_final_and_a_taken_number_is_told() {
    let Some(world) = World::new().await else {
        return;
    };
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = Node::connect(config(&world.anvil.url)).await.unwrap();
    let (ours, theirs) = (
        sender(node.clone(), here.path(), 15),
        sender(node, there.path(), 15),
    );
    theirs
        .submit(&purpose(), mint(&world, 15, 1))
        .await
        .unwrap();
    // In a block, and not final.
    world.anvil.mine(1).await;
    let error = ours
        .submit(&purpose(), mint(&world, 15, 1))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            SendError::Foreign {
                sent: 1,
                of_final: 0,
                ..
            }
        ),
        "{error}"
    );
    world.anvil.mine(4).await;
    theirs
        .resume(&purpose(), Until::Final)
        .await
        .unwrap()
        .expect("on its way");
    // Now both take the same number, and the chain takes one of them.
    ours.submit(&purpose(), mint(&world, 15, 2)).await.unwrap();
    world
        .anvil
        .rpc("anvil_dropAllTransactions", json!([]))
        .await;
    theirs
        .submit(&purpose(), mint(&world, 15, 3))
        .await
        .unwrap();
    let _running = world.anvil.run();
    theirs
        .resume(&purpose(), Until::Final)
        .await
        .unwrap()
        .expect("on its way");
    let error = ours.resume(&purpose(), Until::Final).await.unwrap_err();
    assert!(matches!(error, SendError::Superseded { .. }), "{error}");
    assert_eq!(world.holds(15).await, open(14));
    // Looked at again, it is a new transaction.
    ours.send(&purpose(), mint(&world, 15, 2), Until::Final)
        .await
        .unwrap();
    assert_eq!(world.holds(15).await, open(16));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_coin_or_token_is_told_so_before_anything_is_sent() {
    let Some(world) = World::new().await else {
        return;
    };
    let _running = world.anvil.run();
    let poor = world.actions(99).await;
    let error = poor
        .sender()
        .submit(&purpose(), mint(&world, 99, 1))
        .await
        .unwrap_err();
    assert!(
        matches!(error, SendError::Poor { has_wei: 0, .. }),
        "{error}"
    );
    let member = world.actions(MEMBERS[0]).await;
    let error = member.deposit(&world.terms(), open(11)).await.unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("11.000000000000000000 OPEN are needed") || said.contains("get more first"),
        "{said}"
    );
    assert_eq!(world.sent(MEMBERS[0]).await, 1, "the approval alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_does_nothing_in_its_block_says_why() {
    let Some(world) = World::new().await else {
        return;
    };
    let (terms, run) = (world.terms(), world.terms().key());
    let running = world.anvil.run();
    let sponsor = world.actions(SPONSOR).await;
    sponsor.bond(&terms, open(1)).await.unwrap();
    world.anvil.pass(terms.window_s).await;
    running.stop().await;
    // Two activate the same stake, and both would do something when they are sent.
    let account = key(SPONSOR).address();
    let activate = |purpose: &str| {
        (
            Purpose::new(&[&purpose]),
            Request::from(sponsor.chain().settlement().activate(run, account)),
        )
    };
    let (other, (first, request)) = (world.actions(15).await, activate("first"));
    sponsor
        .sender()
        .submit(&first, request.clone())
        .await
        .unwrap();
    let (second, request) = activate("second");
    other.sender().submit(&second, request).await.unwrap();
    let _running = world.anvil.run();
    let one = sponsor.sender().resume(&first, Until::Final).await;
    let two = other.sender().resume(&second, Until::Final).await;
    let failed = [one, two]
        .into_iter()
        .filter_map(Result::err)
        .collect::<Vec<_>>();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(
        matches!(failed[0], SendError::Reverted { .. }),
        "{}",
        failed[0]
    );
    // The step looks at the chain, and finds it done.
    assert!(matches!(
        other.activate(run, account).await,
        Ok(Done::AlreadySo(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn terms_that_take_no_money_are_refused_without_asking_the_chain() {
    let Some(world) = World::new().await else {
        return;
    };
    let sponsor = world.actions(SPONSOR).await;
    let terms = tributary_attribution::settlement::Terms {
        window_s: 0,
        ..world.terms()
    };
    assert!(matches!(
        sponsor.deposit(&terms, open(1)).await,
        Err(ActionError::Terms(_))
    ));
}
