//! What a run of somebody else's may take of this machine: in the settings file, as options, as environment variables.
//!
//! A manifest may ask for whatever the protocol allows, a gibibyte an adapter. Each bound has one name in three
//! spellings; an option counts before its variable, that before the file, that before the default.

use clap::Args;
use serde::{Deserialize, Serialize};
use tributary_protocol::id::RunId;
use tributary_protocol::node::{Bounds as RunBounds, Excess, Resource};

/// Bytes of a MiB.
pub(crate) const MIB: u64 = 1 << 20;
/// The largest bound, in MiB: bytes stay far from overflow.
const MOST: u64 = 1 << 40;
/// An adapter of 64 Mi numbers: rank 16 on every linear of a model of thirteen billion.
const ADAPTER_MIB: u64 = 256;
/// Updates of a round with 64 members in adapters of 60 Mi numbers, within the memory of an ordinary machine.
const ROUND_MIB: u64 = 4 << 10;
/// A part of an ordinary disk that its owner would miss, and a hundred rounds of the above.
const RUN_MIB: u64 = 32 << 10;

/// A base model of four billion numbers in two bytes each: a part of an ordinary disk, and what an ordinary machine trains.
pub(crate) const BASE_MIB: u64 = 8 << 10;

/// The bounds that were set, each in MiB.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// MiB that a run's adapter may take (four bytes a parameter). A run that asks for more is not followed.
    /// Default: 256, or what the home's config.toml says under `[bounds]`.
    #[arg(long, env = "TRIBUTARY_MAX_ADAPTER_MIB", value_name = "MIB", value_parser = mib())]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_adapter_mib: Option<u64>,
    /// MiB of memory that one round may take: everybody's updates, and the adapters that are held at a time. Default: 4096, or what config.toml says.
    #[arg(long, env = "TRIBUTARY_MAX_ROUND_MIB", value_name = "MIB", value_parser = mib())]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_round_mib: Option<u64>,
    /// MiB of disk that all rounds of a run may take. Default: 32768, or what config.toml says.
    #[arg(long, env = "TRIBUTARY_MAX_RUN_MIB", value_name = "MIB", value_parser = mib())]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_run_mib: Option<u64>,
    /// MiB that a run's base model may take when it is fetched from peers. Default: 8192, or what config.toml says.
    #[arg(long, env = "TRIBUTARY_MAX_BASE_MIB", value_name = "MIB", value_parser = mib())]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_base_mib: Option<u64>,
}

fn mib() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=MOST)
}

impl Bounds {
    /// Whether none was set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These, and where one is not set that of `rest`.
    pub fn or(self, rest: Self) -> Self {
        Self {
            max_adapter_mib: self.max_adapter_mib.or(rest.max_adapter_mib),
            max_round_mib: self.max_round_mib.or(rest.max_round_mib),
            max_run_mib: self.max_run_mib.or(rest.max_run_mib),
            max_base_mib: self.max_base_mib.or(rest.max_base_mib),
        }
    }

    /// The bound of a base that is fetched, in MiB.
    pub fn base_mib(&self) -> u64 {
        self.max_base_mib.unwrap_or(BASE_MIB).min(MOST)
    }

    /// In bytes, with defaults for what is not set.
    pub fn in_bytes(&self) -> RunBounds {
        let bytes = |set: Option<u64>, default| set.unwrap_or(default).min(MOST) * MIB;
        RunBounds {
            adapter: bytes(self.max_adapter_mib, ADAPTER_MIB),
            round: bytes(self.max_round_mib, ROUND_MIB),
            run: bytes(self.max_run_mib, RUN_MIB),
        }
    }
}

/// What the owner hears of a run that asks for too much, and how to let it have that.
pub fn declined_words(run: &RunId, excess: &Excess) -> String {
    let name = match excess.part {
        Resource::Adapter => "max_adapter_mib",
        Resource::Round => "max_round_mib",
        Resource::Run => "max_run_mib",
    };
    let (asks, most) = (excess.asks.div_ceil(MIB), excess.most / MIB);
    let (option, variable) = (name.replace('_', "-"), name.to_uppercase());
    format!(
        "run {} asks for {asks} MiB for {}, and this peer gives {most} MiB, so it is not followed and nothing of it \
         was fetched; to give it that much, start `tributary up` (or `adapter get` without a daemon) with --{option} \
         {asks} or TRIBUTARY_{variable}={asks}, or put `{name} = {asks}` under [bounds] in the home's config.toml",
        run.short(),
        excess.part.words(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_protocol::hash::{Domain, digest};

    #[test]
    fn an_option_counts_before_the_file_and_the_file_before_the_default() {
        let option = Bounds {
            max_adapter_mib: Some(7),
            ..Bounds::default()
        };
        let file: Bounds = toml::from_str("max_adapter_mib = 9\nmax_run_mib = 11\n").unwrap();
        let bytes = option.or(file).in_bytes();
        assert_eq!(bytes.adapter, 7 << 20);
        assert_eq!(bytes.run, 11 << 20);
        assert_eq!(bytes.round, Bounds::default().in_bytes().round);
        assert!(toml::from_str::<Bounds>("adapter_mib = 9\n").is_err());
    }

    #[test]
    fn a_declined_run_is_told_with_what_would_let_it_in() {
        let run = RunId(digest(Domain::Manifest, b"large"));
        let excess = Excess {
            part: Resource::Adapter,
            asks: (300 << 20) + 1,
            most: 256 << 20,
        };
        let said = declined_words(&run, &excess);
        for part in [
            "asks for 301 MiB for its adapter",
            "gives 256 MiB",
            "--max-adapter-mib 301",
            "TRIBUTARY_MAX_ADAPTER_MIB=301",
            "`max_adapter_mib = 301` under [bounds]",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let raised = Bounds {
            max_adapter_mib: Some(301),
            ..Bounds::default()
        };
        assert!(raised.in_bytes().adapter >= excess.asks, "the mend mends");
    }
}
