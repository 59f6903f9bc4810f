//! What the environment does to the choice of a device.
//!
//! The environment belongs to a whole process, so each case runs this test again as a child.

use std::process::Command;

use tributary_trainer::BaseModel;
use tributary_trainer::device::{DEVICE_VARIABLE, Request};

/// Set in a child, which then loads a model and prints what it computes on.
const CHILD: &str = "TRIBUTARY_TEST_CHILD";

fn child(variables: &[(&str, &str)]) -> String {
    let name = "the_environment_names_the_device_and_the_threads";
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture"])
        .env_remove(DEVICE_VARIABLE)
        .env(CHILD, "1")
        .envs(variables.iter().copied())
        .output()
        .expect("starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_environment_names_the_device_and_the_threads() {
    if std::env::var_os(CHILD).is_some() {
        match BaseModel::open("brook") {
            Ok(base) => println!("on {}", base.device().reason),
            Err(error) => println!("error: {error}"),
        }
        return;
    }
    let three = child(&[(DEVICE_VARIABLE, "CPU"), ("RAYON_NUM_THREADS", "3")]);
    assert!(three.contains("on CPU with 3 threads"), "{three}");
    assert!(three.contains(": as asked"), "{three}");
    let empty = child(&[(DEVICE_VARIABLE, ""), ("RAYON_NUM_THREADS", "1")]);
    assert!(
        !empty.contains("error") && !empty.contains("as asked"),
        "{empty}"
    );
    let unknown = child(&[(DEVICE_VARIABLE, "abacus")]);
    assert!(
        unknown.contains("error: \"abacus\" is no device"),
        "{unknown}"
    );
}

#[test]
fn a_named_device_overrides_the_environment_or_is_refused() {
    let base = BaseModel::open_on("brook", Request::Cpu).expect("the CPU is always there");
    assert!(base.device().reason.starts_with("CPU with "));
    assert!(base.device().warning.is_none());
    if cfg!(not(feature = "cuda")) {
        let error = BaseModel::open_on("brook", Request::Cuda).expect_err("is not built");
        assert!(error.to_string().contains("--features cuda"), "{error}");
    }
}
