//! Reorganisations and restarts in the middle of everything: what is to be done is done, and once.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tributary_attribution::settlement::Keccak;
use tributary_settlement::{Actions, Answer, Asked, Done, Seen, SendError, Until, Watch};

use crate::world::{Books, MEMBERS, SPONSOR, WINDOW_S, World, key, open};

/// The sponsor's program: the one that runs, or one that has just started.
async fn start<'a>(world: &World, kept: &'a mut Option<Actions>, restart: bool) -> &'a Actions {
    if restart {
        *kept = None;
    }
    if kept.is_none() {
        *kept = Some(world.actions(SPONSOR).await);
    }
    kept.as_ref().expect("it runs")
}

/// Every step of a run that pays 30 OPEN to a member. `restart`: whether each step is done by a program that has just started.
async fn whole(world: &World, restart: bool) {
    let (terms, run) = (world.terms(), world.terms().key());
    let mut kept = None;
    let sponsor = start(world, &mut kept, restart).await;
    sponsor.deposit(&terms, open(100)).await.unwrap();
    for member in MEMBERS {
        world
            .actions(member)
            .await
            .bond(&terms, open(1))
            .await
            .unwrap();
    }
    world.anvil.pass(WINDOW_S).await;
    for member in MEMBERS {
        world
            .actions(member)
            .await
            .activate(run, key(member).address())
            .await
            .unwrap();
    }
    let books = Books::of(&[(MEMBERS[0], 30)]);
    let root = world.root(1, &books, true);
    let signatures = world.signed(&root).await;
    let sponsor = start(world, &mut kept, restart).await;
    sponsor.post(&terms, &root, &signatures).await.unwrap();
    world.anvil.pass(WINDOW_S).await;
    let sponsor = start(world, &mut kept, restart).await;
    sponsor
        .claim(&[books.payment(&root, MEMBERS[0])])
        .await
        .unwrap();
    let sponsor = start(world, &mut kept, restart).await;
    sponsor.reclaim(&terms).await.unwrap();
    assert_eq!(world.holds(MEMBERS[0]).await, open(39));
    assert_eq!(world.holds(SPONSOR).await, open(970));
    assert_eq!(world.holds(MEMBERS[1]).await, open(9));
    // An approval, a deposit, a root, a claim and a reclaim; an approval, a bond and an activation.
    assert_eq!(world.sent(SPONSOR).await, 5);
    assert_eq!(world.sent(MEMBERS[1]).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transaction_that_a_reorganisation_drops_is_sent_again_and_done_once() {
    let Some(world) = World::new().await else {
        return;
    };
    let running = world.anvil.run_with_reorganisations();
    whole(&world, false).await;
    // Five of the sponsor, and three of each member.
    assert_eq!(running.undone(), 14, "every one was dropped once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_starts_anew_before_every_step_does_each_of_them_once() {
    let Some(world) = World::new().await else {
        return;
    };
    let running = world.anvil.run_with_reorganisations();
    whole(&world, true).await;
    assert_eq!(running.undone(), 14, "every one was dropped once");
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_of_several_tasks_at_once_are_each_done_once_and_share_no_allowance() {
    let Some(world) = World::new().await else {
        return;
    };
    let _running = world.anvil.run_with_reorganisations();
    let (terms, sponsor) = (world.terms(), Arc::new(world.actions(SPONSOR).await));
    let mut steps = tokio::task::JoinSet::new();
    for total in [20, 40, 40, 30] {
        let sponsor = sponsor.clone();
        steps.spawn(async move { sponsor.deposit(&terms, open(total)).await });
    }
    for _ in 0..2 {
        let sponsor = sponsor.clone();
        steps.spawn(async move { sponsor.bond(&terms, open(5)).await });
    }
    for done in steps.join_all().await {
        done.unwrap();
    }
    let asked = Asked {
        accounts: vec![sponsor.account()],
        channels: Vec::new(),
    };
    let block = sponsor.chain().finalized().await.unwrap();
    let facts = sponsor.chain().facts(terms.key(), &asked, &block);
    let facts = facts.await.unwrap();
    assert_eq!(facts.run.deposited, open(40));
    assert_eq!(facts.accounts[&sponsor.account()].stake.maturing, open(5));
    assert_eq!(world.holds(SPONSOR).await, open(955));
    let waits = tokio::spawn(async move {
        let mut watch = Watch::new(&sponsor, terms);
        watch.watch(|_| None, |_| ()).await
    });
    waits.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_stopped_at_any_moment_of_a_deposit_pays_once() {
    let Some(world) = World::new().await else {
        return;
    };
    let _running = world.anvil.run_with_reorganisations();
    let terms = world.terms();
    // The step is dropped wherever it is, later and later, until it ends.
    for patience_ms in (0..).map(|n| 20 * n) {
        let sponsor = world.actions(SPONSOR).await;
        let step = sponsor.deposit(&terms, open(40));
        if tokio::time::timeout(Duration::from_millis(patience_ms), step)
            .await
            .is_ok()
        {
            break;
        }
    }
    let sponsor = world.actions(SPONSOR).await;
    assert!(matches!(
        sponsor.deposit(&terms, open(40)).await,
        Ok(Done::AlreadySo(_))
    ));
    assert_eq!(world.holds(SPONSOR).await, open(960));
    assert_eq!(world.sent(SPONSOR).await, 2, "an approval and a deposit");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_chain_has_no_use_for_after_a_reorganisation_is_withdrawn_and_its_number_used_up()
{
    let Some(world) = World::new().await else {
        return;
    };
    let running = world.anvil.run();
    world.begin().await;
    let terms = world.terms();
    let root = world.root(3, &Books::of(&[(15, 5)]), false);
    let signatures = world.signed(&root).await;
    let (ours, theirs) = (
        world.actions(MEMBERS[0]).await,
        world.actions(MEMBERS[1]).await,
    );
    running.stop().await;
    let digest = root.digest(ours.chain().deployment());
    let call = ours.chain().settlement().post(
        &terms,
        &root,
        &tributary_attribution::settlement::calls::ascending(&digest, &signatures).unwrap(),
    );
    let purpose = tributary_settlement::Purpose::new(&[&"post", &root.run, &root.height]);
    ours.sender().submit(&purpose, call.into()).await.unwrap();
    world.anvil.mine(1).await;
    world.anvil.rpc("anvil_reorg", json!([1, []])).await;
    world
        .anvil
        .rpc("anvil_dropAllTransactions", json!([]))
        .await;
    // Somebody else posts it meanwhile.
    let _running = world.anvil.run();
    assert!(matches!(
        theirs.post(&terms, &root, &signatures).await,
        Ok(Done::Sent(_))
    ));
    let before = world.sent(MEMBERS[0]).await;
    let error = ours
        .sender()
        .resume(&purpose, Until::Final)
        .await
        .unwrap_err();
    assert!(matches!(error, SendError::Withdrawn { .. }), "{error}");
    assert!(
        error.to_string().contains("height 3 is posted already"),
        "{error}"
    );
    assert_eq!(world.sent(MEMBERS[0]).await, before + 1);
    // The step finds it done, and the account goes on.
    assert!(matches!(
        ours.post(&terms, &root, &signatures).await,
        Ok(Done::AlreadySo(_))
    ));
    ours.bond(&terms, open(2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_that_a_reorganisation_drops_is_made_again_and_voids_the_root() {
    let Some(world) = World::new().await else {
        return;
    };
    let _running = world.anvil.run_with_reorganisations();
    world.begin().await;
    let terms = world.terms();
    let wrong = world.root(4, &Books::of(&[(MEMBERS[0], 90)]), false);
    let signatures = world.signed(&wrong).await;
    world
        .actions(SPONSOR)
        .await
        .post(&terms, &wrong, &signatures)
        .await
        .unwrap();
    let right = world.root(4, &Books::of(&[(MEMBERS[0], 9)]), false);
    // A guard that starts anew finds its own challenge.
    for _ in 0..2 {
        let guard = world.actions(15).await;
        let mut watch = Watch::new(&guard, terms);
        let seen = watch.look(|_| Some(right)).await.unwrap();
        let Seen::Wrong { answer, digest, .. } = seen else {
            panic!("{seen}")
        };
        assert!(
            matches!(answer, Answer::Challenged(_) | Answer::By(_)),
            "{seen}"
        );
        assert_ne!(digest, Keccak::ZERO);
    }
    assert_eq!(world.sent(15).await, 2, "an approval and a challenge");
    world.anvil.pass(WINDOW_S).await;
    let guard = world.actions(15).await;
    let facts = guard
        .chain()
        .facts(
            terms.key(),
            &Default::default(),
            &guard.chain().finalized().await.unwrap(),
        )
        .await
        .unwrap();
    assert_eq!((facts.run.pending, facts.run.accepted.height), (None, 0));
    // The contract writes down that the bond came back when something is done in the run.
    assert!(matches!(guard.collect().await.unwrap(), Done::AlreadySo(_)));
    let next = world.root(5, &Books::of(&[(MEMBERS[0], 9)]), false);
    let signatures = world.signed(&next).await;
    guard.post(&terms, &next, &signatures).await.unwrap();
    assert!(matches!(guard.collect().await.unwrap(), Done::Sent(_)));
    assert_eq!(world.holds(15).await, open(10));
}
