//! A signed deposit funds its channel, sent by anybody, and nothing else.

use super::*;
use crate::voucher::{Authorization, AuthorizationError};

const FIRST_S: u64 = START_S;
/// Long after every test's end.
const LAST_S: u64 = START_S + 100 * DAY_S;

fn config(world: &World) -> ChannelConfig {
    ChannelConfig {
        payer: who(80),
        payer_authorizer: Address::ZERO,
        receiver: world.chain.till(terms().key()),
        receiver_authorizer: who(81),
        token: DEPLOYED.token,
        withdraw_delay_s: 3600,
        salt: [1; 32],
    }
}

fn authorized(seed: u8, config: &ChannelConfig, amount: BaseUnits, salt: u8) -> Authorization {
    let (scheme, token) = (DEPLOYED.channels_deployment(), DEPLOYED.token_domain());
    let valid_s = FIRST_S..LAST_S;
    Authorization::sign(
        &key(seed),
        config,
        amount,
        &scheme,
        &token,
        valid_s,
        [salt; 32],
    )
}

/// A run, and 40 OPEN that the payer has and left nobody to take.
fn world() -> (World, ChannelConfig) {
    let mut world = World::with_run();
    world.send(who(80), TOKEN.mint(who(80), open(40)));
    let config = config(&world);
    (world, config)
}

fn held(world: &World, config: &ChannelConfig) -> BaseUnits {
    let id = config.id(&DEPLOYED.channels_deployment());
    world.chain.channel(id).deposit
}

#[test]
fn a_signed_deposit_pays_for_an_answer_and_ends_as_a_fee_of_the_run() {
    let (mut world, config) = world();
    let (scheme, token) = (DEPLOYED.channels_deployment(), DEPLOYED.token_domain());
    let id = config.id(&scheme);
    let deposit = authorized(80, &config, open(30), 1);
    let checked = deposit.verify(&config, open(30), &scheme, &token);
    assert_eq!(checked, Ok(()));
    assert_eq!(deposit.check_time(world.time_s), Ok(()));
    // By whom does not matter, and the payer sends nothing.
    let call = CHANNELS.deposit_authorized(&config, open(30), &deposit);
    world.send(who(9), call);
    assert_eq!(held(&world, &config), open(30));
    assert_eq!(world.chain.balance(who(80)), open(10));
    assert_eq!(world.chain.balance(COLLECTOR.0), open(0));
    let top_up = authorized(80, &config, open(10), 2);
    world.send(
        who(8),
        CHANNELS.deposit_authorized(&config, open(10), &top_up),
    );
    assert_eq!(held(&world, &config), open(40));

    let max = open(35);
    let signature = key(80).sign(&Voucher::digest(id, max, &scheme));
    let voucher = Voucher {
        channel: id,
        max,
        signature,
    };
    let claim = Claim {
        config,
        voucher,
        total_claimed: max,
    };
    let digest = voucher::claim_digest(&[claim.entry()], &scheme);
    let by = key(81).sign(&digest);
    world.send(who(9), CHANNELS.claim_signed(&[claim], &by));
    world.send(who(9), CHANNELS.settle(config.receiver, DEPLOYED.token));
    world.send(who(9), SETTLEMENT.sweep(terms().key()));
    assert_eq!(world.chain.run(terms().key()).fees, open(35));
}

#[test]
fn a_signed_deposit_is_used_once_for_its_amount_and_its_channel_by_whoever_is_first() {
    let (mut world, config) = world();
    let (scheme, token) = (DEPLOYED.channels_deployment(), DEPLOYED.token_domain());
    let deposit = authorized(80, &config, open(10), 1);
    let other = ChannelConfig {
        receiver: who(9),
        receiver_authorizer: who(9),
        ..config
    };
    let wrong = [(&config, open(11)), (&config, open(9)), (&other, open(10))];
    for (config, amount) in wrong {
        let checked = deposit.verify(config, amount, &scheme, &token);
        assert!(matches!(
            checked,
            Err(AuthorizationError::OtherSigner { .. })
        ));
        let call = CHANNELS.deposit_authorized(config, amount, &deposit);
        assert_eq!(world.refused(who(9), call), Refused::InvalidSignature);
    }
    // A stranger's key signs for nobody else.
    let forged = authorized(9, &config, open(10), 1);
    let call = CHANNELS.deposit_authorized(&config, open(10), &forged);
    assert_eq!(world.refused(who(9), call), Refused::InvalidSignature);
    assert_eq!(world.chain.balance(who(80)), open(40));

    // Whoever sends it first has made the payer's deposit; the second one finds it made.
    let call = CHANNELS.deposit_authorized(&config, open(10), &deposit);
    world.send(who(66), call.clone());
    assert_eq!(held(&world, &config), open(10));
    let nonce = deposit.nonce(&config, &scheme);
    assert_eq!(world.refused(who(9), call), Refused::AlreadyUsed { nonce });
    assert_eq!(world.chain.balance(who(80)), open(30));
}

#[test]
fn a_signed_deposit_out_of_its_time_or_above_the_balance_is_refused_with_the_reason() {
    let (mut world, config) = world();
    let deposit = authorized(80, &config, open(50), 1);
    let call = CHANNELS.deposit_authorized(&config, open(50), &deposit);
    assert_eq!(
        world.refused(who(9), call.clone()),
        Refused::InsufficientBalance {
            account: who(80),
            balance: open(40),
            needed: open(50),
        }
    );
    // It was not used up, and is good when the money is there.
    world.send(who(80), TOKEN.mint(who(80), open(10)));
    world.send(who(9), call);
    let late = authorized(80, &config, open(1), 2);
    world.time_s = LAST_S;
    let call = CHANNELS.deposit_authorized(&config, open(1), &late);
    let refused = Refused::NotValidNow {
        valid_after_s: FIRST_S,
        valid_before_s: LAST_S,
    };
    assert_eq!(world.refused(who(9), call), refused);
    assert!(late.check_time(LAST_S).is_err());
}
