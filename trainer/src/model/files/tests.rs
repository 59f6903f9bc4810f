//! Round trips, and damaged files.

use super::*;
use crate::testing::tiny_config;

fn encoded(parameters: &[Parameter]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write(&path, parameters, Precision::F32).unwrap();
    std::fs::read(path).unwrap()
}

fn error(parameters: &[Parameter], config: &Config) -> String {
    read_bytes(&encoded(parameters), "model.safetensors", config)
        .expect_err("should be refused")
        .to_string()
}

#[test]
fn exact_numbers_survive_a_round_trip_and_bf16_rounds() {
    let config = tiny_config();
    let parameters = parameters::initialise(&config, 7);
    let read = read_bytes(&encoded(&parameters), "x", &config).unwrap();
    assert_eq!(read, parameters);

    let folder = tempfile::tempdir().unwrap();
    write(
        &folder.path().join("model.safetensors"),
        &parameters,
        Precision::Bf16,
    )
    .unwrap();
    let read = read_dir(folder.path(), &config).unwrap();
    for (a, b) in read.iter().zip(&parameters) {
        for (x, y) in a.values.iter().zip(&b.values) {
            assert!((x - y).abs() <= y.abs() / 256.0);
        }
    }
}

#[test]
fn faults_are_named_by_tensor() {
    let config = tiny_config();
    let good = parameters::initialise(&config, 7);
    let name = "model.layers.1.mlp.up_proj.weight";
    let at = good.iter().position(|p| p.name == name).unwrap();

    let mut bad = good.clone();
    bad.remove(at);
    assert!(error(&bad, &config).contains(name));
    assert!(error(&bad, &config).contains("lacks"));

    let mut bad = good.clone();
    bad[at].shape.reverse();
    assert!(error(&bad, &config).contains(name));

    let mut bad = good.clone();
    bad[at].values[5] = f32::NAN;
    assert!(error(&bad, &config).contains("position 5"));

    let mut bad = good.clone();
    bad.push(Parameter {
        name: "model.layers.9.extra".into(),
        shape: vec![1],
        values: vec![0.0],
    });
    assert!(error(&bad, &config).contains("model.layers.9.extra"));
}

#[test]
fn every_truncation_is_an_error() {
    let config = tiny_config();
    let bytes = encoded(&parameters::initialise(&config, 7));
    for cut in (0..bytes.len()).step_by(97) {
        assert!(read_bytes(&bytes[..cut], "x", &config).is_err());
    }
}

#[test]
fn a_header_that_claims_more_than_the_file_is_an_error() {
    let mut bytes = encoded(&parameters::initialise(&tiny_config(), 7));
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(
        read_bytes(&bytes, "x", &tiny_config()),
        Err(WeightsError::Format { .. })
    ));
}
