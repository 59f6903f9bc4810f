//! Roots that somebody challenges: right ones stand, and cost the challenger its bond.

use tributary_protocol::filing::Confirm;

use super::super::keeper;
use super::*;
use crate::settlement::calls::{Call, Settlement, Token};

/// Has a member challenge whatever root waits and is not frozen yet, and collect nothing. How often it did.
struct Nuisance {
    node: usize,
    challenged: BTreeSet<u64>,
}

impl Nuisance {
    fn challenge(&mut self, world: &mut World) {
        let settled = world.settled(self.node);
        let terms = *settled.terms();
        let contract = Settlement(settled.deployment().contract);
        let view = world.chain(self.node).run(settled.key());
        let Some(pending) = view.pending else {
            return;
        };
        if pending.confirmed || !self.challenged.insert(pending.root.height) {
            return;
        }
        let (me, bond) = (evm(self.node).address(), terms.challenge_bond);
        let token = Token(TestChain::deployed().token);
        let calls: [Call; 3] = [
            token.mint(me, bond),
            token.approve(contract.0, bond),
            contract.challenge(&terms),
        ];
        let run = world.run;
        let filings = calls.into_iter().map(keeper::entry).collect();
        world.net.command(self.node, Command::File { run, filings });
    }
}

#[test]
fn challenges_of_every_root_stop_nobody_and_burn_their_bonds() {
    let mut world = World::new(4, |_| {});
    world.keep();
    world.join_all();
    let mut nuisance = Nuisance {
        node: 3,
        challenged: BTreeSet::new(),
    };
    for _ in 0..30_000 {
        if world.has_paid_everybody() {
            break;
        }
        world.run_until(20, |_| false);
        nuisance.challenge(&mut world);
    }
    assert!(
        world.has_paid_everybody(),
        "{:?}",
        world.settled(0).refused()
    );
    assert!(!nuisance.challenged.is_empty());
    for node in 0..4 {
        let settled = world.settled(node);
        let contract = Settlement(settled.deployment().contract);
        for root in settled.roots().values() {
            let dropped = world.chain(node).read(&contract.dropped(root.digest));
            assert_eq!(dropped, Ok(false), "no root is void");
        }
        let me = evm(3).address();
        let came_back = world.chain(node).read(&contract.credits(me));
        assert_eq!(came_back, Ok(BaseUnits(0)), "no bond came back");
        assert!(world.books[node].is_conserved());
    }
}

#[test]
fn an_answer_to_another_root_or_by_another_key_counts_for_nothing() {
    let mut world = World::new(4, |_| {});
    world.keep();
    world.join_all();
    assert!(world.run_until(600_000, |world| world.books[0].expected() > Round(2)));
    let mut books = world.books[0].clone();
    let settled = books.settled.as_mut().expect("terms");
    let (round, root) = (settled.roots().last_key_value())
        .map(|(round, root)| (*round, root.clone()))
        .expect("a root");
    let account = evm(1).address();
    let given = |settled: &Settled, signer: usize, digest: crate::settlement::Keccak| {
        let statement = settled.confirmed(&root.root, digest);
        let signed = evm(signer).sign(&statement.digest(settled.deployment()));
        Confirm {
            round,
            root: tributary_protocol::hash::Digest::from_bytes(digest.0),
            signature: tributary_protocol::filing::EvmSignature(*signed.as_bytes()),
        }
    };
    let mut other = root.root;
    other.total = BaseUnits(other.total.0 + 1);
    let other = other.digest(settled.deployment());
    for wrong in [given(settled, 1, other), given(settled, 2, root.digest)] {
        settled.take_confirm(account, &wrong);
        assert!(settled.roots()[&round].confirms.is_empty());
    }
    let right = given(settled, 1, root.digest);
    settled.take_confirm(account, &right);
    assert!(settled.roots()[&round].confirms.contains_key(&account));
}

#[test]
fn nobody_answers_a_challenge_of_a_root_that_does_not_follow() {
    let mut world = World::new(4, |_| {});
    world.keep();
    world.join_all();
    assert!(world.run_until(600_000, |world| world.books[0].expected() > Round(2)));
    let (settled, books) = (world.settled(1), &world.books[1]);
    let root = settled.roots().last_key_value().expect("a root").1;
    let asked = |challenged| {
        let key = evm(1);
        let filer = Filer {
            challenged: Some(challenged),
            ..Filer::new(world.net.ids[1], &key)
        };
        let duties = books.duties(&world.manifest, filer, &[]);
        duties.iter().any(|duty| matches!(duty, Entry::Confirm(_)))
    };
    assert!(asked(root.digest));
    let mut other = root.root;
    other.total = BaseUnits(other.total.0 + 1);
    assert!(!asked(other.digest(settled.deployment())));
}
