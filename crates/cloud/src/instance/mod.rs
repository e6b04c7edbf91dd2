//! Instances: machines that disks are attached to.
//!
//! What must always hold: the exports of an instance's disks are open exactly while it is Running;
//! it is listed from the moment its id was answered until its deletion was.
//! Left to others: one file per action; running an actual machine (whoever connects to the exports).

mod create;
mod delete;
mod describe;
mod exports;
mod lock;
mod modify;
mod named;
mod power;
mod power_batch;

use std::fmt;

use catalog::record::{ChargeType, Lock, Tags};
use jiff::Timestamp;
use serde::Serialize;

pub use power::PowerChange;
pub(crate) use power::waits_for_start;
pub use power_batch::{ChangePower, PowerChanged};

use crate::{Paging, SecretText, TagFilter, paging::Listed};

/// The state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum InstanceStatus {
    /// Being made.
    Pending,
    /// Being started.
    Starting,
    /// Its disks are exported.
    Running,
    /// Being stopped.
    Stopping,
    /// Its disks are not exported.
    Stopped,
}

impl fmt::Display for InstanceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "Pending",
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Stopping => "Stopping",
            Self::Stopped => "Stopped",
        })
    }
}

/// `CreateInstance`; the template of `RunInstances`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CreateInstance {
    /// The image of the system disk; only the operator may leave it out, and gets an empty one.
    pub image: Option<String>,
    /// Such as `ecs.g7.large`; only the operator may leave it out.
    pub instance_type: Option<String>,
    /// The zone; the first of the cloud if none is given.
    pub zone: Option<String>,
    /// Free name; the id if none is given.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Of the guest.
    pub host_name: Option<String>,
    /// Kept sealed for the first boot.
    #[serde(skip)]
    pub password: Option<SecretText>,
    /// In place of a password.
    pub key_pair: Option<String>,
    /// First-boot data, base64.
    pub user_data: Option<String>,
    /// `PostPaid` if none is given.
    pub charge_type: Option<String>,
    /// Months paid for in advance; 1 if none is given.
    pub period_months: Option<u32>,
    /// Any.
    pub security_groups: Vec<String>,
    /// Any.
    pub vswitch: Option<String>,
    /// Any.
    pub private_ip: Option<String>,
    /// Any.
    pub internet_charge_type: Option<String>,
    /// `optimized`, as far as we are concerned, unless given as not.
    pub io_optimized: Option<bool>,
    /// Labels of the instance.
    pub tags: Vec<(String, String)>,
    /// `Active` or `Deactive`, as given. Left out of digests where it is not, as older ones are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_enhancement: Option<String>,
    /// The disk it starts from.
    pub system_disk: SystemDisk,
    /// The others.
    pub data_disks: Vec<DataDisk>,
    /// Same token and parameters, same answer.
    pub client_token: Option<String>,
}

/// `SystemDisk.*`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SystemDisk {
    /// `cloud_efficiency` if none is given.
    pub category: Option<String>,
    /// Bytes; the image's size rounded up to GiB if none is given.
    pub size: Option<u64>,
    /// Free name.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
}

/// `DataDisk.N.*`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DataDisk {
    /// `cloud` if none is given.
    pub category: Option<String>,
    /// Bytes; the snapshot's if none is given.
    pub size: Option<u64>,
    /// To begin with.
    pub snapshot: Option<String>,
    /// Free name.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// `/dev/xvdb` to `/dev/xvdz`.
    pub device: Option<String>,
    /// Whether it goes with the instance; no, if not given, unless its category has it so.
    pub delete_with_instance: Option<bool>,
}

/// `RunInstances`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunInstances {
    /// 1 to 100.
    pub amount: u32,
    /// What each is like.
    pub template: CreateInstance,
}

/// What `CreateInstance` made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct InstanceCreated {
    /// `i-...`
    pub instance: String,
    /// `d-...`
    pub system_disk: String,
    /// In the order of the request.
    pub data_disks: Vec<String>,
}

/// `DeleteInstances`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DeleteInstances {
    /// Which; one named twice counts once.
    pub instances: Vec<String>,
    /// Whether running ones go too.
    pub force: bool,
    /// Same token and parameters, same answer.
    pub client_token: Option<String>,
}

/// `ModifyInstanceAttribute`; what is none stays.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ModifyInstance {
    /// The instance.
    pub instance: String,
    /// Free name.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Of the guest.
    pub host_name: Option<String>,
    /// First-boot data, base64.
    pub user_data: Option<String>,
}

/// `DescribeInstances`: what is none does not restrict.
#[derive(Clone, Debug, Default)]
pub struct DescribeInstances {
    /// At most 100; unknown ones are not listed; an empty list lists nothing.
    pub ids: Option<Vec<String>>,
    /// Exact, or with `*`.
    pub name: Option<String>,
    /// Made from it.
    pub image: Option<String>,
    /// One state.
    pub status: Option<InstanceStatus>,
    /// In that zone.
    pub zone: Option<String>,
    /// Of that type.
    pub instance_type: Option<String>,
    /// Of that family of sizes.
    pub family: Option<String>,
    /// With that key pair.
    pub key_pair: Option<String>,
    /// In that security group.
    pub security_group: Option<String>,
    /// At that switch.
    pub vswitch: Option<String>,
    /// In that network.
    pub vpc: Option<String>,
    /// With one of these addresses.
    pub private_ips: Option<Vec<String>>,
    /// Whether it counts as I/O optimized.
    pub io_optimized: Option<bool>,
    /// Carries that lock.
    pub lock: Option<Lock>,
    /// Paid for like that.
    pub charge_type: Option<ChargeType>,
    /// All of them.
    pub tags: Vec<TagFilter>,
    /// Not older.
    pub created_from: Option<Timestamp>,
    /// Not younger.
    pub created_until: Option<Timestamp>,
    /// Which page.
    pub paging: Paging,
}

/// An instance as a client sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceView {
    /// `i-...`
    pub id: String,
    /// The owner's name.
    pub account: String,
    /// Free name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Of the guest.
    pub host_name: String,
    /// The state.
    pub status: InstanceStatus,
    /// Such as `ecs.g7.large`.
    pub instance_type: String,
    /// Its family; empty when the type is no longer offered.
    pub family: String,
    /// Processors; 0 when the type is no longer offered.
    pub cpu: u32,
    /// Memory in MiB; 0 when the type is no longer offered.
    pub memory_mib: u64,
    /// The image its system disk was made from; empty for none.
    pub image: String,
    /// `linux` or `windows`.
    pub os_type: String,
    /// In full.
    pub os_name: String,
    /// The region.
    pub region: String,
    /// The zone.
    pub zone: String,
    /// As given.
    pub security_groups: Vec<String>,
    /// As given.
    pub vswitch: String,
    /// Of the switch.
    pub vpc: String,
    /// As given.
    pub private_ip: String,
    /// How it is paid for.
    pub charge_type: ChargeType,
    /// Until when, if so.
    pub expires: Option<Timestamp>,
    /// Whether it ever ran.
    pub ever_started: bool,
    /// Why actions on it are refused. The account's arrears show here as financial.
    pub locks: Vec<Lock>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last started.
    pub started: Option<Timestamp>,
    /// First-boot data, base64.
    pub user_data: String,
    /// Of the guest.
    pub key_pair: String,
    /// As given.
    pub internet_charge_type: String,
    /// As given.
    pub io_optimized: bool,
    /// What the guest sees.
    pub serial: String,
    /// Labels.
    pub tags: Tags,
    /// The disk it starts from.
    pub system_disk: Option<String>,
    /// The others.
    pub data_disks: Vec<String>,
}

impl Listed for InstanceView {
    fn place(&self) -> (i64, &str) {
        (self.created.as_second(), &self.id)
    }
}
