//! What an operator decides once for the whole cloud.
//!
//! What must always hold: the defaults serve a lab on one machine; every value here is one a user
//! story asks for.
//! Left to others: reading them from `reinit.toml` and flags (`cli`).

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use crate::Bucket;

/// What an operator decides once for the whole cloud.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The region, as shown to clients.
    pub region: String,
    /// Its zones; the first is the default. A disk can only be attached within its zone.
    pub zones: Vec<String>,
    /// The sizes of machine offered.
    pub instance_types: Vec<InstanceType>,
    /// The smallest system disk, in GiB. The ECS reference says 20; a lab's images are often far
    /// smaller and so is its disk, so that only the image's size is asked for by default.
    pub minimum_system_disk_gib: u64,
    /// The most bytes per second hashed in the background for one snapshot; none = as fast as
    /// possible.
    pub hash_bandwidth: Option<u64>,
    /// Snapshots from before are too old to reset or create a disk from.
    pub snapshot_cutoff: Timestamp,
    /// The most data disks of one instance.
    pub data_disks_per_instance: usize,
    /// The most snapshots of one disk.
    pub snapshots_per_disk: usize,
    /// The most images of one account.
    pub images_per_account: usize,
    /// How long a client token is remembered; at least a day.
    pub token_lifetime: Duration,
    /// Where `ImportImage` and `ExportImage` find and put files, by the names of the buckets.
    pub buckets: BTreeMap<String, Bucket>,
    /// Public keys of SSH, as in `authorized_keys`, by the names of their pairs. With none here any
    /// name is taken, and no key reaches a guest.
    pub key_pairs: BTreeMap<String, String>,
    /// How long stop and detach wait for the final flush before they answer and go on alone.
    /// Clients give up after 10 seconds.
    pub answer_within: Duration,
}

/// A size of machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceType {
    /// Such as `ecs.g7.large`.
    pub id: String,
    /// Such as `ecs.g7`.
    pub family: String,
    /// Processors.
    pub cpu: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            region: "cn-hangzhou".into(),
            zones: ["cn-hangzhou-b", "cn-hangzhou-g"].map(String::from).into(),
            instance_types: default_types(),
            minimum_system_disk_gib: 1,
            hash_bandwidth: None,
            snapshot_cutoff: "2013-07-15T00:00:00Z".parse().expect("a valid time"),
            data_disks_per_instance: 16,
            snapshots_per_disk: 256,
            images_per_account: 1000,
            token_lifetime: Duration::from_secs(24 * 60 * 60),
            buckets: BTreeMap::new(),
            key_pairs: BTreeMap::new(),
            answer_within: Duration::from_secs(3),
        }
    }
}

fn default_types() -> Vec<InstanceType> {
    let of = |id: &str, family: &str, cpu, memory_gib: u64| InstanceType {
        id: id.into(),
        family: family.into(),
        cpu,
        memory_mib: memory_gib * 1024,
    };
    vec![
        of("ecs.t1.small", "ecs.t1", 1, 1),
        of("ecs.t5-lc1m2.small", "ecs.t5", 1, 2),
        of("ecs.g6.large", "ecs.g6", 2, 8),
        of("ecs.g7.large", "ecs.g7", 2, 8),
        of("ecs.g7.xlarge", "ecs.g7", 4, 16),
        of("ecs.g7.2xlarge", "ecs.g7", 8, 32),
    ]
}
