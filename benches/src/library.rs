//! The cloud of a store, opened in this process: it fills a store faster than calls over HTTP would,
//! and serves it with a front whose parts the daemon's users cannot leave out.
//!
//! What must always hold: what it makes is made by the same calls and is as durable as what a daemon
//! makes; once it is closed a daemon can open the store.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
};

use anyhow::Context as _;
use block_device::{BlockDevice as _, ByteOffset, Durability, NoExports};
use block_store::{FileStorage, Store};
use catalog::SledCatalog;
use cloud::{
    Caller, ChangePower, Cloud, CreateDisk, CreateInstance, DEFAULT_ACCOUNT, DescribeDisks,
    DiskRole, OpenCloud, Paging, PowerChange, Role, RunInstances, Settings, SystemClock,
    SystemDisk,
};
use ecs_http::{AuditPlace, Front, Limits, OpenFront};
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot};

use crate::{GIB, http::Key};

/// Instances that one call makes or changes.
const IN_A_CALL: usize = 100;

/// Threads that make disks: commits that wait at the same time share a sync.
const MAKERS: usize = 64;

/// An open cloud, without exports.
#[derive(Debug)]
pub struct Library {
    cloud: Cloud,
}

impl Library {
    /// Makes an empty store in a folder that must not exist yet, and opens it.
    pub fn on_new_store(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir(folder)?;
        let catalog = folder.join("catalog");
        SledCatalog::create(&catalog)?;
        let storage = FileStorage::open(folder)?;
        Store::create(&storage)?;
        let (catalog, _) = SledCatalog::open(&catalog)?;
        let cloud = Cloud::open(OpenCloud {
            store: Store::open(Arc::new(storage))?,
            catalog: Arc::new(catalog),
            exports: Arc::new(NoExports),
            settings: Settings::default(),
            secret_key: folder.join("secret.key"),
            clock: Arc::new(SystemClock),
        })?;
        Ok(Self { cloud })
    }

    /// A new access key that may do everything.
    pub fn key(&self) -> anyhow::Result<Key> {
        let made = self.cloud.create_key(&operator(), DEFAULT_ACCOUNT, Role::Full, None)?;
        Ok(Key { id: made.access_key_id, secret: made.secret.reveal().into() })
    }

    /// Makes disks of 20 GiB that are attached to nothing.
    pub fn make_disks(&self, count: usize) -> anyhow::Result<()> {
        let request = CreateDisk { size: Some(20 * GIB), ..CreateDisk::default() };
        let make = |share: usize| {
            (0..share).try_for_each(|_| self.cloud.create_disk(&operator(), &request).map(drop))
        };
        thread::scope(|scope| {
            let shares = (0..MAKERS).map(|maker| (count + maker) / MAKERS);
            let makers: Vec<_> = shares.map(|share| scope.spawn(move || make(share))).collect();
            makers.into_iter().try_for_each(|maker| {
                let made = maker.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
                made.context("making disks")
            })
        })
    }

    /// Makes stopped instances that were started once, each with a system disk of 1 GiB that was written
    /// once; the ids of these disks.
    pub fn make_stopped_instances(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let system_disk = SystemDisk { size: Some(GIB), ..SystemDisk::default() };
        let template = CreateInstance { system_disk, ..CreateInstance::default() };
        for left in (1..=count).rev().step_by(IN_A_CALL) {
            let amount = u32::try_from(left.min(IN_A_CALL))?;
            let request = RunInstances { amount, template: template.clone() };
            let instances = self.cloud.run_instances(&operator(), &request)?;
            let (change, each_alone) = (PowerChange::Stop, false);
            let stop = ChangePower { instances, change, each_alone };
            let stopped = self.cloud.change_power(&operator(), &stop)?;
            stopped.into_iter().try_for_each(|one| one.result)?;
        }
        let disks = self.system_disks()?;
        disks.iter().try_for_each(|disk| self.write_once(disk))?;
        Ok(disks)
    }

    fn system_disks(&self) -> anyhow::Result<Vec<String>> {
        let (role, paging) = (Some(DiskRole::System), Paging::All);
        let asked = DescribeDisks { role, paging, ..DescribeDisks::default() };
        let page = self.cloud.describe_disks(&operator(), &asked)?;
        Ok(page.items.into_iter().map(|disk| disk.id).collect())
    }

    /// The disk gets a head.
    fn write_once(&self, disk: &str) -> anyhow::Result<()> {
        let handle = self.cloud.store().open_disk(&disk.parse()?)?;
        handle.write_at(&[1; 4096], ByteOffset::ZERO, Durability::ForceUnitAccess)?;
        Ok(())
    }

    /// Serves it in this process, as the daemon does, with or without an audit log.
    pub fn serve(&self, run: &Path, audit: Option<AuditPlace>) -> anyhow::Result<Served> {
        std::fs::create_dir(run)?;
        let front = Front::open(OpenFront {
            cloud: self.cloud.clone(),
            clock: Arc::new(SystemClock),
            limits: Limits::default(),
            nonce_directory: Some(run.to_owned()),
            audit,
            tls: None,
        })?;
        let runtime = Runtime::new()?;
        let tcp = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = tcp.local_addr()?;
        let (end, ended) = oneshot::channel();
        let tasks = runtime.handle().clone();
        let served = thread::spawn(move || {
            let stop = async { drop(ended.await) };
            tasks.block_on(ecs_http::serve(&front, tcp, None, stop));
        });
        Ok(Served { address, end, served, _runtime: runtime })
    }

    /// Closes it.
    pub fn close(self) {
        self.cloud.close();
    }
}

fn operator() -> Caller {
    Caller::operator(DEFAULT_ACCOUNT)
}

/// A front in this process.
#[derive(Debug)]
pub struct Served {
    address: SocketAddr,
    end: oneshot::Sender<()>,
    served: JoinHandle<()>,
    _runtime: Runtime,
}

impl Served {
    /// Where it serves HTTP.
    pub fn http(&self) -> SocketAddr {
        self.address
    }

    /// Ends it; then nothing of the cloud is held any more.
    pub fn stop(self) -> anyhow::Result<()> {
        // Fails only if it ended by itself, which the next line tells.
        let _ = self.end.send(());
        self.served.join().map_err(|_| anyhow::anyhow!("the front in this process panicked"))
    }
}
