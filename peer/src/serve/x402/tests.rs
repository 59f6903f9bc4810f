//! Headers written and read again, and what is refused of those of others.

use tributary_attribution::settlement::EvmKey;

use super::*;

fn payment(with_deposit: bool) -> (Payment, Paid) {
    let key = EvmKey::from_bytes(&[1; 32]).unwrap();
    let chain = chain();
    let scheme = chain.channels_deployment();
    let wanted = Requirements {
        receiver: Address([2; 20]),
        receiver_authorizer: Address([3; 20]),
        token: chain.token,
        withdraw_delay_s: 900,
    };
    let config = voucher::ChannelConfig {
        payer: key.address(),
        payer_authorizer: key.address(),
        receiver: wanted.receiver,
        receiver_authorizer: wanted.receiver_authorizer,
        token: wanted.token,
        withdraw_delay_s: wanted.withdraw_delay_s,
        salt: [0xab; 32],
    };
    let (channel, max) = (config.id(&scheme), BaseUnits(u128::MAX));
    let voucher = Voucher {
        channel,
        max,
        signature: key.sign(&Voucher::digest(channel, max, &scheme)),
    };
    let amount = BaseUnits(7);
    let signed = Authorization::sign(
        &key,
        &config,
        amount,
        &scheme,
        &token(),
        0..1 << 33,
        [9; 32],
    );
    let deposit = with_deposit.then_some((amount, &signed));
    let terms = Terms::new(&wanted, &scheme, MicroOpen(5), Map::new());
    assert_eq!(terms.requirements().unwrap(), wanted);
    assert!(terms.is_known() && terms.amount().unwrap() == MicroOpen(5));
    let kind = match deposit {
        Some((amount, signed)) => Kind::Deposit(amount, *signed),
        None => Kind::Voucher,
    };
    let paid = Paid {
        config,
        voucher,
        kind,
    };
    (Payment::new(terms, &config, &voucher, deposit), paid)
}

#[test]
fn what_is_written_is_read_again() {
    let scheme = chain().channels_deployment();
    for with_deposit in [false, true] {
        let (payment, paid) = payment(with_deposit);
        let read: Payment = decoded(encoded(&payment).as_bytes()).unwrap();
        assert_eq!(read, payment);
        assert_eq!(read.understood(&scheme).unwrap(), paid);
        paid.voucher.verify(&paid.config, &scheme).unwrap();
    }
}

#[test]
fn a_deposit_is_good_for_its_channel_its_amount_and_its_times_alone() {
    let (_, paid) = payment(true);
    let Kind::Deposit(amount, signed) = paid.kind else {
        panic!("{paid:?}");
    };
    let scheme = chain().channels_deployment();
    signed
        .verify(&paid.config, amount, &scheme, &token())
        .unwrap();
    let refused = |signed: &Authorization, config: &voucher::ChannelConfig, amount| {
        let refused = signed
            .verify(config, amount, &scheme, &token())
            .unwrap_err();
        assert!(matches!(
            refused,
            voucher::AuthorizationError::OtherSigner { .. }
        ));
    };
    refused(&signed, &paid.config, BaseUnits(8));
    let mut other = paid.config;
    other.salt = [0; 32];
    refused(&signed, &other, amount);
    let mut later = signed;
    later.valid_before_s += 1;
    refused(&later, &paid.config, amount);
    later = signed;
    later.salt = [8; 32];
    refused(&later, &paid.config, amount);
}

#[test]
fn every_field_that_is_not_as_it_must_be_is_refused_by_name() {
    type Change = fn(&mut Payment);
    let changes: [(&str, Change); 10] = [
        ("x402Version", |p| p.x402_version = 1),
        ("scheme", |p| p.accepted.scheme = "exact".into()),
        ("network", |p| p.accepted.network = "eip155:1".into()),
        ("deposit", |p| p.payload.kind = "deposit".into()),
        ("type", |p| p.payload.kind = "gift".into()),
        ("payer", |p| p.payload.channel_config.payer = "0x12".into()),
        ("salt", |p| p.payload.channel_config.salt.push('0')),
        ("channelId", |p| p.payload.voucher.channel_id = "1".into()),
        ("maxClaimableAmount", |p| {
            p.payload.voucher.max_claimable_amount = "+1".into()
        }),
        ("signature", |p| p.payload.voucher.signature.push('0')),
    ];
    let scheme = chain().channels_deployment();
    for (name, change) in changes {
        let (mut payment, _) = payment(false);
        change(&mut payment);
        let why = payment.understood(&scheme).unwrap_err().to_string();
        assert!(why.contains(name), "{name}: {why}");
    }
    for header in ["", "%%%", "bnVsbA==", "e30="] {
        assert!(decoded::<Payment>(header.as_bytes()).is_err(), "{header}");
    }
    assert!(decoded::<Value>(&vec![b'A'; MOST_BYTES + 4]).is_err());
}

#[test]
fn amounts_of_parts_of_a_micro_open_are_refused() {
    assert_eq!(micro("amount", "2000000000000"), Ok(MicroOpen(2)));
    let why = micro("amount", "2000000000001").unwrap_err().to_string();
    assert!(why.contains("whole micro-OPEN"), "{why}");
    assert_eq!(text(MicroOpen(u128::MAX)), u128::MAX.to_string());
}
