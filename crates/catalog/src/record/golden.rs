//! Bytes of each published record version, checked in under `tests/golden/`, read for ever.
//!
//! A failure here means that stores out there can no longer be opened. The way out is a new
//! version, never new golden bytes. With `WRITE_GOLDEN=1` files that are missing are written;
//! existing ones never are.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::census::Census;
use crate::codec;
use crate::envelope::{seal, unseal, unwrap};

const NOW: i64 = 1_790_000_000;

#[test]
fn account() {
    let limited = AccountV1 {
        name: "lab".to_owned(),
        number: 1_000_000_000_000_001,
        created: NOW,
        in_arrears: true,
        quota_bytes: Some(1 << 40),
    };
    check("account-limited", &limited);
    check("account-free", &AccountV1 { in_arrears: false, quota_bytes: None, ..limited });
}

#[test]
fn key() {
    let full = KeyV1 {
        access_key_id: "RKAAAAAAAAAAAAAAAAAA".to_owned(),
        account: "lab".to_owned(),
        sealed_secret: vec![0, 1, 254, 255],
        role: RoleV1::Full,
        expires: Some(NOW + 3600),
        disabled: true,
        created: NOW,
    };
    check("key-full", &full);
    check("key-read", &KeyV1 { role: RoleV1::Read, expires: None, ..full.clone() });
    check("key-reset", &KeyV1 { role: RoleV1::Reset, disabled: false, ..full });
}

#[test]
fn session() {
    let active = SessionV1 {
        access_key_id: "STS.AAAAAAAAAAAAAAAAAAAA".to_owned(),
        account: "lab".to_owned(),
        sealed_secret: vec![0, 1, 254, 255],
        token_digest: [7; 32],
        role: RoleV1::Reset,
        expires: NOW + 3600,
        disabled: false,
        created: NOW,
    };
    check("session-active", &active);
    check("session-disabled", &SessionV1 { role: RoleV1::Full, disabled: true, ..active });
}

#[test]
fn instance() {
    let running = InstanceV1 {
        id: "i-1".to_owned(),
        account: "lab".to_owned(),
        name: "näme".to_owned(),
        description: "a machine".to_owned(),
        host_name: "host".to_owned(),
        instance_type: "ecs.g7.large".to_owned(),
        image_id: "m-1".to_owned(),
        region: "cn-local".to_owned(),
        zone: "cn-local-a".to_owned(),
        security_groups: vec!["sg-1".to_owned(), "sg-2".to_owned()],
        vswitch: "vsw-1".to_owned(),
        vpc: "vpc-1".to_owned(),
        private_ip: "10.0.0.2".to_owned(),
        charge_type: ChargeTypeV1::PrePaid,
        expires: Some(NOW + 86_400),
        power: PowerV1::Running,
        ever_started: true,
        locks: vec![LockV1::Security, LockV1::Financial],
        created: NOW,
        started: Some(NOW + 1),
        user_data: "I2Nsb3VkLWNvbmZpZw==".to_owned(),
        key_pair: "pair".to_owned(),
        internet_charge_type: "PayByTraffic".to_owned(),
        io_optimized: true,
        serial: "4b0e".to_owned(),
        tags: tags(),
    };
    check("instance-running", &running);
    let stopped = InstanceV1 {
        charge_type: ChargeTypeV1::PostPaid,
        expires: None,
        power: PowerV1::Stopped,
        locks: Vec::new(),
        started: None,
        tags: Tags::new(),
        ..running
    };
    check("instance-stopped", &stopped);
}

#[test]
fn disk() {
    let attached = DiskV1 {
        id: "d-1".to_owned(),
        account: "lab".to_owned(),
        name: "root".to_owned(),
        description: "a disk".to_owned(),
        category: "cloud_essd".to_owned(),
        role: DiskRoleV1::System,
        origin: OriginV1::Image { id: "m-1".to_owned() },
        origin_owner: "vendor".to_owned(),
        origin_via_image: false,
        attachment: Some(AttachmentV1 {
            instance: "i-1".to_owned(),
            device: "/dev/xvda".to_owned(),
            attached: NOW + 2,
            delete_with_instance: true,
        }),
        detached: Some(NOW + 1),
        delete_with_instance: true,
        portable: false,
        created: NOW,
        charge_type: ChargeTypeV1::PostPaid,
        expires: None,
        locks: vec![LockV1::Financial],
        serial: "5e1f".to_owned(),
        zone: "cn-local-a".to_owned(),
        region: "cn-local".to_owned(),
        tags: tags(),
        enable_auto_snapshot: true,
        delete_auto_snapshot: false,
        pending_reset: Some(PendingResetV1 {
            ledger_sequence: 7,
            auto_start: true,
            sealed_first_boot: vec![9, 8, 7],
        }),
    };
    check("disk-attached", &attached);
    let free = DiskV1 {
        role: DiskRoleV1::Data,
        origin: OriginV1::Empty,
        attachment: None,
        detached: None,
        pending_reset: None,
        ..attached.clone()
    };
    check("disk-free", &free);
    let origin = OriginV1::Snapshot { id: "s-1".to_owned() };
    check("disk-from-snapshot", &DiskV1 { origin, origin_via_image: true, ..attached });
}

#[test]
fn image_of_version_1() {
    let shared = ImageV1 {
        id: "m-1".to_owned(),
        account: "lab".to_owned(),
        name: "debian".to_owned(),
        description: "an image".to_owned(),
        version: "13".to_owned(),
        size: 20 << 30,
        layer: Some([0xa5; 16]),
        root: Some([0x5a; 32]),
        architecture: "x86_64".to_owned(),
        os_type: "linux".to_owned(),
        os_name: "Debian 13".to_owned(),
        platform: "Debian".to_owned(),
        status: ImageStatusV1::Available,
        public: true,
        shared_with: BTreeMap::from([(1_000_000_000_000_002, NOW + 5)]),
        created: NOW,
        source_snapshot: Some("s-1".to_owned()),
        format: "qcow2".to_owned(),
        data_disks: vec![ImageDiskV1 {
            device: "/dev/xvdb".to_owned(),
            size: 1 << 30,
            snapshot: "s-2".to_owned(),
        }],
        tags: tags(),
    };
    check_image_1("image-shared", &shared);
    let states = [
        ("creating", ImageStatusV1::Creating),
        ("waiting", ImageStatusV1::Waiting),
        ("unavailable", ImageStatusV1::UnAvailable),
        ("failed", ImageStatusV1::CreateFailed),
        ("deprecated", ImageStatusV1::Deprecated),
    ];
    for (name, status) in states {
        let image = ImageV1 { status, layer: None, root: None, ..shared.clone() };
        check_image_1(&format!("image-{name}"), &image);
    }
}

#[test]
fn image() {
    let hardened = ImageV2 {
        id: "m-1".to_owned(),
        account: "lab".to_owned(),
        name: "debian".to_owned(),
        description: "an image".to_owned(),
        version: "13".to_owned(),
        size: 20 << 30,
        layer: Some([0xa5; 16]),
        root: Some([0x5a; 32]),
        architecture: "x86_64".to_owned(),
        os_type: "linux".to_owned(),
        os_name: "Debian 13".to_owned(),
        platform: "Debian".to_owned(),
        status: ImageStatusV1::Available,
        public: true,
        shared_with: BTreeMap::from([(1_000_000_000_000_002, NOW + 5)]),
        created: NOW,
        source_snapshot: Some("s-1".to_owned()),
        format: "qcow2".to_owned(),
        data_disks: Vec::new(),
        tags: tags(),
        security_layer: Some(SecurityLayerV1 {
            layer: [0xc3; 16],
            root: Some([0x3c; 32]),
            size: 40 << 30,
            snapshot: "s-3".to_owned(),
            added: NOW + 6,
        }),
    };
    check("image-hardened", &hardened);
    check("image-plain", &ImageV2 { security_layer: None, ..hardened });
}

#[test]
fn snapshot() {
    let done = SnapshotV1 {
        id: "s-1".to_owned(),
        account: "lab".to_owned(),
        name: "before".to_owned(),
        description: "a snapshot".to_owned(),
        disk: "d-1".to_owned(),
        disk_role: DiskRoleV1::Data,
        size: 40 << 30,
        layer: Some([1; 16]),
        root: Some([2; 32]),
        status: SnapshotStatusV1::Accomplished,
        created: NOW,
        encrypted: false,
        tags: tags(),
    };
    check("snapshot-done", &done);
    let status = SnapshotStatusV1::Progressing;
    check("snapshot-progressing", &SnapshotV1 { status, root: None, ..done.clone() });
    let status = SnapshotStatusV1::Failed;
    check("snapshot-failed", &SnapshotV1 { status, layer: None, root: None, ..done });
}

#[test]
fn snapshot_group() {
    let group = SnapshotGroupV1 {
        id: "ssg-1".to_owned(),
        account: "lab".to_owned(),
        name: "before".to_owned(),
        description: "a group".to_owned(),
        instance: "i-1".to_owned(),
        snapshots: vec!["s-1".to_owned(), "s-2".to_owned()],
        created: NOW,
        tags: tags(),
    };
    check("snapshot-group", &group);
    check("snapshot-group-of-disks", &SnapshotGroupV1 { instance: String::new(), ..group });
}

#[test]
fn disk_limits() {
    let both = DiskLimitsV1 {
        disk: "d-1".to_owned(),
        iops: Some(2000),
        bytes_per_second: Some(100 << 20),
    };
    check("disk-limits", &both);
    check("disk-limits-of-requests", &DiskLimitsV1 { bytes_per_second: None, ..both });
}

#[test]
fn task() {
    let running = TaskV1 {
        id: "t-1".to_owned(),
        account: "lab".to_owned(),
        action: "ImportImage".to_owned(),
        resource: "m-1".to_owned(),
        status: TaskStatusV1::Processing,
        progress_percent: 42,
        created: NOW,
        finished: None,
        cancellable: true,
        error_code: String::new(),
        error_message: String::new(),
    };
    check("task-running", &running);
    let finished = Some(NOW + 9);
    check("task-done", &TaskV1 { status: TaskStatusV1::Finished, finished, ..running.clone() });
    let failed = TaskV1 {
        status: TaskStatusV1::Failed,
        finished,
        error_code: "NoSpace".to_owned(),
        error_message: "The store is full.".to_owned(),
        ..running
    };
    check("task-failed", &failed);
}

#[test]
fn token() {
    let token = TokenV1 {
        account: "lab".to_owned(),
        action: "RunInstances".to_owned(),
        token: "4b0e/5e1f".to_owned(),
        parameters_digest: [3; 32],
        answer: "{}".to_owned(),
        created: NOW,
    };
    check("token", &token);
}

#[test]
fn marks() {
    check("import", &ImportV1 { imported: NOW, records: 12 });
    check("census", &Census { records: 34, commits: 56 });
}

/// The checked-in bytes are this record, and this record is these bytes.
fn check<R: Record + PartialEq + Debug>(name: &str, record: &R) {
    let path = golden_path(R::VERSION, name);
    let sealed = seal(record).unwrap();
    if std::env::var_os("WRITE_GOLDEN").is_some() && !path.exists() {
        fs::write(&path, &sealed).unwrap();
    }
    let golden = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(&unseal::<R>(&record.key(), &golden).unwrap(), record, "{name} decodes differently");
    assert_eq!(golden, sealed, "{name} encodes differently");
}

/// The checked-in bytes of an image of version 1 are this record, and open as one of today.
fn check_image_1(name: &str, old: &ImageV1) {
    let golden = fs::read(golden_path(1, name)).unwrap();
    let envelope = unwrap(&format!("image/{}", old.id), &golden).unwrap();
    assert_eq!((envelope.kind, envelope.version), (Image::KIND, 1));
    assert_eq!(envelope.payload, codec::encode(old).unwrap(), "{name} encodes differently");
    let today = Image::from(old.clone());
    assert_eq!(today.security_layer, None);
    assert_eq!(
        unseal::<Image>(&today.key(), &golden).unwrap(),
        today,
        "{name} decodes differently"
    );
}

fn golden_path(version: u16, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}")).join(name)
}

fn tags() -> Tags {
    Tags::from([("env".to_owned(), "test".to_owned()), ("team".to_owned(), String::new())])
}
