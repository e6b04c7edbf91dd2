//! Regions, zones and sizes of machine: what there is to choose from.
//!
//! What must always hold: the endpoint of the region is where the client reached us, never a name of
//! Alibaba Cloud, so that a client that follows it comes back here.

use cloud::{Cloud, InstanceType};

use super::codes::Codes;
use super::contract::{REGION, text};
use super::shape::{
    Field, flag_field, fraction_field, list_field, text_field, texts_field, whole_field,
};
use super::{Action, Call, Fields};
use crate::{refusal::Refusal, tree::Tree};

pub(super) const ACTIONS: &[Action] = &[
    Action::new("DescribeRegions", regions)
        .takes(&[&[text("AcceptLanguage"), text("ResourceType"), text("InstanceChargeType")]])
        .answers(&[&[list_field(
            "Regions",
            "Region",
            &[&[
                text_field("RegionId"),
                text_field("LocalName"),
                text_field("RegionEndpoint"),
                text_field("Status"),
            ]],
        )]])
        .refuses(&[QUESTION])
        .that_only_asks(),
    Action::new("DescribeZones", zones)
        .takes(&[
            REGION,
            &[text("AcceptLanguage"), text("ResourceType"), text("InstanceChargeType")],
        ])
        .answers(&[&[list_field("Zones", "Zone", &[ZONE])]])
        .refuses(&[QUESTION])
        .that_only_asks(),
    Action::new("DescribeInstanceTypes", instance_types)
        .answers(&[&[list_field(
            "InstanceTypes",
            "InstanceType",
            &[&[
                text_field("InstanceTypeId"),
                text_field("InstanceTypeFamily"),
                whole_field("CpuCoreCount"),
                fraction_field("MemorySize"),
            ]],
        )]])
        .that_only_asks(),
];

const QUESTION: Codes = &[
    ("InvalidAcceptLanguage.NotFound", 404),
    ("InvalidInstanceChargeType.NotFound", 404),
    ("InvalidResourceType.NotFound", 404),
];

const ZONE: &[Field] = &[
    text_field("ZoneId"),
    text_field("LocalName"),
    text_field("ZoneType"),
    texts_field("AvailableDiskCategories", "DiskCategories"),
    texts_field("AvailableInstanceTypes", "InstanceTypes"),
    texts_field("AvailableResourceCreation", "ResourceTypes"),
    list_field(
        "AvailableResources",
        "ResourcesInfo",
        &[&[
            flag_field("IoOptimized"),
            texts_field("InstanceTypes", "supportedInstanceType"),
            texts_field("SystemDiskCategories", "supportedSystemDiskCategory"),
            texts_field("DataDiskCategories", "supportedDataDiskCategory"),
            texts_field("NetworkTypes", "supportedNetworkCategory"),
        ]],
    ),
];

const LANGUAGES: [(&str, ()); 3] = [("zh-CN", ()), ("en-US", ()), ("ja", ())];
const RESOURCES: [(&str, ()); 5] =
    [("instance", ()), ("disk", ()), ("reservedinstance", ()), ("snapshot", ()), ("image", ())];

/// Names here are the same in every language, and every resource is everywhere.
fn check_question(call: &Call<'_>) -> Result<(), Refusal> {
    call.one_of("AcceptLanguage", &LANGUAGES, ("InvalidAcceptLanguage.NotFound", 404))?;
    call.one_of("ResourceType", &RESOURCES, ("InvalidResourceType.NotFound", 404))?;
    super::instance::charge_type(call, "InstanceChargeType").map(drop)
}

fn regions(call: &Call<'_>) -> Result<Fields, Refusal> {
    check_question(call)?;
    let region = &call.cloud.settings().region;
    let shown = Tree::object([
        ("RegionId", region.into()),
        ("LocalName", region.into()),
        ("RegionEndpoint", call.host.into()),
        ("Status", "available".into()),
    ]);
    Ok(vec![("Regions", Tree::list("Region", [shown]))])
}

fn zones(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    check_question(call)?;
    let settings = call.cloud.settings();
    let types: Vec<&str> = settings.instance_types.iter().map(|kind| kind.id.as_str()).collect();
    let zones = settings.zones.iter().map(|zone| self::zone(zone, &types));
    Ok(vec![("Zones", Tree::list("Zone", zones))])
}

/// The repeated children of a zone are in the plural.
fn zone(zone: &str, types: &[&str]) -> Tree {
    let categories = Cloud::disk_categories;
    let resources = Tree::object([
        ("IoOptimized", true.into()),
        ("InstanceTypes", Tree::texts("supportedInstanceType", types.iter().copied())),
        ("SystemDiskCategories", Tree::texts("supportedSystemDiskCategory", categories())),
        ("DataDiskCategories", Tree::texts("supportedDataDiskCategory", categories())),
        ("NetworkTypes", Tree::texts("supportedNetworkCategory", ["vpc"])),
    ]);
    Tree::object([
        ("ZoneId", zone.into()),
        ("LocalName", zone.into()),
        ("ZoneType", "AvailabilityZone".into()),
        ("AvailableDiskCategories", Tree::texts("DiskCategories", categories())),
        ("AvailableInstanceTypes", Tree::texts("InstanceTypes", types.iter().copied())),
        (
            "AvailableResourceCreation",
            Tree::texts("ResourceTypes", ["VSwitch", "IoOptimized", "Instance", "Disk"]),
        ),
        ("AvailableResources", Tree::list("ResourcesInfo", [resources])),
    ])
}

fn instance_types(call: &Call<'_>) -> Result<Fields, Refusal> {
    let types = call.cloud.settings().instance_types.iter().map(instance_type);
    Ok(vec![("InstanceTypes", Tree::list("InstanceType", types))])
}

fn instance_type(kind: &InstanceType) -> Tree {
    Tree::object([
        ("InstanceTypeId", (&kind.id).into()),
        ("InstanceTypeFamily", (&kind.family).into()),
        ("CpuCoreCount", kind.cpu.into()),
        ("MemorySize", memory_gib(kind).into()),
    ])
}

/// In GiB, with a fraction. No machine has more MiB than 32 bits hold.
fn memory_gib(kind: &InstanceType) -> f64 {
    f64::from(u32::try_from(kind.memory_mib).unwrap_or(u32::MAX)) / 1024.0
}
