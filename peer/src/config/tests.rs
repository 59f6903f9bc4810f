//! Run files: defaults, bounds, and the mends that refusals offer.

use tributary_attribution::settlement::Address;
use tributary_protocol::adapter::Module;
use tributary_protocol::filing::EvmAddress;
use tributary_protocol::hash::{Domain, digest};
use tributary_protocol::id::MicroOpen;
use tributary_protocol::manifest::SettlementChain;

use super::*;

const MINIMAL: &str = "name = \"poets\"\nbase = \"brook\"\ndatanet = \"poems\"\nrounds = 6\n";

fn base() -> BaseFacts {
    BaseFacts {
        name: "brook".to_owned(),
        hash: digest(Domain::BaseModel, b"brook"),
        files: None,
        modules: vec![Module {
            name: "model.layers.0.self_attn.q_proj".to_owned(),
            inputs: 64,
            outputs: 32,
        }],
    }
}

fn creator() -> PeerId {
    PeerId(digest(Domain::Simulation, b"creator"))
}

fn refused(extra: &str) -> String {
    let text = format!("{MINIMAL}{extra}");
    match RunFile::parse(&text, "run.toml") {
        Err(e) => e.to_string(),
        Ok(file) => match file.manifest(creator(), 1, &base()) {
            Err(e) => e.to_string(),
            Ok(_) => panic!("accepted: {extra}"),
        },
    }
}

#[test]
fn four_keys_make_a_manifest() {
    let file = RunFile::parse(MINIMAL, "run.toml").unwrap();
    let manifest = file.manifest(creator(), 7, &base()).unwrap();
    assert_eq!(manifest.plan.rounds, 6);
    assert_eq!(manifest.scoring.evaluators, vec![creator()]);
    assert_eq!(manifest.model.adapter.rank, 8);
    assert_eq!(manifest.payment.budget_per_round, MicroOpen(1_000_000));
    assert_eq!(manifest.payment.price_per_nat, MicroOpen(50_000_000));
    assert_eq!(manifest.training.learning_rate, Ppb(2_000_000));
}

#[test]
fn a_nat_has_the_price_that_the_file_says_and_else_fifty_budgets() {
    let price = |extra: &str| {
        let file = RunFile::parse(&format!("{MINIMAL}{extra}"), "run.toml").unwrap();
        let manifest = file.manifest(creator(), 7, &base()).unwrap();
        manifest.check().unwrap();
        manifest.payment.price_per_nat.0
    };
    assert_eq!(price("budget_per_round_open = 3\n"), 150_000_000);
    assert_eq!(price("price_per_nat_open = \"0.25\"\n"), 250_000);
    assert_eq!(price("budget_per_round_open = 0\n"), 0);
}

#[test]
fn the_example_states_exactly_the_defaults() {
    let example = RunFile::parse(example(), "examples/run.toml").unwrap();
    let minimal = RunFile::parse(MINIMAL, "run.toml").unwrap();
    let with_names = RunFile {
        name: example.name.clone(),
        datanet: example.datanet.clone(),
        ..minimal
    };
    assert_eq!(example, with_names);
}

/// The example with its keys and tables that are comments, because they go with other settings, in use.
fn example_in_full() -> String {
    let uncommented = |line: &str| {
        let rest = line.strip_prefix("# ")?;
        let word = rest.trim_start_matches('[').split([' ', ']']).next()?;
        let is_name = word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let is_key =
            rest[word.len()..].starts_with(" = ") || rest.starts_with(&format!("[{word}]"));
        (is_name && is_key).then(|| rest.to_owned())
    };
    let lines = example().lines();
    let lines = lines.map(|line| uncommented(line).unwrap_or_else(|| line.to_owned()));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_holds_every_known_key() {
    let table: toml::Table = example_in_full().parse().unwrap();
    for (name, known) in keys::KEYS {
        let inner = if name.is_empty() {
            &table
        } else {
            table[name].as_table().unwrap()
        };
        for key in known {
            assert!(inner.contains_key(*key), "[{name}] {key} is missing");
        }
        assert_eq!(
            inner.len(),
            known.len(),
            "[{name}] has keys beyond the list"
        );
    }
}

#[test]
fn a_misspelt_key_is_refused_with_the_meant_one() {
    let text = refused("score_window = 3\n");
    assert!(text.contains("Did you mean `score_windows`?"), "{text}");
    let text = refused("[training]\nlocal_step = 3\n");
    assert!(
        text.contains("Did you mean `training.local_steps`?"),
        "{text}"
    );
}

#[test]
fn a_key_in_the_wrong_table_is_told_its_place() {
    let text = refused("rank = 4\n");
    assert!(text.contains("`rank` belongs in [adapter]"), "{text}");
    let text = refused("[codec]\ncommittee = 4\n");
    assert!(text.contains("top of the file"), "{text}");
}

#[test]
fn a_key_like_no_other_lists_what_is_known() {
    let text = refused("zzz = 1\n");
    assert!(text.contains("Known keys here: name, base"), "{text}");
}

#[test]
fn a_missing_key_is_named() {
    let error = RunFile::parse("name = \"x\"\n", "run.toml").unwrap_err();
    assert!(error.to_string().contains("base"), "{error}");
}

#[test]
fn a_value_of_the_wrong_kind_points_at_its_line() {
    let text = refused("committee = \"four\"\n");
    assert!(text.contains("line 5"), "{text}");
}

#[test]
fn values_out_of_bounds_are_refused_by_name() {
    for (extra, key) in [
        ("committee = 0\n", "committee"),
        ("[adapter]\nrank = 0\n", "adapter.rank"),
        ("[adapter]\nrank = 257\n", "adapter.rank"),
        ("[adapter]\nalpha = 5000\n", "adapter.alpha"),
        ("[training]\ncontext = 1\n", "training.context"),
        (
            "[training]\nlearning_rate = 0.0\n",
            "training.learning_rate",
        ),
        ("[codec]\ntop = 5000\n", "codec.top"),
        ("[codec]\nfeedback = 1.5\n", "codec.feedback"),
        ("[revenue]\nserver = 0.5\n", "revenue"),
        ("budget_per_round_open = -1\n", "budget_per_round_open"),
        ("price_per_nat_open = -1\n", "price_per_nat_open"),
        ("evaluators = [\"bob\"]\n", "evaluators"),
        (
            "weights = \"trained\"\nfull_weight_tokens = 9\n",
            "full_weight_tokens",
        ),
    ] {
        let text = refused(extra);
        assert!(text.contains(&format!("`{key}`")), "{extra}: {text}");
    }
}

#[test]
fn an_evaluator_named_twice_counts_once() {
    let twice = format!("{MINIMAL}evaluators = [\"self\", \"{}\"]\n", creator());
    let file = RunFile::parse(&twice, "run.toml").unwrap();
    let manifest = file.manifest(creator(), 1, &base()).unwrap();
    assert_eq!(manifest.scoring.evaluators, vec![creator()]);
}

/// A run file of bonded members whose money lies on a real chain.
fn real(extra: &str) -> String {
    let (top, table) = extra.split_once('|').unwrap_or(("", extra));
    format!(
        "{MINIMAL}chain = \"evm\"\nweights = \"stake\"\n{top}[settlement]\nid = 1612\n\
         contract = \"0x1111111111111111111111111111111111111111\"\n\
         token = \"0x2222222222222222222222222222222222222222\"\n{table}"
    )
}

fn settled(text: &str) -> Result<Manifest, RunFileError> {
    let file = RunFile::parse(text, "run.toml")?;
    let mut manifest = file.manifest(creator(), 7, &base())?;
    file.settle(&mut manifest, Address([7; 20]))?;
    Ok(manifest)
}

#[test]
fn three_keys_name_a_real_chain_and_the_rest_follows_from_the_run() {
    let manifest = settled(&real("")).unwrap();
    manifest.check().unwrap();
    let terms = manifest.payment.settlement.unwrap();
    let chain = SettlementChain::Evm {
        id: 1612,
        contract: EvmAddress([0x11; 20]),
        token: EvmAddress([0x22; 20]),
    };
    assert_eq!((terms.chain, terms.sponsor), (chain, EvmAddress([7; 20])));
    assert_eq!(
        (terms.window_s, terms.cooldown_s, terms.halt_s),
        (86_400, 1_209_600, 2_592_000)
    );
    // Six budgets of one OPEN within a day; two thirds of three members at one OPEN.
    assert_eq!(
        (terms.rate_per_s, terms.min_stake),
        (MicroOpen(70), MicroOpen(3_000_000))
    );
    assert_eq!(
        (terms.challenge_bond, terms.arbiter),
        (MicroOpen(1_000_000), None)
    );
    assert_eq!(
        manifest.updates.weights,
        Weights::Stake { least: 1_000_000 }
    );
    let set = "least_stake_open = 2.5\n|rate_per_s_open = \"0.000009\"\nchallenge_bond_open = 4\nmin_stake_open = 5\n\
               window_s = 60\ncooldown_s = 180\nhalt_s = 190\narbiter = \"0x3333333333333333333333333333333333333333\"\n";
    let manifest = settled(&real(set)).unwrap();
    manifest.check().unwrap();
    let terms = manifest.payment.settlement.unwrap();
    assert_eq!(
        (terms.rate_per_s, terms.challenge_bond),
        (MicroOpen(9), MicroOpen(4_000_000))
    );
    assert_eq!((terms.min_stake, terms.halt_s), (MicroOpen(5_000_000), 190));
    assert_eq!(terms.arbiter, Some(EvmAddress([0x33; 20])));
    assert_eq!(
        manifest.updates.weights,
        Weights::Stake { least: 2_500_000 }
    );
}

#[test]
fn what_does_not_go_with_a_real_chain_is_refused_by_its_key() {
    let refused = |text: &str| match settled(text) {
        Err(why) => why.to_string(),
        Ok(_) => panic!("accepted: {text}"),
    };
    let real_with = |extra: &str| refused(&real(extra));
    for (said, key) in [
        (
            refused(&format!("{MINIMAL}chain = \"evm\"\nweights = \"stake\"\n")),
            "settlement",
        ),
        (
            refused(&real("").replace("\"evm\"", "\"test\"")),
            "settlement",
        ),
        (
            refused(&real("").replace("\"stake\"", "\"own\"")),
            "weights",
        ),
        (refused(&real("").replace("1612", "0")), "settlement.id"),
        (
            refused(&real("").replace("1612", "1953655138")),
            "settlement.id",
        ),
        (
            refused(&real("").replace("0x1111", "0x111")),
            "settlement.contract",
        ),
        (
            refused(&real("").replace(&"2".repeat(40), &"0".repeat(40))),
            "settlement.token",
        ),
        (
            refused(&format!("{MINIMAL}least_stake_open = 1\n")),
            "least_stake_open",
        ),
        (real_with("least_stake_open = 0\n|"), "least_stake_open"),
        (real_with("window_s = 0\n"), "settlement.window_s"),
        (real_with("cooldown_s = 86_400\n"), "settlement.cooldown_s"),
        (real_with("halt_s = 86_400\n"), "settlement.halt_s"),
        (
            real_with("rate_per_s_open = -1\n"),
            "settlement.rate_per_s_open",
        ),
        (
            real_with("min_stake_open = 1_000_000_000_001\n"),
            "settlement.min_stake_open",
        ),
        (real_with("arbiter = \"bob\"\n"), "settlement.arbiter"),
    ] {
        assert!(said.contains(&format!("`{key}`")), "{key}: {said}");
    }
    let said = real_with("windows_s = 9\n");
    assert!(
        said.contains("Did you mean `settlement.window_s`?"),
        "{said}"
    );
}
