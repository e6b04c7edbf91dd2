//! How much memory does the engine hold for a disk whose every map sector was touched?
//!
//! Told as what the process grew by. The maps themselves are not counted: they are
//! the words that say where each block is, in pages of the map files and, of a head that was written,
//! private copies of them. Owner tables are told in a row of their own: they are read-only
//! mappings of files, which the kernel drops and reads again as it likes, and nothing of them is private. All
//! else counts: the heap, the kernel's page tables for us, stacks. "At its peak": the most there was
//! at any moment, also within a flush. What the allocator keeps of earlier work hides as much of what
//! comes later, so this is asked before all other questions.

use std::fs;

use anyhow::Context as _;
use block_device::{BlockDevice, ByteLength, ByteOffset, CLUSTER, DiskId, Durability, ZeroMode};
use block_store::{LayerId, LayerKind, LayerLabel, SnapshotError, StoreError};

use super::{Findings, Scope};
use crate::{
    GIB, TIB,
    engine::Engine,
    filesystem::Place,
    machine,
    samples::Unit,
    size_text,
    table::{Budget, Finding},
};

/// The most MiB for a TiB that was touched; a smaller disk may not take more.
const AT_MOST: f64 = 40.0;
/// What the words of one map sector cover.
const SECTOR: u64 = 63 * CLUSTER;

pub(super) fn ask(scope: &Scope, place: &Place) -> anyhow::Result<Findings> {
    let size = scope.size(TIB, 64 * GIB);
    let bench = Bench { engine: Engine::on(place)? };
    let (shallow, deep) = (bench.disk("d-1", size, 1)?, bench.disk("d-10", size, 10)?);
    // A part of it: hashing reads every cluster.
    let hashed = bench.disk("d-hashed", size / 16, 1)?;
    let mut found = Vec::new();
    let bench = bench.measure(&mut found, "read at depth 1", &shallow, read_all)?;
    let bench = bench.measure(&mut found, "read at depth 10", &deep, read_all)?;
    let bench = bench.measure(&mut found, "written, not flushed", &shallow, write_all)?;
    let whole = "discarded as a whole and flushed";
    let bench = bench.measure(&mut found, whole, &shallow, discard_all)?;
    bench.measure(&mut found, "discarded, sealed and hashed", &hashed, seal_and_hash)?;
    Ok(found)
}

/// What is done to a disk that was just opened.
type Touch = fn(&Engine, &DiskId, &dyn BlockDevice) -> anyhow::Result<()>;

struct Bench {
    engine: Engine,
}

impl Bench {
    /// A disk on so many layers, each of which says something in each map sector: the lowest has data,
    /// those above zeros, which take no space.
    fn disk(&self, name: &str, size: u64, depth: u64) -> anyhow::Result<DiskId> {
        let id = self.engine.disk(name, size)?;
        for layer in 0..depth {
            let disk = self.engine.open(&id)?;
            for start in (0..size).step_by(usize::try_from(SECTOR)?) {
                let place = ByteOffset::new(start + layer * 4096);
                if layer == 0 {
                    disk.write_at(&[1; 4096], place, Durability::Cached)?;
                } else {
                    let length = ByteLength::new(4096);
                    disk.write_zeroes(place, length, ZeroMode::Punch, Durability::Cached)?;
                }
            }
            snapshot(&self.engine, &id)?;
        }
        self.engine.store().wait_for_background();
        Ok(id)
    }

    /// What touching the disk in this way takes, in a store that was just opened.
    fn measure(
        self,
        found: &mut Findings,
        case: &str,
        disk: &DiskId,
        touch: Touch,
    ) -> anyhow::Result<Self> {
        let engine = self.engine.again()?;
        let before = Memory::now()?;
        forget_peak()?;
        let handle = engine.open(disk)?;
        let size = handle.size().get();
        touch(&engine, disk, &*handle)?;
        engine.store().measure(disk)?;
        engine.store().wait_for_background();
        let (after, peak) = (Memory::now()?, peak()?);
        let (maps, owners) = (after.maps - before.maps, after.owners - before.owners);
        let mut row = |what: &str, mebibytes, budget| {
            let ours = [mebibytes].into_iter().collect();
            let finding = Finding::Measured { ours, unit: Unit::Mebibytes, budget };
            found.push((format!("{} {case}: {what}", size_text(size)), finding));
        };
        let most = Some(Budget::AtMost(AT_MOST));
        row("beyond the maps", after.rest - before.rest, most);
        row("beyond the maps, at its peak", peak - before.total() - maps - owners, most);
        row("the maps", maps, None);
        row("owner tables, mapped", owners, None);
        Ok(Self { engine })
    }
}

fn read_all(_: &Engine, _: &DiskId, disk: &dyn BlockDevice) -> anyhow::Result<()> {
    let mut block = [0; 4096];
    let starts = (0..disk.size().get()).step_by(usize::try_from(SECTOR)?);
    for start in starts {
        for layer in 0..10 {
            disk.read_at(&mut block, ByteOffset::new(start + layer * 4096))?;
        }
    }
    Ok(())
}

fn write_all(_: &Engine, _: &DiskId, disk: &dyn BlockDevice) -> anyhow::Result<()> {
    (0..disk.size().get()).step_by(usize::try_from(SECTOR)?).try_for_each(|start| {
        Ok(disk.write_at(&[2; 4096], ByteOffset::new(start), Durability::Cached)?)
    })
}

/// As a file system does that is made anew: the whole disk in stretches of a gibibyte.
fn discard_all(_: &Engine, _: &DiskId, disk: &dyn BlockDevice) -> anyhow::Result<()> {
    for start in (0..disk.size().get()).step_by(usize::try_from(GIB)?) {
        disk.discard(ByteOffset::new(start), ByteLength::new(GIB))?;
    }
    Ok(disk.flush()?)
}

fn seal_and_hash(engine: &Engine, id: &DiskId, disk: &dyn BlockDevice) -> anyhow::Result<()> {
    discard_all(engine, id, disk)?;
    let layer = snapshot(engine, id)?.context("the disk was written")?;
    engine.store().hash_layer(layer, &())?;
    Ok(())
}

fn snapshot(engine: &Engine, disk: &DiskId) -> Result<Option<LayerId>, SnapshotError<StoreError>> {
    let label = LayerLabel {
        kind: LayerKind::Snapshot,
        id: "s-bench".into(),
        account: "default".into(),
        name: "bench".into(),
    };
    engine.store().snapshot(disk, label, |_| Ok(()))
}

/// What this process has of memory, in MiB.
#[derive(Clone, Copy, Debug)]
struct Memory {
    maps: f64,
    owners: f64,
    rest: f64,
}

impl Memory {
    fn now() -> anyhow::Result<Self> {
        let smaps = fs::read_to_string("/proc/self/smaps").context("reading our mappings")?;
        let tables = kibibytes(&machine::field("/proc/self/status", "VmPTE").unwrap_or_default());
        let mut memory = Self { maps: 0.0, owners: 0.0, rest: tables };
        let mut path = "";
        for line in smaps.lines() {
            if let Some(size) = line.strip_prefix("Rss:") {
                let place = match path.rsplit('/').next() {
                    Some("map") => &mut memory.maps,
                    Some("owners") => &mut memory.owners,
                    _ => &mut memory.rest,
                };
                *place += kibibytes(size);
            } else if is_head_of_mapping(line) {
                path = line.split_whitespace().nth(5).unwrap_or_default();
            }
        }
        Ok(memory)
    }

    fn total(self) -> f64 {
        self.maps + self.owners + self.rest
    }
}

/// Such as `7f0c-7f0d r--p 00000000 fe:00 1234 /path`; the lines that follow begin with a name.
fn is_head_of_mapping(line: &str) -> bool {
    line.split_whitespace().next().is_some_and(|first| !first.ends_with(':'))
}

/// The MiB of a text such as `  12 kB`.
fn kibibytes(text: &str) -> f64 {
    let number = text.trim().trim_end_matches("kB").trim_end();
    number.parse::<f64>().map_or(f64::NAN, |kibibytes| kibibytes / 1024.0)
}

fn peak() -> anyhow::Result<f64> {
    let most = machine::field("/proc/self/status", "VmHWM").context("the kernel tells no peak")?;
    Ok(kibibytes(&most))
}

/// Lets the kernel take the peak anew from now on.
fn forget_peak() -> anyhow::Result<()> {
    fs::write("/proc/self/clear_refs", "5").context("forgetting the peak")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_is_seen() {
        let before = Memory::now().unwrap();
        let held = vec![1_u8; 8 << 20];
        let grown = Memory::now().unwrap().rest - before.rest;
        assert!(held.len() == 8 << 20 && grown >= 7.9, "{grown}");
        assert_eq!(kibibytes("   2048 kB"), 2.0);
    }

    #[test]
    fn heads_of_mappings_are_told_from_their_lines() {
        assert!(is_head_of_mapping("7f0c00-7f0d00 r--p 00000000 fe:00 1234   /a/map"));
        assert!(!is_head_of_mapping("Rss:                  12 kB"));
        assert!(!is_head_of_mapping("VmFlags: rd mr mw me"));
    }
}
