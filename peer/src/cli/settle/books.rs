//! A run's books as the command needs them: roots, who signed them, and what they pay.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use tributary_attribution::settlement::{
    Address, Balances, BaseUnits, Deployment, Keccak, Root, Signature, SignatureError,
};
use tributary_ledger::view::books::{AccountSignature, BooksView, SignedRootView};
use tributary_protocol::codec;
use tributary_protocol::limits::MAX_MANIFEST_BYTES;
use tributary_protocol::manifest::Manifest;

use crate::terminal::Failure;

/// Bytes of an encoded root at most.
const MAX_ROOT_BYTES: usize = 512;

/// A run's books.
pub(super) struct Books {
    manifest: Vec<u8>,
    /// The height that comes next.
    pub(super) expected: u32,
    /// In the order of heights.
    pub(super) roots: Vec<SignedRoot>,
    /// What accounts are paid under the only root.
    accounts: BTreeMap<Address, BaseUnits>,
}

/// A root with its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignedRoot {
    pub(super) root: Root,
    pub(super) signatures: BTreeMap<Address, Signature>,
    /// Answers to a challenge of it.
    pub(super) confirms: BTreeMap<Address, Signature>,
}

/// A root that enough stake signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quorum {
    pub(super) root: Root,
    /// Of accounts whose stake counts.
    pub(super) signatures: Vec<Signature>,
    /// Their stake.
    pub(super) signed: BaseUnits,
}

impl Books {
    /// Of what a daemon, or a stopped home, answers.
    pub(super) fn read(view: &BooksView) -> Result<Self, Failure> {
        let broken = |what: &str| {
            Failure::environment(format!("the books' {what} is not understood"))
                .hint("daemon and command differ in version: restart the daemon")
        };
        let accounts = view.balances.iter().map(|one| {
            let account = one.account.parse().map_err(|_| broken("account"))?;
            let units = one.units.parse().map_err(|_| broken("balance"))?;
            Ok((account, BaseUnits(units)))
        });
        let manifest = HEXLOWER.decode(view.manifest.as_bytes());
        Ok(Self {
            manifest: manifest.map_err(|_| broken("manifest"))?,
            expected: view.expected,
            roots: (view.roots.iter())
                .map(|one| signed_root(one).ok_or_else(|| broken("root")))
                .collect::<Result<_, _>>()?,
            accounts: accounts.collect::<Result<_, Failure>>()?,
        })
    }

    pub(super) fn manifest(&self) -> Result<Manifest, Failure> {
        codec::decode::<Manifest, MAX_MANIFEST_BYTES>(&self.manifest).map_err(|why| {
            Failure::environment(format!("the run's manifest is not understood: {why}"))
                .hint("daemon and command differ in version: restart the daemon")
        })
    }

    /// The only root, where the books reach it.
    pub(super) fn root(&self) -> Option<Root> {
        self.roots.last().map(|signed| signed.root)
    }

    /// What accounts are paid under the only root; none where that is not what the root says.
    pub(super) fn balances(&self) -> Option<Balances> {
        let balances = Balances::build(&self.accounts).ok()?;
        let sum = balances.root();
        let root = self.root()?;
        ((sum.hash, sum.sum) == (root.balances, root.total)).then_some(balances)
    }

    /// Accounts under the only root.
    pub(super) fn accounts(&self) -> impl Iterator<Item = &Address> {
        self.accounts.keys()
    }

    /// Who signed any of the roots, or an answer to a challenge of one.
    pub(super) fn signers(&self) -> Vec<Address> {
        let signed = self.roots.iter();
        let signed = signed.flat_map(|root| root.signatures.keys().chain(root.confirms.keys()));
        let mut signers: Vec<Address> = signed.copied().collect();
        signers.sort_unstable();
        signers.dedup();
        signers
    }

    /// The newest root that more than two thirds of all stake signed.
    pub(super) fn newest_signed(
        &self,
        stakes: &BTreeMap<Address, BaseUnits>,
        all: BaseUnits,
    ) -> Option<Quorum> {
        let mut newest = self.roots.iter().rev();
        newest.find_map(|one| quorum(one.root, &one.signatures, stakes, all))
    }

    /// The answer of more than two thirds of all stake to a challenge of the root with this digest; an error says how much
    /// stake has answered so far. `None` where the books have no such root.
    pub(super) fn answered(
        &self,
        (deployment, digest): (&Deployment, Keccak),
        stakes: &BTreeMap<Address, BaseUnits>,
        all: BaseUnits,
    ) -> Option<Result<Quorum, BaseUnits>> {
        let mut roots = self.roots.iter();
        let found = roots.find(|one| one.root.digest(deployment) == digest)?;
        let quorum = quorum(found.root, &found.confirms, stakes, all);
        Some(quorum.ok_or_else(|| counting(&found.confirms, stakes).1))
    }
}

/// Signatures of accounts whose stake counts, and that stake.
fn counting(
    signatures: &BTreeMap<Address, Signature>,
    stakes: &BTreeMap<Address, BaseUnits>,
) -> (Vec<Signature>, BaseUnits) {
    let stake = |account: &Address| stakes.get(account).copied().unwrap_or_default();
    let counting = signatures.iter();
    let counting = counting.filter(|(account, _)| stake(account) > BaseUnits(0));
    let sum = counting.clone().map(|(account, _)| stake(account).0);
    let sum = BaseUnits(sum.fold(0, u128::saturating_add));
    (counting.map(|(_, signature)| *signature).collect(), sum)
}

/// What was signed, if by more than two thirds of all stake.
fn quorum(
    root: Root,
    signatures: &BTreeMap<Address, Signature>,
    stakes: &BTreeMap<Address, BaseUnits>,
    all: BaseUnits,
) -> Option<Quorum> {
    let (signatures, signed) = counting(signatures, stakes);
    // All OPEN is far below a third of 128 bits; what is more is no stake of this token.
    let is_enough = signed.0.saturating_mul(3) > all.0.saturating_mul(2) && all > BaseUnits(0);
    is_enough.then_some(Quorum {
        root,
        signatures,
        signed,
    })
}

fn signed_root(view: &SignedRootView) -> Option<SignedRoot> {
    let root = HEXLOWER.decode(view.root.as_bytes()).ok()?;
    let signature = |text: &str| {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok()?;
        let read: Result<Signature, SignatureError> = Signature::from_bytes(&bytes);
        read.ok()
    };
    let by_account = |list: &[AccountSignature]| {
        let signatures = list.iter().map(|one| {
            let account = one.account.parse().ok()?;
            Some((account, signature(&one.signature)?))
        });
        signatures.collect::<Option<BTreeMap<Address, Signature>>>()
    };
    Some(SignedRoot {
        root: codec::decode::<Root, MAX_ROOT_BYTES>(&root).ok()?,
        signatures: by_account(&view.signatures)?,
        confirms: by_account(&view.confirms)?,
    })
}

#[cfg(test)]
mod tests {
    use tributary_attribution::settlement::{ChainId, EvmKey, Key};

    use super::*;

    fn key(seed: u8) -> EvmKey {
        EvmKey::from_bytes(&[seed; 32]).expect("a key")
    }

    fn signed(height: u64, by: &[u8]) -> SignedRoot {
        let root = Root {
            run: Key::default(),
            height,
            balances: Keccak::ZERO,
            total: BaseUnits(0),
            fees: BaseUnits(0),
            lines: Keccak::ZERO,
            closed: false,
        };
        let signature = |seed: &u8| (key(*seed).address(), key(*seed).sign(&Keccak::ZERO));
        SignedRoot {
            root,
            signatures: by.iter().map(signature).collect(),
            confirms: BTreeMap::new(),
        }
    }

    fn stakes<const N: usize>(seeds: [u8; N], amounts: [u128; N]) -> BTreeMap<Address, BaseUnits> {
        let seeds = seeds.into_iter().zip(amounts);
        seeds
            .map(|(seed, amount)| (key(seed).address(), BaseUnits(amount)))
            .collect()
    }

    #[test]
    fn the_newest_root_with_more_than_two_thirds_of_the_stake_is_posted_without_signatures_that_do_not_count()
     {
        let books = Books {
            manifest: Vec::new(),
            expected: 5,
            roots: vec![
                signed(1, &[1, 2, 3]),
                signed(2, &[1, 2, 9]),
                signed(3, &[1, 9]),
            ],
            accounts: BTreeMap::new(),
        };
        let stakes = |amounts| stakes([1, 2, 3], amounts);
        // Two thirds are not more than two thirds.
        let found = books
            .newest_signed(&stakes([1, 1, 1]), BaseUnits(3))
            .expect("the first");
        assert_eq!(
            (found.root.height, found.signed, found.signatures.len()),
            (1, BaseUnits(3), 3)
        );
        let found = books
            .newest_signed(&stakes([2, 1, 1]), BaseUnits(4))
            .expect("the second");
        assert_eq!(
            (found.root.height, found.signed, found.signatures.len()),
            (2, BaseUnits(3), 2)
        );
        assert_eq!(books.newest_signed(&stakes([1, 1, 1]), BaseUnits(5)), None);
        assert_eq!(books.newest_signed(&stakes([0, 0, 0]), BaseUnits(0)), None);
        let mut signers = [1, 2, 3, 9].map(|seed| key(seed).address()).to_vec();
        signers.sort_unstable();
        assert_eq!(books.signers(), signers);
    }

    #[test]
    fn a_challenge_is_answered_by_more_than_two_thirds_of_the_stake_and_only_of_a_root_of_the_books()
     {
        let deployment = Deployment {
            chain: ChainId(1612),
            contract: Address([7; 20]),
        };
        let mut root = signed(3, &[1]);
        root.confirms = signed(3, &[1, 2, 9]).signatures;
        let digest = root.root.digest(&deployment);
        let books = Books {
            manifest: Vec::new(),
            expected: 5,
            roots: vec![signed(2, &[]), root],
            accounts: BTreeMap::new(),
        };
        let answered = |digest, amounts, all| {
            let stakes = stakes([1, 2, 3], amounts);
            books.answered((&deployment, digest), &stakes, BaseUnits(all))
        };
        let quorum = answered(digest, [2, 1, 1], 4)
            .expect("its root")
            .expect("3 of 4");
        assert_eq!((quorum.root.height, quorum.signatures.len()), (3, 2));
        assert_eq!(answered(digest, [1, 1, 1], 3), Some(Err(BaseUnits(2))));
        assert_eq!(answered(Keccak::ZERO, [2, 1, 1], 4), None);
    }
}
