//! Carries a machine's effects out, in order, as far as its disk allows.

use std::sync::Arc;

use rand::Rng;
use tributary_protocol::event::{Effect, Input, TrainTask};
use tributary_protocol::hash;
use tributary_protocol::id::{Blob, BlobRef, PeerId, RunId};

use super::{Event, World};
use crate::clock::{Micros, ms};
use crate::machine::{Next, Training};
use crate::record::Plane;

/// Until the queue is empty, waits for a sync, or the machine dies.
pub(super) fn carry_out(world: &mut World, at: usize) {
    while world.machines[at].is_up() {
        match world.machines[at].next_effect() {
            Next::Wait => return,
            Next::Sync => {
                let [least, most] = world.scenario.store.sync_ms;
                let takes = world.disk_rng.random_range(ms(least)..=ms(most));
                let boot = world.machines[at].boot;
                world.schedule(world.now + takes, Event::Synced { to: at, boot });
                world.syncs(at, world.now + takes);
            }
            Next::Do(effect) => {
                world.trace.effect(world.now, at, &effect);
                carry(world, at, effect);
                burn_fuse(world, at);
            }
        }
    }
}

/// Some crashes strike right behind a random effect, to hit between what belongs together.
fn burn_fuse(world: &mut World, at: usize) {
    match world.machines[at].fuse {
        Some(0) => world.crash(at),
        Some(left) => world.machines[at].fuse = Some(left - 1),
        None => {}
    }
}

fn carry(world: &mut World, at: usize, effect: Effect) {
    let now = world.now;
    match effect {
        Effect::Persist(_) => {}
        Effect::Compute(_) => unreachable!("the outbox hands it on at once"),
        Effect::Gossip { run, bytes } => flood(world, at, run, bytes),
        Effect::Send { to, bytes } => {
            world.oracle.sent(now, at, &bytes, &world.machines[at]);
            send(world, at, to, bytes);
        }
        // The oracle has read it already; nobody forwards in this network.
        Effect::Verdict { .. } => {}
        Effect::FetchBlob { blob, providers } => fetch(world, at, blob, &providers),
        Effect::OfferBlob(hash) => {
            let machine = &mut world.machines[at];
            machine.offered.insert(hash);
            world.oracle.offered(now, at, &hash, &machine.store);
        }
        Effect::Train(task) => {
            let draw = world.link_rng.random_range(900..=1_100);
            let machine = &world.machines[at];
            let takes = ms(world.scenario.learner.train_ms) * machine.slowness * draw / 1_000_000;
            train(world, at, task, takes);
        }
        Effect::CancelTrain(_) => world.machines[at].training = None,
        Effect::FinishTrain(_) => finish_training(world, at),
        Effect::Score(task) => {
            let takes = ms(world.scenario.learner.score_ms) * world.machines[at].slowness / 1_000;
            let boot = world.machines[at].boot;
            world.schedule(now + takes, Event::Scored { to: at, boot, task });
        }
        Effect::SetTimer { timer, at: when } => {
            world.token += 1;
            let token = world.token;
            let machine = &mut world.machines[at];
            machine.timers.insert(timer, token);
            let (boot, when) = (machine.boot, machine.clock.when(when, now));
            world.schedule(
                when,
                Event::Alarm {
                    to: at,
                    boot,
                    timer,
                    token,
                },
            );
        }
        Effect::Subscribe(run) => {
            world.machines[at].topics.insert(run);
        }
        Effect::Notify(notice) => {
            world.trace.notice(now, at, &notice);
            world.oracle.notice(now, at, &notice);
        }
    }
}

fn train(world: &mut World, at: usize, task: Box<TrainTask>, takes: Micros) {
    world.token += 1;
    let (token, until) = (world.token, world.now + takes);
    let machine = &mut world.machines[at];
    let boot = machine.boot;
    machine.training = Some(Training {
        token,
        task,
        since: world.now,
        until,
    });
    let event = Event::Trained {
        to: at,
        boot,
        token,
    };
    world.schedule(until, event);
}

/// Training ends with the step under way: as many steps as its time so far was enough for, and that one.
fn finish_training(world: &mut World, at: usize) {
    let now = world.now;
    let Some(training) = world.machines[at].training.take() else {
        return;
    };
    let mut task = training.task;
    let steps = u64::from(task.training.local_steps);
    let each = ((training.until - training.since) / steps).max(1);
    let done = ((now - training.since) / each + 1).min(steps);
    task.training.local_steps = done as u32;
    let left = (training.since + done * each).saturating_sub(now);
    train(world, at, task, left);
}

/// Every other machine gets its own copy, late, twice or never, as its link decides; what a machine has
/// seen lately is not carried again. The mesh of the real network is not modelled: what it adds to
/// loss and delay is in the link's numbers.
fn flood(world: &mut World, from: usize, run: RunId, bytes: Vec<u8>) {
    world
        .oracle
        .sent(world.now, from, &bytes, &world.machines[from]);
    let hash = hash::blob(&bytes);
    if !world.machines[from].meets(hash, world.now) {
        return;
    }
    let author = world.machines[from].id;
    let bytes: Arc<[u8]> = bytes.into();
    for to in (0..world.machines.len()).filter(|to| *to != from) {
        world.trace.sent(from, Plane::Control, bytes.len());
        let fate = world.link.message(from, to, world.now, &mut world.link_rng);
        for (nth, arrival) in fate.into_iter().enumerate() {
            let Some(arrival) = arrival else { continue };
            world.gossip_id += 1;
            let event = Event::Flood {
                to,
                from: author,
                id: world.gossip_id,
                run,
                bytes: Arc::clone(&bytes),
                hash,
                again: nth > 0,
            };
            world.schedule(arrival, event);
        }
    }
}

fn send(world: &mut World, from: usize, to: PeerId, bytes: Vec<u8>) {
    let Some(&to) = world.index.get(&to) else {
        return;
    };
    let sender = world.machines[from].id;
    world.trace.sent(from, Plane::Control, bytes.len());
    let fate = world.link.message(from, to, world.now, &mut world.link_rng);
    for arrival in fate.into_iter().flatten() {
        let input = Box::new(Input::Direct {
            from: sender,
            bytes: bytes.clone(),
        });
        world.schedule(arrival, Event::Arrive { to, input });
    }
}

/// From the own disk, else from the first provider that is up, reachable, offers it, and whose transfer
/// does not fail.
fn fetch(world: &mut World, at: usize, blob: BlobRef, providers: &[PeerId]) {
    let boot = world.machines[at].boot;
    let answer = |input| Event::Answer {
        to: at,
        boot,
        input: Box::new(input),
    };
    let hash = blob.hash;
    if let Some(bytes) = world.machines[at].store.blob(&hash).cloned() {
        world.schedule(world.now + ms(1), answer(Input::Blob(Blob::of(bytes))));
        return;
    }
    let mut asked: Micros = world.now;
    for provider in providers {
        let Some(&provider) = world.index.get(provider) else {
            continue;
        };
        let machine = &world.machines[provider];
        let asker = &world.machines[at].id;
        let serves = machine.offered.contains(&hash)
            && (machine.liar.as_ref()).is_none_or(|liar| liar.serves(&hash, asker));
        let held = (machine.store.blob(&hash)).filter(|b| serves && b.len() as u64 == blob.size);
        if let Some(bytes) = held.filter(|_| machine.is_up()).cloned() {
            let rng = &mut world.link_rng;
            if let Some(here) = world.link.transfer(provider, at, blob.size, asked, rng) {
                world.trace.sent(provider, Plane::Payload, bytes.len());
                world.trace.received(at, Plane::Payload, bytes.len());
                world.schedule(here, answer(Input::Blob(Blob::of(bytes))));
                return;
            }
        }
        asked += world.link.give_up();
    }
    world.schedule(
        asked.max(world.now + ms(1)),
        answer(Input::BlobFailed(hash)),
    );
}
