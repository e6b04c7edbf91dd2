//! What only the operator may do, through the control socket: keys, accounts, locks.
//!
//! All actions of the operator, and what they answer besides `RequestId`:
//! ```text
//! CreateAccessKey  Account Role=full|read|reset ExpireTime?   AccessKeyId AccessKeySecret Account Role
//!                  Temporary?                                 with it also SecurityToken ExpireTime
//! ListAccessKeys                                              AccessKeys.AccessKey[]
//! DisableAccessKey AccessKeyId | DeleteAccessKey AccessKeyId
//! ListAccounts                                                Accounts.Account[]
//! SetAccount       Account InArrears? QuotaInBytes?=N|none    as one of ListAccounts
//! LockInstance     InstanceId LockReason=security|financial
//! UnlockInstance   InstanceId LockReason? (without: every lock)
//! ShowInstanceSeed InstanceId                                 SeedId Login MetaData UserData (base64) VendorData
//! HardenImage      ImageId SnapshotId | SoftenImage ImageId
//! ShowDisk         DiskId                                     as DescribeDisks, SizeInBytes Origin Epoch ...
//! ReInitDisks      DiskId.N Keep?                             Disks.Disk[]: Epoch SnapshotId? ... or Code Message
//! PlanReInitDisks  DiskId.N Cycle? Keep?                      Disks.Disk[]: BytesDropped ... or Code Message
//! VerifyDisk       DiskId Deep?                               InInitialState DiffersAt.Range[] ...
//! ReclaimDisk      DiskId BytesPerSecond?                     FreedBytes Complete (answers when the walk is done)
//! ImportImageFile  Path ImageName ImageFormat? Backing? Public? OSType? Architecture? Platform? Description? Tag.N
//!                                                             ImageId TaskId
//! ExportImageFile  ImageId Path ImageFormat=raw|qcow2              (answers when the file is whole)
//! ShowTask         TaskId                                     TaskStatus BytesDone BytesTotal ErrorCode ...
//! StartScrub       Rate? (bytes a second, 0 for no limit)     as ShowScrub
//! ShowScrub | CancelScrub                                     Status BytesDone BytesTotal ErrorMessage; once it is
//!                                                             finished Layers Clusters Bytes Findings.Finding[]
//! ```
//! All ECS actions are there too; `Account` says for which account, `default` if absent. `RegionId` is not
//! needed, and lists come whole unless a page is asked for.
//!
//! What must always hold: none of this is there for requests over TCP.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use block_store::LayerId;
use cloud::{AccountView, KeyState, KeyView, Role, SetAccount};
use jiff::Timestamp;

use super::codes::{Codes, NO_INSTANCE};
use super::contract::{flag, moment, needed, text};
use super::shape::{Field, flag_field, list_field, text_field, texts_field, whole_field};
use super::{Action, Call, Fields, seconds};
use crate::{refusal::Refusal, tree::Tree};

pub(super) const ACTIONS: &[Action] = &[
    Action::for_operator("CreateAccessKey", create_key)
        .takes(&[&[text("Role"), moment("ExpireTime"), flag("Temporary")]])
        .answers(&[&[
            text_field("AccessKeyId"),
            text_field("AccessKeySecret"),
            text_field("Account"),
            text_field("Role"),
            // Of a temporary key.
            text_field("SecurityToken").at_times(),
            text_field("ExpireTime").at_times(),
        ]]),
    Action::for_operator("ListAccessKeys", list_keys).answers(&[&[list_field(
        "AccessKeys",
        "AccessKey",
        &[&[
            text_field("AccessKeyId"),
            text_field("Account"),
            text_field("Role"),
            text_field("Status"),
            text_field("CreationTime"),
            text_field("ExpireTime"),
            flag_field("Temporary"),
        ]],
    )]]),
    Action::for_operator("DisableAccessKey", disable_key)
        .takes(&[&[needed("AccessKeyId")]])
        .refuses(&[NO_KEY]),
    Action::for_operator("DeleteAccessKey", delete_key)
        .takes(&[&[needed("AccessKeyId")]])
        .refuses(&[NO_KEY]),
    Action::for_operator("ListAccounts", list_accounts).answers(&[&[list_field(
        "Accounts",
        "Account",
        &[ACCOUNT],
    )]]),
    Action::for_operator("SetAccount", set_account)
        .takes(&[&[needed("Account"), text("QuotaInBytes"), flag("InArrears")]])
        .answers(&[ACCOUNT]),
    Action::for_operator("BeginBackup", begin_backup)
        .answers(&[&[texts_field("Layers", "LayerId"), texts_field("LostLayers", "LayerId")]]),
    Action::for_operator("LockInstance", lock)
        .takes(&[&[needed("InstanceId"), needed("LockReason")]])
        .refuses(&[NO_INSTANCE, &[("InvalidLockReason.NotFound", 404)]]),
    Action::for_operator("UnlockInstance", unlock)
        .takes(&[&[needed("InstanceId"), text("LockReason")]])
        .refuses(&[NO_INSTANCE, &[("InvalidLockReason.NotFound", 404)]]),
    Action::for_operator("ShowInstanceSeed", seed)
        .takes(&[&[needed("InstanceId")]])
        .answers(&[&[
            text_field("InstanceId"),
            text_field("SeedId"),
            text_field("Login"),
            text_field("MetaData"),
            text_field("UserData"),
            text_field("VendorData"),
        ]])
        .refuses(&[NO_INSTANCE, &[("InvalidUserData.SizeExceeded", 400)]]),
];

const NO_KEY: Codes = &[("InvalidAccessKeyId.NotFound", 404)];

const ACCOUNT: &[Field] = &[
    text_field("Account"),
    text_field("AccountNumber"),
    text_field("CreationTime"),
    flag_field("InArrears"),
    whole_field("DiskBytes"),
    // Of one that has a quota.
    whole_field("QuotaInBytes").at_times(),
];

const ROLES: [(&str, Role); 3] =
    [("full", Role::Full), ("read", Role::Read), ("reset", Role::Reset)];

fn create_key(call: &Call<'_>) -> Result<Fields, Refusal> {
    let role = call.one_of("Role", &ROLES, ("InvalidParameter", 400))?.unwrap_or(Role::Full);
    let expires = time(call, "ExpireTime")?;
    if call.parameters.flag("Temporary")? == Some(true) {
        return create_session(call, role, expires);
    }
    let made =
        call.ask(|cloud, caller| cloud.create_key(caller, &caller.account, role, expires))?;
    Ok(vec![
        ("AccessKeyId", made.access_key_id.into()),
        ("AccessKeySecret", made.secret.reveal().into()),
        ("Account", made.account.into()),
        ("Role", role_name(role).into()),
    ])
}

fn create_session(
    call: &Call<'_>,
    role: Role,
    expires: Option<Timestamp>,
) -> Result<Fields, Refusal> {
    let made =
        call.ask(|cloud, caller| cloud.create_session(caller, &caller.account, role, expires))?;
    Ok(vec![
        ("AccessKeyId", made.access_key_id.into()),
        ("AccessKeySecret", made.secret.reveal().into()),
        ("SecurityToken", made.token.reveal().into()),
        ("Account", made.account.into()),
        ("Role", role_name(role).into()),
        ("ExpireTime", seconds(Some(made.expires))),
    ])
}

fn time(call: &Call<'_>, name: &str) -> Result<Option<Timestamp>, Refusal> {
    let Some(text) = call.parameters.text(name) else { return Ok(None) };
    let refused =
        |_| Refusal::invalid(format!("{name} must be a time such as 2030-01-01T00:00:00Z."));
    text.parse().map(Some).map_err(refused)
}

fn list_keys(call: &Call<'_>) -> Result<Fields, Refusal> {
    let keys = call.ask(|cloud, caller| cloud.keys(caller))?;
    Ok(vec![("AccessKeys", Tree::list("AccessKey", keys.iter().map(key)))])
}

fn key(key: &KeyView) -> Tree {
    let status = match key.state {
        KeyState::Active => "Active",
        KeyState::Disabled => "Inactive",
        KeyState::Expired => "Expired",
    };
    Tree::object([
        ("AccessKeyId", (&key.access_key_id).into()),
        ("Account", (&key.account).into()),
        ("Role", role_name(key.role).into()),
        ("Status", status.into()),
        ("CreationTime", seconds(Some(key.created))),
        ("ExpireTime", seconds(key.expires)),
        ("Temporary", key.is_temporary.into()),
    ])
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Full => "full",
        Role::Read => "read",
        Role::Reset => "reset",
    }
}

fn disable_key(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("AccessKeyId")?;
    call.ask(|cloud, caller| cloud.disable_key(caller, &id))?;
    Ok(vec![])
}

fn delete_key(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("AccessKeyId")?;
    call.ask(|cloud, caller| cloud.delete_key(caller, &id))?;
    Ok(vec![])
}

fn begin_backup(call: &Call<'_>) -> Result<Fields, Refusal> {
    let family = call.ask(|cloud, caller| cloud.begin_backup(caller))?;
    let names = |layers: &BTreeSet<LayerId>| layers.iter().map(LayerId::to_string).collect();
    let (whole, lost): (Vec<_>, Vec<_>) = (names(&family.whole), names(&family.lost));
    Ok(vec![
        ("Layers", Tree::texts("LayerId", whole.iter())),
        ("LostLayers", Tree::texts("LayerId", lost.iter())),
    ])
}

fn list_accounts(call: &Call<'_>) -> Result<Fields, Refusal> {
    let accounts = call.ask(|cloud, caller| cloud.accounts(caller))?;
    let rows = accounts.iter().map(|one| Tree::Object(account(one)));
    Ok(vec![("Accounts", Tree::list("Account", rows))])
}

fn set_account(call: &Call<'_>) -> Result<Fields, Refusal> {
    let name = call.parameters.needed("Account")?;
    let quota_bytes = match call.parameters.text("QuotaInBytes") {
        Some("none") => Some(None),
        Some(_) => Some(call.parameters.number("QuotaInBytes")?),
        None => None,
    };
    let set = SetAccount { in_arrears: call.parameters.flag("InArrears")?, quota_bytes };
    let changed = call.ask(|cloud, caller| cloud.set_account(caller, &name, &set))?;
    Ok(account(&changed))
}

fn account(account: &AccountView) -> Fields {
    let mut fields: Fields = vec![
        ("Account", (&account.name).into()),
        // A text: clients name accounts by it.
        ("AccountNumber", account.number.to_string().into()),
        ("CreationTime", seconds(Some(account.created))),
        ("InArrears", account.in_arrears.into()),
        ("DiskBytes", account.disk_bytes.into()),
    ];
    fields.extend(account.quota_bytes.map(|bytes| ("QuotaInBytes", bytes.into())));
    fields
}

fn lock(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("InstanceId")?;
    let reason = call.lock()?.ok_or_else(|| Refusal::missing("LockReason"))?;
    call.ask(|cloud, caller| cloud.lock_instance(caller, &id, reason))?;
    Ok(vec![])
}

fn unlock(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("InstanceId")?;
    let reason = call.lock()?;
    call.ask(|cloud, caller| cloud.unlock_instance(caller, &id, reason))?;
    Ok(vec![])
}

/// The one answer with the hash of a password in it.
fn seed(call: &Call<'_>) -> Result<Fields, Refusal> {
    let id = call.parameters.needed("InstanceId")?;
    let seed = call.ask(|cloud, caller| cloud.instance_seed(caller, &id))?;
    Ok(vec![
        ("InstanceId", id.into()),
        ("SeedId", seed.seed_id.into()),
        ("Login", seed.login.unwrap_or_default().into()),
        ("MetaData", seed.meta_data.into()),
        ("UserData", STANDARD.encode(&seed.user_data).into()),
        ("VendorData", seed.vendor_data.unwrap_or_default().into()),
    ])
}
