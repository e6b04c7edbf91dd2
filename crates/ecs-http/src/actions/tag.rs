//! Tags: put on, taken off, listed.

use cloud::{ResourceType, TagList, TagPattern};

use super::codes::Codes;
use super::contract::{Group, PAGES, REGION, TAGS, TOKENS, flag, needed, text};
use super::shape::{NEXT, list_field, text_field};
use super::{Action, Call, Fields, MOST_TAG_FILTERS, next_token};
use crate::{refusal::Refusal, tree::Tree};

/// Tags by how they look.
const PATTERNS: Group = &[text("TagFilter.N.TagKey"), text("TagFilter.N.TagValues.N")];

pub(super) const ACTIONS: &[Action] = &[
    Action::new("TagResources", tag)
        .takes(&[
            REGION,
            &[
                needed("Tag.N.Key"),
                text("Tag.N.Value"),
                needed("ResourceId.N"),
                needed("ResourceType"),
            ],
        ])
        .refuses(&[
            KIND,
            RESOURCES,
            &[
                ("Duplicate.TagKey", 400),
                ("InvalidTagKey.Malformed", 400),
                ("InvalidTagValue.Malformed", 400),
                ("NumberExceed.Tags", 400),
                ("QuotaExceed.Tags", 403),
                ("MissingParameter.Tags", 404),
            ],
        ]),
    Action::new("UntagResources", untag)
        .takes(&[
            REGION,
            &[text("TagKey.N"), flag("All"), needed("ResourceId.N"), needed("ResourceType")],
        ])
        .refuses(&[KIND, RESOURCES, &[("InvalidTagKey.Malformed", 400)]]),
    Action::new("ListTagResources", list)
        .takes(&[
            REGION,
            &[text("ResourceId.N"), needed("ResourceType")],
            TAGS,
            PATTERNS,
            PAGES,
            TOKENS,
        ])
        .answers(&[
            NEXT,
            &[list_field(
                "TagResources",
                "TagResource",
                &[&[
                    text_field("ResourceId"),
                    text_field("ResourceType"),
                    text_field("TagKey"),
                    text_field("TagValue"),
                ]],
            )],
        ])
        .refuses(&[
            KIND,
            &[
                ("InvalidTag.Mismatch", 400),
                ("InvalidTagCount", 400),
                ("InvalidTagKey.Malformed", 400),
                ("InvalidTagValue.Malformed", 400),
            ],
            RESOURCES,
        ])
        .that_only_asks(),
];

/// What all three need.
const KIND: Codes = &[
    ("InvalidResourceType.NotFound", 404),
    ("MissingParameter.RegionId", 404),
    ("MissingParameter.ResourceType", 404),
];

const RESOURCES: Codes = &[("NumberExceed.ResourceIds", 400), ("InvalidResourceId.NotFound", 404)];

const TYPES: [(&str, ResourceType); 4] = [
    ("disk", ResourceType::Disk),
    ("snapshot", ResourceType::Snapshot),
    ("image", ResourceType::Image),
    ("instance", ResourceType::Instance),
];

fn tag(call: &Call<'_>) -> Result<Fields, Refusal> {
    let (kind, ids) = resources(call)?;
    let tags = call.parameters.tags();
    if tags.is_empty() {
        return Err(missing("Tags"));
    }
    call.ask(|cloud, caller| cloud.tag_resources(caller, kind, &ids, &tags))?;
    Ok(vec![])
}

fn untag(call: &Call<'_>) -> Result<Fields, Refusal> {
    let (kind, ids) = resources(call)?;
    let keys = call.parameters.list("TagKey");
    let all = call.parameters.flag("All")?.unwrap_or(false);
    if keys.is_empty() && !all {
        return Err(Refusal::missing("TagKey.1"));
    }
    let keys = (!keys.is_empty()).then_some(keys);
    call.ask(|cloud, caller| cloud.untag_resources(caller, kind, &ids, keys.as_deref()))?;
    Ok(vec![])
}

fn list(call: &Call<'_>) -> Result<Fields, Refusal> {
    let kind = kind(call)?;
    let ids = call.parameters.list("ResourceId");
    let asked = TagList {
        kind,
        ids: Some(ids).filter(|ids| !ids.is_empty()),
        tags: call.tag_filters()?,
        patterns: patterns(call)?,
        paging: call.paging()?,
    };
    let page = call.ask(|cloud, caller| cloud.list_tags(caller, &asked))?;
    let name = TYPES.iter().find(|(_, known)| *known == kind).map_or("", |(name, _)| *name);
    let rows = page.items.iter().map(|tag| {
        Tree::object([
            ("ResourceId", (&tag.id).into()),
            ("ResourceType", name.into()),
            ("TagKey", (&tag.key).into()),
            ("TagValue", (&tag.value).into()),
        ])
    });
    Ok(vec![next_token(&page), ("TagResources", Tree::list("TagResource", rows))])
}

/// `TagFilter.N`, where `*` stands for any stretch of a key or value.
fn patterns(call: &Call<'_>) -> Result<Vec<TagPattern>, Refusal> {
    let numbers = call.parameters.numbers("TagFilter");
    if numbers.len() > MOST_TAG_FILTERS {
        let message = format!("A list is filtered by {MOST_TAG_FILTERS} tags at most.");
        return Err(Refusal::new("InvalidTagCount", 400, message));
    }
    let pattern = |n| {
        let key = call.parameters.owned(&format!("TagFilter.{n}.TagKey"));
        let message = "Values of a tag were given without its key.";
        let key = key.ok_or_else(|| Refusal::new("InvalidTag.Mismatch", 400, message))?;
        Ok(TagPattern { key, values: call.parameters.list(&format!("TagFilter.{n}.TagValues")) })
    };
    numbers.into_iter().map(pattern).collect()
}

fn resources(call: &Call<'_>) -> Result<(ResourceType, Vec<String>), Refusal> {
    let kind = kind(call)?;
    let ids = call.parameters.list("ResourceId");
    if ids.is_empty() { Err(Refusal::missing("ResourceId.1")) } else { Ok((kind, ids)) }
}

fn kind(call: &Call<'_>) -> Result<ResourceType, Refusal> {
    if !call.caller.is_operator() && call.parameters.text("RegionId").is_none() {
        return Err(missing("RegionId"));
    }
    let kind = call.one_of("ResourceType", &TYPES, ("InvalidResourceType.NotFound", 404))?;
    kind.ok_or_else(|| missing("ResourceType"))
}

/// Codes of their own, and 404: so says the reference.
fn missing(what: &str) -> Refusal {
    let (code, status) = match what {
        "RegionId" => ("MissingParameter.RegionId", 404),
        "Tags" => ("MissingParameter.Tags", 404),
        _ => ("MissingParameter.ResourceType", 404),
    };
    Refusal { code, status, ..Refusal::missing(what) }
}
