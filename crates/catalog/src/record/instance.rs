//! An instance: a machine that disks are attached to.

use serde::{Deserialize, Serialize};

use super::{ChargeTypeV1, LockV1, Record, Tags};

/// The present version.
pub type Instance = InstanceV1;

/// The present version of [`PowerV1`].
pub type Power = PowerV1;

/// An instance, version 1. Strings the client did not give are empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceV1 {
    /// `i-...`
    pub id: String,
    /// The owner.
    pub account: String,
    /// The name shown to people.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The host name inside the guest.
    pub host_name: String,
    /// Such as `ecs.g7.large`.
    pub instance_type: String,
    /// The image the system disk was made from.
    pub image_id: String,
    /// The region.
    pub region: String,
    /// The zone.
    pub zone: String,
    /// Ids of the security groups it is in.
    pub security_groups: Vec<String>,
    /// Id of its switch.
    pub vswitch: String,
    /// Id of its private network.
    pub vpc: String,
    /// Its address in that network.
    pub private_ip: String,
    /// How it is paid for.
    pub charge_type: ChargeTypeV1,
    /// Until when it is paid for, if so.
    pub expires: Option<i64>,
    /// What it should be after a restart of the daemon; the states between live in memory.
    pub power: PowerV1,
    /// Whether it ever ran.
    pub ever_started: bool,
    /// Why actions on it are refused, if they are.
    pub locks: Vec<LockV1>,
    /// When it was created.
    pub created: i64,
    /// When it was last started.
    pub started: Option<i64>,
    /// First-boot data as the client sent it (base64).
    pub user_data: String,
    /// Name of the key pair put into the guest.
    pub key_pair: String,
    /// Such as `PayByTraffic`.
    pub internet_charge_type: String,
    /// Whether it counts as I/O optimized.
    pub io_optimized: bool,
    /// The serial number the guest sees.
    pub serial: String,
    /// Free labels.
    pub tags: Tags,
}

/// Whether a machine runs, version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PowerV1 {
    /// It does not; its disks have no exports.
    Stopped,
    /// It does; its disks are exported.
    Running,
}

impl Record for InstanceV1 {
    const KIND: u16 = 3;
    const VERSION: u16 = 1;
    const PREFIX: &'static str = "instance";

    fn id(&self) -> String {
        self.id.clone()
    }
}
