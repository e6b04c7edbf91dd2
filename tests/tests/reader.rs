//! The store read by another program in another language: `tests/reader.py` follows docs/format.md, and must find
//! the very bytes that we serve. So the document is enough, and no content hides in a process or a catalog.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use block_device::{BlockDevice, ByteLength, ByteOffset, DiskId};
use block_store::{FileStorage, LayerId, Store};
use tests::{
    reader::read,
    recorded_storage::{Dice, scratch},
    reference_model::{Bench, Operation, bytes_of, random_operation},
};

/// Disk or layer, its name, and what it reads as.
type Content = (&'static str, String, Vec<u8>);

/// Our own reading of all of a device.
fn content(device: &dyn BlockDevice) -> Vec<u8> {
    let mut bytes = vec![0xee; usize::try_from(device.size().get()).unwrap()];
    device.read_at(&mut bytes, ByteOffset::ZERO).unwrap();
    bytes
}

fn assert_same(found: &[u8], wanted: &[u8], what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let wrong = (0..found.len()).find(|place| found[*place] != wanted[*place]);
    assert_eq!(wrong, None, "{what}: the first wrong byte");
}

/// Does what the dice say, makes all durable, and answers what each disk and layer reads as.
fn random_history(seed: u64, operations: usize) -> (Bench, Vec<Content>) {
    let (mut bench, mut dice) = (Bench::new(), Dice::new(seed));
    for _ in 0..operations {
        let operation = random_operation(&bench.model, &mut dice);
        bench.must(&operation);
    }
    let disks: Vec<DiskId> = bench.model.disks.keys().cloned().collect();
    for disk in disks {
        bench.must(&Operation::Flush { disk });
    }
    let contents = served(bench.store(), &bench);
    bench.close();
    (bench, contents)
}

fn served(store: &Store, bench: &Bench) -> Vec<Content> {
    let disk = |disk: &DiskId| content(&*store.open_disk(disk).unwrap());
    let disks = bench.model.disks.iter().map(|(id, state)| {
        let bytes = disk(id);
        assert_same(&bytes, &bytes_of(&state.content()), "the store against its model");
        ("disk", id.to_string(), bytes)
    });
    let layer = |layer: &LayerId| content(&*store.open_layer(*layer).unwrap());
    let layers = bench.model.layers.keys().map(|id| ("layer", id.to_string(), layer(id)));
    disks.chain(layers).collect()
}

/// Every file below a directory, with its bytes.
fn all_files(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(all_files(&path));
        } else {
            files.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn another_program_finds_the_bytes_we_serve() {
    let (mut disks, mut layers, mut written) = (0, 0, 0);
    for seed in 1..=8 {
        let (bench, contents) = random_history(seed, 70);
        let store = bench.storage.path();
        let before = all_files(store);
        for (what, name, wanted) in &contents {
            let found = read(store, what, name).unwrap_or_else(|error| panic!("{seed}: {error}"));
            assert_same(&found, wanted, &format!("seed {seed}, {what} {name}"));
            *(if *what == "disk" { &mut disks } else { &mut layers }) += 1;
            written += usize::from(wanted.iter().any(|byte| *byte != 0));
        }
        assert!(before == all_files(store), "a reader changes nothing");
    }
    assert!(disks > 8 && layers > 8 && written > 16, "{disks} disks, {layers} layers: too easy");
}

#[test]
fn a_store_that_a_process_has_open_is_left_alone() {
    let place = scratch();
    let storage = Arc::new(FileStorage::open(place.path()).unwrap());
    Store::create(&*storage).unwrap();
    let store = Store::open(storage).unwrap();
    let disk: DiskId = "d-1".parse().unwrap();
    store.create_disk(&disk, ByteLength::new(512), None).unwrap().publish().unwrap();
    let told = read(place.path(), "disk", "d-1").unwrap_err();
    assert_eq!(told, "a process has the store open");
    drop(store);
    assert_eq!(read(place.path(), "disk", "d-1"), Ok(vec![0; 512]));
}

/// Our program is held to the same in `faults.rs`; here it is the document that must say enough to find damage.
#[test]
fn a_flipped_bit_is_refused_or_harmless_to_another_program() {
    let (bench, contents) = random_history(3, 70);
    let (store, mut dice) = (bench.storage.path(), Dice::new(1));
    let mut tables: Vec<_> = all_files(store).into_iter().map(|(path, _)| path).collect();
    tables.retain(|path| path.ends_with("map") || path.ends_with("ledger"));
    let mut refused = 0;
    for trial in 0..40 {
        let path = dice.pick(&tables).unwrap();
        let (what, name, wanted) = likely_hit(path, &contents, &mut dice);
        let before = fs::read(path).unwrap();
        // Past the headers, of which one copy is enough.
        let used: Vec<_> = (8192..before.len()).filter(|place| before[*place] != 0).collect();
        let Some(place) = dice.pick(&used) else { continue };
        let mut bytes = before.clone();
        bytes[*place] ^= 1 << dice.below(8);
        fs::write(path, bytes).unwrap();
        match read(store, what, name) {
            Ok(found) => assert_same(&found, wanted, &format!("trial {trial}: byte {place}")),
            Err(_) => refused += 1,
        }
        fs::write(path, before).unwrap();
    }
    assert!(refused > 10, "{refused} refusals: too easy");
}

/// The layer whose map this is, or else some disk.
fn likely_hit<'c>(path: &Path, contents: &'c [Content], dice: &mut Dice) -> &'c Content {
    let owner = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let disks: Vec<_> = contents.iter().filter(|(what, ..)| *what == "disk").collect();
    let layer = contents.iter().find(|(_, name, _)| name == owner);
    layer.or_else(|| dice.pick(&disks).copied()).unwrap()
}
