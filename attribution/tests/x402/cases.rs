//! The cases of both files: read from JSON, made again, and written to JSON.

pub(crate) mod balances;
pub(crate) mod channel;
pub(crate) mod lines;
pub(crate) mod settlement;

use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Value, json};
use tributary_attribution::settlement::{Address, BaseUnits, EvmKey, Keccak};

/// The field as what it is written as.
pub(crate) fn read<T: FromStr<Err: Display>>(value: &Value) -> T {
    let text = value
        .as_str()
        .unwrap_or_else(|| panic!("a string: {value}"));
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

pub(crate) fn units(value: &Value) -> BaseUnits {
    BaseUnits(read(value))
}

pub(crate) fn key(value: &Value) -> EvmKey {
    EvmKey::from_bytes(&read::<Keccak>(value).0).expect("a key")
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
    let digits = digits.unwrap_or_else(|| panic!("0x and digits: {value}"));
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

/// Words, addresses and keys that follow from a label and hold nothing anywhere.
pub(crate) fn word(label: &str) -> Keccak {
    Keccak::of(&[b"tributary rust word ", label.as_bytes()])
}

pub(crate) fn place(label: &str) -> Address {
    let mut address = [0; 20];
    address.copy_from_slice(&word(label).0[12..]);
    Address(address)
}

pub(crate) fn secret(label: &str) -> EvmKey {
    EvmKey::from_bytes(&word(&format!("key {label}")).0).expect("a key")
}

/// `case` with what follows from its inputs.
fn completed(mut case: Value, remake: impl Fn(&Value) -> Value) -> Value {
    let made = remake(&case);
    let fields = case.as_object_mut().expect("fields");
    fields.extend(made.as_object().expect("fields").clone());
    case
}

/// All of `rust.json`.
pub(crate) fn made() -> Value {
    let all = |inputs: Vec<Value>, remake: fn(&Value) -> Value| -> Vec<Value> {
        (inputs.into_iter().map(|case| completed(case, remake))).collect()
    };
    json!({
        "channels": all(channel::inputs(), channel::remake),
        "settlements": all(settlement::inputs(), settlement::remake),
        "balances": all(balances::inputs(), balances::remake),
        "lines": all(lines::inputs(), lines::remake),
    })
}
