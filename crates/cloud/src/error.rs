//! Why a call was refused or failed, one variant per thing a caller would do differently.
//!
//! What must always hold
//! 1. A call that answers an error changed nothing, except where the variant says otherwise.
//! 2. No variant tells whether a resource of another account exists.
//! 3. No secret, password, path or stack is in a message.
//!
//! Left to others: codes and statuses of a protocol (`ecs-http` maps every variant in one match).

use std::io;

use block_store::StoreError;
use catalog::CatalogError;
use reinit::ResetError;
use thiserror::Error;

use crate::{Role, SnapshotStatus, disk::DiskStatus, instance::InstanceStatus};

/// Why a call was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    // Who asks
    /// The role of the caller does not cover the action.
    #[error("the role {role:?} does not cover {action}")]
    Forbidden {
        /// What was asked.
        action: &'static str,
        /// The role that asked.
        role: Role,
    },
    /// Only the operator, through the control socket, may do that.
    #[error("{action} is for the operator only")]
    OperatorOnly {
        /// What was asked.
        action: &'static str,
    },

    // What is asked for does not exist, for this account
    /// No such resource in this account.
    #[error("there is no {kind:?} {id}")]
    NotFound {
        /// What kind of resource.
        kind: Resource,
        /// The id as given.
        id: String,
    },

    // The request itself
    /// A parameter that is needed is not there.
    #[error("{parameter} is missing")]
    Missing {
        /// Its ECS name.
        parameter: &'static str,
    },
    /// A text has not the shape its field needs.
    #[error("{field:?} is malformed: {rule}")]
    Malformed {
        /// Which field.
        field: Field,
        /// What it needs.
        rule: &'static str,
    },
    /// A value is well-formed but none of those offered.
    #[error("{field:?} cannot be {value:?}")]
    ValueNotSupported {
        /// Which field.
        field: Field,
        /// What was given.
        value: String,
    },
    /// Two parameters exclude each other.
    #[error("{first} and {second} exclude each other")]
    ParametersConflict {
        /// The ECS name of one.
        first: &'static str,
        /// The ECS name of the other.
        second: &'static str,
    },
    /// More of something than one call or one resource takes.
    #[error("more than {most} {what:?}")]
    TooMany {
        /// What there is too much of.
        what: Countable,
        /// How many are taken.
        most: usize,
    },
    /// One tag key twice in one call.
    #[error("the tag key {key:?} is given twice")]
    DuplicateTagKey {
        /// The key.
        key: String,
    },
    /// The texts and tags of one resource take more room than its record has.
    #[error("the texts and tags of one resource take more than {most} bytes")]
    TextsTooLong {
        /// The room there is.
        most: usize,
    },
    /// A modification that modifies nothing.
    #[error("nothing to modify is given")]
    NothingToModify,
    /// `SecurityEnhancementStrategy=Active` where it leads nowhere.
    #[error("SecurityEnhancementStrategy=Active is not possible here: {why}")]
    SecurityEnhancementRefused {
        /// What is in the way.
        why: WhyNotActive,
    },
    /// An image cannot be given that security layer, or has none to lose.
    #[error("the image {image} {why}")]
    NoSecurityLayer {
        /// The image.
        image: String,
        /// What is in the way.
        why: WhyNoSecurityLayer,
    },
    /// What the disk held was kept, as asked, but the reset after it failed or may have.
    #[error("{reason}; what the disk held is kept in the snapshot {snapshot}")]
    KeptButNotReset {
        /// It stays.
        snapshot: String,
        /// Why there was no reset.
        reason: Box<CloudError>,
    },
    /// The check that was asked for passed; nothing was done, as asked.
    #[error("the request would succeed; nothing was done because DryRun was asked for")]
    DryRunPassed,

    // Idempotency
    /// The client token was used with other parameters.
    #[error("the client token {token:?} was used with other parameters")]
    TokenMismatch {
        /// The token.
        token: String,
    },

    // Disks
    /// The category has no initial state to go back to, or cannot be snapshotted.
    #[error("the category {category} of the disk {disk} does not allow that")]
    CategoryNotSupported {
        /// The disk.
        disk: String,
        /// Its category.
        category: String,
    },
    /// The disk is in a state the action does not start from.
    #[error("the disk {disk} is {status}")]
    IncorrectDiskStatus {
        /// The disk.
        disk: String,
        /// Its state.
        status: DiskStatus,
    },
    /// The disk is not attached to the instance named.
    #[error("the disk {disk} is not attached to {instance}")]
    NotAttachedThere {
        /// The disk.
        disk: String,
        /// The instance named.
        instance: String,
    },
    /// Only a disk that is attached to nothing can be deleted.
    #[error("the disk {disk} is still attached")]
    DiskStillAttached {
        /// The disk.
        disk: String,
    },
    /// A system disk, or another disk that lives and dies with its instance.
    #[error("the disk {disk} cannot leave its instance")]
    DiskNotPortable {
        /// The disk.
        disk: String,
    },
    /// A snapshot of the disk is in progress.
    #[error("a snapshot of the disk {disk} is in progress")]
    DiskCreatingSnapshot {
        /// The disk.
        disk: String,
    },
    /// `CreateSnapshot` while an earlier one of that disk is in progress.
    #[error("an earlier snapshot of the disk {disk} is still in progress")]
    SnapshotInProgress {
        /// The disk.
        disk: String,
    },
    /// The disk was never attached: there is nothing to snapshot.
    #[error("the disk {disk} was never attached")]
    NeverAttached {
        /// The disk.
        disk: String,
    },
    /// The disk's instance was never started: there is nothing to snapshot.
    #[error("the disk {disk} was never used: its instance was never started")]
    NeverUsed {
        /// The disk.
        disk: String,
    },
    /// The device name is taken on that instance.
    #[error("the device {device} is in use")]
    DeviceInUse {
        /// The device.
        device: String,
    },
    /// The instance holds as many disks as it can.
    #[error("the instance {instance} holds as many disks as it can")]
    DiskLimitExceeded {
        /// The instance, empty when it is only being created.
        instance: String,
    },
    /// Disk and instance are in different zones.
    #[error("the disk {disk} and the instance {instance} are not in one zone")]
    NotSameZone {
        /// The disk.
        disk: String,
        /// The instance.
        instance: String,
    },
    /// A disk of the instance is not in use right now, for instance because it is being reset.
    #[error("the disk {disk} of the instance {instance} is {status}")]
    DiskError {
        /// The disk.
        disk: String,
        /// The instance.
        instance: String,
        /// The disk's state.
        status: DiskStatus,
    },
    /// The size is below what the source, the category or the present size asks for.
    #[error("{gib} GiB is too small: at least {least} GiB")]
    SizeTooSmall {
        /// Which size.
        field: Field,
        /// What was asked for.
        gib: u64,
        /// The least possible.
        least: u64,
    },
    /// The size is above what the category or the store takes.
    #[error("{gib} GiB is too large: at most {most} GiB")]
    SizeTooLarge {
        /// Which size.
        field: Field,
        /// What was asked for.
        gib: u64,
        /// The most possible.
        most: u64,
    },
    /// The system disk would be smaller than its image.
    #[error("{gib} GiB is smaller than the image: at least {least} GiB")]
    SmallerThanImage {
        /// What was asked for.
        gib: u64,
        /// The least possible.
        least: u64,
    },

    // Instances and money
    /// The instance carries the security lock.
    #[error("the instance {instance} is locked for security reasons")]
    InstanceLockedForSecurity {
        /// The instance.
        instance: String,
    },
    /// The instance expired, is locked for money, or its account owes.
    #[error("the instance or disk {id} has expired or its account is in arrears")]
    ExpiredOrInArrears {
        /// The instance or disk.
        id: String,
    },
    /// The account owes: nothing new is made for it.
    #[error("the account {account} is in arrears")]
    AccountInArrears {
        /// The account.
        account: String,
    },
    /// The instance is in a state the action does not start from.
    #[error("the instance {instance} is {status}")]
    IncorrectInstanceStatus {
        /// The instance.
        instance: String,
        /// Its state.
        status: InstanceStatus,
    },
    /// The instance was never started, so its disks are in their initial state anyway.
    #[error("the instance {instance} was never started")]
    NeverStarted {
        /// The instance.
        instance: String,
    },

    /// An instance that is paid for in advance cannot be given back before its time is over.
    #[error("the instance {instance} is paid for until later")]
    StillPaidFor {
        /// The instance.
        instance: String,
    },

    // Sources of disks
    /// The snapshot is not finished.
    #[error("the snapshot {snapshot} is not accomplished but {status:?}")]
    SnapshotNotReady {
        /// The snapshot.
        snapshot: String,
        /// Its state.
        status: SnapshotStatus,
    },
    /// The snapshot is older than the cut-off.
    #[error("the snapshot {snapshot} is too old")]
    SnapshotTooOld {
        /// The snapshot.
        snapshot: String,
    },
    /// The snapshot is of another disk.
    #[error("the snapshot {snapshot} is not of the disk {disk}")]
    SnapshotOfOtherDisk {
        /// The snapshot.
        snapshot: String,
        /// The disk.
        disk: String,
    },
    /// A data disk cannot be made from a system disk's snapshot, nor an image from a data disk's.
    #[error("the snapshot {snapshot} is of the wrong type of disk")]
    SnapshotOfWrongType {
        /// The snapshot.
        snapshot: String,
    },
    /// An image holds one system disk, and only that is made from a system disk's snapshot.
    #[error("an image holds exactly one system disk, made from a snapshot")]
    NotOneSystemDisk,
    /// The snapshot the disk was made from is gone.
    #[error("the snapshot {snapshot} the disk {disk} was made from is gone")]
    SourceSnapshotGone {
        /// The disk.
        disk: String,
        /// The snapshot.
        snapshot: String,
    },
    /// The own image the disk was made from is gone.
    #[error("the image {image} the disk {disk} was made from is gone")]
    SourceImageGone {
        /// The disk.
        disk: String,
        /// The image.
        image: String,
    },
    /// The other account's image the disk was made from is gone or no longer shared.
    #[error("the shared image {image} of the disk {disk} is gone or no longer shared")]
    SharedImageGone {
        /// The disk.
        disk: String,
        /// The image.
        image: String,
    },
    /// Disks were made from the snapshot; force deletes it all the same.
    #[error("disks were made from the snapshot {snapshot}")]
    SnapshotCreatedDisk {
        /// The snapshot.
        snapshot: String,
    },
    /// An image was made from the snapshot; force does not help.
    #[error("an image was made from the snapshot {snapshot}")]
    SnapshotCreatedImage {
        /// The snapshot.
        snapshot: String,
    },
    /// Instances were made from the image; force deletes it all the same, once none is being made.
    #[error("instances were made from the image {image}")]
    ImageUsedByInstance {
        /// The image.
        image: String,
    },
    /// The image is shared; take the shares back first.
    #[error("the image {image} is shared")]
    ImageShared {
        /// The image.
        image: String,
    },
    /// The image is not ready, or no longer.
    #[error("the image {image} is not ready")]
    ImageNotReady {
        /// The image.
        image: String,
    },
    /// The image is being imported; cancel its task instead.
    #[error("the image {image} is being imported")]
    ImageIsImporting {
        /// The image.
        image: String,
    },
    /// The image is being exported; cancel its task instead.
    #[error("the image {image} is being exported")]
    ImageIsExporting {
        /// The image.
        image: String,
    },
    /// Only an own image can be exported.
    #[error("the image {image} belongs to another account and cannot be exported")]
    ImageNotExportable {
        /// The image.
        image: String,
    },
    /// The size asked for is below that of the image.
    #[error("{gib} GiB is smaller than the image: at least {least} GiB")]
    ImageSizeTooSmall {
        /// What was asked for.
        gib: u64,
        /// The least possible.
        least: u64,
    },
    /// The account has an image of that name.
    #[error("the account has an image named {name:?}")]
    ImageNameTaken {
        /// The name.
        name: String,
    },
    /// The file to import is not an image we take.
    #[error("the file is not an image that can be imported: {detail}")]
    ImageRefused {
        /// Why, without any path.
        detail: String,
    },
    /// An image cannot be shared with its own owner.
    #[error("the image {image} belongs to that account")]
    ShareWithSelf {
        /// The image.
        image: String,
    },

    // Tasks
    /// A task of that action cannot be cancelled.
    #[error("the task {task} cannot be cancelled")]
    TaskNotCancellable {
        /// The task.
        task: String,
    },
    /// The task has ended.
    #[error("the task {task} has ended")]
    TaskEnded {
        /// The task.
        task: String,
    },

    /// The work was asked to stop, and left nothing.
    #[error("it was cancelled")]
    Cancelled,

    // The state of things as a whole
    /// Something else is going on with the resource; the same call later works.
    #[error("another operation on {id} is in progress")]
    Conflict {
        /// The resource.
        id: String,
    },
    /// The account holds as much as it may.
    #[error("the quota of {what:?} is used up")]
    QuotaExceeded {
        /// Of what.
        what: Quota,
    },
    /// The name of the new account is taken.
    #[error("the account {account} exists")]
    AccountExists {
        /// The account.
        account: String,
    },
    /// The file system of the store is full. Deletes and resets still work.
    #[error("the store is full")]
    NoSpace,
    /// The store or the catalog takes no more changes until it is opened again; whether this one
    /// happened is settled then.
    #[error("the store takes no more changes until it is opened again")]
    Unavailable {
        /// What failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something below failed.
    #[error("an internal failure")]
    Internal {
        /// What failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A kind of resource that has an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// An account.
    Account,
    /// An access key.
    Key,
    /// A disk.
    Disk,
    /// A snapshot.
    Snapshot,
    /// A snapshot group.
    SnapshotGroup,
    /// An image.
    Image,
    /// An instance.
    Instance,
    /// A background task.
    Task,
    /// A region.
    Region,
    /// A zone.
    Zone,
    /// A bucket.
    Bucket,
    /// An object in a bucket.
    Object,
}

/// A field of a request whose text or value has a rule of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The name of an account.
    AccountName,
    /// `ClientToken`.
    ClientToken,
    /// `Description` of any resource.
    Description,
    /// `DiskName`.
    DiskName,
    /// `SnapshotName`.
    SnapshotName,
    /// `ImageName`.
    ImageName,
    /// `InstanceName`.
    InstanceName,
    /// `HostName`.
    HostName,
    /// `Password`.
    Password,
    /// `KeyPairName`.
    KeyPairName,
    /// `UserData`.
    UserData,
    /// `Tag.N.Key`.
    TagKey,
    /// `Tag.N.Value`.
    TagValue,
    /// `Device`.
    Device,
    /// `DiskCategory` of a data disk made by itself.
    DiskCategory,
    /// `SystemDisk.Category`.
    SystemDiskCategory,
    /// `DataDisk.N.Category`.
    DataDiskCategory,
    /// `Size` of a disk made by itself.
    DiskSize,
    /// `NewSize`.
    NewSize,
    /// `SystemDisk.Size`.
    SystemDiskSize,
    /// `DataDisk.N.Size`.
    DataDiskSize,
    /// `Architecture` of an image.
    Architecture,
    /// `OSType` of an image.
    OsType,
    /// `Platform` of an image.
    Platform,
    /// `ImageVersion`.
    ImageVersion,
    /// `OSSObject`.
    OssObject,
    /// `OSSPrefix`.
    OssPrefix,
    /// `SecurityGroupId`.
    SecurityGroup,
    /// `VSwitchId`.
    VSwitch,
    /// `PrivateIpAddress`.
    PrivateIpAddress,
    /// `InternetChargeType`.
    InternetChargeType,
    /// `InstanceType`.
    InstanceType,
    /// `InstanceChargeType`.
    InstanceChargeType,
    /// `Period`.
    Period,
    /// `Amount`.
    Amount,
    /// `SecurityEnhancementStrategy`.
    SecurityEnhancementStrategy,
    /// `ResourceType` of a tag action.
    ResourceType,
    /// `PageNumber`.
    PageNumber,
    /// `PageSize`.
    PageSize,
    /// `MaxResults`.
    MaxResults,
    /// `NextToken`.
    NextToken,
}

/// Things a call or a resource takes only so many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Countable {
    /// Ids of disks in one call.
    DiskIds,
    /// Ids of snapshots in one call.
    SnapshotIds,
    /// Ids of images in one call.
    ImageIds,
    /// Ids of instances in one call.
    InstanceIds,
    /// Ids of tasks in one call.
    TaskIds,
    /// Ids of resources in one tag call.
    ResourceIds,
    /// Tags in one call.
    TagsInCall,
    /// Tags on one resource.
    TagsOnResource,
    /// Data disks of one instance.
    DataDisks,
    /// Accounts added to or removed from an image's shares in one call.
    ShareAccounts,
}

/// What an account holds only so much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quota {
    /// Bytes of disks.
    DiskBytes,
    /// Snapshots of one disk.
    Snapshots,
    /// Images.
    Images,
    /// Accounts one image is shared with.
    ImageShares,
}

/// Why a disk cannot go to a security layer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WhyNotActive {
    /// It is for what an image was put on.
    #[error("it is for system disks made from an image")]
    NoSystemDisk,
    /// The image is some account's own.
    #[error("the image {0} is not public")]
    NotPublic(String),
    /// Nobody gave the image one.
    #[error("the image {0} has no security layer")]
    NoLayer(String),
    /// The layer was made of a larger disk.
    #[error("the disk has {size} bytes and the security layer needs {needed}")]
    TooSmall {
        /// Of the disk.
        size: u64,
        /// Of the layer.
        needed: u64,
    },
}

/// Why an image does not get a security layer, or does not lose one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WhyNoSecurityLayer {
    /// Only public images have one.
    #[error("is not public; only a public image may have a security layer")]
    NotPublic,
    /// The chain of the snapshot does not stand on the image.
    #[error("is not what the disk of the snapshot {0} was made from")]
    OfOtherImage(String),
    /// The snapshot is the image.
    #[error("is all that the snapshot {0} holds: nothing was installed on its disk")]
    NothingInstalled(String),
    /// It has none.
    #[error("has no security layer")]
    NothingToRemove,
}

impl CloudError {
    pub(crate) fn not_found(kind: Resource, id: impl Into<String>) -> Self {
        Self::NotFound { kind, id: id.into() }
    }

    pub(crate) fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal { source: source.into() }
    }
}

impl From<CatalogError> for CloudError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Refused { .. } | CatalogError::InDoubt { .. } => {
                Self::Unavailable { source: error.into() }
            }
            CatalogError::TooLarge { limit, .. } => Self::TextsTooLong { most: limit },
            CatalogError::Conflict { key } => Self::Conflict { id: key },
            CatalogError::Io { ref source, .. } if is_full(source) => Self::NoSpace,
            other => Self::internal(other),
        }
    }
}

impl From<StoreError> for CloudError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSpace => Self::NoSpace,
            StoreError::Cancelled => Self::Cancelled,
            StoreError::LedgerFailed(_) => Self::Unavailable { source: error.into() },
            StoreError::InvalidSize { size, .. } => {
                Self::ValueNotSupported { field: Field::DiskSize, value: size.to_string() }
            }
            StoreError::ChainTooLong(_) => Self::QuotaExceeded { what: Quota::Snapshots },
            StoreError::Source(refused) => Self::ImageRefused { detail: refused.told() },
            other => Self::internal(other),
        }
    }
}

impl From<ResetError> for CloudError {
    fn from(error: ResetError) -> Self {
        match error {
            ResetError::Store(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
