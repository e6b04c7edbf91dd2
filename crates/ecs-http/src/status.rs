//! Which code and status each error of the cloud is in the ECS protocol: the one table.
//!
//! What must always hold: the match is exhaustive and has no wildcard, here and over fields, resources,
//! counts and quotas: a new variant does not compile until someone decides its code.
//! Left to others: refusals that arise before the cloud is asked (`gate`, `parameters`).
//!
//! An error below (a full or failing store) is logged here with its cause; the client gets the code only.

use cloud::{CloudError, Countable, Field, Quota, Resource, WhyNoSecurityLayer};

use crate::refusal::Refusal;

/// The refusal that an error of an action is.
pub(crate) fn refusal(action: &str, error: &CloudError) -> Refusal {
    log_if_ours(error);
    if let CloudError::Missing { parameter } = error {
        return Refusal::missing(parameter);
    }
    let (code, status) = code_and_status(error, action);
    Refusal::new(code, status, sentence(&error.to_string()))
}

/// As a client shows it: with a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

fn log_if_ours(error: &CloudError) {
    if let CloudError::KeptButNotReset { reason, .. } = error {
        return log_if_ours(reason);
    }
    if let CloudError::Internal { source } | CloudError::Unavailable { source } = error {
        let causes =
            std::iter::successors(Some(source.as_ref() as &dyn std::error::Error), |cause| {
                cause.source()
            });
        let text: Vec<String> = causes.map(ToString::to_string).collect();
        tracing::error!(%error, cause = text.join(": "), "a request failed");
    }
}

/// `action` decides where the reference gives one fact different codes.
fn code_and_status(error: &CloudError, action: &str) -> (&'static str, u16) {
    match error {
        CloudError::Forbidden { .. } | CloudError::OperatorOnly { .. } => ("Forbidden.RAM", 403),
        CloudError::NotFound { kind, .. } => not_found(*kind, action),

        CloudError::Missing { .. } => ("MissingParameter", 400),
        CloudError::Malformed { field, .. } | CloudError::ValueNotSupported { field, .. } => {
            wrong_value(*field, action)
        }
        CloudError::ParametersConflict { .. } => ("InvalidParameter.Conflict", 400),
        CloudError::TooMany { what, .. } => too_many(*what, action),
        CloudError::DuplicateTagKey { .. } => ("Duplicate.TagKey", 400),
        CloudError::TextsTooLong { .. } => ("InvalidParameter", 400),
        CloudError::NothingToModify => ("NoAttributeToModify", 400),
        CloudError::SecurityEnhancementRefused { .. } => ("InvalidParameter", 400),
        CloudError::NoSecurityLayer { why, .. } => match why {
            WhyNoSecurityLayer::OfOtherImage(_) | WhyNoSecurityLayer::NothingInstalled(_) => {
                ("InvalidParameter.Mismatch", 403)
            }
            WhyNoSecurityLayer::NotPublic | WhyNoSecurityLayer::NothingToRemove => {
                ("InvalidParameter", 400)
            }
        },
        CloudError::KeptButNotReset { reason, .. } => code_and_status(reason, action),
        CloudError::DryRunPassed => match action {
            "ResetDisks" | "StartInstances" | "StopInstances" | "RebootInstances"
            | "DeleteInstances" => ("DRYRUN.SUCCESS", 400),
            _ => ("DryRunOperation", 400),
        },
        CloudError::TokenMismatch { .. } => ("IdempotentParameterMismatch", 403),

        CloudError::CategoryNotSupported { .. } => match action {
            "ResizeDisk" => ("InvalidDiskCategory.NotSupported", 403),
            _ => ("DiskCategory.OperationNotSupported", 400),
        },
        CloudError::IncorrectDiskStatus { .. } => ("IncorrectDiskStatus", 403),
        CloudError::NotAttachedThere { .. } => ("DependencyViolation", 403),
        CloudError::DiskStillAttached { .. } => ("DiskStillAttached", 403),
        CloudError::DiskNotPortable { .. } => ("DiskNotPortable", 403),
        CloudError::DiskCreatingSnapshot { .. } => ("DiskCreatingSnapshot", 403),
        CloudError::SnapshotInProgress { .. } => ("IncorrectDiskStatus.CreatingSnapshot", 403),
        CloudError::NeverAttached { .. } => ("IncorrectDiskStatus.NeverAttached", 403),
        CloudError::NeverUsed { .. } => match action {
            "CreateImage" => ("IncorrectInstanceStatus", 400),
            _ => ("IncorrectDiskStatus.NeverUsed", 403),
        },
        CloudError::DeviceInUse { .. } => match action {
            "CreateImage" => ("InvalidDevice.InUse", 400),
            _ => ("InvalidDevice.InUse", 403),
        },
        CloudError::DiskLimitExceeded { .. } => ("InstanceDiskLimitExceeded", 403),
        CloudError::NotSameZone { .. } => ("ResourcesNotInSameZone", 403),
        CloudError::DiskError { .. } => ("DiskError", 403),
        CloudError::SizeTooSmall { field, .. } => too_small(*field, action),
        CloudError::SizeTooLarge { field, .. } => too_large(*field, action),
        CloudError::SmallerThanImage { .. } => ("InvalidSystemDiskSize.LessThanImageSize", 404),

        CloudError::InstanceLockedForSecurity { .. } => match action {
            "CreateImage" => ("InstanceLockedForSecurity", 400),
            _ => ("InstanceLockedForSecurity", 403),
        },
        CloudError::ExpiredOrInArrears { .. } => match action {
            "StartInstance" | "StartInstances" => ("InstanceExpired", 403),
            "CreateSnapshot" => ("DiskInArrears", 403),
            _ => ("InstanceExpiredOrInArrears", 403),
        },
        CloudError::AccountInArrears { .. } => ("Account.Arrearage", 400),
        CloudError::IncorrectInstanceStatus { .. } => match action {
            "CreateSnapshot" | "CreateImage" => ("IncorrectInstanceStatus", 400),
            _ => ("IncorrectInstanceStatus", 403),
        },
        CloudError::NeverStarted { .. } => ("IncorrectInstanceStatus", 403),
        CloudError::StillPaidFor { .. } => ("ChargeTypeViolation", 403),

        CloudError::SnapshotNotReady { .. } => ("InvalidSnapshotId.NotReady", 403),
        CloudError::SnapshotTooOld { .. } => match action {
            "CreateInstance" | "RunInstances" => ("InvalidSnapshotId.BasedSnapshotTooOld", 400),
            _ => ("InvalidSnapshot.TooOld", 403),
        },
        CloudError::SnapshotOfOtherDisk { .. } => ("InvalidParameter.Mismatch", 403),
        CloudError::SnapshotOfWrongType { .. } => match action {
            "CreateImage" => ("OperationDenied", 403),
            _ => ("InvalidSnapshotId.NotDataDiskSnapshot", 403),
        },
        CloudError::NotOneSystemDisk => ("OperationDenied", 400),
        CloudError::SourceSnapshotGone { .. } => ("InvalidSourceSnapshot", 403),
        CloudError::SourceImageGone { .. } => ("OperationDenied", 403),
        CloudError::SharedImageGone { .. } => ("SharedImageDeleted", 403),
        CloudError::SnapshotCreatedDisk { .. } => ("SnapshotCreatedDisk", 403),
        CloudError::SnapshotCreatedImage { .. } => ("SnapshotCreatedImage", 403),
        CloudError::ImageUsedByInstance { .. } => ("ImageUsingByInstance", 403),
        CloudError::ImageShared { .. } => ("ImageUseShared", 403),
        CloudError::ImageNotReady { .. } => ("IncorrectImageStatus", 400),
        CloudError::ImageIsImporting { .. } => ("ImageIsImporting", 403),
        CloudError::ImageIsExporting { .. } => ("ImageIsExporting", 403),
        CloudError::ImageNotExportable { .. } => ("ImageNotSupported", 403),
        CloudError::ImageSizeTooSmall { .. } => ("InvalidImageSize", 400),
        CloudError::ImageNameTaken { .. } => ("InvalidImageName.Duplicated", 400),
        CloudError::ImageRefused { .. } => ("InvalidImageFormat.Malformed", 400),
        // The reference spells it like this.
        CloudError::ShareWithSelf { .. } => ("InvalidAccount.Forbbiden", 404),

        CloudError::TaskNotCancellable { .. } => ("InvalidTaskId.TaskActionNotSupport", 403),
        CloudError::TaskEnded { .. } => ("InvalidTaskId.IncorrectTaskStatus", 403),

        CloudError::Cancelled => ("Cancelled", 400),

        CloudError::Conflict { .. } => ("Operation.Conflict", 403),
        CloudError::QuotaExceeded { what } => quota(*what),
        CloudError::AccountExists { .. } => ("AccountExists", 409),
        // Not 503: clients would send it again at once, to a store that stays full.
        CloudError::NoSpace => ("InsufficientStorage", 507),
        CloudError::Unavailable { .. } => ("ServiceUnavailable", 503),
        CloudError::Internal { .. } => ("InternalError", 500),
    }
}

fn not_found(kind: Resource, action: &str) -> (&'static str, u16) {
    match kind {
        _ if tags_resources(action) => ("InvalidResourceId.NotFound", 404),
        Resource::Account => ("InvalidAccount.NotFound", 404),
        Resource::Key => ("InvalidAccessKeyId.NotFound", 404),
        Resource::Disk => match action {
            "ReplaceSystemDisk" => ("InvalidDiskId.NotFound", 400),
            _ => ("InvalidDiskId.NotFound", 404),
        },
        Resource::Snapshot => match action {
            "CreateInstance" | "RunInstances" => ("InvalidDataDiskSnapshotId.NotFound", 404),
            _ => ("InvalidSnapshotId.NotFound", 404),
        },
        Resource::SnapshotGroup => ("InvalidSnapshotGroupId.NotFound", 404),
        Resource::Image => ("InvalidImageId.NotFound", 404),
        Resource::Instance => ("InvalidInstanceId.NotFound", 404),
        Resource::Task => ("InvalidTaskId.NotFound", 400),
        Resource::Region => ("InvalidRegionId.NotFound", 404),
        Resource::Zone => ("InvalidZoneId.NotFound", 404),
        Resource::Bucket => ("InvalidOSSBucket.NotFound", 400),
        Resource::Object => ("InvalidOSSObject.NotFound", 400),
    }
}

fn tags_resources(action: &str) -> bool {
    matches!(action, "TagResources" | "UntagResources" | "ListTagResources")
}

fn wrong_value(field: Field, action: &str) -> (&'static str, u16) {
    match field {
        Field::ClientToken => ("InvalidClientToken.ValueNotSupported", 400),
        Field::Description => match action {
            // The reference says so of these two.
            "CreateSnapshot" | "ModifyDiskAttribute" => ("InvalidDescription.Malformed", 404),
            _ => ("InvalidDescription.Malformed", 400),
        },
        Field::DiskName => ("InvalidDiskName.Malformed", 400),
        Field::SnapshotName => ("InvalidSnapshotName.Malformed", 400),
        Field::ImageName => ("InvalidImageName.Malformed", 400),
        Field::InstanceName => ("InvalidInstanceName.Malformed", 400),
        Field::HostName => ("InvalidHostName.Malformed", 400),
        Field::Password => ("InvalidPassword.Malformed", 400),
        Field::KeyPairName => ("InvalidKeyPairName.NotFound", 400),
        Field::UserData => ("InvalidUserData.SizeExceeded", 400),
        Field::TagKey => ("InvalidTagKey.Malformed", 400),
        Field::TagValue => ("InvalidTagValue.Malformed", 400),
        Field::Device => match action {
            "CreateInstance" | "RunInstances" => ("InvalidDataDevice.Malformed", 400),
            _ => ("InvalidDevice.Malformed", 400),
        },
        Field::DiskCategory => ("InvalidDiskCategory.ValueNotSupported", 400),
        Field::SystemDiskCategory => ("InvalidSystemDiskCategory.ValueNotSupported", 400),
        Field::DataDiskCategory => ("InvalidDataDiskCategory.ValueNotSupported", 400),
        Field::DiskSize => ("InvalidSize.ValueNotSupported", 400),
        Field::NewSize => ("InvalidDiskSize", 403),
        Field::SystemDiskSize => ("InvalidSystemDiskSize", 404),
        Field::DataDiskSize => ("InvalidDataDiskSize.ValueNotSupported", 400),
        Field::InstanceType => ("InvalidInstanceType.ValueNotSupported", 400),
        Field::InstanceChargeType => ("InvalidInstanceChargeType.NotFound", 404),
        Field::Period => ("InvalidPeriod", 400),
        Field::ResourceType => ("InvalidResourceType.NotFound", 404),
        Field::Architecture => ("InvalidArchitecture.Malformed", 400),
        Field::OsType => ("InvalidOSType.Malformed", 400),
        Field::Platform => ("InvalidPlatform.Malformed", 400),
        Field::OssObject => ("InvalidOSSObject.Malformed", 400),
        Field::OssPrefix => ("InvalidOSSPrefix.Malformed", 400),
        Field::ImageVersion => ("InvalidImageVersion.Malformed", 400),
        Field::SecurityGroup => ("InvalidSecurityGroupId.NotFound", 404),
        Field::VSwitch => ("InvalidVSwitchId.NotFound", 404),
        Field::AccountName
        | Field::PrivateIpAddress
        | Field::InternetChargeType
        | Field::Amount
        | Field::SecurityEnhancementStrategy
        | Field::PageNumber
        | Field::PageSize
        | Field::MaxResults
        | Field::NextToken => ("InvalidParameter", 400),
    }
}

/// Only some actions tell which way a size is wrong.
fn too_small(field: Field, action: &str) -> (&'static str, u16) {
    match (field, action) {
        (Field::SystemDiskSize, "ReplaceSystemDisk") => {
            ("InvalidSystemDiskSize.LessThanMinSize", 404)
        }
        (Field::NewSize, _) => ("InvalidDiskSize.TooSmall", 403),
        (other, _) => wrong_value(other, action),
    }
}

fn too_large(field: Field, action: &str) -> (&'static str, u16) {
    match (field, action) {
        (Field::SystemDiskSize, "ReplaceSystemDisk") => {
            ("InvalidSystemDiskSize.MoreThanMaxSize", 404)
        }
        (Field::NewSize, _) => ("InvalidDiskSize.TooLarge", 403),
        (other, _) => wrong_value(other, action),
    }
}

fn too_many(what: Countable, action: &str) -> (&'static str, u16) {
    match what {
        Countable::DiskIds => ("InvalidDiskIds.Malformed", 403),
        Countable::SnapshotIds => ("InvalidSnapshotIds.Malformed", 403),
        Countable::ImageIds
        | Countable::InstanceIds
        | Countable::TaskIds
        | Countable::ShareAccounts => ("InvalidParameter", 400),
        Countable::ResourceIds => ("NumberExceed.ResourceIds", 400),
        Countable::TagsInCall if tags_resources(action) => ("NumberExceed.Tags", 400),
        Countable::TagsInCall => ("InvalidTagCount", 400),
        Countable::TagsOnResource => ("QuotaExceed.Tags", 403),
        Countable::DataDisks => ("InstanceDiskNumber.LimitExceed", 400),
    }
}

fn quota(what: Quota) -> (&'static str, u16) {
    match what {
        Quota::DiskBytes => ("QuotaExceed.PortableCloudDisk", 403),
        Quota::Snapshots => ("QuotaExceed.Snapshot", 403),
        Quota::Images => ("QuotaExceed.Image", 403),
        Quota::ImageShares => ("QuotaExceed.ShareImageUser", 403),
    }
}

#[cfg(test)]
mod tests {
    use cloud::{DiskStatus, InstanceStatus};

    use super::*;

    fn of(action: &str, error: &CloudError) -> (&'static str, u16) {
        let refusal = refusal(action, error);
        (refusal.code, refusal.status)
    }

    fn id() -> String {
        "x-1".into()
    }

    #[test]
    fn the_rows_of_reinit_disk() {
        let (disk, instance, image, snapshot) = (id(), id(), id(), id());
        let rows = [
            (
                CloudError::NotFound { kind: Resource::Disk, id: id() },
                "InvalidDiskId.NotFound",
                404,
            ),
            (
                CloudError::CategoryNotSupported { disk: id(), category: "ephemeral_ssd".into() },
                "DiskCategory.OperationNotSupported",
                400,
            ),
            (
                CloudError::IncorrectDiskStatus { disk: id(), status: DiskStatus::Available },
                "IncorrectDiskStatus",
                403,
            ),
            (
                CloudError::InstanceLockedForSecurity { instance: id() },
                "InstanceLockedForSecurity",
                403,
            ),
            (CloudError::ExpiredOrInArrears { id: id() }, "InstanceExpiredOrInArrears", 403),
            (
                CloudError::IncorrectInstanceStatus { instance, status: InstanceStatus::Running },
                "IncorrectInstanceStatus",
                403,
            ),
            (CloudError::NeverStarted { instance: id() }, "IncorrectInstanceStatus", 403),
            (CloudError::DiskCreatingSnapshot { disk: id() }, "DiskCreatingSnapshot", 403),
            (CloudError::SnapshotTooOld { snapshot: id() }, "InvalidSnapshot.TooOld", 403),
            (CloudError::SourceSnapshotGone { disk, snapshot }, "InvalidSourceSnapshot", 403),
            (CloudError::SourceImageGone { disk: id(), image }, "OperationDenied", 403),
            (CloudError::SharedImageGone { disk: id(), image: id() }, "SharedImageDeleted", 403),
        ];
        for (error, code, status) in rows {
            assert_eq!(of("ReInitDisk", &error), (code, status));
        }
    }

    #[test]
    fn an_inner_cause_stays_inside() {
        let error = CloudError::Internal { source: "/srv/reinit/ledger: boom".into() };
        let refusal = refusal("ReInitDisk", &error);
        assert_eq!((refusal.code, refusal.status), ("InternalError", 500));
        assert_eq!(refusal.message, "An internal failure.");
    }
}
