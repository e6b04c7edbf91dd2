//! Sizes as people write them: `40G`, `512M`, `10737418240`; the units are binary.
//!
//! What must always hold: what is read is an exact number of bytes, or refused.

use std::{fmt, str::FromStr};

use crate::failure::Failure;

/// An amount of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(u64);

const UNITS: [(char, u32); 5] = [('K', 10), ('M', 20), ('G', 30), ('T', 40), ('P', 50)];

impl Size {
    pub(crate) fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Sizes of the ECS API are whole GiB. What no `u64` of bytes can hold is the most it can.
    pub(crate) fn of_gib(gib: u64) -> Self {
        Self(gib.saturating_mul(1 << 30))
    }

    pub(crate) fn bytes(self) -> u64 {
        self.0
    }

    /// The size as the ECS API takes it.
    pub(crate) fn whole_gib(self, what: &str) -> Result<u64, Failure> {
        let gib = self.0 >> 30;
        if gib > 0 && Self::of_gib(gib) == self {
            return Ok(gib);
        }
        let message = format!("{what} is {self}, but disks have whole GiB, such as 40G");
        Err(Failure::local("InvalidSize.ValueNotSupported", message))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a size; write it as 40G, 512M or in plain bytes");
        let upper = text.trim().to_ascii_uppercase();
        let unit = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
        let (digits, shift) = UNITS
            .iter()
            .find_map(|(letter, shift)| unit.strip_suffix(*letter).map(|digits| (digits, *shift)))
            .unwrap_or((unit, 0));
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number
            .checked_mul(1 << shift)
            .map(Self)
            .ok_or_else(|| format!("'{text}' is more than 2^64 bytes"))
    }
}

/// The largest unit with at most one decimal: `40 GiB`, `1.5 MiB`, `512 B`.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((letter, shift)) = UNITS.iter().rev().find(|(_, shift)| self.0 >> shift > 0)
        else {
            return write!(f, "{} B", self.0);
        };
        let whole = self.0 >> shift;
        let rest = self.0 - (whole << shift);
        // One decimal, rounded down; `rest` is below 2^50, so ten times it fits.
        match (rest * 10) >> shift {
            0 => write!(f, "{whole} {letter}iB"),
            tenth => write!(f, "{whole}.{tenth} {letter}iB"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_binary_units() {
        for (text, bytes) in [
            ("40G", 40 << 30),
            ("512M", 512 << 20),
            ("10737418240", 10 << 30),
            ("1k", 1024),
            ("2TiB", 2 << 40),
            ("3mb", 3 << 20),
            ("0", 0),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "G", "-1", "1.5G", "4 G", "10X", "99999999999999999999", "999999P", "0x10"]
        {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_printed_in_the_largest_unit() {
        for (bytes, text) in [
            (40 << 30, "40 GiB"),
            (3 << 19, "1.5 MiB"),
            (512, "512 B"),
            (0, "0 B"),
            ((1 << 40) + 1, "1 TiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
