//! The till and its task with a chain of the test's own, which certifies when it is told to.

mod handing;
mod scene;

use tributary_attribution::voucher::Withdrawal;

use tributary_attribution::settlement::EvmKey;
use tributary_protocol::hash;
use tributary_protocol::id::{PeerId, Ppb};

use super::super::cashier::CashierError;
use super::super::said::{SaidFolder, text_hash};
use super::super::x402::{EXCEEDS, MISMATCH};
use super::*;
use scene::{Pays, Scene, made, on_wire, required, said, until};

#[tokio::test]
async fn a_first_answer_is_paid_by_a_deposit_and_further_ones_by_vouchers() {
    let scene = Scene::new();
    let till = scene.open(1000);
    let refusal = scene.ask(&till, None, b"a").await.err().unwrap();
    let terms = &required(&refusal).accepts[0];
    assert_eq!(terms.requirements().unwrap(), scene.payee().wanted);
    assert_eq!(
        (refusal.code, terms.amount().unwrap()),
        ("payment_required", MicroOpen(20))
    );
    let first = scene.pays(20).with(100);
    let bill = scene.ask(&till, Some(&first), b"a").await.unwrap();
    let settled = bill.settle(made(2)).await.event.unwrap().1;
    let state = &settled["extra"]["channelState"];
    assert_eq!(
        (
            &settled["amount"],
            &state["balance"],
            &state["chargedCumulativeAmount"]
        ),
        (
            &on_wire(14).into(),
            &on_wire(100).into(),
            &on_wire(14).into()
        )
    );
    assert_eq!(scene.chain.deposits().len(), 1);
    scene.chain.certify();
    for (total, charged) in [(34, 28), (48, 42)] {
        let bill = scene
            .ask(&till, Some(&scene.pays(total)), b"b")
            .await
            .unwrap();
        let settled = bill.settle(made(2)).await.event.unwrap().1;
        let state = &settled["extra"]["channelState"];
        assert_eq!(state["chargedCumulativeAmount"], on_wire(charged));
    }
}

#[tokio::test]
async fn a_deposit_beyond_what_is_risked_is_waited_for_and_filed_once_however_often_it_is_sent() {
    let scene = Scene::new();
    let till = scene.open(15);
    let first = scene.pays(20).with(100);
    let refusal = scene.ask(&till, Some(&first), b"a").await.err().unwrap();
    assert_eq!(
        (refusal.status.as_u16(), refusal.code),
        (503, "deposit_unseen")
    );
    let again = scene.ask(&till, Some(&first), b"a").await.err().unwrap();
    assert_eq!(
        (again.code, scene.chain.deposits().len()),
        ("deposit_unseen", 1)
    );
    // While a request waits for it, the chain shows it.
    let (asked, ()) = tokio::join!(scene.ask(&till, Some(&first), b"a"), async {
        tokio::time::sleep(Duration::from_millis(60)).await;
        scene.chain.certify();
    });
    asked.unwrap().settle(made(5)).await;
    let again = scene.ask(&till, Some(&first), b"a").await.unwrap();
    let settled = again.settle(made(5)).await.event.unwrap().1;
    assert_eq!(settled["extra"]["left"], on_wire(80));
    assert_eq!(scene.chain.deposits().len(), 1);
}

#[tokio::test]
async fn unseen_deposits_of_all_channels_together_are_trusted_with_so_much_and_no_more() {
    let scene = Scene::new();
    let till = scene.open(20);
    for salt in 0..16 {
        let first = scene.pays(20).with(20).of(salt);
        let bill = scene.ask(&till, Some(&first), &[salt]).await.unwrap();
        bill.settle(made(5)).await;
    }
    let next = scene.pays(20).with(20).of(16);
    let refusal = scene.ask(&till, Some(&next), b"b").await.err().unwrap();
    assert_eq!(refusal.code, "deposit_unseen");
    scene.chain.certify();
    scene.ask(&till, Some(&next), b"b").await.unwrap();
}

#[tokio::test]
async fn a_channel_is_topped_up_when_a_voucher_is_above_its_deposit() {
    let scene = Scene::new();
    let till = scene.open(1000);
    let empty = scene
        .ask(&till, Some(&scene.pays(20)), b"a")
        .await
        .err()
        .unwrap();
    let asked = required(&empty);
    assert_eq!(
        (empty.code, asked.error.as_deref()),
        ("voucher_above_deposit", Some(EXCEEDS))
    );
    assert_eq!(asked.accepts[0].state("channelState", "balance"), Some("0"));
    let first = scene.pays(20).with(30);
    scene
        .ask(&till, Some(&first), b"a")
        .await
        .unwrap()
        .settle(made(5))
        .await;
    scene.chain.certify();
    let refusal = scene
        .ask(&till, Some(&scene.pays(40)), b"b")
        .await
        .err()
        .unwrap();
    assert_eq!(refusal.code, "voucher_above_deposit");
    let balance = required(&refusal).accepts[0]
        .state("channelState", "balance")
        .map(str::to_owned);
    assert_eq!(balance, Some(on_wire(30)));
    let more = scene.pays(40).with(50);
    let bill = scene.ask(&till, Some(&more), b"b").await.unwrap();
    let settled = bill.settle(made(5)).await.event.unwrap().1;
    assert_eq!(settled["extra"]["left"], on_wire(40));
    scene.chain.certify();
    let chain = scene.chain.channel(first.id());
    assert_eq!(chain.deposit, x402_units(80));
}

#[tokio::test]
async fn answers_are_claimed_when_they_cost_more_than_is_risked_and_forgotten_when_that_shows() {
    let scene = Scene::new();
    let till = scene.open(50);
    scene.chain.hold(scene.pays(0).id(), 1000);
    for (at, total) in [20, 40].into_iter().enumerate() {
        scene.answer(&till, total, &[at as u8]).await;
    }
    scene.settle_down().await;
    assert!(scene.chain.claims().is_empty(), "40 of 50 are risked");
    scene.answer(&till, 60, b"c").await;
    until(|| scene.chain.claims().len() == 1).await;
    let (answers, claim) = scene.chain.claims()[0].clone();
    let fees: Vec<u128> = answers.iter().map(|one| one.fee.0).collect();
    let before: Vec<u128> = answers.iter().map(|one| one.charged_before.0).collect();
    assert_eq!((fees, before), (vec![20; 3], vec![0, 20, 40]));
    assert_eq!(
        (claim.total_claimed, claim.voucher.max),
        (x402_units(60), x402_units(60))
    );
    claim
        .voucher
        .verify(&claim.config, &scene.payee().scheme)
        .unwrap();
    assert_eq!(answers[2].request, said(b"c").request());
    assert_eq!(
        (answers[0].prompt_tokens, answers[0].answer_tokens),
        (10, 5)
    );
    assert_eq!(
        till.inner.kept.lock().records[&scene.pays(0).id()]
            .served
            .len(),
        3
    );
    scene.chain.certify();
    until(|| {
        till.inner.kept.lock().records[&scene.pays(0).id()]
            .served
            .is_empty()
    })
    .await;
    // The next claim begins where that one ended.
    for total in [80, 100, 120] {
        scene.answer(&till, total, &[total as u8]).await;
    }
    until(|| scene.chain.claims().len() == 2).await;
    let (answers, claim) = scene.chain.claims()[1].clone();
    assert_eq!(answers[0].charged_before, MicroOpen(60));
    assert_eq!(claim.total_claimed, x402_units(120));
}

#[tokio::test]
async fn a_claim_that_no_certificate_shows_is_handed_over_again_with_what_came_since() {
    let scene = Scene::new();
    let till = scene.open(15);
    scene.chain.hold(scene.pays(0).id(), 1000);
    scene.answer(&till, 20, b"a").await;
    until(|| scene.chain.claims().len() == 1).await;
    scene.answer(&till, 40, b"b").await;
    until(|| scene.chain.claims().len() == 2).await;
    let answers = scene.chain.claims()[1].0.clone();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0], scene.chain.claims()[0].0[0]);
    // A refused one is tried again as well.
    scene.chain.certify();
    scene.chain.refuse(true);
    scene.answer(&till, 60, b"c").await;
    scene.settle_down().await;
    scene.chain.refuse(false);
    until(|| scene.chain.claims().len() == 3).await;
    let (answers, claim) = scene.chain.claims()[2].clone();
    assert_eq!(
        (answers.len(), answers[0].charged_before),
        (1, MicroOpen(40))
    );
    assert_eq!(claim.total_claimed, x402_units(60));
}

#[tokio::test]
async fn an_announced_withdrawal_has_everything_claimed_and_no_voucher_taken() {
    let scene = Scene::new();
    let till = scene.open(1000);
    let id = scene.pays(0).id();
    scene.chain.hold(id, 100);
    scene.answer(&till, 20, b"a").await;
    scene.chain.change(id, |chain| {
        let amount = x402_units(80);
        chain.withdrawal = Some(Withdrawal {
            amount,
            announced_s: 5,
        });
    });
    until(|| scene.chain.claims().len() == 1).await;
    for pays in [scene.pays(40), scene.pays(40).with(100)] {
        let refusal = scene.ask(&till, Some(&pays), b"b").await.err().unwrap();
        assert_eq!(
            (refusal.status.as_u16(), refusal.code),
            (402, "channel_closing")
        );
    }
    assert!(scene.chain.deposits().is_empty());
}

#[tokio::test]
async fn every_payment_that_is_not_good_is_refused_by_its_own_name_and_files_nothing() {
    let scene = Scene::new();
    let till = scene.open(1000);
    scene.chain.hold(scene.pays(0).id(), 100);
    scene.answer(&till, 40, b"a").await;
    let code = async |pays: &Pays| {
        let refusal = scene.ask(&till, Some(pays), b"b").await.err().unwrap();
        (refusal.status.as_u16(), refusal.code)
    };
    assert_eq!(code(&scene.pays(30)).await, (402, "voucher_falling"));
    assert_eq!(code(&scene.pays(40)).await, (402, "voucher_replayed"));
    assert_eq!(code(&scene.pays(101)).await, (402, "voucher_above_deposit"));
    // A deposit with a stale voucher, before anything is filed.
    assert_eq!(
        code(&scene.pays(30).with(9)).await,
        (402, "voucher_falling")
    );
    assert_eq!(code(&scene.pays(60).with(0)).await, (402, "bad_deposit"));
    assert_eq!(
        code(&scene.pays(60).with(9).forged()).await,
        (402, "bad_deposit")
    );
    assert_eq!(
        code(&scene.pays(60).with(9).until_s(5)).await,
        (402, "bad_deposit")
    );
    assert_eq!(
        code(&scene.pays(60).refund()).await,
        (402, "refunds_not_given")
    );
    let other = |change: fn(&mut tributary_attribution::voucher::ChannelConfig)| {
        scene.pays(60).changed(change)
    };
    assert_eq!(
        code(&other(|c| c.receiver = c.payer)).await,
        (402, "wrong_server")
    );
    assert_eq!(
        code(&other(|c| c.token = c.payer)).await,
        (402, "wrong_token")
    );
    let parts = scene.pays(60).plus_one();
    assert_eq!(code(&parts).await, (402, "voucher_amount"));
    let refusal = scene
        .ask(&till, Some(&scene.pays(30)), b"b")
        .await
        .err()
        .unwrap();
    assert_eq!(required(&refusal).error.as_deref(), Some(MISMATCH));
    assert!(scene.chain.deposits().is_empty());
}

#[tokio::test]
async fn a_deposit_that_cannot_be_filed_is_the_payers_still() {
    let scene = Scene::new();
    let till = scene.open(1000);
    scene.chain.refuse(true);
    let first = scene.pays(20).with(100);
    let refusal = scene.ask(&till, Some(&first), b"a").await.err().unwrap();
    assert_eq!(
        (refusal.status.as_u16(), refusal.code),
        (503, "deposit_not_filed")
    );
    assert!(
        refusal.message.contains("the test refuses"),
        "{}",
        refusal.message
    );
    scene.chain.refuse(false);
    let bill = scene.ask(&till, Some(&first), b"a").await.unwrap();
    bill.settle(made(5)).await;
    assert_eq!(scene.chain.deposits().len(), 1);
}

#[tokio::test]
async fn what_others_claimed_of_a_channel_is_not_sold_again() {
    let scene = Scene::new();
    let till = scene.open(1000);
    let id = scene.pays(0).id();
    scene.chain.hold(id, 100);
    scene
        .chain
        .change(id, |chain| chain.claimed = x402_units(70));
    let code = async |total| {
        let refusal = scene.ask(&till, Some(&scene.pays(total)), b"a").await;
        refusal.err().unwrap().code
    };
    assert_eq!(code(70).await, "voucher_falling");
    assert_eq!(code(80).await, "voucher_too_low");
    scene.answer(&till, 90, b"a").await;
    assert_eq!(code(100).await, "voucher_too_low");
}

#[tokio::test]
async fn a_crash_at_any_moment_loses_no_answer_and_charges_none_twice() {
    let scene = Scene::new();
    let id = scene.pays(0).id();
    let till = scene.open(1000);
    let first = scene.pays(20).with(100);
    let bill = scene.ask(&till, Some(&first), b"a").await.unwrap();
    let taken = scene.copy();
    bill.settle(made(5)).await;
    let answered = scene.copy();
    drop(till);
    // Between voucher and answer: it pays for its own request, and the deposit is not filed again.
    let till = scene.open_at(&taken, 1000);
    let refusal = scene
        .ask(&till, Some(&scene.pays(20)), b"b")
        .await
        .err()
        .unwrap();
    assert_eq!(refusal.code, "voucher_replayed");
    let bill = scene.ask(&till, Some(&first), b"a").await.unwrap();
    let settled = bill.settle(made(5)).await.event.unwrap().1;
    assert_eq!(settled["extra"]["left"], on_wire(80));
    assert_eq!(scene.chain.deposits().len(), 1);
    drop(till);
    // Between answer and claim: it is charged once, and claimed.
    scene.chain.certify();
    let till = scene.open_at(&answered, 1000);
    let bill = scene.ask(&till, Some(&first), b"a").await.unwrap();
    let settled = bill.settle(made(5)).await.event.unwrap().1;
    assert_eq!(settled["extra"]["left"], on_wire(80));
    till.drain().await;
    assert_eq!(scene.chain.claims().len(), 1);
    let claimed = scene.copy_of(&answered);
    drop(till);
    // Between claim and certificate: it is handed over again once, because no certificate came, and nothing else.
    let till = scene.open_at(&claimed, 1000);
    until(|| scene.chain.claims().len() == 2).await;
    let claims = scene.chain.claims();
    assert_eq!(claims[0].0, claims[1].0);
    assert_eq!(claims[1].1.total_claimed, x402_units(20));
    scene.chain.certify();
    until(|| till.inner.kept.lock().records[&id].served.is_empty()).await;
    assert_eq!(scene.chain.channel(id).claimed, x402_units(20));
    scene.answer(&till, 40, b"c").await;
    till.drain().await;
    assert_eq!(scene.chain.claims()[2].0.len(), 1);
}

#[tokio::test]
async fn a_deposit_that_a_crash_kept_from_being_filed_is_filed_at_the_next_start() {
    let scene = Scene::new();
    let till = scene.open(1000);
    scene.chain.stall(true);
    let first = scene.pays(20).with(100);
    let asking = tokio::time::timeout(
        Duration::from_millis(200),
        scene.ask(&till, Some(&first), b"a"),
    );
    assert!(asking.await.is_err());
    let planned = scene.copy();
    assert!(scene.chain.deposits().is_empty());
    scene.chain.stall(false);
    let _till = scene.open_at(&planned, 1000);
    until(|| scene.chain.deposits().len() == 1).await;
    scene.settle_down().await;
    assert_eq!(scene.chain.deposits().len(), 1);
}

#[tokio::test]
async fn what_comes_from_no_run_or_from_one_that_takes_no_pay_goes_to_the_other_till() {
    let scene = Scene::new();
    let till = scene.open(1000);
    assert!(scene.ask_for(&till, None, None, b"a").await.is_ok());
    let other = Origin {
        run: tributary_protocol::id::RunId(hash_of(b"another")),
        adapter: hash_of(b"x"),
    };
    assert!(scene.ask_for(&till, Some(other), None, b"a").await.is_ok());
    scene.chain.close();
    assert!(scene.ask(&till, None, b"a").await.is_ok());
}

#[test]
fn a_deposit_that_never_comes_is_not_counted_on_for_ever() {
    let scene = Scene::new();
    let mut record = Record::new(scene::run(), scene.pays(0).config);
    let signed = scene.pays(0).with(50).authorization();
    record.expect(x402_units(50), signed);
    let late_s = signed.valid_before_s + 601;
    assert!(!record.see(OnChain::default(), late_s - 1));
    assert_eq!(record.full(), x402_units(50));
    assert!(record.see(OnChain::default(), late_s));
    assert!(record.full() == BaseUnits(0) && record.is_over() && record.knows(&signed));
}

fn x402_units(micro: u128) -> BaseUnits {
    super::super::x402::units(MicroOpen(micro))
}

fn hash_of(bytes: &[u8]) -> tributary_protocol::hash::Digest {
    tributary_protocol::hash::blob(bytes)
}

/// What the chain of the test says when it refuses.
fn refused() -> CashierError {
    CashierError("the test refuses".into())
}

/// What the payer of the scene's channel agrees to after it asked with this body, signed by `key`.
fn agreed(scene: &Scene, charged: u128, body: &[u8], key: &EvmKey) -> (Agreement, Signature) {
    let agreement = Agreement {
        channel: scene.pays(0).id(),
        charged: MicroOpen(charged),
        request: said(body).request(),
        text: text_hash("what it read"),
        shares: vec![(PeerId(hash::blob(b"ada")), Ppb(700_000_000))],
    };
    let signature = agreement.signed(key).unwrap();
    (agreement, signature)
}

#[tokio::test]
async fn shares_that_the_payer_signed_are_handed_over_with_their_answer_and_others_are_refused() {
    let scene = Scene::new();
    let till = scene.open(1000);
    let first = scene.pays(20).with(100);
    let bill = scene.ask(&till, Some(&first), b"a").await.unwrap();
    bill.settle(made(5)).await;
    scene.chain.certify();
    scene.answer(&till, 40, b"b").await;
    let stranger = EvmKey::from_bytes(&[99; 32]).unwrap();
    let code = |refused: Result<(), Refusal>| refused.err().map(|refusal| refusal.code);
    let agree = async |till: &Channels, charged, body: &[u8], key: &EvmKey| {
        let agreement = agreed(&scene, charged, body, key);
        code(till.agree(agreement, said(body)).await)
    };
    let forged = agree(&till, 20, b"a", &stranger).await;
    assert_eq!(forged, Some("agreement_not_the_payers"));
    let nothing = agree(&till, 30, b"a", &scene.key).await;
    assert_eq!(nothing, Some("agreement_unknown"));
    let other = agree(&till, 20, b"b", &scene.key).await;
    assert_eq!(other, Some("agreement_of_another"), "it paid for another");
    assert_eq!(agree(&till, 20, b"a", &scene.key).await, None);
    let kept = SaidFolder::beside(&scene.channels());
    let found = kept.find(scene.pays(0).id(), MicroOpen(20));
    assert_eq!(found, Some(said(b"a")), "juries may ask for it");
    // A crash forgets nothing of it.
    drop(till);
    let till = scene.open(1000);
    till.drain().await;
    let (answers, _) = scene.chain.claims()[0].clone();
    let shares: Vec<bool> = answers.iter().map(|one| one.shares.is_some()).collect();
    assert_eq!(shares, [true, false]);
    let late = agree(&till, 40, b"b", &scene.key).await;
    assert_eq!(late, Some("agreement_unknown"), "it is filed");
}
