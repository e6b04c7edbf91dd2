//! Ours against a peer: rounds in turn, and the ratio with its spread.
//!
//! What must always hold: a ratio is the median of the ratios of single rounds, its spread their
//! quartiles, so that what drifts over a run does not count; below 1 ours takes less time.

use std::fmt;

use crate::samples::Samples;

/// Ours divided by the peer's.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    /// Half of the rounds had a ratio below.
    pub median: f64,
    /// A quarter of the rounds had a ratio below.
    pub low: f64,
    /// Three quarters of the rounds had a ratio below.
    pub high: f64,
}

impl Ratio {
    /// The ratio of samples from the same rounds.
    pub fn of(ours: &Samples, peer: &Samples) -> Self {
        let pairs = ours.values().iter().zip(peer.values());
        let ratios: Samples = pairs.map(|(ours, peer)| ours / peer).collect();
        let (low, high) = ratios.quartiles();
        Self { median: ratios.median(), low, high }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:.2} [{:.2} to {:.2}]", self.median, self.low, self.high)
    }
}

/// Runs all sides in each round, the first one first in every so many rounds; gives the samples
/// of each side. A round before the first warms up and is not counted.
pub fn interleave<S: Copy>(
    rounds: usize,
    sides: &[S],
    mut run: impl FnMut(S) -> anyhow::Result<f64>,
) -> anyhow::Result<Vec<Samples>> {
    let mut samples = vec![Samples::default(); sides.len()];
    for round in 0..=rounds {
        for step in 0..sides.len() {
            let side = (round + step) % sides.len();
            let value = run(sides[side])?;
            if round > 0 {
                samples[side].add(value);
            }
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_take_turns_and_the_first_round_does_not_count() {
        let mut order = String::new();
        let samples = interleave(2, &['a', 'b'], |side| {
            order.push(side);
            Ok(if side == 'a' { 1.0 } else { 2.0 })
        });
        let samples = samples.unwrap();
        assert_eq!(order, "abbaab");
        assert_eq!(samples[0].values(), [1.0, 1.0]);
        let ratio = Ratio::of(&samples[0], &samples[1]);
        assert_eq!(ratio.to_string(), "0.50 [0.50 to 0.50]");
    }

    #[test]
    fn a_side_that_fails_ends_the_rounds() {
        interleave(1, &[()], |()| Err(anyhow::anyhow!("no"))).unwrap_err();
    }
}
