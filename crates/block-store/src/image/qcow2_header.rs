//! The header of a qcow2 image and the tables it points to, checked before anyone uses them.
//!
//!   0         72         104          header length             cluster 1 ...
//!   | v1 part | v3 part  | more ...   | extensions | names ...  | L1, refcounts, snapshots, L2 |
//!
//! What must always hold, once [`Header::check`] has returned
//! 1. Every table lies inside the file, aligned, and overlaps neither the header nor another
//!    table; so memory taken for tables is at most what the file really holds, and no walk loops.
//! 2. The L1 table covers the whole disk, and each L2 table in it is a cluster of its own.
//! 3. Every feature that changes the meaning of the bytes is one we read.
//! 4. Extensions and names end inside the first cluster. The feature name table has whole entries:
//!    imago 0.2.6 panics on a last entry of one byte.
//!
//! Left to others: entries of L2 tables (imago checks each as it is used, `mapped` where it leads),
//! refcounts (nothing here writes to an image), whether a backing file is followed (`qcow2`).

use std::{fs::File, mem::size_of};

use zerocopy::{
    FromBytes, Immutable, KnownLayout,
    byteorder::big_endian::{U32, U64},
};

use super::{
    ImageError, ImageFormat,
    format::QCOW_MAGIC,
    mapped::check_size,
    raw::{read_at, read_up_to},
};

/// What a checked header says that we need.
#[derive(Debug)]
pub(super) struct Header {
    /// The file the image is based on.
    pub(super) backing: Option<BackingName>,
}

/// How an image names the one it is based on.
#[derive(Debug)]
pub(super) struct BackingName {
    /// Its name, as written in the image.
    pub(super) name: String,
    /// Its format, if written in the image.
    pub(super) format: Option<String>,
}

impl Header {
    /// Checks the image in `file`, which is `length` bytes long.
    pub(super) fn check(file: &File, length: u64) -> Result<Self, ImageError> {
        let unchecked = UncheckedHeader::read(file, length)?;
        unchecked.check_geometry()?;
        let extensions = unchecked.extensions()?;
        unchecked.check_features(&extensions)?;
        check_size(unchecked.raw.size.get())?;
        let tables = unchecked.tables()?;
        unchecked.check_l2_tables(file, &tables)?;
        Ok(Self { backing: unchecked.backing(extensions)? })
    }
}

#[derive(FromBytes, KnownLayout, Immutable, Debug)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 4],
    version: U32,
    backing_offset: U64,
    backing_length: U32,
    cluster_bits: U32,
    size: U64,
    crypt_method: U32,
    l1_entries: U32,
    l1_offset: U64,
    refcount_offset: U64,
    refcount_clusters: U32,
    snapshots: U32,
    snapshots_offset: U64,
    // From here on only in version 3.
    incompatible: U64,
    compatible: U64,
    autoclear: U64,
    refcount_order: U32,
    header_length: U32,
}

const V2_LENGTH: usize = 72;
const V3_LENGTH: usize = 104;
const _: () = assert!(size_of::<RawHeader>() == V3_LENGTH);

/// The largest L1 table, as QEMU has it.
const MOST_L1_BYTES: u64 = 32 << 20;
/// The largest refcount table, as QEMU has it.
const MOST_REFCOUNT_BYTES: u64 = 8 << 20;
/// The most snapshots, as QEMU has it.
const MOST_SNAPSHOTS: u32 = 65536;
/// The shortest entry of the snapshot table.
const SNAPSHOT_BYTES: u64 = 40;
/// The longest name of a backing file.
const MOST_NAME_BYTES: u64 = 1023;

/// The header as the file has it.
struct UncheckedHeader {
    raw: RawHeader,
    /// The first cluster, as far as the file goes.
    start: Vec<u8>,
    cluster: u64,
    file_length: u64,
}

/// What the extensions between header and names say.
#[derive(Default)]
struct Extensions {
    backing_format: Option<String>,
    data_file: Option<String>,
}

/// A part of the file that one thing claims.
#[derive(Clone, Debug)]
struct Area {
    of: &'static str,
    start: u64,
    end: u64,
}

impl UncheckedHeader {
    fn read(file: &File, file_length: u64) -> Result<Self, ImageError> {
        let mut first = [0; V3_LENGTH];
        let read = read_up_to(file, &mut first, 0)?;
        if !first[..read].starts_with(QCOW_MAGIC) {
            return Err(ImageError::NotThatFormat { format: ImageFormat::Qcow2 });
        }
        if read < V2_LENGTH {
            return Err(refused("the file ends within its header"));
        }
        let mut raw = RawHeader::read_from_bytes(&first).expect("a whole header");
        match raw.version.get() {
            2 => raw.become_v3(),
            3 if read < V3_LENGTH => return Err(refused("the file ends within its header")),
            3 => {}
            other => return Err(refused(format!("its version is {other}, not 2 or 3"))),
        }
        let bits = raw.cluster_bits.get();
        if !(9..=21).contains(&bits) {
            return Err(refused(format!("its clusters are of 2^{bits} bytes, not 2^9 to 2^21")));
        }
        let cluster = 1_u64 << bits;
        let mut start = vec![0; usize::try_from(cluster).expect("at most 2^21")];
        let held = read_up_to(file, &mut start, 0)?;
        start.truncate(held);
        Ok(Self { raw, start, cluster, file_length })
    }

    fn check_geometry(&self) -> Result<(), ImageError> {
        let order = self.raw.refcount_order.get();
        if order > 6 {
            return Err(refused(format!("its refcounts are of 2^{order} bits, more than 64")));
        }
        let length = self.header_length();
        let shortest = if self.raw.version.get() == 2 { V2_LENGTH } else { V3_LENGTH };
        if length < shortest || length > self.start.len() || !length.is_multiple_of(8) {
            return Err(refused(format!("its header cannot be {length} bytes long")));
        }
        Ok(())
    }

    fn header_length(&self) -> usize {
        usize::try_from(self.raw.header_length.get()).unwrap_or(usize::MAX)
    }

    fn extensions(&self) -> Result<Extensions, ImageError> {
        let mut found = Extensions::default();
        let mut rest = &self.start[self.header_length()..];
        loop {
            let Some((kind, data, after)) = next_extension(rest) else {
                // Version 2 images may have none, not even the end mark.
                if self.raw.version.get() == 2 && rest.len() < 8 {
                    return Ok(found);
                }
                return Err(refused("its header extensions do not end within the first cluster"));
            };
            match kind {
                EXTENSION_END => return Ok(found),
                EXTENSION_BACKING_FORMAT => found.backing_format = Some(text(data)?),
                EXTENSION_DATA_FILE => found.data_file = Some(text(data)?),
                EXTENSION_FEATURE_NAMES if !data.len().is_multiple_of(48) => {
                    return Err(refused("its table of feature names ends within an entry"));
                }
                _ => {}
            }
            rest = after;
        }
    }

    fn check_features(&self, extensions: &Extensions) -> Result<(), ImageError> {
        let bits = self.raw.incompatible.get();
        let has = |bit: u32| bits & (1 << bit) != 0;
        let unsupported = |feature: &str| Err(ImageError::unsupported(feature));
        if has(0) {
            return Err(refused("it was not closed properly (dirty); run qemu-img check -r all"));
        }
        if has(1) {
            return Err(refused("it is marked corrupt; run qemu-img check -r all"));
        }
        if has(2) || extensions.data_file.is_some() {
            let name = extensions.data_file.clone().unwrap_or_default();
            let reason = "external data files are not followed".into();
            return Err(ImageError::Backing { name, reason });
        }
        if has(3) || self.compression_type() != 0 {
            return unsupported("another compression than zlib (zstd)");
        }
        if has(4) {
            return unsupported("extended L2 entries (subclusters)");
        }
        if bits != 0 {
            return unsupported(&format!("unknown incompatible features ({bits:#x})"));
        }
        match self.raw.crypt_method.get() {
            0 => Ok(()),
            1 => unsupported("AES encryption"),
            2 => unsupported("LUKS encryption"),
            other => Err(refused(format!("its encryption method {other} does not exist"))),
        }
    }

    fn compression_type(&self) -> u8 {
        let beyond = self.header_length() > V3_LENGTH;
        if beyond { self.start[V3_LENGTH] } else { 0 }
    }

    /// The areas that the header claims, none of which overlap.
    fn tables(&self) -> Result<Vec<Area>, ImageError> {
        let raw = &self.raw;
        let mut areas = vec![Area { of: "the header", start: 0, end: self.cluster }];
        let l1_bytes = u64::from(raw.l1_entries.get()) * 8;
        let covered_by_l2 = self.cluster / 8 * self.cluster;
        if u64::from(raw.l1_entries.get()) < raw.size.get().div_ceil(covered_by_l2) {
            return Err(refused("its L1 table is too small for its disk"));
        }
        if l1_bytes > MOST_L1_BYTES {
            return Err(refused("its L1 table is larger than any may be"));
        }
        areas.push(self.area("its L1 table", raw.l1_offset.get(), l1_bytes)?);
        let refcount_bytes = u64::from(raw.refcount_clusters.get()) * self.cluster;
        if !(1..=MOST_REFCOUNT_BYTES).contains(&refcount_bytes) {
            return Err(refused("its refcount table has an impossible size"));
        }
        areas.push(self.area("its refcount table", raw.refcount_offset.get(), refcount_bytes)?);
        match raw.snapshots.get() {
            0 => {}
            many if many > MOST_SNAPSHOTS => {
                return Err(refused(format!("it cannot have {many} snapshots")));
            }
            some => {
                let least = u64::from(some) * SNAPSHOT_BYTES;
                areas.push(self.area("its snapshot table", raw.snapshots_offset.get(), least)?);
            }
        }
        check_apart(&mut areas)?;
        Ok(areas)
    }

    fn area(&self, of: &'static str, start: u64, bytes: u64) -> Result<Area, ImageError> {
        if !start.is_multiple_of(self.cluster) {
            return Err(refused(format!("{of} does not start at a cluster")));
        }
        match start.checked_add(bytes) {
            Some(end) if end <= self.file_length => Ok(Area { of, start, end }),
            _ => Err(refused(format!("{of} lies past the end of its file"))),
        }
    }

    /// Checks that each L2 table is a cluster that nothing else claims.
    fn check_l2_tables(&self, file: &File, tables: &[Area]) -> Result<(), ImageError> {
        let mut starts = self.l2_starts(file)?;
        starts.sort_unstable();
        if starts.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(refused("two parts of its disk share one L2 table"));
        }
        for table in tables {
            let from = table.start.saturating_sub(self.cluster - 1);
            let first = starts.partition_point(|start| *start < from);
            if starts.get(first).is_some_and(|start| *start < table.end) {
                return Err(refused(format!("an L2 table overlaps {}", table.of)));
            }
        }
        Ok(())
    }

    fn l2_starts(&self, file: &File) -> Result<Vec<u64>, ImageError> {
        let mut starts = Vec::new();
        let mut piece = vec![0; 1 << 16];
        let mut at = self.raw.l1_offset.get();
        let mut left = usize::try_from(self.raw.l1_entries.get()).expect("64 bit") * 8;
        while left > 0 {
            let count = left.min(piece.len());
            read_at(file, &mut piece[..count], at)?;
            for entry in piece[..count].chunks_exact(8) {
                let entry = u64::from_be_bytes(entry.try_into().expect("eight bytes"));
                starts.extend(self.l2_start(entry)?);
            }
            left -= count;
            at += u64::try_from(count).expect("at most 64 KiB");
        }
        Ok(starts)
    }

    fn l2_start(&self, entry: u64) -> Result<Option<u64>, ImageError> {
        const RESERVED: u64 = 0x7f00_0000_0000_01ff;
        const COPIED: u64 = 1 << 63;
        if entry & RESERVED != 0 {
            return Err(refused(format!("its L1 table holds the impossible entry {entry:#x}")));
        }
        match entry & !COPIED {
            0 => Ok(None),
            start => self.area("an L2 table", start, self.cluster).map(|area| Some(area.start)),
        }
    }

    fn backing(&self, extensions: Extensions) -> Result<Option<BackingName>, ImageError> {
        let offset = self.raw.backing_offset.get();
        let length = u64::from(self.raw.backing_length.get());
        if offset == 0 {
            return Ok(None);
        }
        // imago asks for the name to end before the last byte of the cluster.
        let end = offset.saturating_add(length);
        let held = u64::try_from(self.start.len()).expect("at most 2^21");
        let fits = length <= MOST_NAME_BYTES && end < self.cluster && end <= held;
        if !fits || offset < u64::from(self.raw.header_length.get()) {
            return Err(refused("the name of its backing file is not where one may be"));
        }
        let index = |place| usize::try_from(place).expect("inside the first cluster");
        let name = text(&self.start[index(offset)..index(end)])?;
        Ok(Some(BackingName { name, format: extensions.backing_format }))
    }
}

impl RawHeader {
    /// Version 2 ends early; the rest has fixed meanings.
    fn become_v3(&mut self) {
        self.incompatible = 0.into();
        self.compatible = 0.into();
        self.autoclear = 0.into();
        self.refcount_order = 4.into();
        self.header_length = 72.into();
    }
}

const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXTENSION_FEATURE_NAMES: u32 = 0x6803_f857;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;

/// Splits the first extension off: its kind, its data, what follows.
fn next_extension(bytes: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (kind, rest) = U32::read_from_prefix(bytes).ok()?;
    let (length, rest) = U32::read_from_prefix(rest).ok()?;
    let length = usize::try_from(length.get()).ok()?;
    let data = rest.get(..length)?;
    let after = rest.get(length.checked_next_multiple_of(8)?..).unwrap_or_default();
    Some((kind.get(), data, after))
}

fn text(bytes: &[u8]) -> Result<String, ImageError> {
    let text = String::from_utf8(bytes.to_vec());
    text.map_err(|_| refused("a name in its header is not UTF-8"))
}

fn check_apart(areas: &mut [Area]) -> Result<(), ImageError> {
    areas.sort_by_key(|area| area.start);
    match areas.windows(2).find(|pair| pair[0].end > pair[1].start) {
        Some(pair) => Err(refused(format!("{} overlaps {}", pair[1].of, pair[0].of))),
        None => Ok(()),
    }
}

fn refused(reason: impl Into<String>) -> ImageError {
    ImageError::refused(reason)
}
