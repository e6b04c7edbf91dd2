//! `instance`: who owns disks, and whether they are open to clients.

use serde_json::{Value, json};

use crate::{
    args::{AccountArg, InstanceCommand, InstanceCreateArgs, LockReason, OneInstance},
    commands::{disk, seed},
    control::{Control, Parameters, text},
    failure::Failure,
    output::Report,
};

/// The machine size of an instance whose maker does not care: its processors are another program's.
const INSTANCE_TYPE: &str = "ecs.g6.large";

pub(crate) fn run(control: &Control, command: &InstanceCommand) -> Result<Report, Failure> {
    match command {
        InstanceCommand::Create(args) => create(control, args),
        InstanceCommand::Ls(owner) => list(control, owner),
        InstanceCommand::Show(instance) => show(control, instance),
        InstanceCommand::Start(instance) => {
            act(control, "StartInstance", instance, None, "is started")
        }
        InstanceCommand::Stop { instance, force } => act(
            control,
            "StopInstance",
            instance,
            Some(("ForceStop", force.to_string())),
            "is stopped",
        ),
        InstanceCommand::Rm { instance, force } => act(
            control,
            "DeleteInstance",
            instance,
            Some(("Force", force.to_string())),
            "is deleted",
        ),
        InstanceCommand::Lock { instance, reason } => {
            let why = Some(("LockReason", reason.name().to_owned()));
            act(control, "LockInstance", instance, why, "is locked")
        }
        InstanceCommand::Seed(args) => seed::run(control, args),
        InstanceCommand::Unlock(instance) => {
            act(control, "UnlockInstance", instance, None, "is unlocked")
        }
    }
}

fn create(control: &Control, args: &InstanceCreateArgs) -> Result<Report, Failure> {
    let mut asked = args
        .owner
        .parameters()
        .with("ImageId", &args.image)
        .with("InstanceType", INSTANCE_TYPE)
        .with_some("InstanceName", args.name.as_ref());
    if let Some(size) = args.size {
        asked = asked.with("SystemDisk.Size", size.whole_gib("--size")?);
    }
    for (number, size) in (1..).zip(&args.data_disks) {
        asked = asked.with(format!("DataDisk.{number}.Size"), size.whole_gib("--data-disk")?);
    }
    let made = control.call("CreateInstance", &asked)?;
    let instance = text(&made, "InstanceId");
    let disks = disk::of_instance(control, &args.owner, &instance)?;
    let ids = |kind: &str| -> Vec<String> {
        disks.iter().filter(|disk| disk["Type"] == kind).map(|disk| text(disk, "DiskId")).collect()
    };
    let (system, data) = (ids("system").concat(), ids("data"));
    let document = json!({
        "InstanceId": instance,
        "SystemDiskId": system,
        "DataDiskIds": data,
        "RequestId": made["RequestId"],
    });
    let all = [&[system][..], &data].concat().join(" ");
    let text =
        format!("{instance} has the disks {all}, the system disk first; start it to open them");
    Ok(Report::done(document, vec![instance], text))
}

fn list(control: &Control, owner: &AccountArg) -> Result<Report, Failure> {
    let found =
        control.list("DescribeInstances", ["Instances", "Instance"], &owner.parameters())?;
    let rows = found
        .iter()
        .map(|instance| {
            vec![
                text(instance, "InstanceId"),
                text(instance, "InstanceName"),
                text(instance, "Status"),
            ]
        })
        .collect();
    Ok(Report::list(json!({ "Instances": found }), &["INSTANCE", "NAME", "STATUS"], rows))
}

fn show(control: &Control, instance: &OneInstance) -> Result<Report, Failure> {
    let found = one(control, instance)?;
    let disks = disk::of_instance(control, &instance.owner, &instance.instance)?;
    let ids: Vec<String> = disks
        .iter()
        .map(|disk| {
            format!("{} ({}, {})", text(disk, "DiskId"), text(disk, "Type"), text(disk, "Device"))
        })
        .collect();
    let asked = instance.owner.parameters().with("InstanceId", &instance.instance);
    let seed = control.call("ShowInstanceSeed", &asked);
    let told = |name: &str| seed.as_ref().map(|seed| text(seed, name)).unwrap_or_default();
    let fields = [
        ("Instance", text(&found, "InstanceId")),
        ("Name", text(&found, "InstanceName")),
        ("Status", text(&found, "Status")),
        ("Image", text(&found, "ImageId")),
        ("Locks", locks(&found)),
        ("Disks", ids.join(", ")),
        ("Made", text(&found, "CreationTime")),
        ("First boot", told("Login")),
        ("Seed", told("SeedId")),
    ];
    let mut document = found.clone();
    // Not the seed itself: it holds a hash, and `instance seed` writes it where only its owner reads.
    document["FirstBoot"] = json!({ "SeedId": told("SeedId"), "Login": told("Login") });
    document["Disks"] = Value::Array(disks);
    Ok(Report::fields(document, &instance.instance, &fields))
}

fn locks(instance: &Value) -> String {
    let locks = instance["OperationLocks"]["LockReason"].as_array();
    let reasons: Vec<String> =
        locks.into_iter().flatten().map(|lock| text(lock, "LockReason")).collect();
    if reasons.is_empty() { "none".into() } else { reasons.join(", ") }
}

/// One instance, which must be there.
pub(crate) fn one(control: &Control, instance: &OneInstance) -> Result<Value, Failure> {
    let ids = json!([instance.instance]).to_string();
    let asked = instance.owner.parameters().with("InstanceIds", ids);
    let found = control.call("DescribeInstances", &asked)?;
    match found["Instances"]["Instance"].get(0) {
        Some(instance) => Ok(instance.clone()),
        None => Err(Failure {
            code: "InvalidInstanceId.NotFound".into(),
            message: format!("There is no instance {}.", instance.instance),
            request_id: text(&found, "RequestId"),
        }),
    }
}

fn act(
    control: &Control,
    action: &str,
    instance: &OneInstance,
    how: Option<(&str, String)>,
    done: &str,
) -> Result<Report, Failure> {
    let mut asked = instance.owner.parameters().with("InstanceId", &instance.instance);
    if let Some((name, value)) = how {
        asked = asked.with(name, value);
    }
    let answer = control.call(action, &asked)?;
    let id = &instance.instance;
    Ok(Report::done(answer, vec![id.clone()], format!("{id} {done}")))
}

impl AccountArg {
    /// What every call for an account begins with. The control socket takes the account from here, for it asks for
    /// no key that would tell.
    pub(crate) fn parameters(&self) -> Parameters {
        Parameters::new().with("Account", &self.account)
    }
}

impl LockReason {
    fn name(self) -> &'static str {
        match self {
            Self::Security => "security",
            Self::Financial => "financial",
        }
    }
}
