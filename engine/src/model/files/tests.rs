//! Round trips, and damaged files.

use super::*;
use crate::test_utils::tiny_config;

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
fn a_second_head_of_a_tied_model_is_refused_unless_it_is_the_table() {
    let config = Config {
        tied: true,
        ..tiny_config()
    };
    let good = parameters::initialise(&config, 7);
    let mut twice = good.clone();
    twice.push(Parameter {
        name: HEAD.into(),
        ..good[TABLE].clone()
    });
    assert_eq!(read_bytes(&encoded(&twice), "x", &config).unwrap(), good);
    twice.last_mut().unwrap().values[3] += 1.0;
    let refused = error(&twice, &config);
    assert!(
        refused.contains("lm_head.weight") && refused.contains("tie_word_embeddings"),
        "{refused}"
    );
    twice.last_mut().unwrap().shape.reverse();
    assert!(error(&twice, &config).contains("lm_head.weight"));
}

#[test]
fn a_decoder_saved_without_its_head_is_read_by_its_bare_names() {
    let config = tiny_config();
    let good = parameters::initialise(&config, 7);
    let mut bare = good.clone();
    for parameter in &mut bare {
        parameter.name = parameter.name.replacen(DECODER, "", 1);
    }
    assert_eq!(read_bytes(&encoded(&bare), "x", &config).unwrap(), good);
    // Some bare, some not, is neither.
    bare[1].name = good[1].name.clone();
    assert!(error(&bare, &config).contains("no place for"));
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

/// Everything in memory, by the crate that defined the format: the slow twin.
fn by_the_crate(bytes: &[u8]) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    use safetensors::tensor::{Dtype, SafeTensors};
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let mut out: Vec<_> = (tensors.tensors().into_iter())
        .map(|(name, view)| {
            let pairs = || view.data().chunks_exact(2).map(|b| [b[0], b[1]]);
            let values = match view.dtype() {
                Dtype::F32 => (view.data().chunks_exact(4))
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                    .collect(),
                Dtype::F16 => pairs()
                    .map(|b| half::f16::from_le_bytes(b).to_f32())
                    .collect(),
                _ => pairs()
                    .map(|b| half::bf16::from_le_bytes(b).to_f32())
                    .collect(),
            };
            (name, view.shape().to_vec(), values)
        })
        .collect();
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

#[test]
fn tensors_of_every_kind_and_of_many_chunks_read_as_the_crate_reads_them() {
    use safetensors::tensor::{Dtype, TensorView};
    // More than two chunks of a megabyte, an odd end, and one that ends exactly with a chunk.
    let sizes = [
        (Dtype::F32, 600_001),
        (Dtype::BF16, 1 << 20),
        (Dtype::F16, 700_001),
        (Dtype::F32, 1),
    ];
    let data: Vec<Vec<u8>> = (sizes.iter())
        .map(|(dtype, count)| {
            let value = |i: usize| ((i * 2_654_435_761) % 1000) as f32 / 7.0 - 70.0;
            (0..*count)
                .flat_map(|i| match dtype {
                    Dtype::F32 => value(i).to_le_bytes().to_vec(),
                    Dtype::F16 => half::f16::from_f32(value(i)).to_le_bytes().to_vec(),
                    _ => half::bf16::from_f32(value(i)).to_le_bytes().to_vec(),
                })
                .collect()
        })
        .collect();
    let views = (sizes.iter().zip(&data).enumerate()).map(|(i, ((dtype, count), bytes))| {
        (
            format!("t{i}"),
            TensorView::new(*dtype, vec![*count], bytes).unwrap(),
        )
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    let file = TensorFile::new(bytes.as_slice(), bytes.len() as u64, "x", 1 << 16).unwrap();
    let entries = file.header.entries.clone();
    let mut passed = Vec::new();
    let mut ours = Vec::new();
    let mut see = |seen: stream::Seen<'_>| {
        if let stream::Seen::Bytes(part) = seen {
            passed.extend_from_slice(part);
        }
    };
    file.tensors(
        Some(&mut see),
        |_| true,
        |at, values| {
            ours.push((entries[at].name.clone(), entries[at].shape.clone(), values));
        },
    )
    .unwrap();
    ours.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(ours, by_the_crate(&bytes));
    assert!(passed == bytes, "every byte passes by once, in order");
}

fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

#[test]
fn writers_that_meet_leave_one_whole_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    std::thread::scope(|scope| {
        for writer in 0..8u8 {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..10 {
                    write_file(path, &vec![writer; 100_000 + usize::from(writer)]).unwrap();
                }
            });
        }
    });
    let found = std::fs::read(&path).unwrap();
    assert_eq!(found, vec![found[0]; 100_000 + usize::from(found[0])]);
    assert_eq!(names(folder.path()), ["model.safetensors"]);
}

#[test]
fn a_file_that_cannot_take_its_name_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::create_dir_all(path.join("in the way")).unwrap();
    let error = write_file(&path, b"new").expect_err("a folder is in the way");
    assert!(error.to_string().contains("model.safetensors"), "{error}");
    assert_eq!(names(folder.path()), ["model.safetensors"]);
}

#[cfg(unix)]
#[test]
fn a_written_file_is_as_open_as_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
    write_file(&ours, b"x").unwrap();
    std::fs::write(&plain, b"x").unwrap();
    assert_eq!(mode(&ours), mode(&plain));
}
