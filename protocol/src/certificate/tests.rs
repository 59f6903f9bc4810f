//! Tests of what a certificate proves.

use super::*;
use crate::consensus::Signed;
use crate::hash::{Domain, digest};

use crate::sign::SecretKey;

const NET: NetworkId = NetworkId(3);

fn key(i: u32) -> SecretKey {
    SecretKey::from_seed(*digest(Domain::Simulation, &i.to_le_bytes()).as_bytes())
}

fn committee() -> Committee {
    Committee::of((0..7).map(|i| (key(i).peer_id(), 1)).collect())
}

fn certificate(signers: impl IntoIterator<Item = u32>) -> Certificate {
    let value = RoundValue {
        run: RunId::default(),
        round: Round(2),
        ..RoundValue::default()
    };
    let id = value.id();
    let precommit = |i: u32| {
        let body = Vote {
            run: RunId::default(),
            round: Round(2),
            attempt: 4,
            kind: VoteKind::Precommit,
            value: Some(id),
            author: key(i).peer_id(),
        };
        (body.author, Signed::vote(body, NET, &key(i)).signature)
    };
    let mut precommits: Vec<_> = signers.into_iter().map(precommit).collect();
    precommits.sort_unstable();
    Certificate {
        value,
        attempt: 4,
        precommits,
    }
}

#[test]
fn a_quorum_certifies_and_one_less_does_not() {
    assert_eq!(certificate(0..5).verify(&committee(), NET), Ok(()));
    assert_eq!(certificate(0..7).verify(&committee(), NET), Ok(()));
    let few = certificate(0..4).verify(&committee(), NET);
    let why = Rejection::Certificate("fewer votes than a quorum of the committee");
    assert_eq!(few, Err(why));
}

#[test]
fn strangers_and_doubles_do_not_count() {
    let stranger = certificate([0, 1, 2, 3, 9]).verify(&committee(), NET);
    let why = Rejection::Certificate("a signer has no seat in the committee");
    assert_eq!(stranger, Err(why));
    let doubled = certificate([0, 1, 2, 3, 3]).verify(&committee(), NET);
    assert_eq!(doubled, Err(Rejection::Certificate("signers out of order")));
}

#[test]
fn any_change_breaks_the_signatures() {
    let changes: [fn(&mut Certificate); 4] = [
        |c| c.value.round = Round(3),
        |c| c.value.adapter.size = 1,
        |c| c.attempt = 5,
        |c| c.precommits[3].1.0[7] ^= 1,
    ];
    for change in changes {
        let mut changed = certificate(0..5);
        change(&mut changed);
        let found = changed.verify(&committee(), NET);
        assert_eq!(found, Err(Rejection::Signature));
    }
    let other = certificate(0..5).verify(&committee(), NetworkId(4));
    assert_eq!(other, Err(Rejection::Signature));
}

#[test]
fn a_certificate_has_one_encoding() {
    let bytes = certificate(0..5).encode();
    assert_eq!(Certificate::decode(&bytes), Ok(certificate(0..5)));
    assert!(Certificate::decode(&bytes[1..]).is_err());
    let long = vec![0; limits::MAX_CERTIFICATE_BYTES + 1];
    assert!(Certificate::decode(&long).is_err());
}
