//! Settings of a run file that are one of a few words.

use serde::Deserialize;

/// Names of the aggregation rules. The default costs nothing among honest members and lost least to
/// attackers in `docs/numbers/attacks.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AggregationName {
    /// Mean weighted by tokens.
    Mean,
    /// Clipped to the median norm, then the weighted mean.
    ClippedMean,
    /// Clipped, mixed with nearest neighbours, then Multi-Krum.
    MultiKrum,
    /// Clipped, mixed, then centred clipping.
    CentredClip,
    /// Clipped, mixed, then the geometric median.
    GeometricMedian,
    /// Clipped, without those whose direction opposes the others, then the weighted mean.
    #[default]
    Agreement,
}

/// Where a run's money lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChainName {
    /// The test chain: every peer folds it, and its OPEN is worth nothing.
    #[default]
    Test,
    /// Nowhere: nothing is deposited, and every round is unfunded.
    None,
    /// A real chain, which the table `[settlement]` names.
    Evm,
}

/// What an update weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightsName {
    /// The tokens it was trained on, in proportion to the text that no member committed before: owners gain
    /// nothing by more names (`docs/numbers/gaming.md`).
    #[default]
    Own,
    /// The tokens it was trained on, whoever holds the same text.
    Trained,
    /// The tokens it was trained on, in proportion to the member's stake on the run's chain, by which votes, seats and panels
    /// of evaluators go as well.
    Stake,
}

/// Names of the factor schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleName {
    /// `B`, then `A`, in turn.
    Alternate,
    /// Both each round.
    Both,
    /// Only `B`.
    FreezeA,
}

/// Names of the update codecs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodecName {
    /// Top values of each chunk, 2 bits each.
    Sparse,
    /// One byte a value.
    DenseInt8,
    /// Four bytes a value.
    DenseF32,
}
