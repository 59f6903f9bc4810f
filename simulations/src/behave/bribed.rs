//! Members that are paid to sign a wrong root: at the closing height they promise the first of them everything that is left of
//! the deposit. If they have more than two thirds of the stake, the contract takes it; else it refuses it, and they have lost
//! what signatures of that height are paid.

use std::collections::BTreeMap;

use tributary_attribution::run_books::{RunBooks, Settled};
use tributary_attribution::settlement::calls::{Call, Payment, ascending};
use tributary_attribution::settlement::{
    Address, Balances, BaseUnits, EvmKey, Keccak, Root, Signature,
};
use tributary_protocol::entry::Entry;
use tributary_protocol::event::Input;
use tributary_protocol::filing::{EvmSignature, RootSignature};
use tributary_protocol::hash::Digest;
use tributary_protocol::sign::SecretKey;

use super::money::{self, EachHeight, contract, transaction};
use super::{Behaviour, LiarContext};

/// Heights for which the wrong root is tried.
const TRIES: u32 = 20;

/// A root that was made up, and the tree under it.
struct Wrong {
    root: Root,
    digest: Keccak,
    accounts: BTreeMap<Address, BaseUnits>,
}

/// One of several that were bribed.
#[derive(Default)]
pub(super) struct Bribed {
    heights: EachHeight,
    wrong: Option<Wrong>,
}

/// The closing root with all that it leaves of the deposit for `taker`.
fn make_up(settled: &Settled, height: u32, taker: Address) -> Option<Wrong> {
    let honest = (settled.roots().values()).find(|root| root.root.height == u64::from(height))?;
    let deposited = settled.chain()?.run(settled.key()).deposited;
    let promised = honest.root.total.saturating_sub(honest.root.fees);
    let rest = deposited.saturating_sub(promised);
    let mut accounts = honest.accounts.clone();
    accounts.entry(taker).or_default().0 += rest.0;
    let sum = Balances::build(&accounts).ok()?.root();
    let root = Root {
        balances: sum.hash,
        total: sum.sum,
        ..honest.root
    };
    Some(Wrong {
        digest: root.digest(settled.deployment()),
        root,
        accounts,
    })
}

/// The account that takes the loot: that of the first of all that were bribed.
fn taker(friends: &[SecretKey]) -> Option<Address> {
    let accounts = friends.iter().map(|key| EvmKey::of_peer(key).address());
    accounts.min()
}

impl Bribed {
    /// Its signature in place of the honest one.
    fn sign(&mut self, cx: &LiarContext<'_>, honest: RootSignature) -> RootSignature {
        let closing = cx.world.manifest.closing_round();
        let settled = cx.world.books.and_then(RunBooks::settled);
        if honest.round == closing
            && let Some((settled, taker)) = settled.zip(taker(cx.world.friends))
        {
            self.wrong = make_up(settled, closing.0, taker);
        }
        match self.wrong.as_ref().filter(|_| honest.round == closing) {
            None => honest,
            Some(wrong) => RootSignature {
                root: Digest::from_bytes(wrong.digest.0),
                signature: EvmSignature(*cx.account().sign(&wrong.digest).as_bytes()),
                ..honest
            },
        }
    }

    /// The taker posts the wrong root with everybody's signatures; each takes what it promises.
    fn calls(&self, cx: &LiarContext<'_>, settled: &Settled) -> Option<Vec<Call>> {
        let wrong = self.wrong.as_ref()?;
        let me = cx.account().address();
        let is_taker = taker(cx.world.friends) == Some(me);
        let (chain, key) = (settled.chain()?, settled.key());
        let run = chain.run(key);
        let pending = run.pending.map(|pending| pending.root.balances);
        let mut calls = Vec::new();
        let is_posted =
            run.accepted.height >= wrong.root.height || pending == Some(wrong.root.balances);
        if is_taker && !is_posted {
            let sign = |friend: &SecretKey| EvmKey::of_peer(friend).sign(&wrong.digest);
            let signatures: Vec<Signature> = cx.world.friends.iter().map(sign).collect();
            let signatures = ascending(&wrong.digest, &signatures).ok()?;
            calls.push(contract().post(settled.terms(), &wrong.root, &signatures));
        }
        let owed = *wrong.accounts.get(&me)?;
        if run.accepted.balances == wrong.root.balances && chain.claimed(key, me) < owed {
            let proof = Balances::build(&wrong.accounts).ok()?.prove(&me)?;
            let unwrap = false;
            let run = key;
            calls.push(contract().claim(&[Payment { run, proof, unwrap }]));
        }
        Some(calls)
    }
}

impl Behaviour for Bribed {
    fn input(&mut self, cx: &mut LiarContext<'_>, input: Input) -> Option<Input> {
        let input = money::refile(input, |filing| match filing {
            Entry::RootSignature(honest) => vec![Entry::RootSignature(self.sign(cx, honest))],
            other => vec![other],
        });
        Some(input)
    }

    fn tick(&mut self, cx: &mut LiarContext<'_>) {
        let Some(books) = self.heights.look(cx) else {
            return;
        };
        let late = cx.world.manifest.closing_round().0 + TRIES;
        let settled = books.settled().filter(|_| books.expected().0 <= late);
        let calls = settled.and_then(|settled| self.calls(cx, settled));
        let calls = calls.unwrap_or_default().into_iter();
        cx.file(calls.map(transaction).collect());
    }
}
