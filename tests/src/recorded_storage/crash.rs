//! What is left of a store after power failed, or after its process was killed.
//!
//! The rules are those of a journaling file system, taken as meanly as POSIX allows:
//! - a file's sync makes its content and its length durable, nothing else;
//! - what was not synced is there or not, each change by itself and each sector of a write by
//!   itself, in no order across files;
//! - names become durable by their directory's sync, or earlier, in order within the directory;
//! - after a failed sync, what it should have written may be lost for ever;
//! - a killed process loses nothing that it handed to the system.
//!
//! What must always hold: the same list, moment and seed give the same image.
//! Left to others: which moments are tried.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
};

use super::dice::Dice;
use super::journal::{Change, Node};

/// A directory tree in memory.
#[derive(Debug, Default)]
pub struct Image {
    directories: Vec<BTreeMap<String, Node>>,
    files: Vec<Vec<u8>>,
}

/// How much of what was not synced survives in one file.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Nothing,
    Everything,
    Some,
}

impl Image {
    /// What the device holds when power fails after these changes. `unit` is what the device
    /// writes whole: 512 or 4096 bytes.
    pub fn after_power_loss(changes: &[Change], seed: u64, unit: u64) -> Self {
        let mut dice = Dice::new(seed);
        let durable = durable(changes);
        let kept_names = kept_names(changes, &durable, &mut dice);
        let mut fates: BTreeMap<usize, Fate> = BTreeMap::new();
        let mut image = Self::empty();
        for (place, change) in changes.iter().enumerate() {
            let Some(file) = file_of(change) else {
                image.rename(change, kept_names[place]);
                continue;
            };
            if durable[place] {
                image.apply(file, change);
                continue;
            }
            let fate = fates.entry(file).or_insert_with(|| match dice.below(4) {
                0 => Fate::Nothing,
                1 => Fate::Everything,
                _ => Fate::Some,
            });
            match fate {
                Fate::Nothing => {}
                Fate::Everything => image.apply(file, change),
                Fate::Some => image.apply_torn(file, change, unit, &mut dice),
            }
        }
        image
    }

    /// What the system holds when the process is killed after these changes: all of it.
    pub fn after_kill(changes: &[Change]) -> Self {
        let mut image = Self::empty();
        for change in changes {
            match file_of(change) {
                Some(file) => image.apply(file, change),
                None => image.rename(change, true),
            }
        }
        image
    }

    /// The changes that make this image, all durable.
    pub fn durable_changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        self.list(0, &mut changes);
        changes
    }

    /// Writes the image into an existing directory; blocks of zeros become holes.
    pub fn write_to(&self, root: &Path) {
        self.write_directory(0, root);
    }

    fn empty() -> Self {
        Self { directories: vec![BTreeMap::new()], files: Vec::new() }
    }

    fn list(&self, directory: usize, changes: &mut Vec<Change>) {
        for (name, node) in &self.directories[directory] {
            changes.push(Change::Link { directory, name: name.clone(), node: *node });
            match node {
                Node::Directory(below) => self.list(*below, changes),
                Node::File(file) => {
                    let bytes = self.files.get(*file).cloned().unwrap_or_default();
                    let length = length(&bytes);
                    changes.push(Change::SetLength { file: *file, length });
                    changes.push(Change::Write { file: *file, offset: 0, bytes });
                    changes.push(Change::Sync { file: *file });
                }
            }
        }
        changes.push(Change::SyncDirectory { directory });
    }

    fn write_directory(&self, directory: usize, path: &Path) {
        for (name, node) in &self.directories[directory] {
            let path = path.join(name);
            match node {
                Node::Directory(below) => {
                    fs::create_dir(&path).expect("a directory for the image");
                    self.write_directory(*below, &path);
                }
                Node::File(file) => {
                    let bytes = self.files.get(*file).map_or(&[][..], Vec::as_slice);
                    write_sparse(&path, bytes).expect("a file for the image");
                }
            }
        }
    }

    fn rename(&mut self, change: &Change, is_kept: bool) {
        if let Change::Link { node: Node::Directory(number), .. } = change {
            let held = self.directories.len().max(number + 1);
            self.directories.resize_with(held, BTreeMap::new);
        }
        if !is_kept {
            return;
        }
        match change {
            Change::Link { directory, name, node } => {
                self.directories[*directory].insert(name.clone(), *node);
            }
            Change::Move { directory, from, to } => {
                let names = &mut self.directories[*directory];
                let node = names.remove(from).expect("names are kept in order");
                names.insert(to.clone(), node);
            }
            Change::Unlink { directory, name } => {
                self.directories[*directory].remove(name);
            }
            _ => {}
        }
    }

    fn file(&mut self, file: usize) -> &mut Vec<u8> {
        let held = self.files.len().max(file + 1);
        self.files.resize_with(held, Vec::new);
        &mut self.files[file]
    }

    fn apply(&mut self, file: usize, change: &Change) {
        match change {
            Change::Write { offset, bytes, .. } => self.put(file, *offset, bytes),
            Change::SetLength { length, .. } => resize(self.file(file), index(*length)),
            Change::Punch { range, .. } => self.zero(file, range.clone()),
            _ => {}
        }
    }

    /// Applies each unit of the change, or not.
    fn apply_torn(&mut self, file: usize, change: &Change, unit: u64, dice: &mut Dice) {
        match change {
            Change::Write { offset, bytes, .. } => {
                for part in units(*offset..*offset + length(bytes), unit) {
                    if dice.flip() {
                        let from = index(part.start - offset);
                        let to = index(part.end - offset);
                        self.put(file, part.start, &bytes[from..to]);
                    }
                }
            }
            _ if dice.flip() => self.apply(file, change),
            _ => {}
        }
    }

    fn put(&mut self, file: usize, offset: u64, bytes: &[u8]) {
        let content = self.file(file);
        let (start, end) = (index(offset), index(offset) + bytes.len());
        if content.len() < end {
            resize(content, end);
        }
        content[start..end].copy_from_slice(bytes);
    }

    fn zero(&mut self, file: usize, range: Range<u64>) {
        let content = self.file(file);
        let end = index(range.end).min(content.len());
        let start = index(range.start).min(end);
        content[start..end].fill(0);
    }
}

/// The changes as they are once the system has forgotten the pages that failed syncs left clean:
/// what such a sync wrote is durable, what it did not is gone for the running system as well. This
/// is what a process finds that drops the cache before it believes a file.
pub fn without_lost_pages(changes: &[Change], seed: u64, unit: u64) -> Vec<Change> {
    let mut dice = Dice::new(seed);
    let (mut left, mut fate) = (vec![None; changes.len()], BTreeMap::new());
    for (place, change) in changes.iter().enumerate().rev() {
        match change {
            Change::LostSync { file } => {
                fate.insert(*file, true);
                left[place] = Some(vec![Change::Sync { file: *file }]);
            }
            Change::Sync { file } => _ = fate.insert(*file, false),
            Change::Write { file, offset, bytes } if fate.get(file) == Some(&true) => {
                let parts = units(*offset..*offset + length(bytes), unit);
                left[place] = Some(
                    parts
                        .filter(|_| dice.flip())
                        .map(|part| Change::Write {
                            file: *file,
                            offset: part.start,
                            bytes: bytes[index(part.start - offset)..index(part.end - offset)]
                                .to_vec(),
                        })
                        .collect(),
                );
            }
            _ => {}
        }
    }
    let changed = |(place, left): (usize, Option<Vec<Change>>)| {
        left.unwrap_or_else(|| vec![changes[place].clone()])
    };
    left.into_iter().enumerate().flat_map(changed).collect()
}

/// Which changes a later sync of the same file or directory made durable.
fn durable(changes: &[Change]) -> Vec<bool> {
    let mut durable = vec![false; changes.len()];
    let (mut files, mut directories) = (BTreeMap::new(), BTreeMap::new());
    for (place, change) in changes.iter().enumerate().rev() {
        match change {
            Change::Sync { file } => _ = files.insert(*file, true),
            Change::LostSync { file } => _ = files.insert(*file, false),
            Change::SyncDirectory { directory } => _ = directories.insert(*directory, true),
            Change::Link { directory, .. }
            | Change::Move { directory, .. }
            | Change::Unlink { directory, .. } => {
                durable[place] = directories.contains_key(directory);
            }
            _ => {
                let file = file_of(change).expect("all others change a file");
                durable[place] = files.get(&file).is_some_and(|is_durable| *is_durable);
            }
        }
    }
    durable
}

/// Which changes of names are kept: those that are durable, and in each directory some of those
/// that follow, in order.
fn kept_names(changes: &[Change], durable: &[bool], dice: &mut Dice) -> Vec<bool> {
    let mut waiting: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut kept = durable.to_vec();
    for (place, change) in changes.iter().enumerate() {
        if let Change::Link { directory, .. }
        | Change::Move { directory, .. }
        | Change::Unlink { directory, .. } = change
            && !durable[place]
        {
            waiting.entry(*directory).or_default().push(place);
        }
    }
    for places in waiting.values() {
        let early = match dice.below(3) {
            0 => 0,
            1 => places.len(),
            _ => index(dice.below(length(places) + 1)),
        };
        for place in &places[..early] {
            kept[*place] = true;
        }
    }
    kept
}

fn file_of(change: &Change) -> Option<usize> {
    match change {
        Change::Write { file, .. }
        | Change::SetLength { file, .. }
        | Change::Punch { file, .. }
        | Change::Sync { file }
        | Change::LostSync { file } => Some(*file),
        _ => None,
    }
}

/// The parts of a range between multiples of `unit`.
fn units(range: Range<u64>, unit: u64) -> impl Iterator<Item = Range<u64>> {
    (range.start / unit..range.end.div_ceil(unit))
        .map(move |n| range.start.max(n * unit)..range.end.min((n + 1) * unit))
}

fn write_sparse(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let file = File::create_new(path)?;
    file.set_len(length(bytes))?;
    for (place, block) in bytes.chunks(ZEROS.len()).enumerate() {
        if *block != ZEROS[..block.len()] {
            file.write_all_at(block, 4096 * u64::try_from(place).expect("64-bit"))?;
        }
    }
    Ok(())
}

/// `Vec::resize` fills byte by byte where nothing is optimised.
fn resize(content: &mut Vec<u8>, length: usize) {
    content.truncate(length);
    content.extend_from_slice(&vec![0; length - content.len()]);
}

fn length<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).expect("64-bit")
}

fn index(place: u64) -> usize {
    usize::try_from(place).expect("64-bit")
}
