//! What is done to the kept store to damage it, by the offsets of docs/format.md.
//!
//! What must always hold: one thing is wrong in each, and where that is not the checksum, the checksum is right.

use std::{collections::BTreeMap, path::PathBuf};

use block_store::LayerId;

use crate::packed::Files;

/// One way to damage a store.
pub(crate) struct Harm {
    pub(crate) name: &'static str,
    apply: Box<dyn Fn(&mut Patient)>,
}

impl Harm {
    /// The store after it.
    pub(crate) fn done_to(&self, files: &Files, layers: &BTreeMap<&'static str, LayerId>) -> Files {
        let mut patient = Patient { files: files.clone(), layers: layers.clone() };
        (self.apply)(&mut patient);
        patient.files
    }
}

/// A store under the knife.
struct Patient {
    files: Files,
    layers: BTreeMap<&'static str, LayerId>,
}

const COPIES: [usize; 2] = [0, 4096];
/// A version as a machine of the other endianness would write it.
const BIG_ENDIAN: [u8; 4] = 1_u32.to_be_bytes();

impl Patient {
    fn ledger(&mut self) -> &mut Vec<u8> {
        self.files.get_mut(&PathBuf::from("ledger")).unwrap()
    }

    /// A file of the layer of this resource, or of the head of this disk.
    fn file(&mut self, owner: &str, name: &str) -> &mut Vec<u8> {
        let path = self.path(owner, name);
        self.files.get_mut(&path).unwrap()
    }

    fn path(&self, owner: &str, name: &str) -> PathBuf {
        format!("layers/{}/{name}", self.layers[owner]).into()
    }

    fn id(&self, owner: &str) -> [u8; 16] {
        self.layers[owner].to_bytes()
    }

    /// Where the records of a disk lie, the newer first.
    fn records(&mut self, disk: &str) -> [usize; 2] {
        let ledger = self.ledger();
        let mut name = disk.as_bytes().to_vec();
        name.resize(32, 0);
        let sectors = (8192..ledger.len()).step_by(512);
        let mut found: Vec<_> = sectors.filter(|at| ledger[at + 72..at + 104] == *name).collect();
        found.sort_by_key(|at| std::cmp::Reverse(number(&ledger[at + 16..at + 24])));
        found.try_into().unwrap()
    }

    /// Changes a record and makes its checksum right.
    fn record(&mut self, at: usize, change: impl Fn(&mut [u8])) {
        let record = &mut self.ledger()[at..at + 512];
        change(record);
        seal(record);
    }

    /// Where the newer copy of a layer's header lies.
    fn newer_copy(&mut self, owner: &str) -> usize {
        let map = self.file(owner, "map");
        *COPIES.iter().max_by_key(|at| number(&map[**at + 16..**at + 24])).unwrap()
    }

    /// Changes the first word of a map that counts and makes the check word right.
    fn word(&mut self, owner: &str, change: impl Fn(u64) -> u64) {
        let layer = self.id(owner);
        let sector = &mut self.file(owner, "map")[8192..8704];
        let at = (0..504).step_by(8).find(|at| number(&sector[*at..at + 8]) != 0).unwrap();
        let word = change(number(&sector[at..at + 8]));
        sector[at..at + 8].copy_from_slice(&word.to_le_bytes());
        let proved = [&sector[..504], &layer, &[0; 8]].concat();
        sector[504..].copy_from_slice(&u64::from(crc32c::crc32c(&proved)).to_le_bytes());
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// Makes the CRC at the end right.
fn seal(piece: &mut [u8]) {
    let at = piece.len() - 4;
    let crc = crc32c::crc32c(&piece[..at]);
    piece[at..].copy_from_slice(&crc.to_le_bytes());
}

/// Puts bytes at a place of both copies of a header, checksums right.
fn both(file: &mut [u8], place: usize, bytes: &[u8]) {
    for copy in COPIES {
        file[copy + place..][..bytes.len()].copy_from_slice(bytes);
        seal(&mut file[copy..copy + 4096]);
    }
}

fn harm(name: &'static str, apply: impl Fn(&mut Patient) + 'static) -> Harm {
    Harm { name, apply: Box::new(apply) }
}

/// All of them.
pub(crate) fn harms() -> Vec<Harm> {
    [of_the_ledger(), of_records(), of_headers(), of_maps(), of_files()]
        .into_iter()
        .flatten()
        .collect()
}

fn of_the_ledger() -> Vec<Harm> {
    vec![
        harm("ledger-one-bad-copy", |p| p.ledger()[100] ^= 1),
        harm("ledger-bad-crc", |p| COPIES.iter().for_each(|copy| p.ledger()[copy + 4092] ^= 1)),
        harm("ledger-foreign-magic", |p| both(p.ledger(), 0, b"REINITLY")),
        harm("ledger-newer-version", |p| both(p.ledger(), 8, &2_u32.to_le_bytes())),
        harm("ledger-big-endian", |p| both(p.ledger(), 8, &BIG_ENDIAN)),
        harm("ledger-unknown-feature", |p| both(p.ledger(), 12, &4_u32.to_le_bytes())),
        harm("ledger-cut", |p| p.ledger().truncate(4096)),
    ]
}

fn of_records() -> Vec<Harm> {
    vec![
        harm("record-bad-crc", |p| {
            let at = p.records("d-live")[0];
            p.ledger()[at + 508] ^= 1;
        }),
        harm("record-bad-older-crc", |p| {
            let at = p.records("d-live")[1];
            p.ledger()[at + 300] ^= 1;
        }),
        harm("record-zeroed", |p| {
            let at = p.records("d-live")[0];
            p.ledger()[at..at + 512].fill(0);
        }),
        harm("record-foreign-magic", |p| {
            let at = p.records("d-live")[0];
            p.record(at, |record| record[..4].copy_from_slice(b"RLGX"));
        }),
        harm("record-strayed", |p| {
            let (from, to) = (p.records("d-reset")[0], p.records("d-live")[0]);
            p.ledger().copy_within(from..from + 512, to);
        }),
        harm("record-newer-version", |p| {
            let at = p.records("d-live")[1];
            p.record(at, |record| record[4] = 2);
        }),
        harm("record-of-an-old-ledger", |p| {
            let at = p.records("d-reset")[0];
            p.record(at, |record| record[24] -= 1);
        }),
        // No damage: the first record goes to both places, and power failed between the two.
        harm("record-half-made", |p| {
            let at = p.records("d-creating")[0];
            p.ledger()[at..at + 512].fill(0);
        }),
        harm("record-names-the-head-of-another", |p| {
            let (at, head) = (p.records("d-live")[0], p.id("d-reset"));
            p.record(at, |record| record[56..72].copy_from_slice(&head));
        }),
    ]
}

fn of_headers() -> Vec<Harm> {
    vec![
        harm("header-bad-newer-copy", |p| {
            let at = p.newer_copy("s-1");
            p.file("s-1", "map")[at + 200] ^= 1;
        }),
        harm("header-bad-crc", |p| {
            COPIES.iter().for_each(|copy| p.file("s-1", "map")[copy + 4092] ^= 1);
        }),
        harm("header-foreign-magic", |p| both(p.file("s-1", "map"), 0, b"REINITLG")),
        harm("header-newer-version", |p| both(p.file("d-live", "map"), 8, &2_u32.to_le_bytes())),
        harm("header-older-copy-of-a-newer-version", |p| {
            let at = 4096 - p.newer_copy("s-1");
            p.file("s-1", "map")[at + 8] = 2;
        }),
        harm("header-big-endian", |p| both(p.file("s-1", "map"), 8, &BIG_ENDIAN)),
        harm("header-unknown-feature", |p| {
            both(p.file("s-1", "map"), 12, &32_u32.to_le_bytes());
        }),
        harm("header-not-sealed", |p| both(p.file("s-1", "map"), 121, &[1])),
    ]
}

fn of_maps() -> Vec<Harm> {
    vec![
        harm("sector-bad-check-word", |p| p.file("d-live", "map")[8192 + 504] ^= 1),
        harm("word-data-and-zero", |p| {
            p.word("d-live", |word| word | (1 << 32) | (1 << 48));
        }),
        harm("word-without-epoch", |p| p.word("d-live", |word| word >> 32 << 32)),
        harm("word-above-the-header", |p| p.word("d-live", |word| word + 1)),
        harm("word-above-the-header-of-a-layer", |p| p.word("s-1", |word| word + 7)),
        harm("hash-page-bad-crc", |p| {
            let map = p.file("s-2", "map");
            let last = map.len() - 4096;
            map[last + 20] ^= 1;
        }),
    ]
}

fn of_files() -> Vec<Harm> {
    vec![
        harm("map-cut", |p| p.file("s-1", "map").truncate(8192)),
        harm("map-of-hashes-cut", |p| {
            let map = p.file("s-2", "map");
            map.truncate(map.len() - 4096);
        }),
        harm("data-cut", |p| {
            let data = p.file("s-1", "data");
            data.truncate(data.len() - 512);
        }),
        harm("data-longer", |p| {
            let data = p.file("s-1", "data");
            data.resize(data.len() + 512, 0);
        }),
        harm("data-of-a-head-cut", |p| {
            let data = p.file("d-live", "data");
            data.truncate(data.len() - 512);
        }),
        harm("data-of-a-head-longer", |p| {
            let data = p.file("d-live", "data");
            data.resize(data.len() + 512, 0);
        }),
        harm("head-missing", |p| {
            for name in ["data", "map"] {
                let path = p.path("d-live", name);
                p.files.remove(&path).unwrap();
            }
        }),
        harm("layers-swapped", |p| {
            for name in ["data", "map"] {
                let (one, other) = (p.file("s-1", name).clone(), p.file("m-1", name).clone());
                *p.file("s-1", name) = other;
                *p.file("m-1", name) = one;
            }
        }),
    ]
}
