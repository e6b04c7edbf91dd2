//! Power fails, or the process is killed, at any moment: what was answered is there, what was not
//! is wholly there or not at all, and nothing else is ever read.
//!
//! The real store runs on a storage that remembers every change; for chosen moments an image is
//! made of what a device could hold just then, a real store is opened on it, and all of it is
//! compared with the model. `REINIT_CUTS` and `REINIT_SEED` make it a campaign.
//!
//! The mutation tests take one sync away and demand that the comparison notices: they are the
//! tests of the test.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    env, fs,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use block_device::{BlockDevice, ByteOffset, DiskId, Durability, FenceMode, ZeroMode};
use block_store::{FileStorage, LayerId, Store};
use tests::{
    recorded_storage::{Dice, Image, RecordedStorage, SyncRole, scratch},
    reference_model::{
        Bench, Expectation, Model, Observed, Operation, Step, bytes_of, check, random_operation,
        read_stamps,
    },
};

// --- cuts under load -------------------------------------------------------------------------

#[test]
fn nothing_answered_is_lost_when_power_fails_under_load_and_sectors_tear_at_512() {
    cut_under_load(512);
}

#[test]
fn nothing_answered_is_lost_when_power_fails_under_load_and_sectors_tear_at_4096() {
    cut_under_load(4096);
}

/// Half of the cuts each, so that two processors share them.
fn cut_under_load(unit: u64) {
    let cuts = setting("REINIT_CUTS", 2000) / 2;
    let mut done = 0;
    for seed in setting("REINIT_SEED", 1).. {
        if done >= cuts {
            break;
        }
        done += run_and_cut(seed, unit);
    }
}

fn setting(name: &str, usual: u64) -> u64 {
    env::var(name).map_or(usual, |value| value.parse().unwrap())
}

/// One random life of a store with many cuts; answers how many.
fn run_and_cut(seed: u64, unit: u64) -> u64 {
    let mut dice = Dice::new(seed ^ (unit << 32));
    let (mut bench, mut cuts) = (Bench::new(), 0);
    let mut story = Vec::new();
    for _ in 0..60 {
        let operation = random_operation(&bench.model, &mut dice);
        story.push(format!("{operation:?}"));
        let fail = |what: &str, error: String| -> ! {
            panic!("seed {seed} unit {unit}, {what}: {error}\nstory:\n  {}", story.join("\n  "))
        };
        let step = bench.perform(&operation);
        if let Err(error) = &step.answer {
            fail("an operation that must pass", error.clone());
        }
        for _ in 0..cuts_of(&operation, &mut dice) {
            let moment = moment_in(&step, &mut dice);
            cuts += 1;
            if let Err(error) = cut_once(&bench, &step, (moment, unit), &mut dice) {
                fail(&format!("moment {moment} of {}..{}", step.start, step.end), error);
            }
        }
    }
    cuts
}

fn cuts_of(operation: &Operation, dice: &mut Dice) -> u64 {
    match operation {
        Operation::Write { .. } | Operation::Settle => dice.below(2),
        _ => 1 + dice.below(2),
    }
}

fn moment_in(step: &Step, dice: &mut Dice) -> usize {
    let length = u64::try_from(step.end - step.start + 1).unwrap();
    step.start + usize::try_from(dice.below(length)).unwrap()
}

/// A power loss, or now and then two of them, or a kill and then a power loss.
fn cut_once(
    bench: &Bench,
    step: &Step,
    (moment, unit): (usize, u64),
    dice: &mut Dice,
) -> Result<(), String> {
    let expected = step.expected_at(moment, dice.flip());
    let image = bench.storage.cut(moment, dice.number(), unit);
    let model = bench.model.clone();
    match dice.below(10) {
        0 | 1 => {
            let again = Bench::after_power_loss(&image, model, &expected);
            go_on_and_cut(again.map_err(|error| format!("power loss: {error}"))?, unit, dice)
                .map_err(|error| format!("second power loss: {error}"))
        }
        2 | 3 => {
            let storage = RecordedStorage::after(bench.storage.changes(moment));
            let again = Bench::after_kill(storage, model, &expected);
            go_on_and_cut(again.map_err(|error| format!("kill: {error}"))?, unit, dice)
                .map_err(|error| format!("power loss after a kill: {error}"))
        }
        _ => survives(&image, &expected).map(drop).map_err(|error| format!("power loss: {error}")),
    }
}

fn go_on_and_cut(mut bench: Bench, unit: u64, dice: &mut Dice) -> Result<(), String> {
    let mut story = Vec::new();
    for _ in 0..5 {
        let operation = random_operation(&bench.model, dice);
        story.push(format!("{operation:?}"));
        let step = bench.perform(&operation);
        let moment = moment_in(&step, dice);
        let image = bench.storage.cut(moment, dice.number(), unit);
        step.answer
            .clone()
            .and_then(|()| survives(&image, &step.expected_at(moment, dice.flip())).map(drop))
            .map_err(|error| {
                format!("moment {moment} of {}..{} of {story:#?}: {error}", step.start, step.end)
            })?;
    }
    Ok(())
}

/// Opens a store on the image and compares all of it.
fn survives(image: &Image, expected: &Expectation) -> Result<Observed, String> {
    let directory = scratch();
    image.write_to(directory.path());
    let storage = FileStorage::open(directory.path()).unwrap();
    let store = Store::open(Arc::new(storage)).map_err(|error| format!("opening: {error:?}"))?;
    check(&store, expected)
}

/// Writers own every third sector and write ever larger stamps; a flusher notes what was answered
/// before each of its flushes. After a cut a sector holds at least that.
#[test]
fn flushes_of_many_writers_at_once_survive_power_loss() {
    const WRITERS: usize = 3;
    const SECTORS: usize = 150;
    let disk: DiskId = "d-1".parse().unwrap();
    let mut bench = Bench::new();
    bench.must(&create(&disk, SECTORS, None));
    let handle = bench.store().open_disk(&disk).unwrap();
    let written: Vec<_> = (0..SECTORS).map(|_| AtomicU64::new(0)).collect();
    let running = AtomicUsize::new(WRITERS);
    let moment = || bench.storage.moment();
    let flushes: Vec<(usize, Vec<u64>)> = thread::scope(|scope| {
        for n in 0..WRITERS {
            let (handle, written, running) = (&handle, &written, &running);
            scope.spawn(move || {
                let mut dice = Dice::new(u64::try_from(n).unwrap());
                for stamp in 1..400 {
                    let draw = usize::try_from(dice.below(1 << 16)).unwrap();
                    let sector = draw % (SECTORS / WRITERS) * WRITERS + n;
                    let place = ByteOffset::new(u64::try_from(sector).unwrap() * 512);
                    handle.write_at(&bytes_of(&[stamp]), place, Durability::Cached).unwrap();
                    written[sector].store(stamp, Ordering::SeqCst);
                }
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        let mut flushes = Vec::new();
        while running.load(Ordering::SeqCst) > 0 {
            let least = written.iter().map(|stamp| stamp.load(Ordering::SeqCst)).collect();
            handle.flush().unwrap();
            flushes.push((moment(), least));
        }
        flushes
    });
    drop(handle);
    let (end, mut dice) = (moment(), Dice::new(7));
    for (answered, least) in flushes.iter().step_by(flushes.len() / 100 + 1) {
        let later = u64::try_from(end - answered).unwrap().min(30);
        let cut = answered + usize::try_from(dice.below(later + 1)).unwrap();
        let directory = scratch();
        bench.storage.cut(cut, dice.number(), 512).write_to(directory.path());
        let store = open(directory.path());
        store.settle(&bench.model.expect().named()).unwrap();
        let found = read_stamps(&*store.open_disk(&disk).unwrap()).unwrap();
        let lost = (0..SECTORS).find(|sector| found[*sector] < least[*sector]);
        assert_eq!(lost, None, "flushed at {answered}, cut at {cut}: {found:?}, not {least:?}");
    }
}

/// A flush that arrives while a round runs is answered by the next one: what was written since the
/// round began is in no list of it.
#[test]
fn a_flush_in_the_middle_of_a_round_waits_for_the_next_one() {
    let disk: DiskId = "d-1".parse().unwrap();
    let mut bench = Bench::new();
    bench.must(&create(&disk, 300, None));
    let handle = bench.store().open_disk(&disk).unwrap();
    let stamp = |sector: u64| {
        let place = ByteOffset::new(sector * 512);
        handle.write_at(&bytes_of(&[sector]), place, Durability::Cached).unwrap();
    };
    stamp(1);
    handle.flush().unwrap();
    stamp(2);
    bench.storage.gate().close();
    thread::scope(|scope| {
        let first = scope.spawn(|| handle.flush());
        bench.storage.gate().wait_for_somebody();
        stamp(200);
        let second = scope.spawn(|| handle.flush());
        // Long enough to be there in time; a late one would only fail to try this.
        thread::sleep(Duration::from_millis(100));
        bench.storage.gate().open();
        first.join().unwrap().unwrap();
        second.join().unwrap().unwrap();
    });
    let answered = bench.storage.moment();
    for seed in 0..10 {
        let directory = scratch();
        bench.storage.cut(answered, seed, 512).write_to(directory.path());
        let store = open(directory.path());
        store.settle(&bench.model.expect().named()).unwrap();
        let found = read_stamps(&*store.open_disk(&disk).unwrap()).unwrap();
        assert_eq!([found[1], found[2], found[200]], [1, 2, 200], "seed {seed}");
    }
}

// --- every change of one operation -----------------------------------------------------------

/// A disk with durable and with unflushed content on an image, another disk, and the image.
struct Scene {
    bench: Bench,
    disk: DiskId,
    image: LayerId,
}

impl Scene {
    fn new() -> Self {
        let mut bench = Bench::new();
        bench.must(&Operation::Import { length: 300, stretches: vec![0..40, 130..170, 290..300] });
        let image = *bench.model.layers.keys().next().unwrap();
        let disk: DiskId = "d-1".parse().unwrap();
        bench.must(&create(&disk, 411, Some(image)));
        bench.must(&create(&"d-2".parse().unwrap(), 9, None));
        bench.must(&write(&disk, 20, 50));
        bench.must(&Operation::Flush { disk: disk.clone() });
        bench.must(&write(&disk, 33, 9));
        bench.must(&write(&disk, 405, 6));
        // Over the image, where the head has nothing yet: a word before its data would show zeros.
        bench.must(&write(&disk, 130, 27));
        bench.must(&Operation::Settle);
        Self { bench, disk, image }
    }
}

fn create(disk: &DiskId, length: usize, origin: Option<LayerId>) -> Operation {
    Operation::Create { disk: disk.clone(), length, origin }
}

fn write(disk: &DiskId, start: usize, count: usize) -> Operation {
    let durability = Durability::Cached;
    Operation::Write { disk: disk.clone(), range: start..start + count, durability }
}

fn flush(disk: &DiskId) -> Operation {
    Operation::Flush { disk: disk.clone() }
}

fn reset(disk: &DiskId, origin: Option<LayerId>) -> Operation {
    Operation::Reset(vec![(disk.clone(), origin)])
}

fn snapshot(disk: &DiskId) -> Operation {
    Operation::Snapshot { disk: disk.clone(), commits: true }
}

/// Cuts at every moment of every step, several times each; answers the first violation.
fn first_violation(bench: &Bench, steps: &[Step]) -> Option<String> {
    for step in steps {
        for moment in step.start..=step.end {
            for seed in 0..setting("REINIT_CUTS_EACH", 10) {
                let unit = if seed % 2 == 0 { 512 } else { 4096 };
                let image = bench.storage.cut(moment, seed, unit);
                let expected = step.expected_at(moment, seed % 4 < 2);
                if let Err(error) = survives(&image, &expected) {
                    let span = format!("{}..{}", step.start, step.end);
                    return Some(format!("moment {moment} of {span}, seed {seed}: {error}"));
                }
            }
        }
    }
    None
}

fn every_change_is_survived(operation: impl FnOnce(&Scene) -> Operation) {
    let mut scene = Scene::new();
    let operation = operation(&scene);
    let step = scene.bench.must(&operation);
    assert!(step.end > step.start, "{operation:?} changes something");
    // What is done later belongs to the answered state.
    let mut later = scene.bench.must(&Operation::Settle);
    later.start = step.end;
    assert_eq!(first_violation(&scene.bench, &[step, later]), None, "{operation:?}");
}

#[test]
fn every_change_of_a_flush_is_survived() {
    every_change_is_survived(|scene| flush(&scene.disk));
}

#[test]
fn every_change_of_a_durable_write_is_survived() {
    every_change_is_survived(|scene| Operation::Write {
        disk: scene.disk.clone(),
        range: 100..330,
        durability: Durability::ForceUnitAccess,
    });
}

#[test]
fn every_change_of_a_reset_is_survived() {
    every_change_is_survived(|scene| reset(&scene.disk, Some(scene.image)));
}

#[test]
fn every_change_of_a_batch_of_resets_is_survived() {
    every_change_is_survived(|scene| {
        Operation::Reset(vec![(scene.disk.clone(), None), ("d-2".parse().unwrap(), None)])
    });
}

#[test]
fn every_change_of_a_snapshot_is_survived() {
    every_change_is_survived(|scene| snapshot(&scene.disk));
}

#[test]
fn every_change_of_a_snapshot_whose_commit_fails_is_survived() {
    every_change_is_survived(|scene| Operation::Snapshot {
        disk: scene.disk.clone(),
        commits: false,
    });
}

#[test]
fn every_change_of_a_create_is_survived() {
    every_change_is_survived(|scene| create(&"d-3".parse().unwrap(), 400, Some(scene.image)));
}

#[test]
fn every_change_of_a_delete_is_survived() {
    every_change_is_survived(|scene| Operation::Delete { disk: scene.disk.clone() });
}

#[test]
fn every_change_of_an_import_is_survived() {
    every_change_is_survived(|_| Operation::Import { length: 200, stretches: vec![0..8, 99..150] });
}

#[test]
fn every_change_of_a_resize_is_survived() {
    every_change_is_survived(|scene| Operation::Resize { disk: scene.disk.clone(), length: 9000 });
}

#[test]
fn every_change_of_deleting_a_layer_in_use_is_survived() {
    every_change_is_survived(|scene| Operation::DeleteLayer { layer: scene.image });
}

#[test]
fn every_change_of_deleting_an_unused_layer_is_survived() {
    let mut scene = Scene::new();
    scene.bench.must(&reset(&scene.disk, None));
    scene.bench.must(&Operation::Settle);
    let mut steps = vec![scene.bench.must(&Operation::DeleteLayer { layer: scene.image })];
    steps.push(scene.bench.must(&Operation::Settle));
    assert_eq!(first_violation(&scene.bench, &steps), None);
}

#[test]
fn every_change_of_a_first_write_and_its_flush_is_survived() {
    let mut scene = Scene::new();
    let disk = "d-2".parse().unwrap();
    let steps = [scene.bench.must(&write(&disk, 1, 3)), scene.bench.must(&flush(&disk))];
    assert_eq!(first_violation(&scene.bench, &steps), None);
}

#[test]
fn every_change_of_life_after_a_reset_is_survived() {
    let mut scene = Scene::new();
    let (disk, image) = (scene.disk.clone(), Some(scene.image));
    let operations = [
        reset(&disk, image),
        write(&disk, 30, 3),
        flush(&disk),
        reset(&disk, None),
        write(&disk, 35, 60),
        snapshot(&disk),
        write(&disk, 1, 2),
        flush(&disk),
    ];
    let steps: Vec<_> = operations.iter().map(|operation| scene.bench.must(operation)).collect();
    assert_eq!(first_violation(&scene.bench, &steps), None);
}

/// Snapshots upon snapshots, and what the background makes of them.
fn make_owner_tables(scene: &mut Scene) -> Vec<Step> {
    let disk = scene.disk.clone();
    let mut steps = Vec::new();
    for start in [25, 60, 410] {
        scene.bench.must(&write(&disk, start, 1));
        let taken = scene.bench.must(&snapshot(&disk));
        let mut later = scene.bench.must(&Operation::Settle);
        later.start = taken.end;
        steps.extend([taken, later]);
    }
    let layers = scene.bench.storage.path().join("layers");
    let has_table = |layer: &fs::DirEntry| layer.path().join("owners").is_file();
    let tables = fs::read_dir(layers).unwrap().filter(|layer| has_table(layer.as_ref().unwrap()));
    assert_eq!(tables.count(), 2, "one for each layer that stands on two or more");
    steps.split_off(2)
}

#[test]
fn every_change_of_making_owner_tables_is_survived() {
    let mut scene = Scene::new();
    let steps = make_owner_tables(&mut scene);
    assert_eq!(first_violation(&scene.bench, &steps), None);
}

#[test]
fn an_owner_table_that_was_never_synced_is_found_out() {
    let mut scene = Scene::new();
    scene.bench.storage.omit(|role, _| role == SyncRole::Other);
    let steps = make_owner_tables(&mut scene);
    let last = steps.last().unwrap();
    // Many times the same moment: header and directory must be there, and a sector not.
    for seed in 0..400 {
        let image = scene.bench.storage.cut(last.end, seed, 512);
        let found = survives(&image, &last.expected_at(last.end, false));
        assert!(found.is_ok(), "seed {seed}: {found:?}");
    }
}

/// Blocks of an older epoch, zeroed blocks that keep their space, flushed and unflushed ones, side
/// by side, in the head and in the layer below.
#[test]
fn every_change_of_a_reclaim_is_survived() {
    let mut scene = Scene::new();
    let disk = scene.disk.clone();
    let zeroes = |start: usize, end: usize| Operation::WriteZeroes {
        disk: disk.clone(),
        range: start..end,
        mode: ZeroMode::KeepAllocated,
        durability: Durability::Cached,
    };
    let reclaim = Operation::Reclaim { disk: disk.clone() };
    for operation in [
        write(&disk, 0, 400),
        flush(&disk),
        reset(&disk, Some(scene.image)),
        write(&disk, 8, 24),
        write(&disk, 100, 60),
        flush(&disk),
        zeroes(104, 120),
        write(&disk, 200, 3),
    ] {
        scene.bench.must(&operation);
    }
    let first = scene.bench.must(&reclaim);
    assert!(first.end > first.start, "there is something to give back");
    // A head that is sealed over blocks of an older epoch, and the way back to it.
    let mut steps = vec![first];
    for operation in [
        write(&disk, 300, 60),
        snapshot(&disk),
        write(&disk, 140, 9),
        reclaim.clone(),
        flush(&disk),
        reset(&disk, None),
        reclaim,
        Operation::Settle,
    ] {
        steps.push(scene.bench.must(&operation));
    }
    assert_eq!(first_violation(&scene.bench, &steps), None);
}

#[test]
fn making_a_store_is_undone_or_done() {
    let storage = RecordedStorage::empty();
    Store::create(&*storage).unwrap();
    let end = storage.moment();
    for moment in 0..=end {
        for seed in 0..10 {
            let directory = scratch();
            storage.cut(moment, seed, 512).write_to(directory.path());
            let place = Arc::new(FileStorage::open(directory.path()).unwrap());
            let opened = Store::open(place.clone());
            if moment == end {
                opened.unwrap();
            } else if let Err(error) = opened {
                let made = Store::create(&*place);
                assert!(made.is_ok(), "moment {moment}: {error:?}, and again: {made:?}");
            }
        }
    }
}

// --- kill, then power loss -------------------------------------------------------------------

/// A reset's record is in the page cache when the process is killed; the store that is opened
/// next believes it, takes flushed writes, and then power fails.
fn kill_before_the_ledgers_sync(
    omit: impl Fn(SyncRole, usize) -> bool + Send + 'static,
) -> Option<String> {
    let mut scene = Scene::new();
    let step = scene.bench.must(&reset(&scene.disk, Some(scene.image)));
    go_on_after_kill(&scene, &step, step.start + 1, omit)
}

/// The words of a flush are in the page cache when the process is killed; the next process reads
/// them and answers a flush, and then power fails.
fn kill_before_the_maps_sync(
    omit: impl Fn(SyncRole, usize) -> bool + Send + 'static,
) -> Option<String> {
    let mut scene = Scene::new();
    let step = scene.bench.must(&flush(&scene.disk));
    go_on_after_kill(&scene, &step, step.end - 1, omit)
}

fn go_on_after_kill(
    scene: &Scene,
    step: &Step,
    moment: usize,
    omit: impl Fn(SyncRole, usize) -> bool + Send + 'static,
) -> Option<String> {
    let storage = RecordedStorage::after(scene.bench.storage.changes(moment));
    storage.omit(omit);
    let expected = step.expected_at(moment, true);
    let mut bench = Bench::after_kill(storage, scene.bench.model.clone(), &expected).unwrap();
    let mut steps = vec![bench.must(&flush(&scene.disk))];
    steps.push(bench.must(&write(&scene.disk, 200, 9)));
    steps.push(bench.must(&flush(&scene.disk)));
    first_violation(&bench, &steps)
}

#[test]
fn what_a_killed_process_left_in_the_cache_is_believed_only_once_it_is_durable() {
    assert_eq!(kill_before_the_ledgers_sync(|_, _| false), None);
    assert_eq!(kill_before_the_maps_sync(|_, _| false), None);
}

/// The process is killed at every moment of these operations; the next one goes on for a while,
/// and then power fails.
#[test]
fn a_kill_anywhere_and_then_a_power_loss_is_survived() {
    let operations: [fn(&Scene) -> Operation; 8] = [
        |scene| flush(&scene.disk),
        |scene| reset(&scene.disk, None),
        |scene| snapshot(&scene.disk),
        |scene| create(&"d-3".parse().unwrap(), 400, Some(scene.image)),
        |scene| Operation::Delete { disk: scene.disk.clone() },
        |scene| Operation::Resize { disk: scene.disk.clone(), length: 9000 },
        |_| Operation::Import { length: 200, stretches: vec![0..8, 99..150] },
        |scene| Operation::DeleteLayer { layer: scene.image },
    ];
    for operation in operations {
        let mut scene = Scene::new();
        let operation = operation(&scene);
        let step = scene.bench.must(&operation);
        let later = scene.bench.must(&Operation::Settle);
        for moment in step.start..=later.end {
            let expected = step.expected_at(moment, true);
            let storage = RecordedStorage::after(scene.bench.storage.changes(moment));
            let model = scene.bench.model.clone();
            go_on_and_fail(Bench::after_kill(storage, model, &expected), &scene.disk)
                .unwrap_or_else(|error| panic!("{operation:?}, killed at {moment}: {error}"));
        }
    }
}

/// The same with power failing both times.
#[test]
fn two_power_losses_are_survived_as_one_is() {
    let operations: [fn(&Scene) -> Operation; 4] = [
        |scene| snapshot(&scene.disk),
        |scene| Operation::Delete { disk: scene.disk.clone() },
        |scene| Operation::Resize { disk: scene.disk.clone(), length: 9000 },
        |scene| Operation::DeleteLayer { layer: scene.image },
    ];
    for operation in operations {
        let mut scene = Scene::new();
        let operation = operation(&scene);
        let step = scene.bench.must(&operation);
        let later = scene.bench.must(&Operation::Settle);
        for moment in step.start..=later.end {
            for seed in 0..2 {
                let expected = step.expected_at(moment, seed == 0);
                let image = scene.bench.storage.cut(moment, seed, 512);
                let model = scene.bench.model.clone();
                go_on_and_fail(Bench::after_power_loss(&image, model, &expected), &scene.disk)
                    .unwrap_or_else(|error| panic!("{operation:?}, cut at {moment}: {error}"));
            }
        }
    }
}

fn go_on_and_fail(bench: Result<Bench, String>, disk: &DiskId) -> Result<(), String> {
    let mut bench = bench?;
    let mut operations = vec![Operation::Settle];
    if bench.model.disks.contains_key(disk) {
        operations.extend([write(disk, 200, 9), flush(disk), Operation::Settle]);
    }
    let last = operations.iter().map(|operation| bench.must(operation)).last().unwrap();
    for seed in 0..8 {
        let image = bench.storage.cut(last.end, seed, 512);
        survives(&image, &last.expected_at(last.end, true))?;
    }
    Ok(())
}

// --- mutations: one sync less must be noticed ------------------------------------------------

/// Does the operations with and without the syncs of the role, and cuts at every change.
fn notices(role: SyncRole, operations: impl Fn(&Scene) -> Vec<Operation>) {
    let run = |omitted: Option<SyncRole>| {
        let mut scene = Scene::new();
        let operations = operations(&scene);
        let [before @ .., _, _] = &operations[..] else { panic!("two that matter at least") };
        before.iter().for_each(|operation| drop(scene.bench.must(operation)));
        scene.bench.storage.omit(move |role, _| Some(role) == omitted);
        let last = &operations[before.len()..];
        let steps: Vec<_> = last.iter().map(|operation| scene.bench.must(operation)).collect();
        first_violation(&scene.bench, &steps)
    };
    assert_eq!(run(None), None, "with all syncs nothing is lost");
    assert!(run(Some(role)).is_some(), "nobody noticed that the syncs of {role:?} are missing");
}

#[test]
fn a_flush_without_the_sync_of_data_is_noticed() {
    notices(SyncRole::Data, |s| vec![write(&s.disk, 200, 20), flush(&s.disk)]);
}

#[test]
fn a_flush_without_the_sync_of_words_is_noticed() {
    notices(SyncRole::MapWords, |s| vec![write(&s.disk, 200, 20), flush(&s.disk)]);
}

#[test]
fn words_of_an_epoch_before_its_header_are_noticed() {
    notices(SyncRole::MapHeader, |s| {
        vec![reset(&s.disk, None), write(&s.disk, 200, 20), flush(&s.disk)]
    });
}

#[test]
fn a_reset_without_the_sync_of_the_ledger_is_noticed() {
    notices(SyncRole::Ledger, |s| vec![write(&s.disk, 1, 1), reset(&s.disk, None)]);
}

#[test]
fn a_create_without_the_sync_of_the_ledger_is_noticed() {
    notices(SyncRole::Ledger, |_| {
        let disk = "d-3".parse().unwrap();
        vec![Operation::Settle, create(&disk, 9, None)]
    });
}

#[test]
fn a_delete_without_the_sync_of_the_ledger_is_noticed() {
    notices(SyncRole::Ledger, |s| {
        vec![Operation::Settle, Operation::Delete { disk: s.disk.clone() }]
    });
}

#[test]
fn a_resize_without_the_sync_of_the_ledger_is_noticed() {
    notices(SyncRole::Ledger, |s| {
        vec![Operation::Settle, Operation::Resize { disk: s.disk.clone(), length: 9000 }]
    });
}

#[test]
fn a_resize_without_the_sync_of_data_is_noticed() {
    notices(SyncRole::Data, |s| {
        vec![flush(&s.disk), Operation::Resize { disk: s.disk.clone(), length: 9000 }]
    });
}

#[test]
fn a_resize_without_the_sync_of_its_map_is_noticed() {
    notices(SyncRole::MapHeader, |s| {
        vec![flush(&s.disk), Operation::Resize { disk: s.disk.clone(), length: 9000 }]
    });
}

#[test]
fn a_head_without_the_sync_of_its_new_data_is_noticed() {
    notices(SyncRole::NewData, first_write);
}

#[test]
fn a_head_without_the_sync_of_its_new_map_is_noticed() {
    notices(SyncRole::NewMap, first_write);
}

#[test]
fn a_head_without_the_sync_of_its_new_directory_is_noticed() {
    notices(SyncRole::NewLayerDirectory, first_write);
}

#[test]
fn a_head_without_the_sync_of_its_name_is_noticed() {
    notices(SyncRole::LayersDirectory, first_write);
}

#[test]
fn a_head_without_the_sync_of_the_ledger_is_noticed() {
    notices(SyncRole::Ledger, first_write);
}

fn first_write(_: &Scene) -> Vec<Operation> {
    let disk = "d-2".parse().unwrap();
    vec![write(&disk, 1, 3), flush(&disk)]
}

#[test]
fn an_import_without_any_of_its_syncs_is_noticed() {
    let roles = [
        SyncRole::NewData,
        SyncRole::NewMap,
        SyncRole::NewLayerDirectory,
        SyncRole::LayersDirectory,
    ];
    for role in roles {
        notices(role, |_| {
            let stretches = vec![0..8, 99..150];
            vec![Operation::Settle, Operation::Import { length: 200, stretches }]
        });
    }
}

#[test]
fn a_snapshot_without_the_sync_of_the_sealed_header_is_noticed() {
    notices(SyncRole::MapHeader, |s| vec![flush(&s.disk), snapshot(&s.disk)]);
}

#[test]
fn a_snapshot_without_its_flush_is_noticed() {
    notices(SyncRole::Data, |s| vec![write(&s.disk, 200, 20), snapshot(&s.disk)]);
    // The header's sync in the same file makes the words durable as well, if they came before it:
    // what is missing is that they are durable when the header says sealed.
}

#[test]
fn deleting_a_layer_without_the_sync_of_its_mark_is_noticed() {
    notices(SyncRole::LayerDirectory, |s| {
        vec![reset(&s.disk, None), Operation::Settle, Operation::DeleteLayer { layer: s.image }]
    });
}

#[test]
fn making_a_store_without_its_syncs_is_noticed() {
    for role in [SyncRole::Ledger, SyncRole::RootDirectory] {
        let storage = RecordedStorage::empty();
        storage.omit(move |this, _| this == role);
        Store::create(&*storage).unwrap();
        let lost = (0..20).any(|seed| {
            let image = storage.cut(storage.moment(), seed, 512);
            survives(&image, &Model::default().expect()).is_err()
        });
        assert!(lost, "{role:?}");
    }
}

#[test]
fn opening_without_the_sync_of_the_ledger_is_noticed() {
    let found = kill_before_the_ledgers_sync(|role, nth| role == SyncRole::Ledger && nth == 0);
    assert!(found.is_some());
}

#[test]
fn opening_without_the_sync_of_the_map_is_noticed() {
    let found = kill_before_the_maps_sync(|role, nth| role == SyncRole::MapWords && nth == 0);
    assert!(found.is_some());
}

// --- bugs that were found --------------------------------------------------------------------

/// The store after a power loss between a snapshot's commit and the ledger's moving on: the
/// ledger still calls the sealed layer the disk's head. Nobody has opened the disk yet.
fn between_commit_and_ledger() -> (tempfile::TempDir, Store, DiskId, LayerId, Expectation) {
    let mut scene = Scene::new();
    let step = scene.bench.must(&snapshot(&scene.disk));
    let moment = step.commit.unwrap();
    let expected = step.expected_at(moment, true);
    let layer = *expected.layers.keys().find(|layer| **layer != scene.image).unwrap();
    let directory = scratch();
    scene.bench.storage.cut(moment, 1, 512).write_to(directory.path());
    let store = open(directory.path());
    store.settle(&expected.named()).unwrap();
    (directory, store, scene.disk, layer, expected)
}

fn open(path: &std::path::Path) -> Store {
    Store::open(Arc::new(FileStorage::open(path).unwrap())).unwrap()
}

/// The ledger calls a sealed layer the disk's head; deleting the disk removed that layer, and
/// with it the snapshot that the catalog names.
#[test]
fn deleting_a_disk_never_takes_a_snapshot_that_the_ledger_still_calls_its_head() {
    let (directory, store, disk, layer, mut expected) = between_commit_and_ledger();
    store.delete_disk(&disk).unwrap().finish().unwrap();
    store.wait_for_background();
    store.open_layer(layer).unwrap();
    drop(store);
    expected.disks.remove(&disk);
    check(&open(directory.path()), &expected).unwrap();
}

/// The ledger calls a sealed layer the disk's head, and nothing pinned it; deleting the snapshot
/// removed the layer, and with it the disk's content.
#[test]
fn deleting_a_snapshot_never_takes_the_head_that_the_ledger_still_names() {
    let (directory, store, _disk, layer, mut expected) = between_commit_and_ledger();
    store.delete_layer(layer).unwrap().finish();
    store.wait_for_background();
    drop(store);
    expected.layers.remove(&layer);
    check(&open(directory.path()), &expected).unwrap();
}

/// A resize opened the head anew, and a header refresh that was still waiting for the old one
/// wrote its open header over the sealed one: the snapshot could never be opened again.
#[test]
fn a_late_header_refresh_never_undoes_a_seal() {
    let mut scene = Scene::new();
    let disk = scene.disk.clone();
    for operation in [
        reset(&disk, None),
        Operation::Resize { disk: disk.clone(), length: 500 },
        write(&disk, 0, 3),
        snapshot(&disk),
        Operation::Settle,
        Operation::Restart,
    ] {
        scene.bench.must(&operation);
    }
}

/// A cut in a resize leaves a header that is larger than the disk. A snapshot then shortened the
/// data first and wrote the sealed header after: cut in between, the disk was refused for ever.
#[test]
fn a_cut_in_a_snapshot_after_a_cut_in_a_resize_is_survived() {
    let mut scene = Scene::new();
    let step = scene.bench.must(&Operation::Resize { disk: scene.disk.clone(), length: 9000 });
    for moment in step.start..=step.end {
        let expected = step.expected_at(moment, true);
        let image = scene.bench.storage.cut(moment, 1, 512);
        let model = scene.bench.model.clone();
        let mut bench = Bench::after_power_loss(&image, model, &expected).unwrap();
        let steps = [bench.must(&snapshot(&scene.disk))];
        assert_eq!(first_violation(&bench, &steps), None, "first cut at {moment}");
    }
}

/// A fence that flushes is a flush: what was answered before it survives.
#[test]
fn a_flushing_fence_is_a_flush() {
    let mut scene = Scene::new();
    scene.bench.store().fence(&scene.disk, FenceMode::Flush).unwrap();
    let answered = scene.bench.storage.moment();
    let step = scene.bench.must(&flush(&scene.disk));
    let expected = step.expected_at(step.end, true);
    for seed in 0..10 {
        survives(&scene.bench.storage.cut(answered, seed, 512), &expected).unwrap();
    }
}
