//! How the learning rate changes over a training.
//!
//! The formulas are those of transformers' `get_constant_schedule_with_warmup`,
//! `get_linear_schedule_with_warmup` and `get_cosine_schedule_with_warmup` (half a wave): the first
//! step of a warm-up has a rate of zero.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// What follows the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// The same rate to the end.
    #[default]
    Constant,
    /// Straight down to zero.
    Linear,
    /// Down to zero along half a cosine wave.
    Cosine,
}

impl Schedule {
    /// What the learning rate is multiplied by at `step` (from 0) of `steps`, after `warm_up` steps of
    /// linear rise.
    pub fn factor(self, step: u32, warm_up: u32, steps: u32) -> f64 {
        if step < warm_up {
            return f64::from(step) / f64::from(warm_up);
        }
        let rest = f64::from(steps.saturating_sub(warm_up).max(1));
        let progress = f64::from(step - warm_up) / rest;
        match self {
            Self::Constant => 1.0,
            Self::Linear => (1.0 - progress).max(0.0),
            Self::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Constant => "constant",
            Self::Linear => "linear",
            Self::Cosine => "cosine",
        })
    }
}

/// A word that names no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a schedule; use constant, linear or cosine")]
pub struct UnknownSchedule(String);

impl FromStr for Schedule {
    type Err = UnknownSchedule;

    fn from_str(word: &str) -> Result<Self, UnknownSchedule> {
        match word {
            "constant" => Ok(Self::Constant),
            "linear" => Ok(Self::Linear),
            "cosine" => Ok(Self::Cosine),
            _ => Err(UnknownSchedule(word.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(schedule: Schedule, warm_up: u32, steps: u32) -> Vec<f64> {
        (0..steps)
            .map(|step| schedule.factor(step, warm_up, steps))
            .collect()
    }

    /// `[s.get_last_lr()[0] for each step]` of transformers 5.23 with a rate of 1, to nine digits.
    #[test]
    fn rates_are_those_of_transformers() {
        let cosine = [0.0, 0.5, 1.0, 0.933_012_702, 0.75, 0.5, 0.25, 0.066_987_298];
        let linear = [
            0.0,
            0.5,
            1.0,
            5.0 / 6.0,
            4.0 / 6.0,
            0.5,
            2.0 / 6.0,
            1.0 / 6.0,
        ];
        let constant = [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
        let cases = [
            (Schedule::Cosine, cosine),
            (Schedule::Linear, linear),
            (Schedule::Constant, constant),
        ];
        for (schedule, expected) in cases {
            for (ours, theirs) in factors(schedule, 2, 8).into_iter().zip(expected) {
                assert!((ours - theirs).abs() < 1e-9, "{schedule}: {ours} {theirs}");
            }
        }
    }

    #[test]
    fn a_constant_rate_is_multiplied_by_exactly_one() {
        assert_eq!(factors(Schedule::Constant, 0, 5), [1.0; 5]);
    }

    #[test]
    fn schedules_without_room_stay_finite_and_names_round_trip() {
        for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Cosine] {
            assert_eq!(schedule.to_string().parse(), Ok(schedule));
            for (step, warm_up, steps) in [(0, 0, 0), (5, 5, 5), (9, 3, 4), (0, 7, 3)] {
                let factor = schedule.factor(step, warm_up, steps);
                assert!((0.0..=1.0).contains(&factor), "{schedule} {factor}");
            }
        }
        assert!("steps".parse::<Schedule>().is_err());
    }
}
