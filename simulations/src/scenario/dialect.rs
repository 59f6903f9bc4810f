//! Rules, codecs, weights and schedules, named as in a run's file (`examples/run.toml`).
//!
//! Scenarios once had names of their own; these are refused with what to write instead ([`suggest`](crate::suggest)).

use serde::{Deserialize, Serialize};
use tributary_protocol::id::Ppb;
use tributary_protocol::manifest::{Aggregation, FactorSchedule, UpdateCodec, Weights};

/// A share of one in billionths.
fn ppb(share: f64) -> Ppb {
    Ppb((share * 1e9).round() as u32)
}

/// Where a run's money lies.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChainName {
    /// Nowhere: the sponsor's deposit is taken as made, and nobody files anything.
    #[default]
    None,
    /// On the test chain: members file, sign, post and claim, as daemons do. A virtual machine for every history.
    Test,
    /// On a real chain, as members read it: stakes come and go, blocks become final and are said otherwise for a while. Members
    /// are bonded there, and sign roots that nobody posts.
    Modelled,
}

/// How updates are encoded.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodecName {
    /// The largest of each chunk.
    Sparse,
    /// Every number as int8.
    DenseInt8,
    /// Every number as f32.
    DenseF32,
}

/// How updates travel.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CodecPlan {
    /// The encoding.
    pub kind: CodecName,
    /// Values kept of each full chunk (sparse).
    #[serde(default = "usual_top")]
    pub top: u16,
    /// Share of what was not sent that the next update carries, 0 to 1 (sparse).
    #[serde(default = "usual_feedback")]
    pub feedback: f64,
}

fn usual_top() -> u16 {
    64
}

fn usual_feedback() -> f64 {
    0.95
}

impl CodecPlan {
    /// As the manifest says it.
    pub fn codec(self) -> UpdateCodec {
        match self.kind {
            CodecName::DenseF32 => UpdateCodec::DenseF32,
            CodecName::DenseInt8 => UpdateCodec::DenseInt8,
            CodecName::Sparse => UpdateCodec::Sparse {
                top: self.top,
                feedback: ppb(self.feedback),
            },
        }
    }
}

/// What an update weighs.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightsName {
    /// The tokens it was trained on.
    #[default]
    Trained,
    /// In proportion to the member's own tokens.
    Own,
    /// In proportion to the member's stake on the run's chain.
    Stake,
}

impl WeightsName {
    /// As the manifest says it; `full` own tokens weigh fully.
    pub fn weights(self, full: u64) -> Weights {
        match self {
            Self::Trained => Weights::Trained,
            Self::Own => Weights::Own { full },
            Self::Stake => Weights::Stake { least: 0 },
        }
    }
}

/// How updates are combined.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AggregationName {
    /// Mean weighted by tokens.
    Mean,
    /// Clipped to the median norm first.
    ClippedMean,
    /// Clipped, mixed with nearest neighbours, then Multi-Krum.
    MultiKrum,
    /// Clipped, mixed, then centred clipping.
    CentredClip,
    /// Clipped, mixed, then the geometric median.
    GeometricMedian,
    /// Clipped, without those whose direction opposes the others, then the mean.
    Agreement,
}

impl AggregationName {
    /// As the manifest says it; `tolerate` is the share of a round's tokens that may lie.
    pub fn aggregation(self, tolerate: f64) -> Aggregation {
        let tolerate = ppb(tolerate);
        match self {
            Self::Mean => Aggregation::Mean,
            Self::ClippedMean => Aggregation::ClippedMean,
            Self::MultiKrum => Aggregation::MultiKrum { tolerate },
            Self::CentredClip => Aggregation::CentredClip { tolerate },
            Self::GeometricMedian => Aggregation::GeometricMedian { tolerate },
            Self::Agreement => Aggregation::Agreement { tolerate },
        }
    }
}

/// Which factors move when.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleName {
    /// `B` in odd rounds, `A` in even rounds.
    Alternate,
    /// Both factors every round.
    Both,
    /// Only `B`.
    FreezeA,
}

impl ScheduleName {
    /// As the manifest says it.
    pub fn schedule(self) -> FactorSchedule {
        match self {
            Self::Alternate => FactorSchedule::Alternate,
            Self::Both => FactorSchedule::Both,
            Self::FreezeA => FactorSchedule::FreezeA,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::scenario::grid::load_with;
    use crate::scenario::{load, parse};

    fn refused(set: &str) -> String {
        let refused = load_with(&Arc::default(), "smoke", &[set.to_owned()]);
        refused.unwrap_err().to_string()
    }

    #[test]
    fn a_scenario_takes_the_words_of_a_run_file_and_writes_them_again() {
        let set = [
            "run.aggregation=multi-krum",
            "run.tolerate=0.2",
            "run.codec={ kind = \"sparse\", top = 8 }",
            "run.weights=own",
            "run.full_weight_tokens=1000",
            "run.schedule=freeze-a",
        ];
        let set = set.map(str::to_owned);
        let scenario = load_with(&Arc::default(), "smoke", &set).unwrap();
        let text = toml::to_string(&scenario).unwrap();
        let again = parse("again", &text).unwrap();
        assert_eq!(toml::to_string(&again).unwrap(), text);
        for words in ["\"multi-krum\"", "\"sparse\"", "\"own\"", "\"freeze-a\""] {
            assert!(text.contains(words), "{words} in {text}");
        }
    }

    #[test]
    fn every_old_name_is_refused_with_the_new_one() {
        for (old, new) in [
            ("run.aggregation=clipped_mean", "`clipped-mean`"),
            (
                "run.aggregation={ multi_krum = { tolerate = 0.2 } }",
                "`tolerate = 0.2`",
            ),
            (
                "run.aggregation={ agreement = { tolerate = 0.2 } }",
                "`tolerate = 0.2`",
            ),
            ("run.codec=dense_f32", "{ kind = \"dense-f32\" }"),
            (
                "run.codec={ sparse = { top = 8, feedback = 0.9 } }",
                "kind = \"sparse\"",
            ),
            (
                "run.weights={ own = { full = 1000 } }",
                "`full_weight_tokens = 1_000`",
            ),
            ("run.schedule=freeze_a", "`freeze-a`"),
        ] {
            let why = refused(old);
            assert!(why.contains(new), "{old}: {why}");
        }
    }

    #[test]
    fn words_reach_the_manifest_as_its_own_rules() {
        let smoke = load("smoke").unwrap();
        let codec = smoke.run.codec.codec();
        assert_eq!(codec, tributary_protocol::manifest::UpdateCodec::DenseF32);
        let rule = smoke.run.aggregation.aggregation(smoke.run.tolerate);
        assert_eq!(rule, tributary_protocol::manifest::Aggregation::ClippedMean);
    }
}
