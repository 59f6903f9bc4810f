//! From numbers to places on paper, and how numbers are written beside an axis.

/// A number this many times the least one is drawn on a logarithmic scale: on a linear one the least cannot be told from
/// zero.
const DECADES: f64 = 100.0;

/// A linear or logarithmic scale.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// The least number.
    pub low: f64,
    /// The greatest.
    pub high: f64,
    from: f64,
    to: f64,
    is_log: bool,
}

impl Scale {
    /// Puts `low` at `from` and `high` at `to`. Equal or missing numbers get some room around them.
    pub fn new((low, high): (f64, f64), (from, to): (f64, f64)) -> Self {
        let (low, high) = match low.is_finite() && high.is_finite() && low < high {
            true => (low, high),
            false if low.is_finite() => (low - 0.5, low + 0.5),
            false => (0.0, 1.0),
        };
        Self {
            low,
            high,
            from,
            to,
            is_log: false,
        }
    }

    /// A logarithmic scale between powers of ten, where all numbers are above zero and span more than two of them.
    pub fn logarithmic(
        values: impl IntoIterator<Item = f64>,
        (from, to): (f64, f64),
    ) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, 0.0f64);
        for value in values {
            if !(value.is_finite() && value > 0.0) {
                return None;
            }
            (low, high) = (low.min(value), high.max(value));
        }
        let power = |exponent: f64| 10f64.powf(exponent);
        (high > DECADES * low).then(|| Self {
            low: power((low.log10() + 1e-9).floor()),
            high: power((high.log10() - 1e-9).ceil()),
            from,
            to,
            is_log: true,
        })
    }

    /// Whether equal distances are equal factors.
    pub fn is_log(&self) -> bool {
        self.is_log
    }

    /// What the axis says of itself.
    pub fn label(&self, label: &str) -> String {
        match self.is_log {
            true => format!("{label}, logarithmic"),
            false => label.to_owned(),
        }
    }

    /// A scale over all numbers that has zero on it.
    pub fn around_zero(values: impl IntoIterator<Item = f64>, place: (f64, f64)) -> Self {
        let values = values.into_iter().filter(|v| v.is_finite());
        let (low, high) = values.fold((0.0f64, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
        match low == high {
            true => Self::new((0.0, 1.0), place),
            false => Self::new((low, high), place).widened(),
        }
    }

    /// With its ends on round numbers.
    pub fn widened(self) -> Self {
        let step = step(self.high - self.low, 5);
        Self {
            low: (self.low / step).floor() * step,
            high: (self.high / step).ceil() * step,
            ..self
        }
    }

    /// Where a number stands.
    pub fn at(&self, value: f64) -> f64 {
        let share = match self.is_log {
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        self.from + share * (self.to - self.from)
    }

    /// About `count` round numbers on the scale, both ends included where they are round.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        if self.is_log {
            let (first, last) = (self.low.log10().round(), self.high.log10().round());
            let powers = (first as i32..=last as i32).step_by((last - first) as usize / count + 1);
            return powers.map(|power| 10f64.powi(power)).collect();
        }
        let step = step(self.high - self.low, count);
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|n| n as f64 * step).collect()
    }
}

/// The round number (1, 2, 2.5 or 5 times a power of ten) that cuts `span` into at most `count` pieces.
fn step(span: f64, count: usize) -> f64 {
    let rough = span / count as f64;
    let power = 10f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 2.5, 5.0, 10.0];
    let fitting = factors.iter().find(|f| *f * power >= rough * (1.0 - 1e-9));
    fitting.unwrap_or(&10.0) * power
}

/// A number with as many digits as its size is worth.
pub fn number(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        _ if size == 0.0 => return "0".into(),
        _ if !(1e-4..1e6).contains(&size) => return format!("{value:.1e}"),
        _ if size >= 100.0 => format!("{value:.0}"),
        _ if size >= 10.0 => format!("{value:.1}"),
        _ if size >= 1.0 => format!("{value:.2}"),
        _ if size >= 0.01 => format!("{value:.3}"),
        _ => format!("{value:.5}"),
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// The unit that fits so many bytes, and its size.
pub fn byte_unit(value: f64) -> (&'static str, f64) {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let sized = units.map(|(name, power)| (name, f64::from(1u32 << power)));
    let fitting = sized.into_iter().find(|(_, size)| value.abs() >= *size);
    fitting.unwrap_or(("B", 1.0))
}

/// Bytes in the unit that fits.
pub fn bytes(value: f64) -> String {
    let (unit, size) = byte_unit(value);
    format!("{} {unit}", number(value / size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ticks_are_few_inside_and_evenly_spaced(
            low in -1e6f64..1e6, span in 1e-3f64..1e6, count in 2usize..9,
        ) {
            let scale = Scale::new((low, low + span), (0.0, 100.0));
            let ticks = scale.ticks(count);
            prop_assert!(ticks.len() <= count + 1, "{ticks:?}");
            let slack = span * 1e-6;
            for tick in &ticks {
                prop_assert!(*tick >= low - slack && *tick <= low + span + slack);
            }
            for pair in ticks.windows(3) {
                let (a, b) = (pair[1] - pair[0], pair[2] - pair[1]);
                prop_assert!((a - b).abs() < slack.max(1e-9), "{a} {b}");
            }
        }

        #[test]
        fn a_widened_scale_holds_what_it_held(low in -1e3f64..1e3, span in 1e-3f64..1e3) {
            let narrow = Scale::new((low, low + span), (0.0, 100.0));
            let wide = narrow.widened();
            prop_assert!(wide.low <= narrow.low + span * 1e-9);
            prop_assert!(wide.high >= narrow.high - span * 1e-9);
            prop_assert!(wide.high - wide.low <= 2.0 * span + 1e-9);
        }
    }

    #[test]
    fn numbers_are_written_as_people_write_them() {
        let written: Vec<String> = [0.0, 0.5, 12.0, 1234.0, 0.00012, 2e7].map(number).into();
        assert_eq!(written, ["0", "0.5", "12", "1234", "0.00012", "2.0e7"]);
        assert_eq!(bytes(1536.0), "1.5 KiB");
        assert_eq!(bytes(12.0), "12 B");
    }

    #[test]
    fn numbers_over_two_decades_are_drawn_by_their_factors() {
        let place = (0.0, 100.0);
        assert!(Scale::logarithmic([1.0, 90.0], place).is_none());
        assert!(Scale::logarithmic([0.0, 900.0], place).is_none());
        assert!(Scale::logarithmic([f64::NAN, 900.0], place).is_none());
        let scale = Scale::logarithmic([0.02, 3.0, 400.0], place).unwrap();
        assert_eq!(scale.ticks(6), [0.01, 0.1, 1.0, 10.0, 100.0, 1_000.0]);
        assert!((scale.at(0.01) - 0.0).abs() < 1e-9 && (scale.at(1.0) - 40.0).abs() < 1e-9);
        let long = Scale::logarithmic([1e-9, 1e9], place).unwrap();
        assert!(long.ticks(6).len() <= 7, "{:?}", long.ticks(6));
        assert_eq!(scale.label("loss"), "loss, logarithmic");
    }

    #[test]
    fn equal_numbers_still_make_a_scale() {
        let scale = Scale::new((3.0, 3.0), (0.0, 10.0));
        assert!((scale.at(3.0) - 5.0).abs() < 1e-9);
        assert!(Scale::new((f64::NAN, 1.0), (0.0, 1.0)).at(0.5).is_finite());
    }
}
