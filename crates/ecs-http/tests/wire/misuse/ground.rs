//! What the calls are about: two accounts with a resource of every kind in every state a rule asks for.
//!
//! What must always hold: once it is made nothing moves by itself, snapshots in progress included, so that
//! whatever differs between two looks was done by the call between them.

use std::{
    cell::RefCell, collections::BTreeMap, fs, io::Write as _, net::TcpStream, time::Duration,
};

use catalog::Catalog as _;
use cloud::{Bucket, Settings};
use ecs_http::Limits;
use tempfile::TempDir;

use super::table::Pairs;
use crate::{
    harness::{Answer, Service, wait},
    reinit_rows::write,
    signing::{Key, V1},
};

/// Everything that can be seen, by what it is called.
pub type Look = BTreeMap<String, Vec<u8>>;

pub struct Ground {
    service: Service,
    bucket: TempDir,
    keys: BTreeMap<&'static str, Key>,
    /// What a name in braces stands for.
    names: BTreeMap<String, String>,
    /// One id of the other account, by its kind.
    theirs: BTreeMap<&'static str, String>,
    connection: RefCell<Option<TcpStream>>,
}

/// All lists there are, whole.
const LISTS: [(&str, &[(&str, &str)]); 6] = [
    ("DescribeDisks", &[("PageSize", "100")]),
    ("DescribeInstances", &[("PageSize", "100")]),
    ("DescribeSnapshots", &[("PageSize", "100")]),
    ("DescribeSnapshotGroups", &[("MaxResults", "100")]),
    (
        "DescribeImages",
        &[
            ("PageSize", "100"),
            ("Status", "Creating,Waiting,Available,UnAvailable,CreateFailed,Deprecated"),
        ],
    ),
    ("DescribeTasks", &[("PageSize", "100")]),
];

const MINE: &str = "mine";
const THEIRS: &str = "theirs";
/// An account that owes.
const DEBTOR: &str = "debtor";

impl Ground {
    pub fn new() -> Self {
        let bucket = tempfile::tempdir().unwrap();
        fs::write(bucket.path().join("base.raw"), vec![9; 1 << 20]).unwrap();
        let service = Service::with(Limits::default(), settings(&bucket));
        let keys = [(MINE, "default"), (THEIRS, "stranger"), (DEBTOR, "debtor")];
        let keys = keys.map(|(name, account)| (name, service.key_of(account, "full")));
        let mut ground = Self {
            service,
            bucket,
            keys: keys.into(),
            names: BTreeMap::new(),
            theirs: BTreeMap::new(),
            connection: RefCell::new(None),
        };
        ground.make_mine();
        ground.make_theirs();
        ground.service.operator("SetAccount", &[("Account", "debtor"), ("InArrears", "true")]).ok();
        ground.slow_down();
        ground.settle();
        ground
    }

    fn make_mine(&mut self) {
        let key = self.keys[MINE].clone();
        for name in ["image", "image.spare", "image.shared"] {
            let id = self.service.image("default", name, &[]);
            self.name(name, id);
        }
        let image = self.names["image"].clone();
        for name in ["stopped", "running", "awake", "locked", "owing", "busy"] {
            let own = [
                ("DataDisk.1.Size", "5"),
                ("DataDisk.2.Size", "5"),
                ("DataDisk.2.Category", "ephemeral_ssd"),
            ];
            let (id, disks) = self.service.used_instance(&key, &image, &own);
            let snapshot = self.service.snapshot(&key, &disks[1]);
            self.name(&format!("{name}.snapshot"), snapshot);
            self.name_machine(name, id, disks);
        }
        for name in ["fresh", "going", "leaving"] {
            let (id, disks) = self.service.instance(&key, &image, &[("DataDisk.1.Size", "5")]);
            self.name_machine(name, id, disks);
        }
        for name in ["running", "awake"] {
            self.service.start_instance(&key, &self.names[name]);
        }
        for name in ["free", "spare"] {
            self.make(name, "CreateDisk", &[("Size", "5")], "DiskId");
        }
        let zone = ("ZoneId", "cn-hangzhou-g");
        self.make("elsewhere", "CreateDisk", &[("Size", "5"), zone], "DiskId");
        self.make_snapshots(&key);
        self.make_images();
        for (name, lock) in [("locked", "security"), ("owing", "financial")] {
            let own = [("InstanceId", self.names[name].as_str()), ("LockReason", lock)];
            self.service.operator("LockInstance", &own).ok();
        }
        let ids: Vec<_> = (0..101).map(|n| format!("\"x-{n}\"")).collect();
        self.name("101-ids", format!("[{}]", ids.join(",")));
        let tasks = self.service.call(&key, "DescribeTasks", &[]).ok();
        self.name("task", tasks["TaskSet"]["Task"][0]["TaskId"].as_str().unwrap().to_owned());
    }

    fn make_snapshots(&mut self, key: &Key) {
        let disk = self.names["stopped.data"].clone();
        for name in ["snapshot", "snapshot.spare", "snapshot.disk", "snapshot.gone"] {
            let id = self.service.snapshot(key, &disk);
            self.name(name, id);
        }
        for name in ["snapshot.system", "snapshot.image"] {
            let id = self.service.snapshot(key, &self.names["stopped.system"]);
            self.name(name, id);
        }
        self.make_parted(key);
        self.make("made", "CreateDisk", &[("SnapshotId", "{snapshot.disk}")], "DiskId");
        self.make("orphan", "CreateDisk", &[("SnapshotId", "{snapshot.gone}")], "DiskId");
        self.done("AttachDisk", &[("DiskId", "{orphan}"), ("InstanceId", "{stopped}")]);
        self.done("DeleteSnapshot", &[("SnapshotId", "{snapshot.gone}"), ("Force", "true")]);
        for name in ["group", "group.disk"] {
            let own = [("DiskId.1", "{stopped.data}")];
            self.make(name, "CreateSnapshotGroup", &own, "SnapshotGroupId");
            let own = [("SnapshotGroupId.1", self.names[name].clone())];
            let own = own.each_ref().map(|(name, id)| (*name, id.as_str()));
            let shown = || self.service.call(key, "DescribeSnapshotGroups", &own).ok();
            let first = || shown()["SnapshotGroups"]["SnapshotGroup"][0].clone();
            wait(|| first()["Status"] == "accomplished");
            let member = first()["Snapshots"]["Snapshot"][0]["SnapshotId"].as_str().unwrap().into();
            self.name(&format!("{name}.snapshot"), member);
        }
        self.make("regrouped", "CreateDisk", &[("SnapshotId", "{group.disk.snapshot}")], "DiskId");
    }

    /// A disk that was attached once, and a snapshot of it.
    fn make_parted(&mut self, key: &Key) {
        self.make("parted", "CreateDisk", &[("Size", "5")], "DiskId");
        let place = [("DiskId", "{parted}"), ("InstanceId", "{stopped}")];
        self.done("AttachDisk", &place);
        let snapshot = self.service.snapshot(key, &self.names["parted"]);
        self.name("parted.snapshot", snapshot);
        self.done("DetachDisk", &place);
    }

    fn make_images(&mut self) {
        let own = [("SnapshotId", "{snapshot.image}")];
        self.make("image.own", "CreateImage", &own, "ImageId");
        let accounts = self.service.operator("ListAccounts", &[]).ok();
        for (name, account) in [("number", "default"), ("number.theirs", "stranger")] {
            let all = accounts["Accounts"]["Account"].as_array().unwrap();
            let found = all.iter().find(|one| one["Account"] == account).unwrap();
            self.name(name, found["AccountNumber"].as_str().unwrap().to_owned());
        }
        let own = [("ImageId", "{image.shared}"), ("AddAccount.1", "{number.theirs}")];
        self.done("ModifyImageSharePermission", &own);
    }

    fn make_theirs(&mut self) {
        let key = self.keys[THEIRS].clone();
        let image = self.service.image("stranger", "theirs", &[]);
        let (instance, disks) =
            self.service.used_instance(&key, &image, &[("DataDisk.1.Size", "5")]);
        let snapshot = self.service.snapshot(&key, &disks[1]);
        let own = [("DiskId.1", disks[1].as_str())];
        let group = self.service.call(&key, "CreateSnapshotGroup", &own).text("SnapshotGroupId");
        let tasks = self.service.call(&key, "DescribeTasks", &[]).ok();
        let task = tasks["TaskSet"]["Task"][0]["TaskId"].as_str().unwrap().to_owned();
        self.theirs = [
            ("Image", image),
            ("Instance", instance),
            ("Disk", disks[1].clone()),
            ("Snapshot", snapshot),
            ("SnapshotGroup", group),
            ("Task", task),
        ]
        .into();
    }

    /// From here on a snapshot of a disk that holds something does not end, nor does an image of it.
    fn slow_down(&mut self) {
        self.connection.take();
        let slow = Settings { hash_bandwidth: Some(1), ..settings(&self.bucket) };
        let service = std::mem::replace(&mut self.service, Service::start());
        self.service = service.restart_with(slow);
        for disk in ["busy.system", "busy.data"] {
            write(&self.service, &self.names[disk]);
        }
        self.make("waiting", "CreateImage", &[("InstanceId", "{busy}")], "ImageId");
        let key = self.keys[MINE].clone();
        for (name, disk) in [("progressing.system", "busy.system"), ("progressing", "busy.data")] {
            let own = [("DiskId", self.names[disk].as_str()), ("Status", "progressing")];
            let found = self.service.call(&key, "DescribeSnapshots", &own).ok();
            let id = found["Snapshots"]["Snapshot"][0]["SnapshotId"].as_str().unwrap();
            self.name(name, id.to_owned());
        }
    }

    fn settle(&self) {
        wait(|| {
            let before = self.look();
            std::thread::sleep(Duration::from_millis(50));
            before == self.look()
        });
    }

    fn name(&mut self, name: &str, id: String) {
        self.names.insert(name.into(), id);
    }

    fn name_machine(&mut self, name: &str, id: String, disks: Vec<String>) {
        self.name(name, id);
        for (part, disk) in ["system", "data", "local"].into_iter().zip(disks) {
            self.name(&format!("{name}.{part}"), disk);
        }
    }

    fn make(&mut self, name: &str, action: &str, own: &[(&str, &str)], field: &str) {
        let id = self.done(action, own).text(field);
        self.name(name, id);
    }

    fn done(&self, action: &str, own: &[(&str, &str)]) -> Answer {
        let own = own.iter().map(|(name, value)| ((*name).to_owned(), self.filled(value)));
        let region = [("RegionId".to_owned(), "cn-hangzhou".to_owned())];
        let answer = self.ask(None, "JSON", action, &own.chain(region).collect());
        answer.ok();
        answer
    }

    /// The value with what its names in braces stand for.
    pub fn filled(&self, value: &str) -> String {
        let mut value = value.to_owned();
        while let Some((before, rest)) = value.split_once('{') {
            let Some((name, after)) = rest.split_once('}') else { break };
            let id = self.names.get(name).unwrap_or_else(|| panic!("what is {{{name}}}?"));
            value = format!("{before}{id}{after}");
        }
        value
    }

    pub fn service(&self) -> &Service {
        &self.service
    }

    /// An id of the other account.
    pub fn theirs(&self, kind: &str) -> &str {
        &self.theirs[kind]
    }

    /// A signed call of exactly these parameters.
    pub fn ask(&self, by: Option<&str>, format: &str, action: &str, own: &Pairs) -> Answer {
        let key = &self.keys[by.unwrap_or(MINE)];
        let pairs: Vec<_> =
            own.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut request = V1::new(key, format, action, &pairs);
        if own.iter().all(|(name, _)| name != "RegionId") {
            request = request.without("RegionId");
        }
        request.sign(key, "POST");
        self.send(&request.request("POST"))
    }

    /// Over one connection, for there are thousands of calls.
    fn send(&self, request: &str) -> Answer {
        let mut connection = self.connection.borrow_mut();
        let stream = connection.get_or_insert_with(|| self.service.connect());
        stream.write_all(request.as_bytes()).unwrap();
        let answer = Answer::read(stream);
        assert_ne!(answer.status, 0, "no answer to {request:.200}");
        if answer.head.contains("connection: close") {
            connection.take();
        }
        answer
    }

    /// What both accounts are shown, every record of the catalog, the ledger, the layers and the bucket.
    pub fn look(&self) -> Look {
        let mut look = Look::new();
        for by in [MINE, THEIRS] {
            for (action, own) in LISTS {
                let own = own.iter().copied().chain([("RegionId", "cn-hangzhou")]);
                let own = own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                let mut shown = self.ask(Some(by), "JSON", action, &own).ok();
                shown["RequestId"].take();
                look.insert(format!("{action} of {by}"), shown.to_string().into_bytes());
            }
        }
        let records = self.service.catalog.scan("").unwrap();
        look.extend(records.into_iter().map(|(key, value)| (format!("record {key}"), value)));
        let store = self.service.path();
        look.insert("the ledger".into(), fs::read(store.join("ledger")).unwrap());
        for place in [&store.join("layers"), self.bucket.path()] {
            for entry in fs::read_dir(place).unwrap() {
                look.insert(format!("the file {:?}", entry.unwrap().path()), Vec::new());
            }
        }
        look
    }
}

fn settings(bucket: &TempDir) -> Settings {
    let bucket = Bucket { directory: bucket.path().to_owned(), accounts: None };
    Settings { buckets: [("images".to_owned(), bucket)].into(), ..Settings::default() }
}
