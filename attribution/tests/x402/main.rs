//! Rust against viem and x402's own client, both ways.
//!
//! `golden.json` is what they make of fixed inputs (`node golden.mjs` writes it): everything in it is made again here, every
//! signature byte by byte. `rust.json` is what Rust makes of other inputs; `node golden.mjs --check rust.json` makes it again
//! there. Both files are committed, so that either side can be tried alone.

mod cases;

use std::fs;
use std::path::PathBuf;

use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use tributary_attribution::settlement::{ChainId, EvmKey, Keccak};
use tributary_attribution::voucher::{Voucher, stock};

use cases::{balances, channel, lines, settlement};

fn path(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/x402");
    PathBuf::from(folder).join(name)
}

fn read(name: &str) -> Value {
    let text = fs::read_to_string(path(name)).expect("a committed file");
    serde_json::from_str(&text).expect("JSON")
}

/// Makes every case of one list again and compares it field by field with the file; `remake` returns the fields that follow
/// from a case's inputs. Returns how many values were compared.
fn compare(file: &Value, list: &str, remake: impl Fn(&Value) -> Value) -> usize {
    let cases = file[list].as_array().expect("a list");
    assert!(!cases.is_empty(), "no {list}");
    let mut compared = 0;
    for (at, case) in cases.iter().enumerate() {
        for (name, value) in remake(case).as_object().expect("fields") {
            assert_eq!(&case[name], value, "{list} {at}, {name}");
            compared += 1;
        }
    }
    compared
}

#[test]
fn viem_and_the_stock_client_make_the_same_ids_digests_and_signatures() {
    let golden = read("golden.json");
    assert_eq!(compare(&golden, "channels", channel::remake), 6 * 11);
    assert_eq!(compare(&golden, "settlements", settlement::remake), 4 * 12);
}

#[test]
fn viem_makes_the_same_trees_and_proofs() {
    let golden = read("golden.json");
    assert_eq!(compare(&golden, "balances", balances::remake), 6 * 3);
    assert_eq!(compare(&golden, "lines", lines::remake), 7 * 2);
}

#[test]
fn proofs_that_viem_made_are_accepted() {
    let golden = read("golden.json");
    let trees = golden["balances"].as_array().expect("a list");
    assert!(trees.iter().all(balances::accepts));
    let trees = golden["lines"].as_array().expect("a list");
    assert!(trees.iter().all(lines::accepts));
}

#[test]
fn what_rust_makes_is_what_the_committed_file_says() {
    assert!(
        read("rust.json") == cases::made(),
        "rust.json is older than what it holds: `cargo test -p tributary-attribution --test x402 -- --ignored write`, then \
         `node golden.mjs --check rust.json`"
    );
}

#[test]
#[ignore = "writes rust.json"]
fn write_what_rust_makes() {
    let text = serde_json::to_string_pretty(&cases::made()).expect("JSON");
    fs::write(path("rust.json"), text + "\n").expect("writable");
}

#[test]
#[ignore = "prints times, for a quiet machine; with --release"]
fn vouchers_that_one_core_verifies_in_a_second() {
    const VOUCHERS: usize = 4000;
    let scheme = stock(ChainId(1612));
    let key = EvmKey::from_bytes(&Keccak::of(&[b"payer"]).0).expect("a key");
    let config = channel::config(&key.address(), "speed");
    let vouchers: Vec<Voucher> = (1..=VOUCHERS as u128)
        .map(|micro| channel::voucher(&config, micro, &key, &scheme))
        .collect();
    for pass in 0..3 {
        let started = thread_seconds();
        let good = vouchers
            .iter()
            .filter(|one| one.verify(&config, &scheme).is_ok());
        assert_eq!(good.count(), VOUCHERS);
        let rate = VOUCHERS as f64 / (thread_seconds() - started);
        println!(
            "pass {pass}: {rate:.0} vouchers in a second of one core, {:.3} ms each",
            1e3 / rate
        );
    }
}

/// Seconds that this thread has had the processor, so that other programs of the machine do not count.
fn thread_seconds() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}
