//! A voucher is good for its channel, its total and its chain; a channel takes what the contract will pay.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::settlement::EvmKey;

const MICRO: u128 = 1_000_000_000_000;

fn key(seed: u8) -> EvmKey {
    EvmKey::from_bytes(&Keccak::of(&[b"key", &[seed]]).0).expect("a key")
}

fn scheme() -> Deployment {
    stock(ChainId(1612))
}

fn config() -> ChannelConfig {
    ChannelConfig {
        payer: key(1).address(),
        payer_authorizer: Address::ZERO,
        receiver: key(2).address(),
        receiver_authorizer: key(3).address(),
        token: key(4).address(),
        withdraw_delay_s: 3600,
        salt: [9; 32],
    }
}

fn requirements() -> Requirements {
    let config = config();
    Requirements {
        receiver: config.receiver,
        receiver_authorizer: config.receiver_authorizer,
        token: config.token,
        withdraw_delay_s: config.withdraw_delay_s,
    }
}

fn signed(max: BaseUnits) -> Voucher {
    let channel = config().id(&scheme());
    let signature = key(1).sign(&Voucher::digest(channel, max, &scheme()));
    Voucher {
        channel,
        max,
        signature,
    }
}

fn voucher(micro: u128) -> Voucher {
    signed(BaseUnits(micro * MICRO))
}

fn deposited(micro: u128) -> OnChain {
    OnChain {
        deposit: BaseUnits(micro * MICRO),
        ..OnChain::default()
    }
}

fn open(micro: u128) -> Channel {
    Channel::open(scheme(), config(), &requirements(), deposited(micro)).expect("a channel")
}

#[test]
fn a_voucher_is_good_for_its_channel_its_total_and_its_chain_alone() {
    let good = voucher(70);
    assert_eq!(good.verify(&config(), &scheme()), Ok(()));
    let more = Voucher {
        max: BaseUnits(71 * MICRO),
        ..good
    };
    let error = more
        .verify(&config(), &scheme())
        .expect_err("another total");
    assert!(matches!(error, VoucherError::OtherSigner { .. }), "{error}");
    let elsewhere = stock(ChainId(31_337));
    let error = good
        .verify(&config(), &elsewhere)
        .expect_err("another chain");
    assert!(
        matches!(error, VoucherError::OtherChannel { .. }),
        "{error}"
    );
    let other = ChannelConfig {
        salt: [8; 32],
        ..config()
    };
    let error = good.verify(&other, &scheme()).expect_err("another channel");
    assert!(
        matches!(error, VoucherError::OtherChannel { .. }),
        "{error}"
    );
}

#[test]
fn the_authorizer_signs_where_there_is_one_and_the_payer_where_there_is_none() {
    let authorized = ChannelConfig {
        payer_authorizer: key(5).address(),
        ..config()
    };
    let channel = authorized.id(&scheme());
    let max = BaseUnits(MICRO);
    let by = |signer: &EvmKey| Voucher {
        channel,
        max,
        signature: signer.sign(&Voucher::digest(channel, max, &scheme())),
    };
    assert_eq!(by(&key(5)).verify(&authorized, &scheme()), Ok(()));
    let error = VoucherError::OtherSigner {
        found: key(1).address(),
        wanted: key(5).address(),
    };
    assert_eq!(by(&key(1)).verify(&authorized, &scheme()), Err(error));
}

#[test]
fn a_channel_on_other_terms_is_not_opened() {
    let refused = |change: fn(&mut ChannelConfig)| {
        let mut config = config();
        change(&mut config);
        let opened = Channel::open(scheme(), config, &requirements(), deposited(1));
        opened.expect_err("other terms")
    };
    let error = refused(|c| c.receiver = Address::ZERO);
    assert!(
        matches!(
            error,
            ConfigError::Other {
                field: "receiver",
                ..
            }
        ),
        "{error}"
    );
    let error = refused(|c| c.receiver_authorizer = Address::ZERO);
    assert!(
        matches!(
            error,
            ConfigError::Other {
                field: "receiver authorizer",
                ..
            }
        ),
        "{error}"
    );
    let error = refused(|c| c.token = Address::LAST);
    assert!(
        matches!(error, ConfigError::Other { field: "token", .. }),
        "{error}"
    );
    let (found_s, wanted_s) = (3601, 3600);
    let error = refused(|c| c.withdraw_delay_s = 3601);
    assert_eq!(error, ConfigError::OtherDelay { found_s, wanted_s });
    assert_eq!(
        refused(|c| c.withdraw_delay_s = 899),
        ConfigError::Delay(899)
    );
    let most = MAX_WITHDRAW_DELAY_S + 1;
    assert_eq!(
        refused(|c| c.withdraw_delay_s = MAX_WITHDRAW_DELAY_S + 1),
        ConfigError::Delay(most)
    );
}

#[test]
fn a_voucher_below_the_highest_is_refused_and_the_highest_may_come_again() {
    let mut channel = open(100);
    let kept = channel.offer(voucher(40)).expect("a first voucher");
    assert_eq!((kept.voucher, kept.charged), (voucher(40), MicroOpen(0)));
    assert!(channel.offer(voucher(40)).is_ok());
    let (total, highest) = (MicroOpen(39), MicroOpen(40));
    let error = channel.offer(voucher(39)).expect_err("lower");
    assert_eq!(error, VoucherError::Lower { total, highest });
    assert_eq!(channel.highest(), MicroOpen(40));
}

#[test]
fn a_voucher_above_the_deposit_is_refused_until_more_is_deposited() {
    let mut channel = open(100);
    let (total, deposit) = (MicroOpen(101), BaseUnits(100 * MICRO));
    let error = channel.offer(voucher(101)).expect_err("above");
    assert_eq!(error, VoucherError::AboveDeposit { total, deposit });
    channel.see(deposited(101));
    assert!(channel.offer(voucher(101)).is_ok());
}

#[test]
fn a_voucher_over_a_part_of_a_micro_open_is_refused() {
    let mut channel = open(100);
    let units = 5 * MICRO + 1;
    let error = channel.offer(signed(BaseUnits(units))).expect_err("a part");
    assert_eq!(error, VoucherError::Amount(AmountError::Fractional(units)));
}

#[test]
fn a_closing_channel_takes_no_voucher() {
    let mut channel = open(100);
    let amount = BaseUnits(MICRO);
    channel.see(OnChain {
        withdrawal: Some(Withdrawal {
            amount,
            announced_s: 50,
        }),
        ..deposited(100)
    });
    let error = channel.offer(voucher(1)).expect_err("closing");
    assert_eq!(error, VoucherError::Closing { amount });
    channel.see(deposited(99));
    assert!(channel.offer(voucher(1)).is_ok());
}

#[test]
fn a_voucher_that_was_claimed_pays_for_nothing_more() {
    let mut channel = open(100);
    let claimed = BaseUnits(30 * MICRO);
    channel.see(OnChain {
        claimed,
        ..deposited(100)
    });
    let total = MicroOpen(30);
    let error = channel.offer(voucher(30)).expect_err("claimed");
    assert_eq!(error, VoucherError::Claimed { total, claimed });
    assert!(channel.offer(voucher(31)).is_ok());
}

#[test]
fn only_the_payer_is_told_where_the_channel_stands() {
    let mut channel = open(100);
    let _kept = channel.offer(voucher(40)).expect("a voucher");
    let forged = Voucher {
        signature: voucher(40).signature,
        ..voucher(39)
    };
    let error = channel.offer(forged).expect_err("another's signature");
    assert!(matches!(error, VoucherError::OtherSigner { .. }), "{error}");
}

#[test]
fn charges_stay_within_the_highest_voucher() {
    let mut channel = open(100);
    let refused = ChargeError::NotCovered {
        charged: MicroOpen(0),
        amount: MicroOpen(1),
        highest: MicroOpen(0),
    };
    assert_eq!(channel.charge(MicroOpen(1)), Err(refused));
    let _kept = channel.offer(voucher(40)).expect("a voucher");
    assert_eq!(
        channel.charge(MicroOpen(40)).map(|kept| kept.charged),
        Ok(MicroOpen(40))
    );
    assert!(channel.charge(MicroOpen(1)).is_err() && channel.charge(MicroOpen(u128::MAX)).is_err());
    assert_eq!(channel.charged(), MicroOpen(40));
}

#[test]
fn a_claim_is_due_when_exposure_passes_the_limit_or_a_withdrawal_is_announced() {
    let limit = BaseUnits(20 * MICRO);
    let mut channel = open(100);
    assert_eq!(channel.due(limit), None);
    let _kept = channel.offer(voucher(40)).expect("a voucher");
    let _kept = channel.charge(MicroOpen(20)).expect("covered");
    assert_eq!((channel.due(limit), channel.exposure()), (None, limit));

    let _kept = channel.charge(MicroOpen(1)).expect("covered");
    let due = channel.due(limit).expect("beyond the limit");
    assert_eq!(due.reason, Reason::Exposed);
    assert_eq!(due.claim.voucher, voucher(40));
    assert_eq!(due.claim.total_claimed, BaseUnits(21 * MICRO));
    assert_eq!(due.claim.entry().max, BaseUnits(40 * MICRO));

    let claimed = BaseUnits(21 * MICRO);
    channel.see(OnChain {
        claimed,
        ..deposited(100)
    });
    assert_eq!(
        (channel.due(limit), channel.exposure()),
        (None, BaseUnits(0))
    );

    let _kept = channel.charge(MicroOpen(1)).expect("covered");
    let withdrawal = Some(Withdrawal {
        amount: BaseUnits(79 * MICRO),
        announced_s: 1000,
    });
    channel.see(OnChain {
        claimed,
        withdrawal,
        ..deposited(100)
    });
    let due = channel.due(limit).expect("a withdrawal");
    assert_eq!(due.reason, Reason::Withdrawal { final_s: 4600 });
    assert_eq!(due.claim.total_claimed, BaseUnits(22 * MICRO));
}

#[test]
fn what_a_final_withdrawal_took_is_not_claimed() {
    let mut channel = open(100);
    let _kept = channel.offer(voucher(40)).expect("a voucher");
    let _kept = channel.charge(MicroOpen(40)).expect("covered");
    channel.see(deposited(15));
    let claim = channel.claim().expect("what is left");
    assert_eq!(claim.total_claimed, BaseUnits(15 * MICRO));
    assert_eq!(channel.uncovered(), BaseUnits(25 * MICRO));
}

#[test]
fn a_refund_takes_only_what_was_not_charged() {
    let mut channel = open(100);
    let _kept = channel.offer(voucher(40)).expect("a voucher");
    let _kept = channel.charge(MicroOpen(30)).expect("covered");
    let left = BaseUnits(70 * MICRO);
    let refund = channel.refund(left).expect("not charged");
    assert_eq!((refund.nonce, refund.amount), (0, left));
    assert_eq!(channel.refund(BaseUnits(left.0 + 1)), Err(left));
}

#[test]
fn a_channel_goes_on_from_what_was_kept_and_refuses_what_was_damaged() {
    let mut channel = open(100);
    let _kept = channel.offer(voucher(40)).expect("a voucher");
    let kept = channel.charge(MicroOpen(30)).expect("covered");
    let read = Kept::decode(&kept.encode()).expect("as it was written");
    assert_eq!(read, kept);
    let mut again = Channel::restore(scheme(), &read, deposited(100)).expect("its own");
    assert_eq!((again.id(), again.charged()), (channel.id(), MicroOpen(30)));
    assert_eq!(again.claim(), channel.claim());
    assert!(again.offer(voucher(39)).is_err());

    let elsewhere = Channel::restore(stock(ChainId(1)), &kept, deposited(100));
    assert!(matches!(elsewhere, Err(RestoreError::Voucher(_))));
    let damaged = Kept {
        charged: MicroOpen(41),
        ..kept
    };
    let (charged, highest) = (MicroOpen(41), MicroOpen(40));
    let error = Channel::restore(scheme(), &damaged, deposited(100)).expect_err("damaged");
    assert_eq!(error, RestoreError::NotCovered { charged, highest });
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Offer(u128),
    Charge(u128),
    Deposit(u128),
    Claim,
    Announce,
    Finish,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u128..60).prop_map(Step::Offer),
        4 => (0u128..20).prop_map(Step::Charge),
        1 => (0u128..30).prop_map(Step::Deposit),
        1 => Just(Step::Claim),
        1 => Just(Step::Announce),
        1 => Just(Step::Finish),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    // Each step may recover a key.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_happens_a_claim_is_one_that_the_contract_pays(steps in vec(step(), 1..40)) {
        let mut seen = deposited(30);
        let mut channel = open(30);
        let mut stored: Option<Kept> = None;
        for step in steps {
            let before = (channel.highest(), channel.charged());
            match step {
                Step::Offer(micro) => match channel.offer(voucher(micro)) {
                    Ok(kept) => {
                        prop_assert!(seen.withdrawal.is_none() && voucher(micro).max <= seen.deposit);
                        prop_assert_eq!(channel.highest(), MicroOpen(micro));
                        stored = Some(kept);
                    }
                    Err(_) => prop_assert_eq!(channel.highest(), before.0),
                },
                Step::Charge(micro) => match channel.charge(MicroOpen(micro)) {
                    Ok(kept) => stored = Some(kept),
                    Err(_) => prop_assert_eq!(channel.charged(), before.1),
                },
                Step::Deposit(micro) => seen.deposit.0 += micro * MICRO,
                Step::Claim => seen.claimed = channel.claim().map_or(seen.claimed, |one| one.total_claimed),
                Step::Announce => {
                    let amount = seen.deposit.saturating_sub(seen.claimed);
                    seen.withdrawal = Some(Withdrawal { amount, announced_s: 5 });
                }
                Step::Finish => if let Some(withdrawal) = seen.withdrawal.take() {
                    let left = seen.deposit.saturating_sub(seen.claimed);
                    seen.deposit = seen.deposit.saturating_sub(withdrawal.amount.min(left));
                },
                Step::Crash => channel = match &stored {
                    Some(kept) => Channel::restore(scheme(), kept, seen).expect("its own"),
                    None => Channel::open(scheme(), config(), &requirements(), seen).expect("a channel"),
                },
            }
            channel.see(seen);
            prop_assert!(channel.highest() >= before.0 && channel.charged() >= before.1);
            prop_assert!(channel.charged() <= channel.highest());
            if let Some(claim) = channel.claim() {
                prop_assert_eq!(claim.voucher.verify(&claim.config, &scheme()), Ok(()));
                prop_assert!(claim.total_claimed > seen.claimed);
                prop_assert!(claim.total_claimed <= claim.voucher.max && claim.total_claimed <= seen.deposit);
            }
            let exposed = channel.exposure();
            let unpaid = channel.claim().map_or(BaseUnits(0), |one| one.total_claimed.saturating_sub(seen.claimed));
            prop_assert!(unpaid <= exposed);
            prop_assert_eq!(channel.due(exposed).is_some(), channel.claim().is_some() && seen.withdrawal.is_some());
        }
    }

    #[test]
    fn random_bytes_are_no_kept_channel(bytes in vec(any::<u8>(), 0..300)) {
        if let Ok(kept) = Kept::decode(&bytes) {
            prop_assert_eq!(kept.encode(), bytes);
            prop_assert!(Channel::restore(scheme(), &kept, OnChain::default()).is_err());
        }
    }
}
