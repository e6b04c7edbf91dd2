//! One record of the ledger: what a disk is, in one 512-byte sector.
//!
//! ```text
//!    0  magic "RLGR" u32       4  version u16        6  state u8         7  has-reset u8
//!    8  slot u64              16  sequence u64      24  epoch u64       32  size u64
//!   40  base layer (16)       56  head layer (16)   72  disk id (32)
//!  104  reset: request id (16)  120  time, ns since 1970 u64  128  epoch before u64  136 base (16)
//!  152  zeros                508  crc32c over bytes 0..508
//! ```
//! What must always hold: a state of 0 is never valid, so a sector of zeros is no record; the
//! record names its own slot, so one that strayed is found out.
//! Left to others: where records lie and which of two wins (`ledger`).

use std::time::{Duration, SystemTime};

use block_device::{ByteLength, DiskId};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U16, U32, U64},
};

use crate::{
    geometry::Geometry,
    header::{field, text},
    id::{Epoch, LayerId, RequestId},
};

const MAGIC: u32 = u32::from_le_bytes(*b"RLGR");
const VERSION: u16 = 1;
const CHECKED: usize = 508;
/// Bytes of a record: what a device writes whole or not at all.
pub(crate) const RECORD: usize = 512;

/// What a disk is, as the ledger tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskRecord {
    pub(crate) disk: DiskId,
    pub(crate) geometry: Geometry,
    pub(crate) epoch: Epoch,
    pub(crate) base: Option<LayerId>,
    pub(crate) head: Option<LayerId>,
    pub(crate) last_reset: Option<LastReset>,
}

/// The reset that began the present epoch, or an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastReset {
    pub(crate) request_id: RequestId,
    pub(crate) time: SystemTime,
    pub(crate) epoch_before: Epoch,
    pub(crate) base: Option<LayerId>,
}

/// What a slot of the ledger says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SlotState {
    /// It was used, and is free again.
    Free,
    /// The disk is being made; the catalog's commit decides.
    Creating(DiskRecord),
    /// The disk exists.
    Live(DiskRecord),
    /// The disk is being deleted; the catalog's commit decides.
    Deleting(DiskRecord),
    /// The disk was rebuilt: nobody uses it before the operator chose what it holds.
    Closed(DiskRecord),
}

impl SlotState {
    /// The disk it speaks of.
    pub(crate) fn record(&self) -> Option<&DiskRecord> {
        match self {
            Self::Free => None,
            Self::Creating(record)
            | Self::Live(record)
            | Self::Deleting(record)
            | Self::Closed(record) => Some(record),
        }
    }
}

/// One of a slot's two records, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) slot: u64,
    pub(crate) sequence: u64,
    pub(crate) state: SlotState,
}

/// What 512 bytes of the ledger are.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// Never written.
    Zeros,
    /// A record.
    Record(Box<Record>),
    /// Not what we wrote.
    Damaged(&'static str),
    /// Written by a newer program.
    Unknown(u16),
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RawRecord {
    magic: U32,
    version: U16,
    state: u8,
    has_reset: u8,
    slot: U64,
    sequence: U64,
    epoch: U64,
    size: U64,
    base: [u8; 16],
    head: [u8; 16],
    disk: [u8; 32],
    reset_request: [u8; 16],
    reset_time: U64,
    reset_epoch_before: U64,
    reset_base: [u8; 16],
    zeros: [u8; 356],
    crc: U32,
}

const _: () = assert!(size_of::<RawRecord>() == RECORD);
const _: () = assert!(std::mem::offset_of!(RawRecord, disk) == 72);
const _: () = assert!(std::mem::offset_of!(RawRecord, crc) == CHECKED);

impl Record {
    /// What the bytes of a slot's record say.
    pub(crate) fn parse(bytes: &[u8; RECORD], slot: u64) -> Parsed {
        if bytes.iter().all(|byte| *byte == 0) {
            return Parsed::Zeros;
        }
        let raw = RawRecord::ref_from_bytes(bytes).expect("the size of a record");
        if raw.magic.get() != MAGIC || crc32c::crc32c(&bytes[..CHECKED]) != raw.crc.get() {
            return Parsed::Damaged("its checksum is wrong");
        }
        if raw.version.get() != VERSION {
            return Parsed::Unknown(raw.version.get());
        }
        if raw.slot.get() != slot {
            return Parsed::Damaged("it belongs to another slot");
        }
        match raw.friendly() {
            None => Parsed::Damaged("a field holds a value that no program of ours writes"),
            Some(state) => {
                Parsed::Record(Box::new(Self { slot, sequence: raw.sequence.get(), state }))
            }
        }
    }

    /// The bytes that say this.
    pub(crate) fn encode(&self) -> [u8; RECORD] {
        let state = match &self.state {
            SlotState::Free => 1,
            SlotState::Creating(_) => 2,
            SlotState::Live(_) => 3,
            SlotState::Deleting(_) => 4,
            SlotState::Closed(_) => 5,
        };
        let record = self.state.record();
        let reset = record.and_then(|record| record.last_reset);
        let raw = RawRecord {
            magic: MAGIC.into(),
            version: VERSION.into(),
            state,
            has_reset: u8::from(reset.is_some()),
            slot: self.slot.into(),
            sequence: self.sequence.into(),
            epoch: record.map_or(0, |record| record.epoch.get()).into(),
            size: record.map_or(0, |record| record.geometry.size()).into(),
            base: LayerId::to_field(record.and_then(|record| record.base)),
            head: LayerId::to_field(record.and_then(|record| record.head)),
            disk: field(record.map_or("", |record| record.disk.as_str())),
            reset_request: reset.map_or([0; 16], |reset| reset.request_id.to_bytes()),
            reset_time: reset.map_or(0, |reset| nanoseconds(reset.time)).into(),
            reset_epoch_before: reset.map_or(0, |reset| reset.epoch_before.get()).into(),
            reset_base: LayerId::to_field(reset.and_then(|reset| reset.base)),
            zeros: [0; 356],
            crc: 0.into(),
        };
        let mut bytes: [u8; RECORD] = zerocopy::transmute!(raw);
        let crc = crc32c::crc32c(&bytes[..CHECKED]);
        bytes[CHECKED..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

impl RawRecord {
    fn friendly(&self) -> Option<SlotState> {
        if self.state == 1 {
            return Some(SlotState::Free);
        }
        let last_reset = LastReset {
            request_id: RequestId::from_bytes(self.reset_request),
            time: SystemTime::UNIX_EPOCH + Duration::from_nanos(self.reset_time.get()),
            epoch_before: Epoch::new(self.reset_epoch_before.get()),
            base: LayerId::from_field(self.reset_base),
        };
        // An epoch whose low bits are 0 would make the words of holes count.
        (self.epoch.get() & 0xffff_ffff != 0 && self.has_reset <= 1).then_some(())?;
        let record = DiskRecord {
            disk: text(&self.disk)?.parse().ok()?,
            geometry: Geometry::checked(ByteLength::new(self.size.get()))?,
            epoch: Epoch::new(self.epoch.get()),
            base: LayerId::from_field(self.base),
            head: LayerId::from_field(self.head),
            last_reset: (self.has_reset == 1).then_some(last_reset),
        };
        match self.state {
            2 => Some(SlotState::Creating(record)),
            3 => Some(SlotState::Live(record)),
            4 => Some(SlotState::Deleting(record)),
            5 => Some(SlotState::Closed(record)),
            _ => None,
        }
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let record = DiskRecord {
            disk: "d-0123456789".parse().unwrap(),
            geometry: Geometry::checked(ByteLength::new(1 << 40)).unwrap(),
            epoch: Epoch::new(7),
            base: Some(LayerId::from_bytes([3; 16])),
            head: None,
            last_reset: Some(LastReset {
                request_id: RequestId::from_bytes([9; 16]),
                time: SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789),
                epoch_before: Epoch::new(6),
                base: Some(LayerId::from_bytes([3; 16])),
            }),
        };
        Record { slot: 5, sequence: 11, state: SlotState::Live(record) }
    }

    #[test]
    fn a_record_reads_back_and_every_flipped_bit_is_found() {
        let good = record().encode();
        let Parsed::Record(back) = Record::parse(&good, 5) else { panic!("a record") };
        assert_eq!(*back, record());
        for bit in 0..RECORD * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(Record::parse(&bad, 5), Parsed::Record(_)), "bit {bit}");
        }
    }

    #[test]
    fn a_record_that_strayed_is_found_out() {
        assert!(matches!(Record::parse(&record().encode(), 6), Parsed::Damaged(_)));
        assert!(matches!(Record::parse(&[0; RECORD], 6), Parsed::Zeros));
    }
}
