//! Trees prove what they hold and nothing else; signatures, texts and bundles have one form; random bytes are refused.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use tributary_protocol::codec;
use tributary_protocol::hash::Digest;
use tributary_protocol::id::{MicroOpen, RunId};

use super::*;

fn key(seed: u8) -> EvmKey {
    EvmKey::from_bytes(&Keccak::of(&[b"key", &[seed]]).0).expect("a key")
}

fn address(number: u128) -> Address {
    let mut bytes = [0; 20];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Address(bytes)
}

fn deployment() -> Deployment {
    Deployment {
        chain: ChainId(31_337),
        contract: address(7),
    }
}

fn terms() -> Terms {
    Terms {
        run: RunId(Digest::from_bytes([3; 32])),
        sponsor: address(1),
        arbiter: None,
        rate_per_s: BaseUnits(5),
        challenge_bond: BaseUnits(1 << 70),
        min_stake: BaseUnits(1 << 80),
        window_s: 100,
        cooldown_s: 300,
        halt_s: 300,
    }
}

/// The root of sorted leaves, written from the definition: halves of a power of two, one at a time.
fn slow_root(leaves: &[(Address, u128)]) -> (Keccak, u128) {
    if let [(address, balance)] = leaves {
        let hash = Keccak::of(&[&[0], &address.0, &balance.to_be_bytes()]);
        return (hash, *balance);
    }
    let (left, right) = leaves.split_at(leaves.len() / 2);
    let (left, right) = (slow_root(left), slow_root(right));
    let sums = (left.1.to_be_bytes(), right.1.to_be_bytes());
    let hash = Keccak::of(&[&[1], &left.0.0, &sums.0, &right.0.0, &sums.1]);
    (hash, left.1 + right.1)
}

fn padded(accounts: &BTreeMap<Address, BaseUnits>) -> Vec<(Address, u128)> {
    let mut leaves = vec![(Address::ZERO, 0)];
    leaves.extend(accounts.iter().map(|(one, held)| (*one, held.0)));
    leaves.push((Address::LAST, 0));
    let filled = leaves.len().next_power_of_two();
    leaves.resize(filled, (Address::LAST, 0));
    leaves
}

/// Up to 40 accounts, near each other, so that random addresses fall between and upon them.
fn accounts() -> impl Strategy<Value = BTreeMap<Address, BaseUnits>> {
    let held = (0..=u128::MAX / 64).prop_map(BaseUnits);
    btree_map((1u128..200).prop_map(address), held, 0..40)
}

proptest! {
    #[test]
    fn a_tree_is_what_its_slow_twin_says_and_its_sum_is_exact(accounts in accounts()) {
        let tree = Balances::build(&accounts).expect("a tree");
        let (hash, sum) = slow_root(&padded(&accounts));
        prop_assert_eq!(tree.root(), SumNode { hash, sum: BaseUnits(sum) });
        prop_assert_eq!(sum, accounts.values().map(|held| held.0).sum::<u128>());
    }

    #[test]
    fn every_account_is_proven_and_no_other(accounts in accounts(), other in (1u128..200).prop_map(address)) {
        let tree = Balances::build(&accounts).expect("a tree");
        let SumNode { hash, sum } = tree.root();
        for (account, held) in &accounts {
            let proof = tree.prove(account).expect("a leaf");
            prop_assert_eq!((proof.address, proof.balance), (*account, *held));
            prop_assert_eq!(proof.check(&hash, sum), Ok(()));
            prop_assert_eq!(tree.prove_absence(account), None);
        }
        match tree.prove_absence(&other) {
            Some(proof) => {
                prop_assert!(!accounts.contains_key(&other) && tree.prove(&other).is_none());
                prop_assert_eq!(proof.check(&other, &hash, sum), Ok(()));
                for account in accounts.keys() {
                    let refused = Err(ProofError::NotBetween(*account));
                    prop_assert_eq!(proof.check(account, &hash, sum), refused);
                }
            }
            None => prop_assert!(accounts.contains_key(&other)),
        }
    }

    #[test]
    fn a_changed_proof_of_a_balance_is_refused(accounts in accounts(), pick in any::<prop::sample::Index>(), change in 0u8..7, by in 1u128..1 << 90) {
        prop_assume!(!accounts.is_empty());
        let tree = Balances::build(&accounts).expect("a tree");
        let SumNode { hash, sum } = tree.root();
        let account = pick.get(&accounts.keys().copied().collect::<Vec<_>>()).to_owned();
        let mut proof = tree.prove(&account).expect("a leaf");
        let at = pick.index(proof.siblings.len());
        match change {
            0 => proof.balance.0 = proof.balance.0.wrapping_add(by),
            1 => proof.address.0[19] ^= 1,
            2 => proof.index ^= 1,
            3 => proof.siblings[at].hash.0[pick.index(32)] ^= 1,
            4 => proof.siblings[at].sum.0 = proof.siblings[at].sum.0.wrapping_add(by),
            5 => drop(proof.siblings.pop()),
            _ => proof.index |= 1 << proof.siblings.len(),
        }
        prop_assert!(proof.check(&hash, sum).is_err());
    }

    #[test]
    fn an_amount_moved_between_siblings_is_refused(accounts in accounts(), by in 1u128..1 << 90) {
        let rich = accounts.iter().find(|(_, held)| held.0 >= by);
        prop_assume!(rich.is_some());
        let tree = Balances::build(&accounts).expect("a tree");
        let SumNode { hash, sum } = tree.root();
        let mut proof = tree.prove(rich.expect("assumed").0).expect("a leaf");
        proof.balance.0 -= by;
        proof.siblings[0].sum.0 += by;
        prop_assert!(proof.check(&hash, sum).is_err());
    }

    #[test]
    fn every_line_is_proven_and_no_other(lines in vec(vec(any::<u8>(), 0..80), 0..40), other in vec(any::<u8>(), 0..80), flip in any::<prop::sample::Index>()) {
        let tree = Lines::build(lines.iter().map(Vec::as_slice));
        let root = tree.root();
        for (at, line) in lines.iter().enumerate() {
            let proof = tree.prove(at).expect("a line");
            prop_assert_eq!(proof.check(line, &root), Ok(()));
            if other != *line {
                prop_assert!(proof.check(&other, &root).is_err());
            }
            let mut changed = proof.clone();
            if changed.siblings.is_empty() {
                continue;
            }
            let place = flip.index(changed.siblings.len());
            changed.siblings[place].hash.0[flip.index(32)] ^= 1;
            prop_assert!(changed.check(line, &root).is_err());
            let mut shorter = proof;
            shorter.siblings.pop();
            prop_assert!(shorter.check(line, &root).is_err());
        }
        prop_assert_eq!(tree.prove(lines.len()), None);
    }

    #[test]
    fn a_signature_names_its_key_and_only_for_its_digest(seed in any::<u8>(), digest in any::<[u8; 32]>(), at in 0usize..32) {
        let (key, digest) = (key(seed), Keccak(digest));
        let signature = key.sign(&digest);
        prop_assert_eq!(signature.recover(&digest), Ok(key.address()));
        prop_assert_eq!(Signature::from_bytes(signature.as_bytes()), Ok(signature));
        let mut other = digest;
        other.0[at] ^= 1;
        prop_assert_ne!(signature.recover(&other), Ok(key.address()));
    }

    #[test]
    fn random_bytes_are_no_signature_or_one_that_recovers_without_a_panic(bytes in vec(any::<u8>(), 60..70), v in 27u8..29, digest in any::<[u8; 32]>()) {
        let mut bytes = bytes;
        if let Some(last) = bytes.get_mut(64) {
            *last = v;
        }
        if let Ok(signature) = Signature::from_bytes(&bytes) {
            prop_assert_eq!(bytes.len(), 65);
            let _address_or_none = signature.recover(&Keccak(digest));
        }
    }

    #[test]
    fn random_bytes_are_no_bundle(bytes in vec(any::<u8>(), 0..600)) {
        if let Ok(bundle) = Bundle::decode(&bytes) {
            prop_assert_eq!(bundle.encode(), bytes);
            prop_assert!(bundle.check().is_err());
        }
    }

    #[test]
    fn a_bundle_with_one_bit_changed_proves_nothing_or_no_bundle(at in any::<prop::sample::Index>(), bit in 0u8..8, is_line in any::<bool>()) {
        let (bundle, checked) = bundle(is_line);
        let mut bytes = bundle.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // Stakes are not signed, and two of three signatures would do: what remains must still be the same line and root.
        if let Ok(changed) = Bundle::decode(&bytes) && let Ok(found) = changed.check() {
            prop_assert_eq!((changed.root, changed.subject), (bundle.root, bundle.subject));
            prop_assert!(changed.stakes != bundle.stakes);
            prop_assert_eq!(found.signers, checked.signers);
        }
    }

    #[test]
    fn whole_micro_open_cross_the_border_exactly(amount in 0..=u128::MAX / 1_000_000_000_000, part in 1u128..1_000_000_000_000) {
        let units = BaseUnits::from_micro(MicroOpen(amount)).expect("within 128 bits");
        prop_assert_eq!(units.to_micro(), Ok(MicroOpen(amount)));
        if let Some(between) = units.0.checked_add(part) {
            prop_assert_eq!(BaseUnits(between).to_micro(), Err(AmountError::Fractional(between)));
        }
    }

    #[test]
    fn an_address_reads_as_it_is_written(bytes in any::<[u8; 20]>()) {
        let address = Address(bytes);
        let written = address.to_string();
        prop_assert_eq!(written.parse(), Ok(address));
        prop_assert_eq!(written.to_lowercase().parse(), Ok(address));
        let capitals = format!("0x{}", written[2..].to_uppercase());
        prop_assert_eq!(capitals.parse(), Ok(address));
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in "\\PC{0,50}") {
        let _address = text.parse::<Address>();
        let _hash = text.parse::<Keccak>();
        let prefixed = format!("0x{text}");
        let _address = prefixed.parse::<Address>();
        let _hash = prefixed.parse::<Keccak>();
    }
}

/// A root over two accounts and three lines, signed by two of three members.
fn bundle(is_line: bool) -> (Bundle, Checked) {
    let accounts = BTreeMap::from([(address(5), BaseUnits(40)), (address(9), BaseUnits(2))]);
    let balances = Balances::build(&accounts).expect("a tree");
    let lines = Lines::build([&b"one"[..], b"two", b"three"]);
    let root = Root {
        run: terms().key(),
        height: 12,
        balances: balances.root().hash,
        total: balances.root().sum,
        fees: BaseUnits(11),
        lines: lines.root(),
        closed: false,
    };
    let mut keys = [key(1), key(2), key(3)];
    keys.sort_by_key(EvmKey::address);
    let stake = |amount, at: usize| Stake {
        account: keys[at].address(),
        amount: BaseUnits(amount),
    };
    let digest = root.digest(&deployment());
    let subject = match is_line {
        true => Subject::Line {
            bytes: b"three".to_vec(),
            proof: lines.prove(2).expect("a line"),
        },
        false => Subject::Balance(balances.prove(&address(5)).expect("a leaf")),
    };
    let bundle = Bundle {
        deployment: deployment(),
        terms: terms(),
        root,
        stakes: vec![stake(34, 0), stake(33, 1), stake(33, 2)],
        signatures: vec![keys[0].sign(&digest), keys[1].sign(&digest)],
        subject,
    };
    let checked = Checked {
        signers: vec![keys[0].address(), keys[1].address()],
        signed: BaseUnits(67),
        staked: BaseUnits(100),
    };
    (bundle, checked)
}

#[test]
fn a_bundle_proves_a_balance_or_a_line_and_reads_back() {
    for is_line in [false, true] {
        let (bundle, checked) = bundle(is_line);
        assert_eq!(bundle.check(), Ok(checked));
        assert_eq!(Bundle::decode(&bundle.encode()), Ok(bundle));
    }
}

#[test]
fn exactly_two_thirds_of_the_stake_are_no_quorum() {
    let (mut bundle, _) = bundle(false);
    for (stakes, is_quorum) in [
        ([34, 33, 33], true),
        ([1, 1, 1], false),
        ([2, 2, 2], false),
        ([33, 33, 33], false),
        ([33, 33, 32], true),
        ([0, 0, 0], false),
        ([u128::MAX / 3, u128::MAX / 3, u128::MAX / 3], false),
        ([u128::MAX / 3 + 1, u128::MAX / 3, u128::MAX / 3 - 1], true),
    ] {
        for (stake, amount) in bundle.stakes.iter_mut().zip(stakes) {
            stake.amount = BaseUnits(amount);
        }
        assert_eq!(bundle.check().is_ok(), is_quorum, "{stakes:?}");
    }
    bundle.stakes[0].amount = BaseUnits(u128::MAX);
    assert_eq!(bundle.check(), Err(BundleError::Overflow));
}

#[test]
fn a_bundle_whose_parts_do_not_belong_together_is_refused() {
    let (good, _) = bundle(false);
    let refused = |change: fn(&mut Bundle)| {
        let mut bundle = good.clone();
        change(&mut bundle);
        bundle.check().expect_err("it was changed")
    };
    let error = refused(|b| b.terms.window_s += 1);
    assert_eq!(error, BundleError::OtherTerms);
    let error = refused(|b| b.signatures.swap(0, 1));
    assert!(matches!(error, BundleError::SignersOrder(_)), "{error}");
    let error = refused(|b| b.signatures[1] = b.signatures[0]);
    assert!(matches!(error, BundleError::SignersOrder(_)), "{error}");
    let error = refused(|b| b.stakes.swap(0, 1));
    assert!(matches!(error, BundleError::StakesOrder(_)), "{error}");
    let error = refused(|b| b.signatures.truncate(1));
    assert!(matches!(error, BundleError::NoQuorum { .. }), "{error}");
    // For another contract other addresses are recovered, in whatever order.
    refused(|b| b.deployment.chain = ChainId(1612));
    refused(|b| b.deployment.contract = address(8));
    let error = refused(|b| b.root.total.0 += 1);
    assert!(
        matches!(error, BundleError::Proof(ProofError::OtherTotal { .. })),
        "{error}"
    );
    let error = refused(|b| {
        let proof = LineProof { siblings: vec![] };
        let bytes = vec![0; MAX_LINE_BYTES + 1];
        b.subject = Subject::Line { bytes, proof };
    });
    assert!(matches!(error, BundleError::TooMany { .. }), "{error}");
}

#[test]
fn the_signature_of_somebody_without_stake_adds_nothing() {
    let (mut bundle, _) = bundle(false);
    let digest = bundle.root.digest(&bundle.deployment);
    let mut signers: Vec<EvmKey> = [1, 2, 3, 4].map(key).to_vec();
    signers.sort_by_key(EvmKey::address);
    let staked: Vec<Address> = bundle.stakes.iter().map(|one| one.account).collect();
    signers.retain(|one| one.address() != staked[2]);
    bundle.signatures = signers.iter().map(|one| one.sign(&digest)).collect();
    let checked = bundle.check().expect("a quorum");
    assert_eq!((checked.signers.len(), checked.signed), (3, BaseUnits(67)));
    signers.retain(|one| one.address() != staked[1]);
    bundle.signatures = signers.iter().map(|one| one.sign(&digest)).collect();
    let staked = BaseUnits(100);
    let signed = BaseUnits(34);
    assert_eq!(
        bundle.check(),
        Err(BundleError::NoQuorum { signed, staked })
    );
}

#[test]
fn too_long_bytes_are_refused_before_they_are_read() {
    let error = Bundle::decode(&vec![0; MAX_BUNDLE_BYTES + 1]).expect_err("too long");
    assert!(matches!(
        error,
        BundleError::Codec(codec::CodecError::TooLong { .. })
    ));
    let (mut bundle, _) = bundle(false);
    let stake = bundle.stakes[0];
    bundle.stakes = vec![stake; MAX_STAKES + 1];
    let error = Bundle::decode(&bundle.encode()).expect_err("too many");
    assert!(
        matches!(error, BundleError::TooMany { what: "stakes", .. }),
        "{error}"
    );
}

#[test]
fn a_bundle_of_the_largest_allowed_parts_fits() {
    let (mut bundle, _) = bundle(true);
    bundle.stakes = vec![
        Stake {
            account: Address::LAST,
            amount: BaseUnits(u128::MAX),
        };
        MAX_STAKES
    ];
    bundle.signatures = vec![bundle.signatures[0]; MAX_SIGNATURES];
    let sibling = Sibling {
        hash: Keccak::ZERO,
        is_left: true,
    };
    bundle.subject = Subject::Line {
        bytes: vec![1; MAX_LINE_BYTES],
        proof: LineProof {
            siblings: vec![sibling; MAX_LEVELS],
        },
    };
    assert_eq!(Bundle::decode(&bundle.encode()), Ok(bundle));
}

#[test]
fn accounts_that_end_the_tree_hold_nothing_and_sums_stay_within_128_bits() {
    for end in [Address::ZERO, Address::LAST] {
        let accounts = BTreeMap::from([(end, BaseUnits(1))]);
        assert_eq!(
            Balances::build(&accounts),
            Err(BalancesError::Reserved(end))
        );
    }
    let most = BaseUnits(u128::MAX);
    let accounts = BTreeMap::from([(address(1), most), (address(2), BaseUnits(0))]);
    let tree = Balances::build(&accounts).expect("exactly 128 bits");
    assert_eq!(tree.root().sum, most);
    let accounts = BTreeMap::from([(address(1), most), (address(2), BaseUnits(1))]);
    assert_eq!(Balances::build(&accounts), Err(BalancesError::Overflow));
}

#[test]
fn forged_proofs_of_balances_are_refused_for_what_they_are() {
    let accounts = BTreeMap::from([(address(5), BaseUnits(40)), (address(9), BaseUnits(2))]);
    let tree = Balances::build(&accounts).expect("a tree");
    let SumNode { hash, sum } = tree.root();
    let proof = tree.prove(&address(5)).expect("a leaf");

    let mut deep = proof.clone();
    deep.siblings.resize(MAX_LEVELS + 1, proof.siblings[0]);
    assert_eq!(
        deep.check(&hash, sum),
        Err(ProofError::TooDeep(MAX_LEVELS + 1))
    );

    let mut outside = proof.clone();
    outside.index += 4;
    let error = ProofError::OutsideTree {
        index: 5,
        levels: 2,
    };
    assert_eq!(outside.check(&hash, sum), Err(error));

    let mut huge = proof.clone();
    huge.siblings[1].sum = BaseUnits(u128::MAX);
    assert_eq!(huge.check(&hash, sum), Err(ProofError::Overflow));

    let found = sum;
    let wanted = BaseUnits(sum.0 + 1);
    assert_eq!(
        proof.check(&hash, wanted),
        Err(ProofError::OtherTotal { found, wanted })
    );

    let apart = AbsenceProof {
        below: tree.prove(&Address::ZERO).expect("an end"),
        above: tree.prove(&address(9)).expect("a leaf"),
    };
    let error = ProofError::NotNeighbours { below: 0, above: 2 };
    assert_eq!(apart.check(&address(5), &hash, sum), Err(error));
    let turned = AbsenceProof {
        below: tree.prove(&address(9)).expect("a leaf"),
        above: tree.prove(&address(5)).expect("a leaf"),
    };
    assert!(turned.check(&address(7), &hash, sum).is_err());
}

#[test]
fn a_node_is_no_leaf() {
    // What a node hashes, taken as a line, leads nowhere: the first bytes differ.
    let tree = Lines::build([&b"one"[..], b"two"]);
    let halves = [Keccak::of(&[&[2], b"one"]), Keccak::of(&[&[2], b"two"])];
    let node = [halves[0].0, halves[1].0].concat();
    let proof = LineProof { siblings: vec![] };
    assert!(proof.check(&node, &tree.root()).is_err());
    assert_eq!(Lines::build([]).root(), Keccak::ZERO);
    assert_eq!(Lines::build([&b"one"[..]]).root(), halves[0]);
}

#[test]
fn a_signature_that_contracts_refuse_is_refused_here() {
    let digest = Keccak::of(&[b"a statement"]);
    let good = *key(1).sign(&digest).as_bytes();
    assert_eq!(
        Signature::from_bytes(&good[..64]),
        Err(SignatureError::Length(64))
    );
    let mut bytes = good;
    bytes[64] -= 27;
    assert_eq!(
        Signature::from_bytes(&bytes),
        Err(SignatureError::Parity(bytes[64]))
    );
    let mut bytes = good;
    bytes[..32].fill(0);
    assert_eq!(Signature::from_bytes(&bytes), Err(SignatureError::Scalar));
    let mut bytes = good;
    bytes[32..64].fill(0xff);
    assert_eq!(Signature::from_bytes(&bytes), Err(SignatureError::Scalar));
    let mut bytes = good;
    bytes[32..64].copy_from_slice(&negated(&good[32..64]));
    bytes[64] ^= 27 ^ 28;
    assert_eq!(Signature::from_bytes(&bytes), Err(SignatureError::HighS));
}

/// The curve's order less `s`.
fn negated(s: &[u8]) -> [u8; 32] {
    let order: Keccak = "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
        .parse()
        .expect("a number");
    let (mut out, mut borrow) = ([0; 32], false);
    for at in (0..32).rev() {
        let (difference, first) = order.0[at].overflowing_sub(s[at]);
        let (difference, second) = difference.overflowing_sub(u8::from(borrow));
        out[at] = difference;
        borrow = first || second;
    }
    out
}

#[test]
fn a_key_shows_its_account_and_never_its_secret() {
    let bytes = [0x11; 32];
    let key = EvmKey::from_bytes(&bytes).expect("a key");
    // The account that every Ethereum library gives for this key.
    let account = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A";
    assert_eq!(key.address().to_string(), account);
    assert_eq!(format!("{key:?}"), format!("EvmKey({account})"));
    assert_eq!(*key.to_bytes(), bytes);
    assert!(EvmKey::from_bytes(&[0; 32]).is_err() && EvmKey::from_bytes(&[0xff; 32]).is_err());
}

#[test]
fn a_wrong_address_is_refused_by_what_is_wrong() {
    // From EIP-55.
    let good = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    assert_eq!(
        good.parse::<Address>().map(|one| one.to_string()),
        Ok(good.into())
    );
    let refused = |text: &str| text.parse::<Address>().expect_err("it is wrong");
    assert_eq!(refused(&good[2..]), AddressError::Prefix);
    assert_eq!(refused(&good[..41]), AddressError::Length(39));
    assert_eq!(refused(&format!("0x0x{}", &good[4..])), AddressError::Digit);
    assert_eq!(refused(&good.replace('6', "g")), AddressError::Digit);
    let found = good.replace("Ae", "AE");
    assert_eq!(
        refused(&found),
        AddressError::Checksum {
            found: found.clone()
        }
    );
}

#[test]
fn terms_that_the_contract_refuses_are_refused_here() {
    assert_eq!(terms().check(), Ok(()));
    let with = |change: fn(&mut Terms)| {
        let mut terms = terms();
        change(&mut terms);
        assert_ne!(terms.key(), self::terms().key());
        terms.check().expect_err("the contract refuses it")
    };
    assert_eq!(with(|t| t.sponsor = Address::ZERO), TermsError::NoSponsor);
    assert_eq!(with(|t| t.window_s = 0), TermsError::NoWindow);
    let too_short = |name| TermsError::TooShort {
        name,
        found_s: 299,
        least_s: 300,
    };
    assert_eq!(with(|t| t.cooldown_s = 299), too_short("cooldown"));
    assert_eq!(with(|t| t.halt_s = 299), too_short("halt"));
    let error = with(|t| t.window_s = u64::MAX);
    assert!(
        matches!(error, TermsError::TooLong { name: "window", .. }),
        "{error}"
    );
}

#[test]
fn amounts_beyond_128_bits_of_base_units_are_refused() {
    let most = MicroOpen(u128::MAX / 1_000_000_000_000);
    assert!(BaseUnits::from_micro(most).is_ok());
    let beyond = MicroOpen(most.0 + 1);
    assert_eq!(
        BaseUnits::from_micro(beyond),
        Err(AmountError::Overflow(beyond))
    );
    // The most that one event of the books may move can be paid.
    assert!(BaseUnits::from_micro(crate::money::MAX_AMOUNT).is_ok());
    let amount = BaseUnits(1_500_000_000_000_000_001);
    assert_eq!(amount.to_string(), "1.500000000000000001");
}
