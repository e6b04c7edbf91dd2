//! A VHD image: fixed, or dynamic with a table of blocks.
//!
//! What must always hold: the footer at the end of the file is there and whole, so that a file that was cut
//! is none; the table and every block it names lie inside the file before one byte is read by them. A
//! sector that its block does not have is zeros. A fixed image is never guessed at: it begins with the
//! bytes of a disk, and a guest could write its footer.

use std::ops::Range;

use block_device::{ByteLength, SECTOR};

use super::{
    ImageError, ImageFormat,
    mapped::check_size,
    raw::{self, read_at},
    vhd_footer::{FOOTER, Footer, Kind, sum, u32_at, u64_at},
    witness::Witness,
};

/// Bytes of the header of a table.
const HEADER: usize = 1024;
const HEADER_MAGIC: &[u8] = b"cxsparse";
/// Where the sum over the header is.
const HEADER_SUM: usize = 36;
/// Bytes of a block: the format says 2 MiB; what others write lies around it.
const BLOCKS: Range<u64> = 512 << 10..(32 << 20) + 1;
/// A block that is zeros.
const UNUSED: u32 = u32::MAX;
/// Places in the file are counted in sectors with 32 bits: no disk is larger.
pub(super) const LARGEST: u64 = 2 << 40;

/// An open image.
#[derive(Debug)]
pub(super) struct Vhd {
    witness: Witness,
    size: u64,
    /// None in a fixed one.
    table: Option<Table>,
}

#[derive(Debug)]
struct Table {
    /// Bytes of a block's data, which lies behind the map of its sectors.
    block: u64,
    /// The sector where each block begins.
    places: Vec<u32>,
}

impl Vhd {
    pub(super) fn open(witness: Witness) -> Result<Self, ImageError> {
        let none = || ImageError::NotThatFormat { format: ImageFormat::Vhd };
        let end = witness.length().checked_sub(wide(FOOTER)).ok_or_else(none)?;
        let mut bytes = [0; FOOTER];
        read_at(witness.file(), &mut bytes, end)?;
        let footer = Footer::parse(&bytes)?.ok_or_else(none)?;
        check_size(footer.size)?;
        if footer.size > LARGEST {
            let (size, most) = (ByteLength::new(footer.size), ByteLength::new(LARGEST));
            return Err(ImageError::TooLarge { size, most });
        }
        let table = match footer.kind {
            Kind::Fixed if footer.size > end => return Err(cut()),
            Kind::Fixed => None,
            Kind::Dynamic(header) => Some(Table::read(&witness, end, header, footer.size)?),
        };
        Ok(Self { witness, size: footer.size, table })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn check_unchanged(&self) -> Result<(), ImageError> {
        self.witness.check_unchanged()
    }

    /// Fills `buffer` from `offset`, which ends within the disk.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), ImageError> {
        let Some(table) = &self.table else {
            return read_at(self.witness.file(), buffer, offset);
        };
        let (mut rest, mut at) = (buffer, offset);
        while !rest.is_empty() {
            let within = at % table.block;
            let length = wide(rest.len()).min(table.block - within);
            let (piece, after) = rest.split_at_mut(narrow(length));
            match table.place(at) {
                Some(place) => self.read_block(table, piece, place, within)?,
                None => piece.fill(0),
            }
            rest = after;
            at += length;
        }
        Ok(())
    }

    /// Reads of the block that begins at `place`.
    fn read_block(
        &self,
        table: &Table,
        piece: &mut [u8],
        place: u64,
        within: u64,
    ) -> Result<(), ImageError> {
        read_at(self.witness.file(), piece, place + table.map_length() + within)?;
        let first = within / SECTOR;
        let last = (within + wide(piece.len())).div_ceil(SECTOR);
        let mut map = vec![0; narrow(last.div_ceil(8) - first / 8)];
        read_at(self.witness.file(), &mut map, place + first / 8)?;
        for sector in first..last {
            let byte = map[narrow(sector / 8 - first / 8)];
            if byte & (0x80 >> (sector % 8)) == 0 {
                let from = (sector * SECTOR).max(within) - within;
                let to = ((sector + 1) * SECTOR - within).min(wide(piece.len()));
                piece[narrow(from)..narrow(to)].fill(0);
            }
        }
        Ok(())
    }

    /// The next stretch from `from` on that may hold something else than zeros.
    pub(super) fn next_data(&self, from: u64) -> Result<Option<Range<u64>>, ImageError> {
        let Some(table) = &self.table else {
            return raw::next_data(self.witness.file(), from, self.size);
        };
        let mut at = from;
        while at < self.size {
            let end = (at - at % table.block + table.block).min(self.size);
            if table.place(at).is_some() {
                return Ok(Some(at..end));
            }
            at = end;
        }
        Ok(None)
    }
}

impl Table {
    /// The table that the header at `at` tells of, in a file whose footer begins at `end`.
    fn read(witness: &Witness, end: u64, at: u64, size: u64) -> Result<Self, ImageError> {
        let mut header = [0; HEADER];
        inside(at, wide(HEADER), end)?;
        read_at(witness.file(), &mut header, at)?;
        if !header.starts_with(HEADER_MAGIC)
            || sum(&header, HEADER_SUM) != u32_at(&header, HEADER_SUM)
        {
            return Err(ImageError::refused("the header of its table is damaged"));
        }
        let block = u64::from(u32_at(&header, 32));
        if !BLOCKS.contains(&block) || !block.is_power_of_two() {
            return Err(ImageError::unsupported(format!("blocks of {block} bytes")));
        }
        let count = size.div_ceil(block);
        if u64::from(u32_at(&header, 28)) < count {
            return Err(ImageError::refused("its table is shorter than its disk"));
        }
        let place = u64_at(&header, 16);
        inside(place, count * 4, end)?;
        let mut bytes = vec![0; narrow(count * 4)];
        read_at(witness.file(), &mut bytes, place)?;
        let (words, _) = bytes.as_chunks::<4>();
        let places = words.iter().map(|word| u32::from_be_bytes(*word)).collect();
        let table = Self { block, places };
        for place in table.places.iter().filter(|place| **place != UNUSED) {
            inside(u64::from(*place) * SECTOR, table.map_length() + block, end)?;
        }
        Ok(table)
    }

    /// A bit for each sector, in whole sectors.
    fn map_length(&self) -> u64 {
        (self.block / SECTOR / 8).next_multiple_of(SECTOR)
    }

    /// Where the block with this byte of the disk begins in the file.
    fn place(&self, at: u64) -> Option<u64> {
        let place = self.places[narrow(at / self.block)];
        (place != UNUSED).then(|| u64::from(place) * SECTOR)
    }
}

fn inside(from: u64, length: u64, end: u64) -> Result<(), ImageError> {
    if from.checked_add(length).is_some_and(|to| to <= end) { Ok(()) } else { Err(cut()) }
}

fn cut() -> ImageError {
    ImageError::refused("it was cut: what it names lies past its end")
}

fn wide(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits")
}

fn narrow(length: u64) -> usize {
    usize::try_from(length).expect("a part of a buffer or of a table")
}
