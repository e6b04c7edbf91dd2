//! With which codes an action refuses.
//!
//! What must always hold: a code that is answered is told here, with its status. While tests run, every
//! refusal is held against this, and what is told here must be in the code that answers.
//! Left to others: which error is which code (`status`), the document (`openapi`).

use std::collections::{BTreeMap, BTreeSet};

use cloud::CloudError;

use super::Action;
use crate::{front::Door, refusal::Refusal, status};

/// A code with its HTTP status.
pub(crate) type Code = (&'static str, u16);

/// Codes that belong together.
pub(super) type Codes = &'static [Code];

/// Of any request, whatever the action.
const COMMON: Codes = &[
    ("InvalidParameter", 400),
    ("InvalidVersion", 400),
    ("MissingParameter", 400),
    ("RequestTimeout", 408),
    ("RequestBodyTooLarge", 413),
    ("UnsupportedMediaType", 415),
    ("InternalError", 500),
    ("ServiceUnavailable", 503),
];

/// Of any request that must be signed.
const SIGNED: Codes = &[
    ("IncompleteSignature", 400),
    ("InvalidAccessKeyId.Inactive", 400),
    ("InvalidAccessKeyId.NotFound", 404),
    ("InvalidSecurityToken.Expired", 400),
    ("InvalidSecurityToken.Malformed", 400),
    ("InvalidSecurityToken.MismatchWithAccessKey", 400),
    ("InvalidTimeStamp.Expired", 400),
    ("InvalidTimeStamp.Format", 400),
    ("SignatureDoesNotMatch", 400),
    ("SignatureNonceUsed", 400),
    ("Throttling", 400),
    ("Throttling.User", 400),
];

/// Of any request of the operator, who names the account.
const OF_OPERATOR: Codes = &[("InvalidAccount.NotFound", 404)];

/// Of an action that changes something: the store may be full.
const OF_CHANGES: Codes = &[("InsufficientStorage", 507)];

/// Of such an action, for keys whose role does not cover it.
const OF_ROLES: Codes = &[("Forbidden.RAM", 403)];

/// Of a request that comes to no action: these are told of none.
pub(crate) const OF_NO_ACTION: [Code; 2] =
    [("InvalidAction.NotFound", 404), ("UnsupportedHTTPMethod", 403)];

pub(super) const NO_DISK: Codes = &[("InvalidDiskId.NotFound", 404)];

pub(super) const NO_INSTANCE: Codes = &[("InvalidInstanceId.NotFound", 404)];

pub(super) const NO_SNAPSHOT: Codes = &[("InvalidSnapshotId.NotFound", 404)];

pub(super) const NO_IMAGE: Codes = &[("InvalidImageId.NotFound", 404)];

pub(super) const NO_TASK: Codes = &[("InvalidTaskId.NotFound", 400)];

/// `ClientToken`.
pub(super) const REPEATED: Codes =
    &[("InvalidClientToken.ValueNotSupported", 400), ("IdempotentParameterMismatch", 403)];

/// Tags of something new.
pub(super) const NEW_TAGS: Codes = &[
    ("Duplicate.TagKey", 400),
    ("InvalidTagCount", 400),
    ("InvalidTagKey.Malformed", 400),
    ("InvalidTagValue.Malformed", 400),
];

/// What a list is filtered by.
pub(super) const FILTERS: Codes =
    &[("InvalidTag.Mismatch", 400), ("InvalidTagCount", 400), ("InvalidFilterKey.NotFound", 404)];

pub(super) const DESCRIPTION: Codes = &[("InvalidDescription.Malformed", 400)];

pub(super) const LOGIN: Codes = &[
    ("InvalidKeyPairName.NotFound", 400),
    ("InvalidParameter.Conflict", 400),
    ("InvalidPassword.Malformed", 400),
];

pub(super) const IMAGE_NAME: Codes =
    &[("InvalidImageName.Duplicated", 400), ("InvalidImageName.Malformed", 400)];

/// The names of an image to be imported, and how many there may be.
pub(super) const IMPORTED: Codes = &[
    ("InvalidArchitecture.Malformed", 400),
    ("InvalidImageFormat.Malformed", 400),
    ("InvalidOSType.Malformed", 400),
    ("InvalidPlatform.Malformed", 400),
    ("QuotaExceed.Image", 403),
];

/// The instance is locked, or in a state the action does not start from.
pub(super) const INSTANCE_STATE: Codes =
    &[("IncorrectInstanceStatus", 403), ("InstanceLockedForSecurity", 403)];

/// Somebody owes.
pub(super) const UNPAID: Codes = &[("InstanceExpiredOrInArrears", 403)];

pub(super) const DISK_STATE: Codes = &[("IncorrectDiskStatus", 403)];

pub(super) const IN_SNAPSHOT: Codes = &[("DiskCreatingSnapshot", 403)];

/// The category of the disk does not allow it.
pub(super) const CATEGORY: Codes = &[("DiskCategory.OperationNotSupported", 400)];

/// The sizes a system disk can have.
pub(super) const SYSTEM_DISK_SIZE: Codes = &[
    // Beyond what the store has disks of.
    ("InvalidSize.ValueNotSupported", 400),
    ("InvalidSystemDiskSize.LessThanImageSize", 404),
    ("InvalidSystemDiskSize.LessThanMinSize", 404),
    ("InvalidSystemDiskSize.MoreThanMaxSize", 404),
];

/// A snapshot that is to be the source of something.
pub(super) const SOURCE_SNAPSHOT: Codes =
    &[("InvalidSnapshot.TooOld", 403), ("InvalidSnapshotId.NotReady", 403)];

/// The initial state of a disk, if that is gone.
pub(super) const INITIAL_STATE: Codes = &[
    ("InvalidSnapshot.TooOld", 403),
    ("InvalidSourceSnapshot", 403),
    ("OperationDenied", 403),
    ("SharedImageDeleted", 403),
];

/// A snapshot to be taken, but for the states of its disk.
pub(super) const NEW_SNAPSHOT: Codes = &[
    ("IncorrectDiskStatus.CreatingSnapshot", 403),
    ("IncorrectDiskStatus.NeverAttached", 403),
    ("IncorrectDiskStatus.NeverUsed", 403),
    ("Operation.Conflict", 403),
    ("QuotaExceed.Snapshot", 403),
];

/// A snapshot to be deleted.
pub(super) const SNAPSHOT_USED: Codes =
    &[("Operation.Conflict", 403), ("SnapshotCreatedDisk", 403), ("SnapshotCreatedImage", 403)];

impl Action {
    /// All it refuses with, by status.
    pub(crate) fn codes(&self, door: Door) -> BTreeMap<u16, BTreeSet<&'static str>> {
        let mut told: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (code, status) in self.each_code(door) {
            told.entry(status).or_default().insert(code);
        }
        told
    }

    /// Whether a refusal is one that is told.
    pub(crate) fn tells(&self, refusal: &Refusal, door: Door) -> bool {
        self.each_code(door).any(|told| told == (refusal.code, refusal.status))
    }

    fn each_code(&self, door: Door) -> impl Iterator<Item = Code> {
        let by_door = match door {
            Door::Public => [SIGNED, if self.changes() { OF_ROLES } else { &[] }],
            Door::Control => [OF_OPERATOR, &[]],
        };
        let of_changes = if self.changes() { OF_CHANGES } else { &[] };
        let passed =
            self.can_be_dry().then(|| status::refusal(self.name, &CloudError::DryRunPassed));
        let groups = self.refuses.iter().chain(&by_door).copied().chain([COMMON, of_changes]);
        let codes: Vec<_> = groups.flatten().copied().collect();
        codes.into_iter().chain(passed.map(|passed| (passed.code, passed.status)))
    }
}
