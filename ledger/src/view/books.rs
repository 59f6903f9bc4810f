//! A run's books as whoever settles it on a chain needs them: the manifest, and the roots with who signed them.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tributary_attribution::run_books::{RunBooks, SignedRoot};
use tributary_attribution::settlement::{Address, Signature};
use tributary_protocol::codec;
use tributary_protocol::id::Round;
use tributary_protocol::manifest::Manifest;
use utoipa::ToSchema;

/// A run's books. Amounts are base units of the chain, 10^-18 OPEN, as decimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BooksView {
    /// The run.
    pub run: String,
    /// Canonical bytes of its manifest, hexadecimal.
    pub manifest: String,
    /// The height that comes next.
    pub expected: u32,
    /// The root of the height that was asked for, else of the last heights, the newest last. None before the genesis, or
    /// where the books do not reach that height.
    pub roots: Vec<SignedRootView>,
    /// What each account is paid under the root that was asked for, ordered by account.
    pub balances: Vec<AccountBalance>,
}

/// The root of one height.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignedRootView {
    /// The height.
    pub height: u32,
    /// Canonical bytes of the root, hexadecimal.
    pub root: String,
    /// What members sign.
    pub digest: String,
    /// What it promises, base units.
    pub total_units: String,
    /// Whether no later root promises more of the deposit.
    pub closed: bool,
    /// Signatures that certificates put in order, ordered by account.
    pub signatures: Vec<AccountSignature>,
    /// Answers to a challenge of it, as `confirm` of the contract takes them, ordered by account.
    pub confirms: Vec<AccountSignature>,
}

/// A signature of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountSignature {
    /// The account.
    pub account: String,
    /// r, s and v, hexadecimal.
    pub signature: String,
}

/// What an account is paid, ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountBalance {
    /// The account.
    pub account: String,
    /// Base units.
    pub units: String,
}

impl BooksView {
    /// Of the books of a run, with the one root of `height`, or with all that are kept.
    pub fn of(manifest: &Manifest, books: &RunBooks, height: Option<Round>) -> Self {
        let kept = books.settled().map(|settled| settled.roots());
        let wanted = |round: &Round| height.is_none_or(|height| height == *round);
        let roots = kept
            .into_iter()
            .flatten()
            .filter(|(round, _)| wanted(round));
        let of_height = height.and_then(|height| kept?.get(&height));
        Self {
            run: books.run().to_string(),
            manifest: HEXLOWER.encode(&codec::encode(manifest)),
            expected: books.expected().0,
            roots: roots.map(|(round, root)| root_view(*round, root)).collect(),
            balances: of_height.map(balances).unwrap_or_default(),
        }
    }
}

fn root_view(round: Round, signed: &SignedRoot) -> SignedRootView {
    SignedRootView {
        height: round.0,
        root: HEXLOWER.encode(&codec::encode(&signed.root)),
        digest: signed.digest.to_string(),
        total_units: signed.root.total.0.to_string(),
        closed: signed.root.closed,
        signatures: by_account(&signed.signatures),
        confirms: by_account(&signed.confirms),
    }
}

pub(super) fn by_account(signatures: &BTreeMap<Address, Signature>) -> Vec<AccountSignature> {
    let signatures = signatures.iter();
    signatures
        .map(|(account, signature)| AccountSignature {
            account: account.to_string(),
            signature: HEXLOWER.encode(signature.as_bytes()),
        })
        .collect()
}

fn balances(signed: &SignedRoot) -> Vec<AccountBalance> {
    let accounts = signed.accounts.iter();
    accounts
        .map(|(account, amount)| AccountBalance {
            account: account.to_string(),
            units: amount.0.to_string(),
        })
        .collect()
}
