//! The last 512 bytes of a VHD image, which say what the rest is.
//!
//! What must always hold: a footer that is taken has the right sum over its bytes; one that is written holds
//! the disk's size also for readers that count in cylinders, heads and sectors.

use block_device::SECTOR;

use super::ImageError;

/// Bytes of a footer.
pub(super) const FOOTER: usize = 512;
/// What it begins with; a dynamic image begins with a copy of it.
pub(super) const VHD_MAGIC: &[u8] = b"conectix";

const VERSION: u32 = 0x0001_0000;
/// No further header.
const NOWHERE: u64 = u64::MAX;
const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const DIFFERENCING: u32 = 4;
/// Where the sum is.
const SUM: usize = 64;

/// How the disk is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its bytes, one after another.
    Fixed,
    /// In blocks; the header of their table is there.
    Dynamic(u64),
}

/// What a footer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) size: u64,
    pub(super) kind: Kind,
}

impl Footer {
    /// None for bytes that are no footer at all.
    pub(super) fn parse(bytes: &[u8; FOOTER]) -> Result<Option<Self>, ImageError> {
        if !bytes.starts_with(VHD_MAGIC) {
            return Ok(None);
        }
        if sum(bytes, SUM) != u32_at(bytes, SUM) {
            return Err(ImageError::refused("the sum over its footer is wrong"));
        }
        if u32_at(bytes, 12) != VERSION {
            return Err(ImageError::unsupported("another version of VHD"));
        }
        let kind = match u32_at(bytes, 60) {
            FIXED => Kind::Fixed,
            DYNAMIC => Kind::Dynamic(u64_at(bytes, 16)),
            DIFFERENCING => return Err(ImageError::unsupported("a VHD that is based on another")),
            _ => return Err(ImageError::refused("its footer names no kind of VHD that there is")),
        };
        Ok(Some(Self { size: u64_at(bytes, 48), kind }))
    }

    /// Of a fixed image; `id` is random. It holds no time, which nobody reads.
    pub(super) fn of_fixed(size: u64, id: [u8; 16]) -> [u8; FOOTER] {
        let mut bytes = [0; FOOTER];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(0, VHD_MAGIC);
        // A bit that is always set.
        put(8, &2_u32.to_be_bytes());
        put(12, &VERSION.to_be_bytes());
        put(16, &NOWHERE.to_be_bytes());
        // QEMU takes the size from the geometry, which is smaller, unless it knows the creator.
        put(28, b"win ");
        put(32, &VERSION.to_be_bytes());
        put(36, b"Wi2k");
        put(40, &size.to_be_bytes());
        put(48, &size.to_be_bytes());
        put(56, &geometry(size));
        put(60, &FIXED.to_be_bytes());
        put(68, &id);
        let sum = sum(&bytes, SUM);
        bytes[SUM..SUM + 4].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// The sum over a header whose own place for it counts as zeros.
pub(super) fn sum(bytes: &[u8], place: usize) -> u32 {
    let counted = bytes.iter().enumerate().filter(|(at, _)| !(place..place + 4).contains(at));
    !counted.fold(0_u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Cylinders, heads and sectors of a track, as the format wants them computed: no more than the disk
/// has, and at most some 127 GiB.
fn geometry(size: u64) -> [u8; 4] {
    const MOST_CYLINDERS: u64 = 65535;
    let total = (size / SECTOR).min(MOST_CYLINDERS * 16 * 255);
    let fits = |tracks: u64, heads: u64| tracks < heads * 1024;
    let (heads, sectors) = if total >= MOST_CYLINDERS * 16 * 63 {
        (16, 255)
    } else {
        let heads = (total / 17).div_ceil(1024).max(4);
        if heads <= 16 && fits(total / 17, heads) {
            (heads, 17)
        } else if fits(total / 31, 16) {
            (16, 31)
        } else {
            (16, 63)
        }
    };
    let cylinders = u16::try_from(total / sectors / heads).unwrap_or(u16::MAX);
    let [high, low] = cylinders.to_be_bytes();
    let byte = |number: u64| u8::try_from(number).expect("at most 255");
    [high, low, byte(heads), byte(sectors)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_is_read_as_it_was_written_and_no_bit_may_change() {
        let bytes = Footer::of_fixed(5 << 30, [7; 16]);
        let footer = Footer { size: 5 << 30, kind: Kind::Fixed };
        assert_eq!(Footer::parse(&bytes).unwrap(), Some(footer));
        for at in VHD_MAGIC.len()..FOOTER {
            let mut wrong = bytes;
            wrong[at] ^= 1;
            assert!(Footer::parse(&wrong).is_err(), "{at}");
        }
        assert_eq!(Footer::parse(&[0; FOOTER]).unwrap(), None);
    }

    #[test]
    fn the_geometry_never_holds_more_than_the_disk() {
        for size in [512, 1 << 20, 500 << 20, 504 << 20, 5 << 30, 40 << 30, 127 << 30, 2 << 40] {
            let [high, low, heads, sectors] = geometry(size).map(u64::from);
            let held = ((high << 8) | low) * heads * sectors * SECTOR;
            assert!(held <= size, "{size}: {held}");
            let is_usual = (1 << 20..=127 << 30).contains(&size);
            assert!(!is_usual || held * 100 > size * 97, "{size}: {held}");
        }
    }
}
