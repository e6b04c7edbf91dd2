//! Measured values of one thing: their median, their quartiles, their slowest hundredth, and how people
//! read them.

use std::fmt;

/// What a value is a number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds, printed as us, ms or s.
    Seconds,
    /// How many a second.
    PerSecond,
    /// MiB.
    Mebibytes,
    /// MiB a second.
    MebibytesPerSecond,
}

impl Unit {
    /// The value with its unit.
    pub fn show(self, value: f64) -> String {
        self.scale(value).show(value)
    }

    /// How a value of about this size is written.
    fn scale(self, value: f64) -> Scale {
        let (factor, digits, suffix) = match self {
            Self::Seconds if value.abs() >= 1.0 => (1.0, 2, " s"),
            Self::Seconds if value.abs() >= 0.01 => (1e3, 1, " ms"),
            Self::Seconds if value.abs() >= 1e-4 => (1e3, 3, " ms"),
            Self::Seconds => (1e6, 2, " us"),
            Self::PerSecond => (1.0, 0, "/s"),
            Self::Mebibytes => (1.0, 1, " MiB"),
            Self::MebibytesPerSecond => (1.0, 0, " MiB/s"),
        };
        Scale { factor, digits, suffix }
    }
}

/// How values of one cell are written: all alike.
#[derive(Clone, Copy, Debug)]
struct Scale {
    factor: f64,
    digits: usize,
    suffix: &'static str,
}

impl Scale {
    fn bare(self, value: f64) -> String {
        format!("{:.*}", self.digits, value * self.factor)
    }

    fn show(self, value: f64) -> String {
        self.bare(value) + self.suffix
    }
}

/// Measured values of one thing, in the order of the rounds.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// One more.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// In the order of the rounds.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// Half of the values are below.
    pub fn median(&self) -> f64 {
        self.quantile(2, 4)
    }

    /// A quarter of the values are below the first, three quarters below the second.
    pub fn quartiles(&self) -> (f64, f64) {
        (self.quantile(1, 4), self.quantile(3, 4))
    }

    /// One value in a hundred is above.
    pub fn p99(&self) -> f64 {
        self.quantile(99, 100)
    }

    /// The median with the quartiles.
    pub fn show(&self, unit: Unit) -> String {
        if self.0.is_empty() {
            return "nothing measured".into();
        }
        let (scale, (low, high)) = (unit.scale(self.median()), self.quartiles());
        format!("{} [{} to {}]", scale.show(self.median()), scale.bare(low), scale.bare(high))
    }

    /// So many parts of the values are below; between two values it is interpolated.
    fn quantile(&self, parts: usize, of: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(steps) = sorted.len().checked_sub(1) else { return f64::NAN };
        let (place, rest) = (steps * parts / of, steps * parts % of);
        let below = sorted[place];
        let above = sorted[(place + 1).min(steps)];
        let small = |number| u8::try_from(number).map_or(f64::NAN, f64::from);
        below + (above - below) * small(rest) / small(of)
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.show(Unit::Seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_where_they_belong() {
        let odd: Samples = [5.0, 1.0, 3.0, 2.0, 4.0].into_iter().collect();
        assert_eq!((odd.median(), odd.quartiles()), (3.0, (2.0, 4.0)));
        let even: Samples = [1.0, 2.0, 3.0, 4.0].into_iter().collect();
        assert_eq!((even.median(), even.quartiles()), (2.5, (1.75, 3.25)));
        assert!(Samples::default().median().is_nan());
        let hundred: Samples = (0..=100).rev().map(f64::from).collect();
        assert_eq!(hundred.p99(), 99.0);
        assert!((even.p99() - 3.97).abs() < 1e-9);
    }

    #[test]
    fn values_are_read_with_three_digits() {
        assert_eq!(Unit::Seconds.show(0.000_312_4), "0.312 ms");
        assert_eq!(Unit::Seconds.show(0.000_001_5), "1.50 us");
        assert_eq!(Unit::Seconds.show(0.0812), "81.2 ms");
        assert_eq!(Unit::Seconds.show(2.5), "2.50 s");
        let spread: Samples = [0.9, 1.0, 1.1].into_iter().collect();
        assert_eq!(spread.to_string(), "1.00 s [0.95 to 1.05]");
    }
}
