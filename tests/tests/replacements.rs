//! Power fails at any moment of ReplaceSystemDisk or CopyImage: the next start finds all of it or nothing,
//! and in either case an instance with one system disk that can be started and reset.
//!
//! The cloud runs on a storage that remembers every change and on a catalog that tells when it committed;
//! for each change an image is made of what a device could hold just then, and a cloud is opened on it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    io::{BufRead, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use block_device::{BlockDevice, ByteOffset, DiskId, Durability, NoExports};
use block_store::{BackingPolicy, FileStorage, ImageFormat, Storage, Store};
use catalog::{Batch, Catalog, CatalogError, MemoryCatalog, Precondition, record::Import};
use cloud::{
    Caller, Cloud, CopyImage, CreateImage, CreateInstance, DescribeDisks, DescribeImages,
    DescribeInstances, ImageFrom, ImportImage, InstanceStatus, OpenCloud, Paging, ReInitDisk,
    ReplaceSystemDisk, Settings, SystemClock,
};
use tests::recorded_storage::{Image, RecordedStorage, scratch};

/// States that are looked at side by side.
const LOOKING_AT_ONCE: usize = 8;

/// A catalog in memory that knows how much of the storage was done when it last committed.
struct Watched {
    inner: MemoryCatalog,
    storage: Arc<RecordedStorage>,
    committed: AtomicUsize,
}

impl Catalog for Watched {
    fn read(&self, key: &str) -> Result<Option<Vec<u8>>, CatalogError> {
        self.inner.read(key)
    }

    fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, CatalogError> {
        self.inner.scan(prefix)
    }

    fn commit(&self, batch: &Batch, preconditions: &[Precondition]) -> Result<(), CatalogError> {
        self.committed.store(self.storage.moment(), Ordering::SeqCst);
        self.inner.commit(batch, preconditions)
    }

    fn export(&self, out: &mut dyn Write) -> Result<u64, CatalogError> {
        self.inner.export(out)
    }

    fn save_export(&self) -> Result<u64, CatalogError> {
        self.inner.save_export()
    }

    fn import(&self, from: &mut dyn BufRead) -> Result<u64, CatalogError> {
        self.inner.import(from)
    }

    fn compact(&self) -> Result<(), CatalogError> {
        self.inner.compact()
    }
}

/// A cloud whose every step is remembered.
struct Place {
    storage: Arc<RecordedStorage>,
    catalog: Arc<Watched>,
    cloud: Cloud,
    secrets: tempfile::TempDir,
}

/// What a call did, and what was there before and after it.
struct Told {
    moments: std::ops::Range<usize>,
    committed: usize,
    before: Vec<u8>,
    after: Vec<u8>,
}

fn operator() -> Caller {
    Caller::operator("default")
}

fn open(storage: Arc<dyn Storage>, catalog: Arc<dyn Catalog>, secret_key: PathBuf) -> Cloud {
    Cloud::open(OpenCloud {
        store: Store::open(storage).unwrap(),
        catalog,
        exports: Arc::new(NoExports),
        settings: Settings::default(),
        secret_key,
        clock: Arc::new(SystemClock),
    })
    .unwrap()
}

fn wait(so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain");
        thread::sleep(Duration::from_millis(2));
    }
}

fn available(cloud: &Cloud, image: &str) -> bool {
    let asked = DescribeImages { ids: Some(vec![image.into()]), ..Default::default() };
    cloud.describe_images(&operator(), &asked).unwrap().total == 1
}

fn first_block(cloud: &Cloud, disk: &str) -> u8 {
    let mut block = [0; 4096];
    let handle = cloud.store().open_disk(&disk.parse().unwrap()).unwrap();
    handle.read_at(&mut block, ByteOffset::ZERO).unwrap();
    assert!(block.iter().all(|byte| *byte == block[0]));
    block[0]
}

fn stop(cloud: &Cloud, instance: &str) {
    cloud.stop_instance(&operator(), instance).unwrap();
    let ids = Some(vec![instance.to_owned()]);
    let asked = DescribeInstances { ids, ..Default::default() };
    let status = || cloud.describe_instances(&operator(), &asked).unwrap().items[0].status;
    wait(|| status() == InstanceStatus::Stopped);
}

impl Place {
    fn new() -> Self {
        let storage = RecordedStorage::empty();
        Store::create(&*storage).unwrap();
        let (inner, committed) = (MemoryCatalog::new(), AtomicUsize::new(0));
        let catalog = Arc::new(Watched { inner, storage: storage.clone(), committed });
        let secrets = scratch();
        let cloud = open(storage.clone(), catalog.clone(), secrets.path().join("secret.key"));
        Self { storage, catalog, cloud, secrets }
    }

    fn image(&self, byte: u8) -> String {
        let path = self.secrets.path().join(format!("{byte}.raw"));
        std::fs::write(&path, vec![byte; 1 << 20]).unwrap();
        let request = ImportImage {
            file: std::fs::File::open(&path).unwrap(),
            path: None,
            format: Some(ImageFormat::Raw),
            backing: BackingPolicy::Refuse,
            name: format!("image-{byte}"),
            description: None,
            architecture: None,
            os_type: None,
            platform: None,
            public: false,
            tags: Vec::new(),
        };
        let image = self.cloud.import_image(&operator(), request).unwrap().image;
        wait(|| available(&self.cloud, &image));
        image
    }

    /// A stopped instance that ran once, whose disk begins with 7; its id and that of the disk.
    fn instance(&self, image: &str) -> (String, String) {
        let request = CreateInstance { image: Some(image.into()), ..Default::default() };
        let made = self.cloud.create_instance(&operator(), &request).unwrap();
        self.cloud.start_instance(&operator(), &made.instance).unwrap();
        let disk: DiskId = made.system_disk.parse().unwrap();
        let handle = self.cloud.store().open_disk(&disk).unwrap();
        handle.write_at(&[7; 4096], ByteOffset::ZERO, Durability::ForceUnitAccess).unwrap();
        drop(handle);
        stop(&self.cloud, &made.instance);
        (made.instance, made.system_disk)
    }

    fn export(&self) -> Vec<u8> {
        let mut export = Vec::new();
        self.catalog.export(&mut export).unwrap();
        export
    }

    /// Does it, and what goes on behind it.
    fn told<T>(&self, call: impl FnOnce(&Cloud) -> T) -> (T, Told) {
        self.cloud.store().wait_for_background();
        let (before, start) = (self.export(), self.storage.moment());
        let answer = call(&self.cloud);
        self.cloud.store().wait_for_background();
        let moments = start..self.storage.moment() + 1;
        let committed = self.catalog.committed.load(Ordering::SeqCst);
        (answer, Told { moments, committed, before, after: self.export() })
    }

    /// Looks at each state that a start may find; the flag says whether the call had committed. A start
    /// and its end are mostly waiting, so several go on at once.
    fn at_each_moment(&self, told: &Told, look: impl Fn(&Cloud, bool) + Sync) {
        assert!(told.moments.contains(&told.committed));
        let next = AtomicUsize::new(told.moments.start);
        thread::scope(|scope| {
            for _ in 0..LOOKING_AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let moment = next.fetch_add(1, Ordering::SeqCst);
                        if !told.moments.contains(&moment) {
                            return;
                        }
                        self.at_moment(told, moment, &look);
                    }
                });
            }
        });
    }

    fn at_moment(&self, told: &Told, moment: usize, look: &impl Fn(&Cloud, bool)) {
        let changes = self.storage.changes(moment);
        let seed = u64::try_from(moment).unwrap();
        for image in [Image::after_kill(&changes), Image::after_power_loss(&changes, seed, 512)] {
            for (done, export) in [(false, &told.before), (true, &told.after)] {
                let may_be = if done { moment >= told.committed } else { moment <= told.committed };
                if may_be {
                    let directory = scratch();
                    image.write_to(directory.path());
                    self.start(directory.path(), export, |cloud| look(cloud, done));
                }
            }
        }
    }

    fn start(&self, directory: &Path, mut export: &[u8], look: impl FnOnce(&Cloud)) {
        let catalog = Arc::new(MemoryCatalog::new());
        catalog.import(&mut export).unwrap();
        // A copy, not an older one.
        let mut whole = Batch::new();
        whole.delete::<Import>(Import::ID);
        catalog.commit(&whole, &[]).unwrap();
        let storage = Arc::new(FileStorage::open(directory).unwrap());
        let cloud = open(storage, catalog, self.secrets.path().join("secret.key"));
        look(&cloud);
        cloud.close();
    }
}

/// The instance has this one disk and no other there is, which begins with `byte` and is reset to `origin`.
fn is_whole(cloud: &Cloud, instance: &str, disk: &str, (byte, origin): (u8, u8)) {
    let all = DescribeDisks { paging: Paging::All, ..Default::default() };
    let disks = cloud.describe_disks(&operator(), &all).unwrap().items;
    let ids: Vec<_> = disks.iter().map(|disk| disk.id.as_str()).collect();
    assert_eq!(ids, [disk]);
    cloud.store().wait_for_background();
    assert_eq!(cloud.store().disks(), [disk.parse().unwrap()]);
    assert_eq!(first_block(cloud, disk), byte);
    cloud.start_instance(&operator(), instance).unwrap();
    stop(cloud, instance);
    let request = ReInitDisk { disk: disk.into(), ..Default::default() };
    cloud.reinit_disk(&operator(), &request, Cloud::new_request_id()).unwrap();
    assert_eq!(first_block(cloud, disk), origin);
}

#[test]
fn a_system_disk_is_replaced_or_it_is_not() {
    let place = Place::new();
    let (first, second) = (place.image(1), place.image(2));
    let (instance, old) = place.instance(&first);
    let request =
        ReplaceSystemDisk { instance: instance.clone(), image: second, ..Default::default() };
    let (new, told) = place.told(|cloud| cloud.replace_system_disk(&operator(), &request).unwrap());
    assert!(told.moments.len() > 4, "{:?}: something is done to the store", told.moments);
    place.at_each_moment(&told, |cloud, done| match done {
        false => is_whole(cloud, &instance, &old, (7, 1)),
        true => is_whole(cloud, &instance, &new, (2, 2)),
    });
}

#[test]
fn an_image_is_copied_or_it_is_not() {
    let place = Place::new();
    let first = place.image(1);
    let (instance, disk) = place.instance(&first);
    let create = CreateImage::of(ImageFrom::Instance(instance.clone()));
    let image = place.cloud.create_image(&operator(), &create).unwrap();
    wait(|| available(&place.cloud, &image));
    let request = CopyImage { image: image.clone(), ..Default::default() };
    let (copy, told) = place.told(|cloud| cloud.copy_image(&operator(), &request).unwrap());
    place.at_each_moment(&told, |cloud, done| {
        assert_eq!(available(cloud, &copy), done);
        if done {
            // It stands by itself.
            cloud.delete_image(&operator(), &image, true).unwrap();
            cloud.store().wait_for_background();
            let request = CreateInstance { image: Some(copy.clone()), ..Default::default() };
            let made = cloud.create_instance(&operator(), &request).unwrap();
            assert_eq!(first_block(cloud, &made.system_disk), 7);
            cloud.delete_instance(&operator(), &made.instance, true).unwrap();
        }
        is_whole(cloud, &instance, &disk, (7, 1));
    });
}
