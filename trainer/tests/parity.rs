//! The trainer against transformers and PEFT on golden cases made by `parity/make.py`.
//!
//! Files as those programs write them are loaded, and losses, greedy tokens and the gradients of a
//! training step must be theirs. The other way round: adapters that the trainer moved are written for
//! PEFT by an ignored test, and `make.py check` compares the losses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde::Deserialize;
use tributary_protocol::adapter::Factor;
use tributary_trainer::generate::generate_ids;
use tributary_trainer::peft::verify;
use tributary_trainer::{
    BaseModel, GenerateConfig, Session, TrainConfig, Windows, evaluate, export_peft, import_peft,
    loss_and_gradient,
};

/// Largest difference of a mean loss, in nats.
const NLL: f64 = 1e-4;
/// Largest difference of a gradient, as a share of its tensor's largest element.
const GRADIENT: f32 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    tokens: Vec<Vec<u32>>,
    prompt: Vec<u32>,
    nll: f64,
    greedy: Vec<u32>,
    adapters: BTreeMap<String, GoldenAdapter>,
}

#[derive(Deserialize)]
struct GoldenAdapter {
    nll: f64,
    greedy: Vec<u32>,
}

struct Case {
    name: String,
    folder: PathBuf,
    base: BaseModel,
    golden: Golden,
    windows: Windows,
}

impl Case {
    fn adapters(&self) -> impl Iterator<Item = (String, PathBuf, &GoldenAdapter)> {
        let folder = self.folder.join("adapters");
        (self.golden.adapters.iter())
            .map(move |(key, golden)| (format!("{} {key}", self.name), folder.join(key), golden))
    }
}

/// Every case, by what lies in the folder.
fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let mut folders: Vec<PathBuf> = (std::fs::read_dir(folder).expect("the cases"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    assert_eq!(folders.len(), 8);
    folders.into_iter().map(case).collect()
}

fn case(folder: PathBuf) -> Case {
    let base = BaseModel::from_dir(&folder).expect("the base loads");
    let golden = std::fs::read(folder.join("golden.json")).expect("golden.json");
    let golden: Golden = serde_json::from_slice(&golden).expect("golden.json parses");
    let context = golden.tokens[0].len();
    let windows = Windows::from_tokens(golden.tokens.clone(), context, base.config().vocab);
    Case {
        name: base.name().into(),
        windows: windows.expect("windows"),
        folder,
        base,
        golden,
    }
}

/// Gradients by tensor name, as PyTorch computed them.
fn gradients(folder: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = std::fs::read(folder.join("gradients.safetensors")).expect("the gradients");
    let tensors = SafeTensors::deserialize(&bytes).expect("the gradients parse");
    let number = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    (tensors.tensors().into_iter())
        .map(|(name, view)| (name, view.data().chunks_exact(4).map(number).collect()))
        .collect()
}

#[test]
fn every_family_gives_the_losses_of_transformers() {
    for case in cases() {
        let plain = evaluate(&case.base, None, &case.windows).expect("evaluates");
        let gap = (plain.nll - case.golden.nll).abs();
        println!("{}: loss differs by {gap:.1e} nats", case.name);
        assert!(gap <= NLL, "{}: {plain:?} {}", case.name, case.golden.nll);
    }
}

#[test]
fn every_adapter_gives_the_losses_of_peft() {
    for case in cases() {
        for (name, folder, golden) in case.adapters() {
            let adapter = import_peft(&folder, &case.base).expect("the adapter loads");
            let with = evaluate(&case.base, Some(&adapter), &case.windows).expect("evaluates");
            let gap = (with.nll - golden.nll).abs();
            println!("{name}: loss differs by {gap:.1e} nats");
            assert!(gap <= NLL, "{name}: {with:?} {}", golden.nll);
        }
    }
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    let config = GenerateConfig {
        max_tokens: 24,
        exact: true,
        ..GenerateConfig::default()
    };
    for case in cases() {
        let tokens = |adapter: Option<&_>| {
            let answer = generate_ids(&case.base, adapter, &case.golden.prompt, &config);
            answer.expect("generates").token_ids
        };
        assert_eq!(tokens(None), case.golden.greedy, "{}", case.name);
        for (name, folder, golden) in case.adapters() {
            let adapter = import_peft(&folder, &case.base).expect("the adapter loads");
            assert_eq!(tokens(Some(&adapter)), golden.greedy, "{name}");
        }
    }
}

/// What import multiplies into `B` divides `B`'s gradient; what it pads with zeros has none.
#[test]
fn gradients_of_a_training_step_are_those_of_pytorch() {
    for case in cases() {
        for (name, folder, _) in case.adapters() {
            let adapter = import_peft(&folder, &case.base).expect("the adapter loads");
            let report = verify(&folder, &case.base).expect("verifies");
            let step = loss_and_gradient(&case.base, &adapter, &case.windows).expect("steps");
            let expected = gradients(&folder);
            let shape = adapter.shape();
            assert_eq!(expected.len(), 2 * shape.modules.len(), "{name}");
            let mut worst = 0.0f32;
            for segment in shape.segments() {
                let module = &report.modules[segment.module];
                let letter = format!("{:?}", segment.factor);
                let key = format!("base_model.model.{}.lora_{letter}.weight", module.name);
                let fold = match segment.factor {
                    Factor::A => 1.0,
                    Factor::B => module.scale as f32 / shape.scale(),
                };
                let rank = module.rank as usize;
                let largest = expected[&key].iter().fold(0.0f32, |m, g| m.max(g.abs()));
                let mut theirs = expected[&key].iter();
                for (at, ours) in step.gradient[segment.range()].iter().enumerate() {
                    let place = match segment.factor {
                        Factor::A => at / segment.cols,
                        Factor::B => at % segment.cols,
                    };
                    if place >= rank {
                        assert_eq!(*ours, 0.0, "{name} {key}: padding has a gradient");
                        continue;
                    }
                    let theirs = theirs.next().expect("as many gradients");
                    let gap = (ours * fold - theirs).abs() / largest;
                    assert!(gap <= GRADIENT, "{name} {key}: {ours} {theirs}");
                    worst = worst.max(gap);
                }
                assert_eq!(theirs.next(), None, "{name} {key}");
            }
            println!("{name}: gradients differ by at most {worst:.1e} of their tensor's largest");
        }
    }
}

#[test]
fn every_adapter_is_proven_to_be_used_whole() {
    let mut ranks = BTreeSet::new();
    for case in cases() {
        for (name, folder, _) in case.adapters() {
            let report = verify(&folder, &case.base).expect("verifies");
            assert_eq!(report.tensors, 2 * report.modules.len(), "{name}");
            assert!(report.largest_logit_difference > 1e-3, "{name}: {report}");
            assert!(report.divergence_nats > 0.0, "{name}: {report}");
            assert!(report.update_norm > 0.0, "{name}: {report}");
            ranks.extend(report.modules.iter().map(|m| m.rank));
            println!("{name}: {report}\n");
        }
    }
    assert_eq!(ranks, BTreeSet::from([1, 2, 3, 4, 5]));
}

#[test]
fn an_adapter_from_peft_survives_our_export() {
    for case in cases() {
        for (_, folder, _) in case.adapters() {
            let adapter = import_peft(&folder, &case.base).expect("the adapter loads");
            let out = tempfile::tempdir().expect("folder");
            export_peft(out.path(), &case.name, &adapter).expect("exports");
            assert_eq!(
                import_peft(out.path(), &case.base).expect("imports"),
                adapter
            );
        }
    }
}

/// `TRIBUTARY_PARITY=DIR cargo test -p tributary-trainer --test parity -- --ignored` and then
/// `python trainer/tests/parity/make.py check DIR`.
#[test]
#[ignore = "writes adapters for make.py check, which needs PyTorch"]
fn trained_adapters_are_written_for_peft() {
    let out = PathBuf::from(std::env::var_os("TRIBUTARY_PARITY").expect("TRIBUTARY_PARITY=DIR"));
    let config = TrainConfig {
        steps: 4,
        ..TrainConfig::default()
    };
    for case in cases() {
        for (name, folder, _) in case.adapters() {
            let adapter = import_peft(&folder, &case.base).expect("the adapter loads");
            let mut session = Session::new(&case.base, &adapter, case.windows.clone(), config)
                .expect("a session starts");
            while !session.is_done() {
                session.step().expect("a step");
            }
            let moved = session.adapter();
            assert_ne!(moved.values(), adapter.values());
            let loss = evaluate(&case.base, Some(moved), &case.windows).expect("evaluates");
            let folder = out.join(name.replace(' ', "-"));
            export_peft(&folder, &case.name, moved).expect("exports");
            std::fs::write(folder.join("loss.json"), format!("{:.9}\n", loss.nll)).expect("loss");
        }
    }
}
