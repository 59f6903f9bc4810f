//! A run from its deposit to its end, with nothing in the way.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::json;
use tributary_attribution::settlement::{
    Address, BaseUnits, Keccak, Root, Signature, Slash, Terms,
};
use tributary_attribution::voucher::calls::Collector;
use tributary_attribution::voucher::{ChannelConfig, STOCK_COLLECTOR, STOCK_CONTRACT};
use tributary_settlement::{
    ActionError, Actions, Answer, Asked, Done, Purpose, Seen, SendError, Until, Watch,
};

use crate::world::{Books, MEMBERS, SPONSOR, WINDOW_S, World, key, open};

fn was_sent(done: Done) -> bool {
    matches!(done, Done::Sent(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_from_its_deposit_to_its_end_and_every_step_is_done_once() {
    let Some(world) = World::new().await else {
        return;
    };
    let _running = world.anvil.run();
    world.begin().await;
    let (terms, run) = (world.terms(), world.terms().key());
    let sponsor = world.actions(SPONSOR).await;
    assert!(!was_sent(sponsor.deposit(&terms, open(100)).await.unwrap()));
    let books = Books::of(&[(MEMBERS[0], 30), (15, 20)]);
    let root = world.root(1, &books, true);
    let signatures = world.signed(&root).await;
    assert!(was_sent(
        sponsor.post(&terms, &root, &signatures).await.unwrap()
    ));
    assert!(!was_sent(
        sponsor.post(&terms, &root, &signatures).await.unwrap()
    ));
    let payments = [books.payment(&root, MEMBERS[0]), books.payment(&root, 15)];
    // Too early: the root waits for its window, and nothing is sent.
    let before = world.sent(SPONSOR).await;
    let early = sponsor.claim(&payments).await.unwrap_err();
    assert!(
        early
            .to_string()
            .contains("the proof does not lead to the root that stands"),
        "{early}"
    );
    assert_eq!(world.sent(SPONSOR).await, before);
    world.anvil.pass(WINDOW_S).await;
    assert!(was_sent(sponsor.claim(&payments).await.unwrap()));
    assert_eq!(world.holds(15).await, open(30));
    assert_eq!(world.holds(MEMBERS[0]).await, open(39));
    assert!(!was_sent(sponsor.claim(&payments).await.unwrap()));
    assert_eq!(
        world.holds(15).await,
        open(30),
        "a second claim pays nothing"
    );
    assert!(was_sent(sponsor.reclaim(&terms).await.unwrap()));
    assert!(!was_sent(sponsor.reclaim(&terms).await.unwrap()));
    assert_eq!(world.holds(SPONSOR).await, open(950));
    let member = world.actions(MEMBERS[1]).await;
    assert!(was_sent(member.unbond(&terms, BaseUnits(0)).await.unwrap()));
    assert!(!was_sent(
        member.unbond(&terms, BaseUnits(0)).await.unwrap()
    ));
    let early = member.withdraw(run).await.unwrap_err();
    assert!(early.to_string().contains("too early"), "{early}");
    world.anvil.pass(terms.cooldown_s).await;
    assert!(was_sent(member.withdraw(run).await.unwrap()));
    assert!(!was_sent(member.withdraw(run).await.unwrap()));
    assert_eq!(world.holds(MEMBERS[1]).await, open(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_run_is_halted_and_reclaimed_and_stake_that_does_not_count_is_activated_when_it_may()
 {
    let Some(world) = World::new().await else {
        return;
    };
    let _running = world.anvil.run();
    let (terms, run) = (world.terms(), world.terms().key());
    let sponsor = world.actions(SPONSOR).await;
    sponsor.deposit(&terms, open(5)).await.unwrap();
    // The amount is what is to be there in the end.
    sponsor.deposit(&terms, open(8)).await.unwrap();
    assert_eq!(world.holds(SPONSOR).await, open(992));
    sponsor.bond(&terms, open(1)).await.unwrap();
    let early = sponsor
        .activate(run, key(SPONSOR).address())
        .await
        .unwrap_err();
    assert!(
        matches!(early, ActionError::Send(SendError::Refused { .. })),
        "{early}"
    );
    let early = sponsor.halt(&terms).await.unwrap_err();
    assert!(early.to_string().contains("too early"), "{early}");
    world.anvil.pass(terms.halt_s).await;
    assert!(was_sent(
        sponsor.activate(run, key(SPONSOR).address()).await.unwrap()
    ));
    assert!(was_sent(sponsor.halt(&terms).await.unwrap()));
    assert!(!was_sent(sponsor.halt(&terms).await.unwrap()));
    world.anvil.pass(WINDOW_S).await;
    assert!(was_sent(sponsor.reclaim(&terms).await.unwrap()));
    assert_eq!(world.holds(SPONSOR).await, open(999));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentence_that_the_stake_signed_waits_its_window_and_is_carried_out_once() {
    let Some(world) = World::new().await else {
        return;
    };
    let _running = world.anvil.run();
    world.begin().await;
    let (terms, loser) = (world.terms(), MEMBERS[0]);
    let slash = Slash {
        run: terms.key(),
        account: key(loser).address(),
        amount: open(1),
        evidence: Keccak([7; 32]),
    };
    let sponsor = world.actions(SPONSOR).await;
    let digest = slash.digest(sponsor.chain().deployment());
    let signed =
        |by: &[u8]| -> Vec<Signature> { by.iter().map(|seed| key(*seed).sign(&digest)).collect() };
    let few = sponsor.slash(&terms, &slash, &signed(&[loser])).await;
    assert!(few.is_err(), "the loser's own word is nobody's");
    let all = signed(&MEMBERS);
    assert!(was_sent(sponsor.slash(&terms, &slash, &all).await.unwrap()));
    let early = sponsor.slash(&terms, &slash, &all).await.unwrap_err();
    assert!(early.to_string().contains("too early"), "{early}");
    world.anvil.pass(WINDOW_S).await;
    let staked = async || {
        let chain = sponsor.chain();
        let block = chain.finalized().await.unwrap();
        let stakes = chain.settlement().stakes(terms.key(), slash.account);
        chain.ask(&stakes, &block).await.unwrap()
    };
    let before = staked().await;
    assert!(was_sent(sponsor.slash(&terms, &slash, &all).await.unwrap()));
    let after = staked().await;
    assert_eq!(before.all().0 - after.all().0, open(1).0);
    assert_eq!(after.sentence, None);
    assert!(!was_sent(
        sponsor.slash(&terms, &slash, &all).await.unwrap()
    ));
}

/// Puts `Channels` and its collector where clients of x402 expect them.
async fn place_channels(world: &World) {
    for (place, artifact) in [(STOCK_CONTRACT, "Channels"), (STOCK_COLLECTOR, "Collector")] {
        let path = format!(
            "{}/../attribution/contracts/artifacts/{artifact}.json",
            env!("CARGO_MANIFEST_DIR")
        );
        let artifact: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let code = &artifact["deployedBytecode"]["object"];
        world
            .anvil
            .rpc("anvil_setCode", json!([place.to_string(), code]))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_of_one_block_have_the_run_its_accounts_its_till_and_its_channels() {
    let Some(world) = World::new().await else {
        return;
    };
    let _running = world.anvil.run();
    place_channels(&world).await;
    let run = world.terms().key();
    world.begin().await;
    let payer = world.actions(15).await;
    let chain = payer.chain();
    let block = chain.finalized().await.unwrap();
    let till = chain
        .ask(&chain.settlement().till(run), &block)
        .await
        .unwrap();
    let channel = ChannelConfig {
        payer: payer.account(),
        payer_authorizer: Address::ZERO,
        receiver: till,
        receiver_authorizer: key(MEMBERS[0]).address(),
        token: world.token.0,
        withdraw_delay_s: 3600,
        salt: [7; 32],
    };
    let approve = world.token.approve(STOCK_COLLECTOR, open(3));
    let deposit = Collector(STOCK_COLLECTOR).deposit(chain.channels(), &channel, open(3));
    let to_till = world.token.transfer(till, open(2));
    for (purpose, call) in [("approve", approve), ("channel", deposit), ("fee", to_till)] {
        payer
            .sender()
            .send(&Purpose::new(&[&purpose]), call.into(), Until::Final)
            .await
            .unwrap();
    }
    let id = channel.id(&tributary_attribution::voucher::stock(
        chain.deployment().chain,
    ));
    let accounts: Vec<Address> = MEMBERS.iter().map(|seed| key(*seed).address()).collect();
    let asked = Asked {
        accounts: accounts.clone(),
        channels: vec![id],
    };
    let before = chain.finalized().await.unwrap();
    let facts = chain.facts(run, &asked, &before).await.unwrap();
    assert_eq!(facts.run.deposited, open(100));
    assert_eq!(
        (facts.run.stake, facts.run.fees, facts.in_till),
        (open(3), BaseUnits(0), open(2))
    );
    assert_eq!(facts.till, till);
    assert!(
        accounts
            .iter()
            .all(|account| facts.accounts[account].stake.counting == open(1))
    );
    assert_eq!(
        (facts.channels[&id].balance, facts.channels[&id].claimed),
        (open(3), BaseUnits(0))
    );
    assert!(was_sent(payer.sweep(run).await.unwrap()));
    assert!(!was_sent(payer.sweep(run).await.unwrap()));
    let after = chain
        .facts(run, &asked, &chain.finalized().await.unwrap())
        .await
        .unwrap();
    assert_eq!((after.run.fees, after.in_till), (open(2), BaseUnits(0)));
    // What was asked of a block stays what it was, and does not mix with later blocks.
    assert_eq!(chain.facts(run, &asked, &before).await.unwrap(), facts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_root_is_challenged_by_the_watch_and_void_after_its_window() {
    let Some(world) = World::new().await else {
        return;
    };
    let _running = world.anvil.run();
    world.begin().await;
    let terms = world.terms();
    let right = Books::of(&[(MEMBERS[0], 10)]);
    let wrong = Books::of(&[(MEMBERS[0], 90)]);
    let posted = world.root(4, &wrong, false);
    let poster = world.actions(SPONSOR).await;
    poster
        .post(&terms, &posted, &world.signed(&posted).await)
        .await
        .unwrap();
    let guard = world.actions(15).await;
    let mut watch = Watch::new(&guard, terms);
    // The books are not so far: it waits.
    let seen = watch.look(|_| None).await.unwrap();
    assert!(matches!(seen, Seen::Unjudged { height: 4, .. }), "{seen}");
    assert_eq!(world.holds(15).await, open(10));
    let expected = |height: u64| Some(world.root(height, &right, false));
    let seen = watch.look(expected).await.unwrap();
    let Seen::Wrong {
        height: 4,
        answer: Answer::Challenged(Done::Sent(_)),
        ..
    } = seen
    else {
        panic!("{seen}")
    };
    assert_eq!(world.holds(15).await, open(9));
    // Looked at again, it is this account's challenge, and there is no second one.
    assert_eq!(watch.look(expected).await.unwrap(), seen);
    // Nobody confirms it.
    world.anvil.pass(WINDOW_S).await;
    assert_eq!(watch.look(expected).await.unwrap(), Seen::Nothing);
    let correct = world.root(5, &right, false);
    poster
        .post(&terms, &correct, &world.signed(&correct).await)
        .await
        .unwrap();
    let seen = watch.look(expected).await.unwrap();
    assert!(matches!(seen, Seen::Right { height: 5, .. }), "{seen}");
    assert!(was_sent(guard.collect().await.unwrap()));
    assert!(!was_sent(guard.collect().await.unwrap()));
    assert_eq!(world.holds(15).await, open(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_without_the_bond_says_so_and_challenges_as_soon_as_it_has_it() {
    let Some(world) = World::new().await else {
        return;
    };
    let _running = world.anvil.run();
    world.begin().await;
    let terms = world.terms();
    let wrong = world.root(1, &Books::of(&[(15, 10)]), false);
    let sponsor = world.actions(SPONSOR).await;
    sponsor
        .post(&terms, &wrong, &world.signed(&wrong).await)
        .await
        .unwrap();
    let guard = world.actions(14).await;
    let mut watch = Watch::new(&guard, terms);
    let (failed, done) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let right = world.root(1, &Books::of(&[(15, 1)]), false);
    let watched = watch.watch(
        |_| Some(right),
        |seen| match seen {
            Ok(seen) => done.borrow_mut().push(seen),
            Err(error) => failed.borrow_mut().push(error.to_string()),
        },
    );
    let helped = async {
        while failed.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let call = world.token.transfer(guard.account(), open(1));
        let purpose = Purpose::new(&[&"help"]);
        sponsor
            .sender()
            .send(&purpose, call.into(), Until::Final)
            .await
            .unwrap();
        while done.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        error = watched => panic!("{error}"),
        () = helped => {}
    }
    assert!(failed.borrow()[0].contains("get more first"), "{failed:?}");
    let seen = done.borrow()[0];
    assert!(
        matches!(
            seen,
            Seen::Wrong {
                answer: Answer::Challenged(_),
                ..
            }
        ),
        "{seen}"
    );
}

async fn confirm_when_challenged(
    member: &Actions,
    terms: &Terms,
    root: &Root,
    signatures: &[Signature],
) -> Done {
    loop {
        match member.confirm(terms, root, signatures).await {
            Ok(done) => return done,
            // Nobody has challenged it yet.
            Err(ActionError::Send(SendError::Refused { .. })) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_was_challenged_for_nothing_is_confirmed_and_a_watch_runs_until_it_is_stopped()
{
    let Some(world) = World::new().await else {
        return;
    };
    let _running = world.anvil.run();
    world.begin().await;
    let terms = world.terms();
    let books = Books::of(&[(MEMBERS[0], 10)]);
    let root = world.root(2, &books, false);
    let member = world.actions(MEMBERS[0]).await;
    member
        .post(&terms, &root, &world.signed(&root).await)
        .await
        .unwrap();
    let guard = world.actions(15).await;
    let mut watch = Watch::new(&guard, terms);
    let said = RefCell::new(Vec::new());
    // Its books are damaged.
    let other = world.root(2, &Books::of(&[(15, 10)]), false);
    let expected = |_| -> Option<Root> { Some(other) };
    let watched = watch.watch(expected, |seen| said.borrow_mut().extend(seen.ok()));
    let signatures = world.confirmed(&root).await;
    let confirmed = async {
        let done = confirm_when_challenged(&member, &terms, &root, &signatures).await;
        while said.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        done
    };
    tokio::select! {
        error = watched => panic!("{error}"),
        done = confirmed => assert!(was_sent(done)),
    }
    let first = said.borrow()[0];
    let Seen::Wrong {
        digest,
        answer: Answer::Challenged(_),
        ..
    } = first
    else {
        panic!("{first}");
    };
    assert_eq!(digest, root.digest(guard.chain().deployment()));
    let again = member.confirm(&terms, &root, &signatures).await.unwrap();
    assert!(!was_sent(again));
    let seen = watch.look(expected).await.unwrap();
    assert_eq!(
        seen,
        Seen::Wrong {
            height: 2,
            digest,
            answer: Answer::Confirmed
        }
    );
    world.anvil.pass(WINDOW_S).await;
    assert_eq!(
        watch.look(expected).await.unwrap(),
        Seen::AcceptedWrong { height: 2 }
    );
}
