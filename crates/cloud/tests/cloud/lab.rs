//! A cloud on a throw-away store, and what the tests do with it again and again.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use block_device::{
    BlockDevice, ByteLength, ByteOffset, DiskId, Durability, ExportFence, ExportPlane, FenceError,
    FenceMode, Pace, Rates,
};
use block_store::{BackingPolicy, FileStorage, ImageFormat, Storage, Store};
use catalog::{Batch, Catalog, MemoryCatalog, SledCatalog, record::Import};
use cloud::{
    AttachDisk, Bucket, Caller, Cloud, CloudError, CreateDisk, CreateInstance, CreateSnapshot,
    DataDisk, DescribeDisks, DescribeImages, DescribeInstances, DescribeSnapshots, DiskStatus,
    DiskView, ImportImage, InstanceCreated, InstanceStatus, OpenCloud, Paging, ReInitDisk,
    ResetDone, Role, SetClock, Settings, SnapshotStatus,
};
use tempfile::TempDir;

/// Bytes of a MiB.
pub(crate) const MIB: u64 = 1 << 20;

/// A cloud on a throw-away store.
pub(crate) struct Lab {
    pub(crate) directory: TempDir,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) clock: Arc<SetClock>,
    pub(crate) exports: Arc<Exports>,
    pub(crate) settings: Settings,
    pub(crate) cloud: Cloud,
}

fn imported(mut export: &[u8]) -> Arc<dyn Catalog> {
    let catalog: Arc<dyn Catalog> = Arc::new(MemoryCatalog::new());
    catalog.import(&mut export).unwrap();
    catalog
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::on(|_| Arc::new(MemoryCatalog::new()), change)
    }

    /// With the catalog the daemon uses.
    pub(crate) fn on_sled() -> Self {
        let create = |directory: &Path| -> Arc<dyn Catalog> {
            Arc::new(SledCatalog::create(&directory.join("catalog")).unwrap())
        };
        Self::on(create, |_| ())
    }

    pub(crate) fn on(
        catalog: impl FnOnce(&Path) -> Arc<dyn Catalog>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let storage = FileStorage::open(directory.path()).unwrap();
        Store::create(&storage).unwrap();
        drop(storage);
        let mut settings = Settings::default();
        change(&mut settings);
        let catalog = catalog(directory.path());
        let clock = Arc::new(SetClock::at("2026-03-01T12:00:00Z".parse().unwrap()));
        let exports = Arc::new(Exports::default());
        let cloud = open(directory.path(), &catalog, &clock, &exports, &settings);
        Self { directory, catalog, clock, exports, settings, cloud }
    }

    /// With a directory of its own as the bucket `images`, which only `default` and `friend` may use.
    pub(crate) fn with_bucket(self) -> Self {
        let directory = self.directory.path().join("bucket");
        std::fs::create_dir_all(&directory).unwrap();
        let accounts = Some(vec!["default".into(), "friend".into()]);
        self.restart(|settings| {
            settings.buckets.insert("images".into(), Bucket { directory, accounts });
        })
    }

    /// Ends the daemon in order and starts it again, perhaps with other settings.
    pub(crate) fn restart(self, change: impl FnOnce(&mut Settings)) -> Self {
        let Self { directory, catalog, clock, mut settings, cloud, .. } = self;
        cloud.close();
        drop(cloud);
        change(&mut settings);
        let exports = Arc::new(Exports::default());
        let cloud = open(directory.path(), &catalog, &clock, &exports, &settings);
        Self { directory, catalog, clock, exports, settings, cloud }
    }

    /// The same with a storage that is made for the directory.
    pub(crate) fn restart_on(self, storage: impl FnOnce(&Path) -> Arc<dyn Storage>) -> Self {
        let Self { directory, catalog, clock, settings, cloud, .. } = self;
        cloud.close();
        drop(cloud);
        let exports = Arc::new(Exports::default());
        let (path, made) = (directory.path(), storage(directory.path()));
        let cloud = open_on(made, path, &catalog, &clock, &exports, &settings);
        Self { directory, catalog, clock, exports, settings, cloud }
    }

    /// What a start finds after a crash right now: copies of the files and of the catalog.
    pub(crate) fn crashed(&self) -> Self {
        let catalog = imported(&self.export());
        // A copy, not an older one.
        let mut whole = Batch::new();
        whole.delete::<Import>(Import::ID);
        catalog.commit(&whole, &[]).unwrap();
        self.copied_with(catalog)
    }

    /// What a start finds that has lost its catalog and has this export of it.
    pub(crate) fn restored(&self, export: &[u8]) -> Self {
        self.copied_with(imported(export))
    }

    pub(crate) fn export(&self) -> Vec<u8> {
        let mut exported = Vec::new();
        self.catalog.export(&mut exported).unwrap();
        exported
    }

    /// How many layers have files, once nothing is left to be done.
    pub(crate) fn layers(&self) -> usize {
        self.cloud.store().wait_for_background();
        std::fs::read_dir(self.directory.path().join("layers")).unwrap().count()
    }

    fn copied_with(&self, catalog: Arc<dyn Catalog>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let from = format!("{}/.", self.directory.path().display());
        let copied = std::process::Command::new("cp")
            .args(["-a", "--sparse=always", &from])
            .arg(directory.path())
            .status()
            .unwrap();
        assert!(copied.success());
        let (clock, mut settings) = (Arc::clone(&self.clock), self.settings.clone());
        for bucket in settings.buckets.values_mut() {
            let below = bucket.directory.strip_prefix(self.directory.path()).unwrap();
            bucket.directory = directory.path().join(below);
        }
        let exports = Arc::new(Exports::default());
        let cloud = open(directory.path(), &catalog, &clock, &exports, &settings);
        Self { directory, catalog, clock, exports, settings, cloud }
    }

    pub(crate) fn operator(&self) -> Caller {
        Caller::operator("default")
    }

    /// A key of the default account that may do everything.
    pub(crate) fn key(&self) -> Caller {
        Caller::key("default", Role::Full)
    }

    /// A key of another account, made if need be.
    pub(crate) fn other(&self, account: &str) -> Caller {
        self.cloud.ensure_account(&self.operator(), account).unwrap();
        Caller::key(account, Role::Full)
    }

    pub(crate) fn account_number(&self, account: &str) -> String {
        self.cloud.account(&self.operator(), account).unwrap().number.to_string()
    }

    /// Imports an image of 1 MiB filled with `byte`.
    pub(crate) fn image(&self, caller: &Caller, name: &str, byte: u8) -> String {
        let path = self.directory.path().join(format!("{name}.img"));
        File::create(&path).unwrap().write_all(&vec![byte; 1 << 20]).unwrap();
        let started = self.cloud.import_image(caller, import(&path, name)).unwrap();
        wait(|| {
            let asked =
                DescribeImages { ids: Some(vec![started.image.clone()]), ..Default::default() };
            self.cloud.describe_images(caller, &asked).unwrap().items.len() == 1
        });
        started.image
    }

    /// A stopped instance from an image, with an empty data disk of 1 GiB.
    pub(crate) fn instance(&self, caller: &Caller, image: &str) -> InstanceCreated {
        let request = CreateInstance {
            image: Some(image.into()),
            instance_type: Some("ecs.g7.large".into()),
            data_disks: vec![DataDisk {
                size: Some(5 * cloud::GIB),
                delete_with_instance: Some(true),
                ..Default::default()
            }],
            ..Default::default()
        };
        self.cloud.create_instance(caller, &request).unwrap()
    }

    /// The same, started once and stopped again: its disks may be reset.
    pub(crate) fn used_instance(&self, caller: &Caller, image: &str) -> InstanceCreated {
        let made = self.instance(caller, image);
        self.start(&made.instance);
        self.stop(&made.instance);
        made
    }

    pub(crate) fn start(&self, instance: &str) {
        self.cloud.start_instance(&self.owner_of(instance), instance).unwrap();
    }

    /// Also where a stop is answered before its last flush is made.
    pub(crate) fn stop(&self, instance: &str) {
        let owner = self.owner_of(instance);
        self.cloud.stop_instance(&owner, instance).unwrap();
        wait(|| self.status(&owner, instance) == Some(InstanceStatus::Stopped));
    }

    /// The operator, acting for whoever owns the instance.
    fn owner_of(&self, instance: &str) -> Caller {
        let accounts = self.cloud.accounts(&self.operator()).unwrap();
        let owns = |caller: &Caller| self.status(caller, instance).is_some();
        let callers = accounts.into_iter().map(|account| Caller::operator(account.name));
        callers.into_iter().find(owns).unwrap()
    }

    pub(crate) fn status(&self, caller: &Caller, instance: &str) -> Option<InstanceStatus> {
        let asked = DescribeInstances { ids: Some(vec![instance.into()]), ..Default::default() };
        let page = self.cloud.describe_instances(caller, &asked).unwrap();
        page.items.first().map(|one| one.status)
    }

    /// An empty disk of 1 MiB, attached to nothing.
    pub(crate) fn disk(&self) -> String {
        let request = CreateDisk { size: Some(MIB), ..Default::default() };
        self.cloud.create_disk(&self.operator(), &request).unwrap()
    }

    pub(crate) fn disk_from(&self, snapshot: &str) -> String {
        let request = CreateDisk { snapshot: Some(snapshot.into()), ..Default::default() };
        self.cloud.create_disk(&self.operator(), &request).unwrap()
    }

    pub(crate) fn attach(&self, disk: &str, instance: &str) {
        let (disk, instance) = (disk.into(), instance.into());
        let request = AttachDisk { disk, instance, ..Default::default() };
        self.cloud.attach_disk(&self.operator(), &request).unwrap();
    }

    pub(crate) fn view(&self, disk: &str) -> Option<DiskView> {
        let asked = DescribeDisks { ids: Some(vec![disk.into()]), ..Default::default() };
        let page = self.cloud.describe_disks(&self.operator(), &asked).unwrap();
        page.items.into_iter().next()
    }

    pub(crate) fn disk_status(&self, disk: &str) -> Option<DiskStatus> {
        self.view(disk).map(|view| view.status)
    }

    pub(crate) fn reinit(&self, disk: &str) -> Result<ResetDone, CloudError> {
        self.reinit_as(&self.key(), disk)
    }

    pub(crate) fn reinit_as(&self, caller: &Caller, disk: &str) -> Result<ResetDone, CloudError> {
        self.cloud.reinit_disk(caller, &reinit(disk), Cloud::new_request_id())
    }

    /// Takes a snapshot and waits until it is accomplished.
    pub(crate) fn snapshot(&self, disk: &str) -> String {
        let request = CreateSnapshot { disk: disk.into(), ..Default::default() };
        let id = self.cloud.create_snapshot(&self.operator(), &request).unwrap();
        self.wait_for_snapshot(&id);
        id
    }

    pub(crate) fn wait_for_snapshot(&self, id: &str) {
        wait(|| self.snapshot_status(id) == Some((SnapshotStatus::Accomplished, 100)));
    }

    pub(crate) fn snapshot_status(&self, id: &str) -> Option<(SnapshotStatus, u8)> {
        let asked = DescribeSnapshots { ids: Some(vec![id.into()]), ..Default::default() };
        let page = self.cloud.describe_snapshots(&self.operator(), &asked).unwrap();
        page.items.first().map(|one| (one.status, one.progress_percent))
    }

    /// Writes through the export, as a guest would.
    pub(crate) fn write(&self, disk: &str, byte: u8) {
        let device = self.exports.device(disk).expect("it is exported");
        device.write_at(&[byte; 8192], ByteOffset::ZERO, Durability::ForceUnitAccess).unwrap();
    }

    /// The first byte of the disk, whoever serves it.
    pub(crate) fn read(&self, disk: &str) -> u8 {
        let device: Arc<dyn BlockDevice> = match self.exports.device(disk) {
            Some(device) => device,
            None => self.cloud.store().open_disk(&disk.parse().unwrap()).unwrap(),
        };
        let mut buffer = [0; 4096];
        device.read_at(&mut buffer, ByteOffset::ZERO).unwrap();
        assert!(buffer.iter().all(|byte| *byte == buffer[0]));
        buffer[0]
    }

    /// Everything that could have changed: the catalog, and each disk's place in the ledger.
    pub(crate) fn state(&self) -> (Vec<u8>, Vec<(DiskId, u64, u64)>) {
        let mut records = Vec::new();
        self.catalog.export(&mut records).unwrap();
        let store = self.cloud.store();
        let mut ledger: Vec<_> = store
            .disks()
            .into_iter()
            .map(|id| store.disk(&id).unwrap())
            .map(|info| (info.id, info.sequence, info.epoch.get()))
            .collect();
        ledger.sort();
        (records, ledger)
    }

    /// The call fails, and nothing is changed by it.
    pub(crate) fn refused<T: std::fmt::Debug>(
        &self,
        call: impl FnOnce() -> Result<T, CloudError>,
    ) -> CloudError {
        let before = self.state();
        let error = call().unwrap_err();
        assert!(self.state() == before, "changed by a call that answered {error}");
        error
    }
}

fn open(
    directory: &Path,
    catalog: &Arc<dyn Catalog>,
    clock: &Arc<SetClock>,
    exports: &Arc<Exports>,
    settings: &Settings,
) -> Cloud {
    let storage = Arc::new(FileStorage::open(directory).unwrap());
    open_on(storage, directory, catalog, clock, exports, settings)
}

fn open_on(
    storage: Arc<dyn Storage>,
    directory: &Path,
    catalog: &Arc<dyn Catalog>,
    clock: &Arc<SetClock>,
    exports: &Arc<Exports>,
    settings: &Settings,
) -> Cloud {
    Cloud::open(OpenCloud {
        store: Store::open(storage).unwrap(),
        catalog: Arc::clone(catalog),
        exports: Arc::clone(exports) as Arc<dyn ExportPlane>,
        settings: settings.clone(),
        secret_key: directory.join("secret.key"),
        clock: Arc::clone(clock) as Arc<dyn cloud::Clock>,
    })
    .unwrap()
}

pub(crate) fn import(path: &Path, name: &str) -> ImportImage {
    ImportImage {
        file: OpenOptions::new().read(true).open(path).unwrap(),
        path: None,
        format: Some(ImageFormat::Raw),
        backing: BackingPolicy::Refuse,
        name: name.into(),
        description: None,
        architecture: None,
        os_type: None,
        platform: None,
        public: false,
        tags: Vec::new(),
    }
}

pub(crate) fn reinit(disk: &str) -> ReInitDisk {
    ReInitDisk { disk: disk.into(), ..Default::default() }
}

pub(crate) fn all() -> Paging {
    Paging::All
}

/// Waits until it holds; background work is done in well under ten seconds.
pub(crate) fn wait(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never came to that");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A data plane that records what it exports, and can be made to wait in the middle of a fence.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    open: Mutex<HashMap<DiskId, Export>>,
    held: Mutex<bool>,
    released: Condvar,
    refused: AtomicBool,
}

/// A disk that is open to clients.
#[derive(Debug)]
struct Export {
    device: Arc<dyn BlockDevice>,
    pace: Arc<Pace>,
}

impl Exports {
    pub(crate) fn device(&self, disk: &str) -> Option<Arc<dyn BlockDevice>> {
        self.open.lock().unwrap().get(&disk.parse().unwrap()).map(|export| export.device.clone())
    }

    /// How fast an open export goes.
    pub(crate) fn rates(&self, disk: &str) -> Option<Rates> {
        self.open.lock().unwrap().get(&disk.parse().unwrap()).map(|export| export.pace.rates())
    }

    pub(crate) fn is_open(&self, disk: &str) -> bool {
        self.device(disk).is_some()
    }

    /// From now on fences wait.
    pub(crate) fn hold(&self) {
        *self.held.lock().unwrap() = true;
    }

    /// Whether fences fail.
    pub(crate) fn refuse_fences(&self, refuse: bool) {
        self.refused.store(refuse, Ordering::SeqCst);
    }

    /// They go on.
    pub(crate) fn release(&self) {
        *self.held.lock().unwrap() = false;
        self.released.notify_all();
    }
}

impl ExportFence for Exports {
    fn fence(&self, disk: &DiskId, _mode: FenceMode) -> Result<(), FenceError> {
        let held = self.held.lock().unwrap();
        drop(self.released.wait_while(held, |held| *held).unwrap());
        if self.refused.load(Ordering::SeqCst) {
            return Err(FenceError { disk: disk.clone(), detail: "on purpose".into() });
        }
        self.open.lock().unwrap().remove(disk);
        Ok(())
    }
}

impl ExportPlane for Exports {
    fn publish(&self, disk: &DiskId, device: Arc<dyn BlockDevice>, pace: Arc<Pace>) {
        assert!(device.size() > ByteLength::ZERO);
        self.open.lock().unwrap().insert(disk.clone(), Export { device, pace });
    }

    fn set_rates(&self, disk: &DiskId, rates: Rates) {
        let open = self.open.lock().unwrap();
        open.get(disk).into_iter().for_each(|export| export.pace.set(rates));
    }
}
