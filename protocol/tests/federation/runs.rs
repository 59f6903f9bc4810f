//! Whole runs through `Node::handle` on a perfect network: genesis, rounds, closing, a crash in the
//! middle, a late joiner.

use std::collections::BTreeSet;

use tributary_protocol::entry::{Entry, Role};
use tributary_protocol::event::{Command, JoinRequest, Record};
use tributary_protocol::id::{PeerId, Round, RunId, StateHash};
use tributary_protocol::manifest::{FactorSchedule, Manifest, UpdateCodec, Weights};
use tributary_protocol::sketch::Sketch;
use tributary_protocol::test_utils::net::{self, Net, join, manifest};
use tributary_protocol::update;

fn start(net: &mut Net, members: usize, rounds: u32) -> RunId {
    start_with(net, members, rounds, |_| {})
}

fn start_with(
    net: &mut Net,
    members: usize,
    rounds: u32,
    change: impl FnOnce(&mut Manifest),
) -> RunId {
    let mut evaluators = vec![net.ids[0], net.ids[1]];
    evaluators.sort();
    let mut manifest = manifest(net.ids[0], evaluators, members as u32, rounds);
    change(&mut manifest);
    let run = manifest.run_id();
    net.command(0, Command::Create(Box::new(manifest)));
    for node in 0..members {
        let role = if node < 2 {
            Role::Both
        } else {
            Role::Contributor
        };
        let follow = Command::Follow {
            run,
            join: Some(join(node, role).into()),
        };
        net.command(node, follow);
    }
    run
}

fn finished(net: &Net, run: &RunId) -> Vec<Option<StateHash>> {
    (net.nodes.iter().flatten())
        .map(|node| {
            let view = node.run(run)?;
            view.is_finished()
                .then(|| view.head().map(|head| head.hash))?
        })
        .collect()
}

fn all_finished(net: &Net, run: &RunId, count: usize) -> bool {
    let states = finished(net, run);
    states.len() == count && states.iter().all(|state| state.is_some())
}

fn certified(net: &Net, node: usize, run: &RunId) -> Option<Round> {
    net.nodes[node]
        .as_ref()?
        .run(run)?
        .head()
        .map(|head| head.round)
}

#[test]
fn five_nodes_finish_a_run_with_one_state() {
    let mut net = Net::new(5);
    let run = start(&mut net, 5, 4);
    let done = net.run_until(120_000, |net| all_finished(net, &run, 5));
    assert!(
        done,
        "states after {} ms: {:?}",
        net.now_ms,
        finished(&net, &run)
    );
    let states = finished(&net, &run);
    assert!(
        states.windows(2).all(|pair| pair[0] == pair[1]),
        "{states:?}"
    );
    let view = net.nodes[3]
        .as_ref()
        .expect("running")
        .run(&run)
        .expect("followed");
    for certificate in &view.chain()[1..=4] {
        assert_eq!(certificate.value.included.len(), 5);
    }
    let scored = |c: &&tributary_protocol::certificate::Certificate| c.value.scores.len() == 5;
    assert_eq!(
        view.chain().iter().filter(scored).count(),
        4,
        "every round was scored"
    );
}

/// What is sealed when it is first asked for, and certified before it is asked for again, must not be given up for the
/// adapter as a whole: nobody can judge a step from its outcome, and the others would wait for the sheet.
#[test]
fn an_evaluator_that_had_no_update_when_its_round_was_certified_still_scores_it() {
    let mut net = Net::new(5);
    let run = start(&mut net, 5, 4);
    assert!(net.run_until(60_000, |net| certified(net, 0, &run) >= Some(Round(1))));
    net.without_updates = Some(0);
    assert!(net.run_until(60_000, |net| certified(net, 0, &run) >= Some(Round(2))));
    let lacks = |net: &Net| {
        let view = net.nodes[0].as_ref().expect("running").run(&run);
        let adapter = view.expect("followed").adapter().map(|(round, _)| *round);
        adapter < Some(Round(2))
    };
    assert!(lacks(&net), "the others certified it meanwhile");
    net.run_until(100, |_| false);
    net.without_updates = None;
    let judged = |net: &Net| {
        net.scored
            .iter()
            .any(|(node, at, _)| (*node, *at) == (0, Round(2)))
    };
    assert!(net.run_until(10_000, judged));
}

#[test]
fn a_crashed_node_comes_back_and_a_late_one_catches_up() {
    let mut net = Net::new(5);
    let run = start(&mut net, 4, 4);
    assert!(net.run_until(60_000, |net| certified(net, 1, &run) >= Some(Round(2))));
    net.crash(2);
    assert!(net.run_until(60_000, |net| certified(net, 1, &run) >= Some(Round(3))));
    net.restart(2);
    let follow = Command::Follow {
        run,
        join: Some(join(4, Role::Contributor).into()),
    };
    net.command(4, follow);
    let done = net.run_until(120_000, |net| all_finished(net, &run, 5));
    assert!(
        done,
        "states after {} ms: {:?}",
        net.now_ms,
        finished(&net, &run)
    );
    let states = finished(&net, &run);
    assert!(
        states.windows(2).all(|pair| pair[0] == pair[1]),
        "{states:?}"
    );
}

#[test]
fn an_evaluator_that_crashes_before_it_scored_still_signs_its_sheet() {
    let mut net = Net::new(5);
    let run = start(&mut net, 5, 3);
    assert!(net.run_until(60_000, |net| certified(net, 1, &run) >= Some(Round(1))));
    net.crash(1);
    net.restart(1);
    let done = net.run_until(120_000, |net| all_finished(net, &run, 5));
    assert!(
        done,
        "states after {} ms: {:?}",
        net.now_ms,
        finished(&net, &run)
    );
    let node = net.nodes[0].as_ref().expect("running");
    let chain = node.run(&run).expect("followed").chain();
    for certificate in &chain[2..] {
        let value = &certificate.value;
        assert_eq!(
            value.sheets.len(),
            2,
            "sheets of the round before {}",
            value.round
        );
    }
}

/// Seals and sheets that a node holds of one author.
fn judged(net: &Net, at: usize, run: &RunId, author: usize) -> (usize, Vec<u32>) {
    let view = net.nodes[at].as_ref().and_then(|node| node.run(run));
    let view = view.expect("followed");
    let mut seals = 0;
    let mut sheets = Vec::new();
    for (_, entry) in view.log().entries(net.ids[author]) {
        match entry {
            Entry::SheetSeal(_) => seals += 1,
            Entry::ScoreSheet(shown) => sheets.push(shown.seals),
            _ => {}
        }
    }
    (seals, sheets)
}

#[test]
fn sheets_are_shown_when_every_evaluator_has_sealed() {
    let mut net = Net::new(5);
    let run = start(&mut net, 5, 3);
    assert!(net.run_until(120_000, |net| all_finished(net, &run, 5)));
    let evaluators: Vec<usize> = (0..5)
        .filter(|who| judged(&net, 0, &run, *who).0 > 0)
        .collect();
    assert_eq!(evaluators.len(), 2);
    for who in evaluators {
        let (seals, sheets) = judged(&net, 0, &run, who);
        assert_eq!(seals, 3, "a seal a round");
        assert_eq!(sheets, [0b11; 3], "each behind both seals");
    }
}

#[test]
fn an_evaluator_that_crashes_between_seal_and_sheet_shows_what_it_sealed() {
    let mut net = Net::new(5);
    let run = start(&mut net, 5, 3);
    let between = |net: &Net| {
        let (seals, sheets) = judged(net, 1, &run, 1);
        seals > sheets.len()
    };
    assert!(net.run_until(60_000, between));
    net.crash(1);
    net.restart(1);
    assert!(
        between(&net),
        "the seal was durable before anybody heard of it"
    );
    assert!(net.run_until(120_000, |net| all_finished(net, &run, 5)));
    assert_eq!(judged(&net, 0, &run, 1), (3, vec![0b11; 3]));
    let node = net.nodes[0].as_ref().expect("running");
    let chain = node.run(&run).expect("followed").chain();
    assert!((chain[2..].iter()).all(|certificate| certificate.value.sheets.len() == 2));
}

#[test]
fn scores_are_held_against_the_last_two_turns_before_and_after_a_crash() {
    let mut net = Net::new(5);
    let run = start(&mut net, 5, 7);
    assert!(net.run_until(60_000, |net| certified(net, 1, &run) >= Some(Round(5))));
    net.crash(1);
    net.restart(1);
    let done = net.run_until(120_000, |net| all_finished(net, &run, 5));
    assert!(done, "{:?}", finished(&net, &run));
    for node in 0..2 {
        for round in 1..=7 {
            // Factors take turns: every second round before is a turn.
            let turns = ((round as usize - 1) / 2).min(2);
            let found = (node, Round(round), 5 * turns);
            assert!(net.scored.contains(&found), "{found:?} of {:?}", net.scored);
        }
    }
    let others = net.scored.iter().filter(|(node, _, _)| *node > 1);
    assert_eq!(others.count(), 0);
}

#[test]
fn a_round_takes_only_the_drawn_and_costs_members_without_a_seat_no_update() {
    // One more than all vote in.
    let (members, rounds, drawn) = (65, 6, 3);
    let mut net = Net::new(members);
    let run = start_with(&mut net, members, rounds, |manifest| {
        manifest.plan.participants = drawn;
        manifest.membership.committee = 4;
    });
    let done = net.run_until(240_000, |net| all_finished(net, &run, members));
    assert!(done, "{:?}", finished(&net, &run));
    let states = finished(&net, &run);
    assert!(
        states.windows(2).all(|pair| pair[0] == pair[1]),
        "{states:?}"
    );
    let view = (net.nodes[3].as_ref().and_then(|node| node.run(&run))).expect("followed");
    let mut ever: Vec<PeerId> = Vec::new();
    let mut updates = Vec::new();
    for certificate in &view.chain()[1..=rounds as usize] {
        let included = &certificate.value.included;
        assert_eq!(included.len(), drawn as usize);
        ever.extend(included.iter().map(|i| i.receipt.author));
        updates.extend(included.iter().map(|i| i.update.hash));
    }
    ever.sort_unstable();
    ever.dedup();
    assert!(
        ever.len() > drawn as usize,
        "others are drawn in other rounds"
    );
    // Nodes 0 and 1 evaluate and need every update. The others need those of heights that they decide,
    // and their own.
    let count = |node: usize| {
        (updates.iter())
            .filter(|hash| net.blobs[node].contains_key(hash))
            .count()
    };
    assert_eq!([count(0), count(1)], [updates.len(); 2]);
    let held: usize = (2..members).map(count).sum();
    let all = updates.len() * (members - 2);
    assert!(held * 2 < all, "members hold {held} of {all} copies");
}

/// What a member of few components sends is nothing elsewhere, and counts as any update.
#[test]
fn a_member_that_trains_fewer_components_moves_those_and_no_others() {
    let mut configs: Vec<_> = (0..4).map(net::config).collect();
    configs[3].resources.rank = Some(1);
    let mut net = Net::of(configs);
    let run = start_with(&mut net, 4, 2, |manifest| {
        manifest.updates.codec = UpdateCodec::DenseF32;
        manifest.training.schedule = FactorSchedule::Both;
    });
    let done = net.run_until(120_000, |net| all_finished(net, &run, 4));
    assert!(done, "{:?}", finished(&net, &run));
    let view = (net.nodes[0].as_ref().and_then(|node| node.run(&run))).expect("followed");
    let manifest = view.manifest().expect("known").clone();
    let narrow = manifest
        .model
        .adapter
        .narrow(1)
        .expect("one of two components");
    let whole = manifest.model.adapter.parameters();
    let kept = manifest.model.adapter.widen(&narrow, &vec![1.0; whole / 2]);
    for included in &view.chain()[1].value.included {
        let bytes = &net.blobs[0][&included.update.hash];
        let update = update::decode(bytes, whole, manifest.updates.codec).expect("it was included");
        let outside = (update.iter().zip(&kept)).filter(|(v, kept)| **v != 0.0 && **kept == 0.0);
        let few = included.receipt.author == net.ids[3];
        assert_eq!(outside.count() == 0, few);
        assert!(update.iter().any(|v| *v != 0.0));
    }
}

#[test]
fn a_slow_uplink_sends_thinner_updates_and_is_included() {
    let mut configs: Vec<_> = (0..4).map(net::config).collect();
    // Three copies in a second: 20 bytes each.
    configs[3].resources.upload_rate = Some(60);
    let mut net = Net::of(configs);
    let codec = UpdateCodec::DenseF32;
    let run = start_with(&mut net, 4, 2, |manifest| {
        manifest.updates.codec = match manifest.updates.codec {
            UpdateCodec::Sparse { feedback, .. } => UpdateCodec::Sparse {
                top: 4_096,
                feedback,
            },
            codec => codec,
        };
    });
    let done = net.run_until(120_000, |net| all_finished(net, &run, 4));
    assert!(done, "{:?}", finished(&net, &run));
    let view = (net.nodes[0].as_ref().and_then(|node| node.run(&run))).expect("followed");
    let manifest = view.manifest().expect("known").clone();
    let round = &view.chain()[1].value;
    let len = tributary_protocol::state::update_len(&manifest, round.round);
    let dense = update::encoded_len(len, manifest.updates.codec) as u64;
    assert_eq!(round.included.len(), 4);
    for included in &round.included {
        let slow = included.receipt.author == net.ids[3];
        let size = included.update.size;
        assert_eq!(size < dense, slow, "{size} of {dense} bytes");
        assert!(!slow || size <= 20, "{size} bytes");
    }
    assert!(
        update::density(dense, len, codec).is_none(),
        "sparse sizes are their own"
    );
}

#[test]
fn others_stand_in_when_the_drawn_are_absent() {
    let members = 12;
    let mut net = Net::new(members);
    let run = start_with(&mut net, members, 3, |manifest| {
        manifest.plan.participants = 3;
        manifest.plan.min_contributions = 2;
    });
    let begun = net.run_until(60_000, |net| certified(net, 0, &run) == Some(Round(0)));
    assert!(begun, "the genesis is certified");
    let view = (net.nodes[0].as_ref().and_then(|node| node.run(&run))).expect("followed");
    let head = view.head().expect("certified").clone();
    let drawn = |node: &usize| head.is_participant(&net.ids[*node]);
    let absent: Vec<usize> = (0..members).filter(drawn).collect();
    assert_eq!(absent.len(), 3);
    absent.iter().for_each(|node| net.crash(*node));
    let present = |node: &usize| !absent.contains(node);
    let first = (0..members).find(present).expect("somebody is there");
    let done = net.run_until(120_000, |net| certified(net, first, &run) >= Some(Round(1)));
    assert!(done, "round 1 waits for the absent for ever");
    let view = (net.nodes[first].as_ref().and_then(|node| node.run(&run))).expect("followed");
    let included = &view.chain()[1].value.included;
    assert!(included.len() >= 2, "{included:?}");
    let is_drawn = |author| absent.iter().any(|node| net.ids[*node] == author);
    assert!((included.iter()).all(|i| !is_drawn(i.receipt.author)));
}

/// Prints of a text that begins at `from` of all texts and is 300 words long.
fn text(from: u64) -> Option<Sketch> {
    let print = |at: u64| at.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Some(Sketch::keeping((from..from + 300).map(print)))
}

#[test]
fn text_weighs_once_however_many_names_hold_it() {
    let mut net = Net::new(6);
    let mut manifest = manifest(net.ids[0], vec![net.ids[0]], 4, 6);
    manifest.updates.weights = Weights::Own { full: 1_000 };
    let run = manifest.run_id();
    net.command(0, Command::Create(Box::new(manifest)));
    let follow = |net: &mut Net, node: usize, sketch| {
        let role = if node == 0 {
            Role::Both
        } else {
            Role::Contributor
        };
        let join = Some(JoinRequest {
            join: join(node, role),
            sketch,
        });
        net.command(node, Command::Follow { run, join });
    };
    // 2 and 3 hold one text from the start; 4 copies that of 1 later, 5 half of it.
    for (node, from) in [(0, 0), (1, 1_000), (2, 2_000), (3, 2_000)] {
        follow(&mut net, node, text(from));
    }
    assert!(net.run_until(60_000, |net| certified(net, 0, &run) >= Some(Round(1))));
    follow(&mut net, 4, text(1_000));
    follow(&mut net, 5, text(1_150));
    assert!(net.run_until(200_000, |net| {
        net.nodes[5]
            .as_ref()
            .is_some_and(|node| node.run(&run).is_some_and(|view| view.is_finished()))
    }));

    let view = net.nodes[5]
        .as_ref()
        .and_then(|node| node.run(&run))
        .expect("it follows");
    let roster = &view.head().expect("finished").roster;
    let own = |node: usize| roster.get(&net.ids[node]).map(|member| member.own_tokens);
    assert_eq!(own(1), Some(1_000));
    assert_eq!((own(2), own(3)), (Some(500), Some(500)));
    assert_eq!((own(4), own(5)), (Some(0), Some(500)));
    let copier = net.nodes[4]
        .as_ref()
        .and_then(|node| node.run(&run))
        .expect("it follows");
    assert!(copier.lacks_own_text() && !view.lacks_own_text());
    // Each trained as much as the others.
    let weights = |node: usize| -> BTreeSet<u64> {
        let values = view.chain().iter().map(|certificate| &certificate.value);
        (values.flat_map(|value| &value.included))
            .filter(|included| included.receipt.author == net.ids[node])
            .map(|included| included.weight * 1_000 / included.tokens)
            .collect()
    };
    assert_eq!(weights(1), BTreeSet::from([1_000]));
    assert_eq!(weights(2), BTreeSet::from([500]));
    assert_eq!(weights(5), BTreeSet::from([500]));
}

#[test]
fn a_creator_that_crashes_before_its_genesis_is_certified_goes_on_with_what_its_seat_said() {
    let mut net = Net::new(3);
    let run = start(&mut net, 3, 2);
    let done = net.run_until(60_000, |net| certified(net, 0, &run).is_some());
    assert!(done, "the genesis is certified");
    let genesis = net.nodes[0].as_ref().and_then(|node| node.run(&run));
    let decided = genesis.map(|view| view.chain()[0].value.id());
    // What the creator had on the disk just before the certificate: joins of strangers are not among it.
    let is_certificate = |record: &Record| matches!(record, Record::Certificate { .. });
    let records = &mut net.records[0];
    let before = records.iter().position(is_certificate);
    records.truncate(before.expect("a certificate was persisted"));
    assert!(
        (records.iter()).any(|record| matches!(record, Record::Consensus { .. })),
        "the seat said something first"
    );
    net.crash(0);
    (1..3).for_each(|node| net.crash(node));
    net.restart(0);
    let restored = net.nodes[0].as_ref().and_then(|node| node.run(&run));
    let again = restored.map(|view| view.chain().first().map(|c| c.value.id()));
    assert_eq!(
        again,
        Some(decided),
        "the same genesis, from the record alone"
    );
}
