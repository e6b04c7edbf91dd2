//! A reset of a disk whose NBD export is open and busy.
//!
//! Each of 32 requests in flight is wholly before the fence or fails; after the reset no byte of
//! before can be read, by nobody, and a restart does not bring one back.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use block_device::{BlockDevice, ByteLength, ByteOffset, DiskId, Durability};
use block_store::{
    BackingPolicy, FileStorage, ImageFormat, ImageSource, LayerId, LayerKind, LayerLabel,
    RequestId, Store,
};
use nbd_server::{
    Limits, NbdServer,
    client::{NbdClient, Request},
};
use reinit::{ResetEngine, ResetOrder, Source, VerifyDepth};
use tempfile::TempDir;

const SIZE: u64 = 4 << 20;
/// What the image is made of, and what clients write: told apart byte by byte.
const CLEAN: u8 = 0x11;
const DIRT: u8 = 0xd1;

struct Lab {
    directory: TempDir,
    store: Store,
    nbd: NbdServer,
    engine: ResetEngine,
    disk: DiskId,
    image: LayerId,
}

impl Lab {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::create_dir(directory.path().join("store")).unwrap();
        let storage = FileStorage::open(&directory.path().join("store")).unwrap();
        Store::create(&storage).unwrap();
        let store = Store::open(Arc::new(storage)).unwrap();
        store.settle_alone().unwrap();
        let image = import(&store);
        let disk: DiskId = "d-busy".parse().unwrap();
        store.create_disk(&disk, ByteLength::new(SIZE), Some(image)).unwrap().publish().unwrap();
        let nbd = NbdServer::new(Limits::default());
        nbd.listen_unix(&directory.path().join("nbd.sock")).unwrap();
        let engine = ResetEngine::new(store.clone(), Arc::new(nbd.clone()));
        Self { directory, store, nbd, engine, disk, image }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("nbd.sock")
    }

    fn publish(&self) {
        self.nbd.publish(&self.disk, self.store.open_disk(&self.disk).unwrap());
    }

    fn reset(&self) {
        let order = ResetOrder {
            disk: self.disk.clone(),
            source: Source::Image(self.image),
            request_id: RequestId::from_bytes([5; 16]),
            time: SystemTime::now(),
        };
        self.engine.apply(&[order]).remove(0).unwrap();
    }

    fn assert_clean(&self) {
        let mut all = vec![0; usize::try_from(SIZE).unwrap()];
        self.store.open_disk(&self.disk).unwrap().read_at(&mut all, ByteOffset::ZERO).unwrap();
        let dirty = all.iter().position(|byte| *byte != CLEAN);
        assert_eq!(dirty, None, "a byte that is not the image's");
        let source = Source::Image(self.image);
        let found = self.engine.verify(&self.disk, &source, VerifyDepth::Content, &()).unwrap();
        assert!(found.in_initial_state && found.written == ByteLength::ZERO, "{found:?}");
        assert_eq!(found.read_back.get(), SIZE);
    }
}

fn import(store: &Store) -> LayerId {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![CLEAN; usize::try_from(SIZE).unwrap()]).unwrap();
    let source =
        ImageSource::open(file, None, Some(ImageFormat::Raw), BackingPolicy::Refuse).unwrap();
    let (id, account, name) = ("m-1".into(), "default".into(), "clean".into());
    let label = LayerLabel { kind: LayerKind::Image, id, account, name };
    let staged = store.import(&source, label, &()).unwrap();
    let layer = staged.layer();
    staged.publish().unwrap();
    layer
}

/// Writes with 32 requests in flight until the connection ends; counts what was answered.
fn write_until_cut_off(mut client: NbdClient, answered: &AtomicU64) {
    let data = vec![DIRT; 64 << 10];
    let mut place = 0;
    loop {
        while client.in_flight() < 32 {
            let length = if place % 3 == 0 { 4096 } else { data.len() };
            let offset = ByteOffset::new(place * 36 * 1024 % (SIZE - 65536) / 512 * 512);
            let durability =
                if place % 7 == 0 { Durability::ForceUnitAccess } else { Durability::Cached };
            place += 1;
            let write = Request::Write { offset, data: &data[..length], durability };
            if client.submit(write).is_err() {
                return;
            }
        }
        match client.complete() {
            Ok(done) if done.outcome.is_ok() => {
                answered.fetch_add(1, Ordering::SeqCst);
            }
            // A refused request may come before the end of the connection.
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

#[test]
fn requests_in_flight_are_before_the_fence_or_fail_and_nothing_of_before_is_left() {
    let lab = Lab::new();
    for round in 0..10 {
        lab.publish();
        let answered = Arc::new(AtomicU64::new(0));
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let client = NbdClient::connect_unix(&lab.socket(), "d-busy").unwrap();
                let answered = answered.clone();
                thread::spawn(move || write_until_cut_off(client, &answered))
            })
            .collect();
        while answered.load(Ordering::SeqCst) < 50 {
            thread::sleep(Duration::from_millis(1));
        }
        lab.reset();
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(lab.nbd.connections(&lab.disk), 0, "round {round}");
        assert!(NbdClient::connect_unix(&lab.socket(), "d-busy").is_err(), "no export is open");
        lab.assert_clean();
    }
    let Lab { directory, store, nbd, engine, .. } = lab;
    nbd.shutdown();
    drop((store, engine, nbd));
    let storage = FileStorage::open(&directory.path().join("store")).unwrap();
    let store = Store::open(Arc::new(storage)).unwrap();
    store.settle_alone().unwrap();
    let mut all = vec![0; usize::try_from(SIZE).unwrap()];
    let disk = store.open_disk(&"d-busy".parse().unwrap()).unwrap();
    disk.read_at(&mut all, ByteOffset::ZERO).unwrap();
    assert!(all.iter().all(|byte| *byte == CLEAN), "the restart brought something back");
}

#[test]
fn readers_see_before_or_after_and_never_a_mix_in_one_request() {
    let lab = Lab::new();
    for _ in 0..10 {
        lab.publish();
        let mut writer = NbdClient::connect_unix(&lab.socket(), "d-busy").unwrap();
        writer.write(&vec![DIRT; 1 << 20], ByteOffset::ZERO, Durability::Cached).unwrap();
        let mut reader = NbdClient::connect_unix(&lab.socket(), "d-busy").unwrap();
        let resetting = Arc::new(AtomicBool::new(false));
        let seen = resetting.clone();
        let reading = thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            while reader.read(&mut buffer, ByteOffset::ZERO).is_ok() {
                assert!(buffer.iter().all(|byte| *byte == DIRT), "an old connection reads the old");
                seen.store(true, Ordering::SeqCst);
            }
        });
        while !resetting.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        lab.reset();
        reading.join().unwrap();
        lab.publish();
        let mut fresh = NbdClient::connect_unix(&lab.socket(), "d-busy").unwrap();
        let mut buffer = vec![0; 1 << 20];
        fresh.read(&mut buffer, ByteOffset::ZERO).unwrap();
        assert!(buffer.iter().all(|byte| *byte == CLEAN), "a new connection sees the new");
    }
    lab.nbd.shutdown();
}

#[test]
fn a_plan_changes_nothing_and_tells_what_would_be_dropped() {
    let lab = Lab::new();
    lab.publish();
    let mut client = NbdClient::connect_unix(&lab.socket(), "d-busy").unwrap();
    client.write(&[DIRT; 8192], ByteOffset::new(4096), Durability::ForceUnitAccess).unwrap();
    let order = ResetOrder {
        disk: lab.disk.clone(),
        source: Source::Empty,
        request_id: RequestId::from_bytes([6; 16]),
        time: SystemTime::now(),
    };
    let plan = lab.engine.plan(&[order]).remove(0).unwrap();
    assert_eq!((plan.dropped.get(), plan.epoch_before.get()), (8192, 1));
    assert_eq!((plan.base_before, plan.base_after), (Some(lab.image), None));
    let mut buffer = [0; 512];
    client.read(&mut buffer, ByteOffset::new(4096)).unwrap();
    assert_eq!(buffer, [DIRT; 512], "the export is untouched");
    let found =
        lab.engine.verify(&lab.disk, &Source::Image(lab.image), VerifyDepth::Content, &()).unwrap();
    assert!(!found.in_initial_state);
    assert_eq!(found.differs_at, [(ByteOffset::new(4096), ByteLength::new(8192))]);
    assert_eq!(found.first_difference, Some(ByteOffset::new(4096)));
    assert_eq!(found.differing, ByteLength::new(8192));
    assert_ne!(found.content_root, found.root);
    let at_a_glance = || {
        let source = Source::Image(lab.image);
        lab.engine.verify(&lab.disk, &source, VerifyDepth::Head, &()).unwrap()
    };
    assert!(!at_a_glance().in_initial_state && at_a_glance().map_was_read);
    lab.reset();
    assert!(at_a_glance().in_initial_state && !at_a_glance().map_was_read);
    lab.nbd.shutdown();
}
