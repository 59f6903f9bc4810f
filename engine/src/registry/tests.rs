//! Names, memory and waiting; and random histories against what must always hold.

use std::sync::Arc;

use proptest::prelude::*;
use tributary_protocol::adapter::Adapter;

use super::*;
use crate::lora::full_shape;
use crate::test_utils::tiny_config;

const SOME: RegistryLimits = RegistryLimits {
    most_names: 8,
    most_bytes: usize::MAX,
};

/// An adapter of content `of`, which is larger the larger its rank.
fn adapter(of: u8, rank: u32) -> Arc<LoadedAdapter> {
    let shape = Arc::new(full_shape(&tiny_config(), rank, rank));
    let numbers = Adapter::new(shape.clone(), vec![0.5; shape.parameters()]).unwrap();
    let content = Digest::from_bytes([of; 32]);
    Arc::new(LoadedAdapter::new(&tiny_config(), &numbers, content).unwrap())
}

/// A registry with room for `rooms` adapters of rank one.
fn registry(rooms: usize) -> Registry<u8, u32> {
    Registry::new(RegistryLimits {
        most_bytes: rooms * adapter(0, 1).bytes(),
        ..SOME
    })
}

fn failure() -> LoadFailure {
    LoadFailure {
        code: "adapter_unreadable",
        text: "the disk is gone; put it back".into(),
    }
}

/// Asks for a name and loads what is to be loaded, as content `of`.
fn serve(registry: &mut Registry<u8, u32>, name: &str, of: u8) -> Arc<LoadedAdapter> {
    match registry.get(name, Micros(0), || 0).unwrap() {
        Lookup::Ready(adapter) => adapter,
        Lookup::Wait => panic!("nobody else loads"),
        Lookup::Load(ticket, source) => {
            let loaded = Ok((adapter(of, 1), source));
            let finished = registry.finish(ticket, loaded, Micros(0)).unwrap();
            finished.outcome.unwrap()
        }
    }
}

fn resident(registry: &Registry<u8, u32>) -> Vec<String> {
    let in_memory = registry.list().filter(|e| e.bytes.is_some());
    in_memory.map(|e| e.name.to_owned()).collect()
}

fn code<T>(outcome: Result<T, AdapterError>) -> &'static str {
    outcome.err().expect("should be refused").code()
}

#[test]
fn an_unknown_name_is_an_error_and_never_the_base() {
    let mut registry = registry(1);
    assert_eq!(
        code(registry.get("poet", Micros(0), || 0)),
        "adapter_not_found"
    );
    assert_eq!(code(registry.unload("poet")), "adapter_not_found");
}

#[test]
fn all_that_wait_are_told_by_one_load() {
    let mut registry = registry(2);
    registry.register("poet", 7).unwrap();
    let Lookup::Load(ticket, 7) = registry.get("poet", Micros(0), || 1).unwrap() else {
        panic!("the first request loads");
    };
    for waiter in 2..5 {
        let lookup = registry.get("poet", Micros(0), || waiter).unwrap();
        assert!(matches!(lookup, Lookup::Wait));
    }
    let finished = registry.finish(ticket, Ok((adapter(3, 1), 7)), Micros(0));
    let finished = finished.unwrap();
    assert_eq!(finished.waiters, [1, 2, 3, 4]);
    assert_eq!(
        finished.outcome.unwrap().content(),
        Digest::from_bytes([3; 32])
    );
    let lookup = registry.get("poet", Micros(0), || 5).unwrap();
    assert!(matches!(lookup, Lookup::Ready(_)));
    let counts = registry.counts();
    assert_eq!((counts.loads, counts.misses, counts.hits), (1, 4, 1));
}

#[test]
fn a_failed_load_tells_all_and_is_tried_again_after_a_pause() {
    let mut registry = registry(1);
    registry.register("poet", 7).unwrap();
    let mut now = Micros(1_000);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let Lookup::Load(ticket, _) = registry.get("poet", now, || 1).unwrap() else {
            panic!("it is tried again");
        };
        assert!(matches!(registry.get("poet", now, || 2), Ok(Lookup::Wait)));
        let finished = registry.finish(ticket, Err(failure()), now).unwrap();
        assert_eq!(finished.waiters, [1, 2]);
        assert_eq!(code(finished.outcome), "adapter_unreadable");
        let failed = now;
        while let Err(error) = registry.get("poet", now, || 3) {
            assert_eq!(error.code(), "adapter_unreadable");
            assert!(error.to_string().contains("the disk is gone"), "{error}");
            now.0 += 50_000;
            // The request that ends the pause would load: look at the clock alone.
            if registry.names["poet"]
                .failure
                .as_ref()
                .is_some_and(|f| now >= f.until)
            {
                break;
            }
        }
        pauses.push((now.0 - failed.0) / 1_000);
    }
    assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
}

#[test]
fn what_was_not_used_for_longest_leaves_memory_first() {
    let mut registry = registry(2);
    for (name, of) in [("a", 1), ("b", 2), ("c", 3)] {
        registry.register(name, of).unwrap();
    }
    serve(&mut registry, "a", 1);
    serve(&mut registry, "b", 2);
    serve(&mut registry, "a", 1);
    serve(&mut registry, "c", 3);
    assert_eq!(resident(&registry), ["a", "c"]);
    assert_eq!(registry.counts().evictions, 1);
}

#[test]
fn an_evicted_adapter_that_a_request_holds_is_not_loaded_again() {
    let mut registry = registry(1);
    registry.register("a", 1).unwrap();
    registry.register("b", 2).unwrap();
    let held = serve(&mut registry, "a", 1);
    serve(&mut registry, "b", 2);
    assert_eq!(resident(&registry), ["b"]);
    let again = serve(&mut registry, "a", 99);
    assert!(Arc::ptr_eq(&held, &again));
    assert_eq!(resident(&registry), ["a"]);
}

#[test]
fn a_reload_points_the_name_to_new_content_and_leaves_the_old_to_its_requests() {
    let mut registry = registry(1);
    registry.register("poet", 1).unwrap();
    let old = serve(&mut registry, "poet", 1);
    let ticket = registry.load("poet", 2, false, 9).unwrap();
    let meanwhile = serve(&mut registry, "poet", 99);
    assert!(
        Arc::ptr_eq(&old, &meanwhile),
        "the old one serves until the new one is there"
    );
    let finished = registry.finish(ticket, Ok((adapter(2, 1), 2)), Micros(0));
    assert_eq!(finished.unwrap().waiters, [9]);
    assert_eq!(
        serve(&mut registry, "poet", 99).content(),
        Digest::from_bytes([2; 32])
    );
    assert_eq!(old.content(), Digest::from_bytes([1; 32]));
}

#[test]
fn a_failed_reload_leaves_the_old_content_in_service() {
    let mut registry = registry(1);
    registry.register("poet", 1).unwrap();
    let old = serve(&mut registry, "poet", 1);
    let ticket = registry.load("poet", 2, false, 9).unwrap();
    let finished = registry.finish(ticket, Err(failure()), Micros(0)).unwrap();
    assert_eq!(code(finished.outcome), "adapter_unreadable");
    assert!(Arc::ptr_eq(&old, &serve(&mut registry, "poet", 99)));
}

#[test]
fn a_failed_load_of_a_new_name_leaves_no_name() {
    let mut registry = registry(1);
    let ticket = registry.load("poet", 1, false, 0).unwrap();
    let finished = registry.finish(ticket, Err(failure()), Micros(0)).unwrap();
    assert_eq!(finished.waiters, [0]);
    assert!(!registry.knows("poet"));
}

#[test]
fn an_adapter_that_comes_back_is_the_same_or_is_refused() {
    let mut registry = registry(1);
    registry.register("a", 1).unwrap();
    registry.register("b", 2).unwrap();
    drop(serve(&mut registry, "a", 1));
    drop(serve(&mut registry, "b", 2));
    let Lookup::Load(ticket, _) = registry.get("a", Micros(0), || 4).unwrap() else {
        panic!("it was evicted");
    };
    let finished = registry
        .finish(ticket, Ok((adapter(3, 1), 1)), Micros(0))
        .unwrap();
    assert_eq!(code(finished.outcome), "adapter_changed");
    let ticket = registry.load("a", 1, false, 5).unwrap();
    let finished = registry
        .finish(ticket, Ok((adapter(3, 1), 1)), Micros(0))
        .unwrap();
    assert_eq!(
        finished.outcome.unwrap().content(),
        Digest::from_bytes([3; 32])
    );
}

#[test]
fn a_later_load_of_a_name_takes_the_place_of_an_earlier_one() {
    let mut registry = registry(1);
    let first = registry.load("poet", 1, false, 1).unwrap();
    let second = registry.load("poet", 2, false, 2).unwrap();
    assert!(
        registry
            .finish(first, Ok((adapter(1, 1), 1)), Micros(0))
            .is_none()
    );
    let finished = registry
        .finish(second, Ok((adapter(2, 1), 2)), Micros(0))
        .unwrap();
    assert_eq!(finished.waiters, [1, 2]);
    assert_eq!(
        finished.outcome.unwrap().content(),
        Digest::from_bytes([2; 32])
    );
}

#[test]
fn unloading_tells_those_that_wait_and_a_late_load_changes_nothing() {
    let mut registry = registry(1);
    let ticket = registry.load("poet", 1, false, 1).unwrap();
    let finished = registry.unload("poet").unwrap();
    assert_eq!(
        (finished.waiters, finished.outcome.unwrap_err().code()),
        (vec![1], "adapter_not_found")
    );
    assert!(
        registry
            .finish(ticket, Ok((adapter(1, 1), 1)), Micros(0))
            .is_none()
    );
    assert_eq!((registry.bytes(), registry.list().count()), (0, 0));
}

#[test]
fn pinned_adapters_stay_and_too_many_pins_are_refused() {
    let mut registry = registry(2);
    for (name, of) in [("a", 1), ("b", 2)] {
        let ticket = registry.load(name, of, true, 0).unwrap();
        let finished = registry.finish(ticket, Ok((adapter(of, 1), of)), Micros(0));
        assert!(finished.unwrap().outcome.is_ok());
    }
    let ticket = registry.load("c", 3, true, 0).unwrap();
    let finished = registry
        .finish(ticket, Ok((adapter(3, 1), 3)), Micros(0))
        .unwrap();
    assert_eq!(code(finished.outcome), "adapter_memory_pinned");
    registry.register("d", 4).unwrap();
    let served = serve(&mut registry, "d", 4);
    assert_eq!(
        served.content(),
        Digest::from_bytes([4; 32]),
        "it is served without a place in memory"
    );
    assert_eq!(resident(&registry), ["a", "b"]);
    // A pinned name takes new content in the place of its old one.
    let ticket = registry.load("a", 5, true, 0).unwrap();
    let finished = registry
        .finish(ticket, Ok((adapter(5, 1), 5)), Micros(0))
        .unwrap();
    assert!(finished.outcome.is_ok());
    assert_eq!(resident(&registry), ["a", "b"]);
}

#[test]
fn an_adapter_larger_than_the_memory_is_refused() {
    let mut registry = registry(2);
    let ticket = registry.load("large", 1, false, 0).unwrap();
    let finished = registry
        .finish(ticket, Ok((adapter(1, 8), 1)), Micros(0))
        .unwrap();
    assert_eq!(code(finished.outcome), "adapter_too_large");
}

#[test]
fn equal_content_under_two_names_is_in_memory_once() {
    let mut registry = registry(2);
    registry.register("a", 1).unwrap();
    registry.register("b", 1).unwrap();
    let (a, b) = (serve(&mut registry, "a", 1), serve(&mut registry, "b", 1));
    assert!(Arc::ptr_eq(&a, &b));
    assert_eq!(registry.bytes(), a.bytes());
    let _ = registry.unload("a").unwrap();
    assert_eq!(resident(&registry), ["b"]);
}

#[test]
fn names_are_short_plain_and_not_too_many() {
    let mut registry = registry(1);
    let long = "a".repeat(MAX_NAME_BYTES + 1);
    for name in ["", "-a", "a b", "a\n", "\u{e4}", "../a", "a\u{0}", &long] {
        assert_eq!(
            code(registry.register(name, 0)),
            "adapter_name_invalid",
            "{name:?}"
        );
    }
    for name in [
        "a",
        "org/model-v1.2",
        "poet:3@main",
        "0",
        "A_b",
        "3f9a",
        "x.y",
    ] {
        registry.register(name, 0).unwrap();
    }
    assert_eq!(code(registry.register("a", 0)), "adapter_name_taken");
    registry.register("last", 0).unwrap();
    assert_eq!(code(registry.register("more", 0)), "too_many_adapters");
    assert_eq!(
        code(registry.load("more", 0, false, 0)),
        "too_many_adapters"
    );
}

#[test]
fn a_flood_on_one_load_is_bounded() {
    let mut registry = registry(1);
    registry.register("poet", 0).unwrap();
    for waiter in 0..MAX_WAITING as u32 {
        assert!(registry.get("poet", Micros(0), || waiter).is_ok());
    }
    assert_eq!(code(registry.get("poet", Micros(0), || 0)), "adapter_busy");
}

/// What a random history does next.
#[derive(Clone, Debug)]
enum Step {
    Get(usize),
    Load(usize, u8, bool),
    Unload(usize),
    /// Ends one of the loads in progress: with the content of its source, or a failure.
    Finish(usize, bool),
    /// A running request lets go of its adapter.
    Release(usize),
    Later(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6usize).prop_map(Step::Get),
        3 => (0..6usize, 0..6u8, any::<bool>()).prop_map(|(n, s, p)| Step::Load(n, s, p)),
        1 => (0..6usize).prop_map(Step::Unload),
        6 => (any::<prop::sample::Index>(), prop::bool::weighted(0.8)).prop_map(|(i, ok)| Step::Finish(i.index(64), ok)),
        2 => any::<prop::sample::Index>().prop_map(|i| Step::Release(i.index(64))),
        1 => (0..2_000_000u64).prop_map(Step::Later),
    ]
}

/// A registry and what a careful observer knows of it.
struct History {
    registry: Registry<u8, u32>,
    /// What each name stands for: the source of the last load that succeeded.
    truth: BTreeMap<String, Option<u8>>,
    loads: Vec<(Ticket, u8)>,
    held: Vec<Arc<LoadedAdapter>>,
    waiting: BTreeMap<u32, String>,
    made: u32,
    now: Micros,
}

impl History {
    fn tell(&mut self, finished: Finished<u32>, expected: Option<u8>) {
        for waiter in finished.waiters {
            assert!(
                self.waiting.remove(&waiter).is_some(),
                "{waiter} was told twice"
            );
        }
        if let Ok(adapter) = finished.outcome {
            let content = expected.expect("a failed load brings nothing");
            assert_eq!(adapter.content(), Digest::from_bytes([content; 32]));
            self.held.push(adapter);
        }
    }

    fn wait(&mut self, name: &str) -> u32 {
        self.made += 1;
        self.waiting.insert(self.made, name.to_owned());
        self.made
    }

    fn get(&mut self, name: &str) {
        let waiter = self.wait(name);
        let is_known = self.truth.contains_key(name);
        let mut is_taken = false;
        let lookup = self.registry.get(name, self.now, || {
            is_taken = true;
            waiter
        });
        match lookup {
            Ok(Lookup::Ready(adapter)) => {
                let of = self.truth[name].expect("it was loaded once");
                assert_eq!(
                    adapter.content(),
                    Digest::from_bytes([of; 32]),
                    "another's adapter"
                );
                self.held.push(adapter);
            }
            Ok(Lookup::Load(ticket, source)) => self.loads.push((ticket, source)),
            Ok(Lookup::Wait) => {}
            Err(error) => assert_eq!(error.code() != "adapter_not_found", is_known),
        }
        if !is_taken {
            self.waiting.remove(&waiter);
        }
    }

    fn finish(&mut self, at: usize, is_well: bool) {
        if self.loads.is_empty() {
            return;
        }
        let (ticket, source) = self.loads.remove(at % self.loads.len());
        let loading =
            |alias: &&Alias<u8, u32>| alias.loading.as_ref().is_some_and(|l| l.ticket == ticket);
        let is_new = (self.registry.names.values())
            .find(loading)
            .map(|a| a.loading.as_ref().unwrap().is_new);
        let name = (self.registry.names.iter())
            .find(|(_, a)| loading(a))
            .map(|(n, _)| n.clone());
        let rank = 1 + u32::from(source % 2);
        let outcome = match is_well {
            true => Ok((adapter(source, rank), source)),
            false => Err(failure()),
        };
        let Some(finished) = self.registry.finish(ticket, outcome, self.now) else {
            assert_eq!(name, None);
            return;
        };
        let name = name.expect("somebody waited for it");
        match &finished.outcome {
            Ok(_) => {
                self.truth.insert(name, Some(source));
            }
            Err(_) if is_new == Some(true) => {
                self.truth.remove(&name);
            }
            Err(_) => {}
        }
        self.tell(finished, is_well.then_some(source));
    }

    fn apply(&mut self, step: Step) {
        let names = ["a", "b", "c", "d", "e", "f"];
        match step {
            Step::Get(n) => self.get(names[n]),
            Step::Load(n, source, pin) => {
                let waiter = self.wait(names[n]);
                let ticket = self.registry.load(names[n], source, pin, waiter).unwrap();
                self.truth.entry(names[n].to_owned()).or_insert(None);
                self.loads.push((ticket, source));
            }
            Step::Unload(n) => {
                let known = self.truth.remove(names[n]).is_some();
                match self.registry.unload(names[n]) {
                    Ok(finished) => self.tell(finished, None),
                    Err(_) => assert!(!known),
                }
            }
            Step::Finish(at, is_well) => self.finish(at, is_well),
            Step::Release(at) if !self.held.is_empty() => {
                let at = at % self.held.len();
                self.held.swap_remove(at);
            }
            Step::Release(_) => {}
            Step::Later(us) => self.now.0 += us,
        }
    }
}

proptest! {
    /// Whatever happens in whatever order, a name serves what it stands for, memory keeps to its bound (which the
    /// registry asserts itself), and everybody that waits is told once.
    #[test]
    fn no_history_serves_another_adapter_or_forgets_somebody(steps in prop::collection::vec(step(), 1..120)) {
        let mut history = History {
            registry: registry(4),
            truth: BTreeMap::new(),
            loads: Vec::new(),
            held: Vec::new(),
            waiting: BTreeMap::new(),
            made: 0,
            now: Micros(0),
        };
        for step in steps {
            history.apply(step);
            let names: Vec<&str> = history.registry.list().map(|e| e.name).collect();
            prop_assert!(names.iter().eq(history.truth.keys()));
        }
        while !history.loads.is_empty() {
            history.finish(0, true);
        }
        prop_assert!(history.waiting.is_empty(), "still waiting: {}", history.waiting.len());
        prop_assert!(history.registry.list().all(|e| !e.loading));
    }
}
