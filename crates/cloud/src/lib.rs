//! What an ECS does without HTTP: resources, states, rules, tasks.
//!
//! What must always hold
//! 1. A rule check and its effect are one step for all racing calls: some serial order explains all
//!    answers, and the loser gets the documented refusal.
//! 2. A call that is refused changed nothing.
//! 3. Nothing stays in a state between two: those live in memory only, in guards that release them.
//! 4. What was answered is durable: the catalog commit decides create, delete, attach, snapshot and
//!    import, the ledger alone a reset and a resize.
//! 5. For a caller that only checks ([`Caller::checking`]) every rule is asked and nothing is done: it is
//!    refused by the first rule that is against it, or at the end with `DryRunPassed`.
//!
//! Left to others: bytes (`block-store`), going back (`reinit`), records (`catalog`), signatures, codes
//! and texts of the protocol (`ecs-http`), connections (the data planes).
//!
//! Every method of [`Cloud`] may be called from many threads and may block on the disk: an async
//! front calls it from a blocking thread. The first parameter says who asks.
//!
//! | actions | methods of [`Cloud`] |
//! |---|---|
//! | ReInitDisk, ResetDisk, ResetDisks | `reinit_disk`, `reinit_disks`, `plan_reinit`, `reset_disk`, `reset_disks`, `verify_disk` |
//! | disks | `create_disk`, `attach_disk`, `detach_disk`, `delete_disk`, `resize_disk`, `replace_system_disk`, `modify_disk`, `describe_disks`, `show_disk` |
//! | snapshots | `create_snapshot`, `describe_snapshots`, `delete_snapshot`, `create_snapshot_group`, `describe_snapshot_groups`, `delete_snapshot_group` |
//! | images | `import_image`, `import_object`, `export_image`, `create_image`, `copy_image`, `describe_images`, `delete_image`, `share_image`, `image_shares`, `open_image`, `harden_image`, `soften_image` |
//! | instances | `create_instance`, `run_instances`, `start_instance`, `stop_instance`, `reboot_instance`, `change_power`, `delete_instance`, `delete_instances`, `modify_instance`, `describe_instances`, `instance_seed`, `user_data` |
//! | tags | `tag_resources`, `untag_resources`, `list_tags` |
//! | tasks | `describe_tasks`, `describe_task`, `cancel_task` |
//! | keys, accounts | `access_key` (for the signature), `create_key`, `create_session`, `keys`, `disable_key`, `delete_key`, `accounts`, `account`, `set_account` |
//! | operator | `lock_instance`, `unlock_instance`, `usage`, `start_scrub`, `scrub`, `cancel_scrub`, `begin_backup`, `close` |

mod account;
mod backup;
mod bucket;
mod caller;
mod claim;
mod client_token;
mod clock;
mod cloud;
mod disk;
mod error;
mod filter;
mod first_boot;
mod ids;
mod image;
mod instance;
mod jobs;
mod keep;
mod key;
mod paging;
mod password;
mod rebuild;
mod recovery;
mod reinit_disk;
mod reset_disk;
mod rules;
mod scrub;
mod secret;
mod security_layer;
mod seed;
mod session;
mod settings;
mod sha512_crypt;
mod snapshot;
mod snapshot_group;
mod source;
mod space;
mod tags;
mod task;
mod texts;
mod usage;
mod verify;
mod world;

pub use account::{AccountView, SetAccount};
pub use bucket::Bucket;
pub use caller::{Caller, Role, Via};
pub use catalog::record::{
    ChargeType, DiskRole, ImageStatus, Lock, Origin, SnapshotStatus, Tags, TaskStatus,
};
pub use clock::{Clock, SetClock, SystemClock};
pub use cloud::{Cloud, OpenCloud};
pub use disk::{
    AttachDisk, AttachmentView, CreateDisk, DescribeDisks, DiskDetail, DiskStatus, DiskView,
    LastReset, LimitDisk, ModifyDisk, ReplaceSystemDisk, ResizeDisk,
};
pub use error::{CloudError, Countable, Field, Quota, Resource, WhyNoSecurityLayer, WhyNotActive};
pub use filter::{TagFilter, TagPattern};
pub use image::{
    CopyImage, CreateImage, DescribeImages, ExportFormat, ExportImage, ImageDataDisk,
    ImageDiskAsked, ImageFrom, ImageOwnerAlias, ImageShare, ImageView, ImportDisk, ImportImage,
    ImportObject, ImportStarted, OpenImage, SecurityLayerView, ShareImage,
};
pub use instance::{
    ChangePower, CreateInstance, DataDisk, DeleteInstances, DescribeInstances, InstanceCreated,
    InstanceStatus, InstanceView, ModifyInstance, PowerChange, PowerChanged, RunInstances,
    SystemDisk,
};
pub use key::{AccessKey, KeyCreated, KeyState, KeyView};
pub use paging::{Page, Paging};
pub use rebuild::{RebuiltCatalog, RebuiltDisk, rebuild_catalog};
pub use reinit_disk::{PlannedReset, ReInitDisk, ResetDone};
pub use reset_disk::ResetDisk;
pub use scrub::{ScrubStatus, ScrubView};
pub use secret::SecretText;
pub use seed::InstanceSeed;
pub use session::SessionCreated;
pub use settings::{InstanceType, Settings};
pub use snapshot::{CreateSnapshot, DescribeSnapshots, SnapshotView, Usage};
pub use snapshot_group::{
    CreateSnapshotGroup, DescribeSnapshotGroups, GroupedSnapshot, SnapshotGroupView,
};
pub use tags::{ResourceType, TagList, TaggedResource};
pub use task::{DescribeTasks, TaskView};
pub use usage::StoreUsage;

/// Bytes of a GiB, the unit of sizes in the API.
pub const GIB: u64 = 1 << 30;

/// The account that stands where none is named.
pub const DEFAULT_ACCOUNT: &str = "default";
