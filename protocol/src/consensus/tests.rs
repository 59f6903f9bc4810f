//! Tests of one height: alone, step by step, and many in a hostile network.

mod world;

use proptest::prelude::*;

use super::*;
use crate::codec;
use crate::hash::{Digest, Domain, digest};
use crate::id::{BlobHash, BlobRef};
use world::{Behaviour, World};

const NET: NetworkId = NetworkId(1);
const ROUND: Round = Round(3);

fn key(i: u32) -> SecretKey {
    SecretKey::from_seed(*digest(Domain::Simulation, &i.to_le_bytes()).as_bytes())
}

fn setting(members: u32) -> Setting {
    Setting {
        network: NET,
        run: RunId::default(),
        round: ROUND,
        committee: Committee::of((0..members).map(|i| (key(i).peer_id(), 1)).collect()),
        deadlines: Deadlines {
            round_ms: 0,
            grace_ms: 0,
            propose_ms: 300,
            vote_ms: 150,
        },
    }
}

/// A value that differs with `salt`; odd salts are valid.
fn value(salt: u64) -> RoundValue {
    RoundValue {
        run: RunId::default(),
        round: ROUND,
        adapter: BlobRef {
            hash: BlobHash(digest(Domain::Simulation, &salt.to_le_bytes())),
            size: salt,
        },
        ..RoundValue::default()
    }
}

fn is_valid(value: &RoundValue) -> bool {
    value.adapter.size % 2 == 1
}

fn vote(who: u32, attempt: u32, kind: VoteKind, value: Option<ValueId>) -> ConsensusMessage {
    let body = Vote {
        run: RunId::default(),
        round: ROUND,
        attempt,
        kind,
        value,
        author: key(who).peer_id(),
    };
    ConsensusMessage::Vote(Signed::vote(body, NET, &key(who)))
}

/// Who proposes in an attempt.
fn turn(members: u32, attempt: u32) -> u32 {
    let proposer = setting(members).committee.proposer(attempt);
    (0..members)
        .find(|who| key(*who).peer_id() == proposer)
        .expect("a member")
}

/// A proposal; put up again, it carries prevotes of the first three in the attempt `polka`.
fn proposal(who: u32, attempt: u32, polka: Option<u32>, mut value: RoundValue) -> ConsensusMessage {
    if polka.is_none() {
        value.attempt = attempt;
    }
    let polka = polka.map(|polka| prevotes(0..3, polka, &value));
    let body = Proposal {
        attempt,
        polka,
        value,
        author: key(who).peer_id(),
    };
    ConsensusMessage::Proposal(Signed::<Proposal>::proposal(body, NET, &key(who)))
}

fn prevotes(signers: impl Iterator<Item = u32>, attempt: u32, value: &RoundValue) -> Polka {
    let id = Some(value.id());
    let mut prevotes: Vec<_> = signers
        .map(|who| match vote(who, attempt, VoteKind::Prevote, id) {
            ConsensusMessage::Vote(vote) => (vote.body.author, vote.signature),
            ConsensusMessage::Proposal(_) => unreachable!(),
        })
        .collect();
    prevotes.sort_unstable();
    Polka { attempt, prevotes }
}

fn height(me: u32, members: u32) -> Height {
    Height::new(setting(members), key(me)).expect("a member")
}

fn said(outputs: &[Output]) -> Vec<ConsensusMessage> {
    (outputs.iter())
        .filter_map(|output| match output {
            Output::Broadcast(bytes) => Some(ConsensusMessage::decode(bytes).expect("our own")),
            _ => None,
        })
        .collect()
}

fn hear(height: &mut Height, message: ConsensusMessage) -> Vec<Output> {
    height.receive(message).expect("a good message").outputs
}

/// Found by seed 2759 of the bonded soak: a member that had not heard the first proposal left its value unanswered for as
/// long as the height lasted, although others were locked on it.
#[test]
fn a_quorum_is_known_of_a_value_that_is_put_up_again_by_who_did_not_hear_it_before() {
    let made = value(1);
    let me = (0..4).find(|who| ![turn(4, 0), turn(4, 1)].contains(who));
    let mut height = height(me.expect("four members"), 4);
    height.start();
    let id = made.id();
    assert!(!height.has_polka(id));
    hear(&mut height, proposal(turn(4, 1), 1, Some(0), made));
    assert!(height.has_polka(id));
}

#[test]
fn committee_of_one_decides_at_once() {
    let mut height = height(0, 1);
    let started = height.start();
    assert!(started.contains(&Output::NeedValue { attempt: 0 }));
    let outputs = height.propose(0, value(1));
    assert!(matches!(outputs[0], Output::Persist(_)));
    let Some(Output::Decided(certificate)) = outputs.last() else {
        panic!("not decided: {outputs:?}");
    };
    assert_eq!(certificate.value, value(1));
    assert_eq!(
        certificate.verify(&setting(1).committee, NET),
        Ok(()),
        "one of one is a quorum"
    );
    assert_eq!(height.decided(), Some(certificate));
}

#[test]
fn four_members_decide_what_the_first_proposes() {
    let mut voter = height(1, 4);
    voter.start();
    let outputs = hear(&mut voter, proposal(0, 0, None, value(1)));
    assert_eq!(outputs, [Output::Validate(value(1))]);
    let id = value(1).id();
    let outputs = voter.validated(id, true);
    assert!(matches!(outputs[0], Output::Persist(_)));
    assert_eq!(said(&outputs), [vote(1, 0, VoteKind::Prevote, Some(id))]);
    hear(&mut voter, vote(0, 0, VoteKind::Prevote, Some(id)));
    let outputs = hear(&mut voter, vote(2, 0, VoteKind::Prevote, Some(id)));
    assert_eq!(said(&outputs), [vote(1, 0, VoteKind::Precommit, Some(id))]);
    hear(&mut voter, vote(0, 0, VoteKind::Precommit, Some(id)));
    let outputs = hear(&mut voter, vote(2, 0, VoteKind::Precommit, Some(id)));
    let Some(Output::Decided(certificate)) = outputs.last() else {
        panic!("not decided: {outputs:?}");
    };
    assert_eq!(certificate.precommits.len(), 3);
    assert_eq!(certificate.verify(&setting(4).committee, NET), Ok(()));
    assert!(voter.rebroadcast().is_empty());
}

#[test]
fn invalid_value_is_voted_down() {
    let mut voter = height(1, 4);
    voter.start();
    hear(&mut voter, proposal(0, 0, None, value(2)));
    let outputs = voter.validated(value(2).id(), false);
    assert_eq!(said(&outputs), [vote(1, 0, VoteKind::Prevote, None)]);
}

#[test]
fn proposal_waits_for_its_judgement_while_votes_go_on() {
    let mut voter = height(1, 4);
    voter.start();
    let id = value(1).id();
    hear(&mut voter, proposal(0, 0, None, value(1)));
    for kind in [VoteKind::Prevote, VoteKind::Precommit] {
        for who in [0, 2, 3] {
            let outputs = hear(&mut voter, vote(who, 0, kind, Some(id)));
            assert!(said(&outputs).is_empty());
        }
    }
    let outputs = voter.validated(id, true);
    assert!(matches!(outputs.last(), Some(Output::Decided(_))));
}

#[test]
fn a_value_judged_once_is_not_asked_about_again() {
    let mut voter = height(3, 4);
    voter.start();
    hear(&mut voter, proposal(0, 0, None, value(1)));
    voter.validated(value(1).id(), true);
    let again = proposal(turn(4, 1), 1, Some(0), value(1));
    let outputs = hear(&mut voter, again);
    assert!(!outputs.iter().any(|o| matches!(o, Output::Validate(_))));
}

#[test]
fn strangers_other_heights_and_bad_signatures_are_refused() {
    let mut voter = height(1, 4);
    voter.start();
    let refused = |voter: &mut Height, message| voter.receive(message).expect_err("refused");
    let stranger = vote(9, 0, VoteKind::Prevote, None);
    assert_eq!(refused(&mut voter, stranger), Rejection::Unauthorised);
    let not_the_proposer = proposal(2, 0, None, value(1));
    assert_eq!(
        refused(&mut voter, not_the_proposer),
        Rejection::Unauthorised
    );
    let mut of_another = value(1);
    of_another.attempt = 1;
    let polka = Some(prevotes(0..3, 0, &of_another));
    let (attempt, author) = (2, setting(4).committee.proposer(2));
    let body = Proposal {
        attempt,
        polka,
        value: of_another,
        author,
    };
    let made_later = Signed::<Proposal>::proposal(body, NET, &key(turn(4, 2)));
    let made_later = ConsensusMessage::Proposal(made_later);
    assert_eq!(refused(&mut voter, made_later), Rejection::Unauthorised);
    let later_polka = proposal(turn(4, 2), 2, Some(2), value(1));
    let why = Rejection::Certificate("a polka of a later attempt");
    assert_eq!(refused(&mut voter, later_polka), why);
    let mut other = value(1);
    other.round = Round(4);
    let why = Rejection::Contradiction("message of another height");
    assert_eq!(refused(&mut voter, proposal(0, 0, None, other)), why);
    let ConsensusMessage::Vote(mut forged) = vote(2, 0, VoteKind::Prevote, None) else {
        unreachable!()
    };
    forged.body.author = key(3).peer_id();
    let forged = ConsensusMessage::Vote(forged);
    assert_eq!(refused(&mut voter, forged), Rejection::Signature);
    let outsider = Height::new(setting(4), key(9));
    assert!(matches!(outsider, Err(Rejection::Unauthorised)));
}

#[test]
fn a_value_put_up_again_needs_its_quorum_of_prevotes() {
    let mut voter = height(1, 7);
    voter.start();
    let few = proposal(turn(7, 3), 3, Some(0), value(1));
    let why = Rejection::Certificate("fewer votes than a quorum of the committee");
    assert_eq!(voter.receive(few), Err(why));
    let mut last = height(3, 4);
    last.start();
    // Member 0 told us nil and the others the value: only the proof shows the quorum.
    hear(&mut last, vote(0, 0, VoteKind::Prevote, None));
    for who in [0, 2] {
        hear(&mut last, vote(who, 2, VoteKind::Prevote, None));
    }
    assert_eq!(last.attempt(), 2);
    let outputs = hear(&mut last, proposal(turn(4, 2), 2, Some(0), value(1)));
    assert!(outputs.contains(&Output::Validate(value(1))));
    let outputs = last.validated(value(1).id(), true);
    let prevote = vote(3, 2, VoteKind::Prevote, Some(value(1).id()));
    assert!(said(&outputs).contains(&prevote));
    assert!(outputs.contains(&Output::Equivocation(key(0).peer_id())));
}

#[test]
fn a_vote_for_one_purpose_is_no_vote_for_another() {
    let genuine = vote(2, 0, VoteKind::Prevote, None);
    let ConsensusMessage::Vote(genuine) = genuine else {
        unreachable!()
    };
    let changes: [fn(&mut Vote); 5] = [
        |v| v.run = RunId(Digest::from_bytes([1; 32])),
        |v| v.round = Round(4),
        |v| v.attempt = 1,
        |v| v.kind = VoteKind::Precommit,
        |v| v.value = Some(ValueId::default()),
    ];
    assert_eq!(genuine.verify(NET), Ok(()));
    assert_eq!(genuine.verify(NetworkId(2)), Err(Rejection::Signature));
    for change in changes {
        let mut changed = genuine;
        change(&mut changed.body);
        assert_eq!(changed.verify(NET), Err(Rejection::Signature));
    }
}

#[test]
fn messages_before_the_start_are_kept_within_bounds() {
    let mut voter = height(1, 4);
    let early = proposal(0, 0, None, value(1));
    assert!(voter.receive(early.clone()).expect("good").fresh);
    assert!(!voter.receive(early).expect("good").fresh);
    assert!(voter.has_heard() && !voter.is_started());
    for attempt in 0..50 {
        let _ = voter.receive(vote(2, attempt, VoteKind::Prevote, None));
    }
    let kept: usize = voter.early.values().map(Vec::len).sum();
    assert_eq!(kept, 1 + limits::MAX_EARLY_MESSAGES);
    let outputs = voter.start();
    assert!(outputs.contains(&Output::Validate(value(1))));
}

#[test]
fn a_flooding_member_is_held_within_bounds() {
    let mut voter = height(1, 7);
    voter.start();
    for attempt in 0..2000 {
        let far = vote(2, attempt * 1000 + 50, VoteKind::Prevote, None);
        voter.receive(far).expect("good");
    }
    assert!(voter.driver.votes().rounds() <= 1);
    assert_eq!(voter.attempt(), 0);
    for salt in 0..20 {
        voter
            .receive(proposal(0, 0, None, value(salt)))
            .expect("good");
    }
    assert_eq!(voter.proposals.len(), 2);
}

#[test]
fn equivocators_are_named_once() {
    let mut voter = height(1, 4);
    voter.start();
    hear(&mut voter, vote(2, 0, VoteKind::Prevote, None));
    let outputs = hear(
        &mut voter,
        vote(2, 0, VoteKind::Prevote, Some(value(1).id())),
    );
    assert!(outputs.contains(&Output::Equivocation(key(2).peer_id())));
    let outputs = hear(
        &mut voter,
        vote(2, 0, VoteKind::Prevote, Some(value(3).id())),
    );
    assert!(outputs.is_empty());
    hear(&mut voter, proposal(0, 0, None, value(1)));
    let outputs = hear(&mut voter, proposal(0, 0, None, value(3)));
    assert!(outputs.contains(&Output::Equivocation(key(0).peer_id())));
}

#[test]
fn a_third_proposal_is_heard_when_honest_members_vote_for_it() {
    let mut voter = height(1, 4);
    voter.start();
    for salt in [1, 3, 5] {
        hear(&mut voter, proposal(0, 0, None, value(salt)));
    }
    assert_eq!(voter.proposals.len(), 2);
    for who in [2, 3] {
        hear(
            &mut voter,
            vote(who, 0, VoteKind::Prevote, Some(value(5).id())),
        );
    }
    hear(&mut voter, proposal(0, 0, None, value(5)));
    assert_eq!(voter.proposals.len(), 3);
}

#[test]
fn members_in_different_attempts_come_together() {
    let mut last = height(0, 4);
    last.start();
    // Nobody shares an attempt with anybody; two honest or one honest and one liar are ahead.
    hear(&mut last, vote(1, 2, VoteKind::Prevote, None));
    assert_eq!(last.attempt(), 0);
    hear(&mut last, vote(2, 7, VoteKind::Precommit, None));
    assert_eq!(last.attempt(), 2);
    hear(&mut last, vote(3, 400, VoteKind::Precommit, None));
    assert_eq!(last.attempt(), 7);
}

#[test]
fn waits_grow_with_attempts_up_to_a_bound() {
    let height = height(0, 4);
    let wait = |attempt| match height.timer(attempt, ConsensusStep::Propose) {
        Output::SetTimer { ms, .. } => ms,
        _ => unreachable!(),
    };
    assert_eq!([wait(0), wait(1), wait(2), wait(10)], [300, 450, 600, 1800]);
    assert_eq!(wait(u32::MAX), limits::MAX_CONSENSUS_WAIT_MS);
}

#[test]
fn restored_proposer_repeats_its_value_and_proposes_no_other() {
    let mut before = height(0, 4);
    let mut record = Vec::new();
    let mut spoken = Vec::new();
    for outputs in [before.start(), before.propose(0, value(1))] {
        spoken.extend(said(&outputs));
        record.extend(outputs.into_iter().filter_map(|output| match output {
            Output::Persist(bytes) => Some(bytes),
            _ => None,
        }));
    }
    assert_eq!(spoken.len(), 2);
    let (mut after, outputs) = Height::restore(setting(4), key(0), &record).expect("restores");
    assert!(
        spoken
            .iter()
            .all(|message| said(&outputs).contains(message))
    );
    assert_eq!(said(&outputs).len(), 2);
    assert_eq!(after.wants_value(), None);
    assert!(after.propose(0, value(3)).is_empty());
}

#[test]
fn restored_member_waits_where_it_waited() {
    let mut before = height(1, 4);
    before.start();
    let outputs = before.timeout(0, ConsensusStep::Propose);
    let record: Vec<Vec<u8>> = (outputs.iter())
        .filter_map(|output| match output {
            Output::Persist(bytes) => Some(bytes.clone()),
            _ => None,
        })
        .collect();
    for who in [0, 2] {
        hear(
            &mut before,
            vote(who, 0, VoteKind::Prevote, Some(value(1).id())),
        );
    }
    // The votes were not needed on disk: they come again.
    let (mut after, outputs) = Height::restore(setting(4), key(1), &record).expect("restores");
    assert_eq!(said(&outputs), [vote(1, 0, VoteKind::Prevote, None)]);
    assert!(!outputs.iter().any(|o| matches!(o, Output::Persist(_))));
    for who in [0, 2] {
        let outputs = hear(
            &mut after,
            vote(who, 0, VoteKind::Prevote, Some(value(1).id())),
        );
        let waits = |o: &Output| matches!(o, Output::SetTimer { attempt: 0, .. });
        assert_eq!(outputs.iter().any(waits), who == 2);
    }
}

#[test]
fn damaged_or_foreign_records_are_refused() {
    let mut height = height(0, 4);
    height.start();
    let outputs = height.propose(0, value(1));
    let Output::Persist(batch) = &outputs[0] else {
        panic!("not persisted first: {outputs:?}");
    };
    let restore = |me, record: &[Vec<u8>]| {
        Height::restore(setting(4), key(me), record)
            .map(|_| ())
            .err()
    };
    assert_eq!(restore(0, std::slice::from_ref(batch)), None);
    assert_eq!(restore(9, &[]), Some(RestoreError::NoSeat));
    assert_eq!(
        restore(1, std::slice::from_ref(batch)),
        Some(RestoreError::Misfit)
    );
    let twice = [batch.clone(), batch.clone()];
    assert_eq!(restore(0, &twice), Some(RestoreError::Misfit));
    let cut = batch[..batch.len() - 1].to_vec();
    let found = restore(0, &[cut]);
    assert!(matches!(found, Some(RestoreError::Damaged { at: 0, .. })));
}

#[test]
fn messages_have_one_encoding() {
    for message in [
        vote(0, 1, VoteKind::Prevote, Some(value(1).id())),
        proposal(0, 4, Some(2), value(1)),
    ] {
        let bytes = message.encode();
        assert_eq!(ConsensusMessage::decode(&bytes), Ok(message));
        let mut longer = bytes.clone();
        longer.push(0);
        let refused = Err(Rejection::Codec(codec::CodecError::NotCanonical));
        assert_eq!(ConsensusMessage::decode(&longer), refused);
    }
}

fn behaviours(members: u32, seed: u64) -> Vec<Behaviour> {
    let dishonest = (members - 1) / 3;
    (0..members)
        .map(|i| match (i + seed as u32) % members {
            at if at >= dishonest => Behaviour::Honest,
            at if (seed >> 8).wrapping_add(u64::from(at)) % 3 == 0 => Behaviour::Silent,
            _ => Behaviour::Liar,
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn four_members_never_disagree_and_decide_once_loss_stops(seed in any::<u64>()) {
        World::new(behaviours(4, seed), seed).run();
    }

    #[test]
    fn seven_members_never_disagree_and_decide_once_loss_stops(seed in any::<u64>()) {
        World::new(behaviours(7, seed), seed).run();
    }

    #[test]
    fn honest_members_decide_through_loss_and_crashes(seed in any::<u64>()) {
        let members = 1 + (seed % 5) as usize;
        World::new(vec![Behaviour::Honest; members], seed).run();
    }
}
