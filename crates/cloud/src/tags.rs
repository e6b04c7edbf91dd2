//! Tags: free labels on disks, snapshots, images and instances.
//!
//! What must always hold: a resource has at most 20, keys are unique on it, and only its owner sees or
//! changes them; a call that names several resources changes all of them or none.

use catalog::{Batch, record::Tags};

use crate::{
    Caller, Cloud, CloudError, Countable, Field, Page, Paging, Resource, TagFilter, TagPattern,
    caller::Right,
    claim::Hold,
    filter::{listed, tagged, tagged_like},
    paging::Listed,
    world::World,
};

/// The kinds of resource that carry tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResourceType {
    /// `disk`
    Disk,
    /// `snapshot`
    Snapshot,
    /// `image`
    Image,
    /// `instance`
    Instance,
}

/// `ListTagResources`.
#[derive(Clone, Debug)]
pub struct TagList {
    /// Of which kind.
    pub kind: ResourceType,
    /// At most 50; none = all of the account.
    pub ids: Option<Vec<String>>,
    /// Resources that carry all of them.
    pub tags: Vec<TagFilter>,
    /// Resources that carry one like each of them.
    pub patterns: Vec<TagPattern>,
    /// Which page.
    pub paging: Paging,
}

/// One tag on one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaggedResource {
    /// The resource.
    pub id: String,
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Tags on one resource, and in one call.
const MOST_TAGS: usize = 20;
/// Resources in one call.
const MOST_RESOURCES: usize = 50;

/// The tags of a request, checked.
pub(crate) fn checked(pairs: &[(String, String)]) -> Result<Tags, CloudError> {
    if pairs.len() > MOST_TAGS {
        return Err(CloudError::TooMany { what: Countable::TagsInCall, most: MOST_TAGS });
    }
    let mut tags = Tags::new();
    for (key, value) in pairs {
        check_key(key)?;
        check_value(value)?;
        if tags.insert(key.clone(), value.clone()).is_some() {
            return Err(CloudError::DuplicateTagKey { key: key.clone() });
        }
    }
    Ok(tags)
}

impl Cloud {
    /// Puts tags on resources, over earlier values.
    pub fn tag_resources(
        &self,
        caller: &Caller,
        kind: ResourceType,
        ids: &[String],
        pairs: &[(String, String)],
    ) -> Result<(), CloudError> {
        caller.may(Right::Change, "TagResources")?;
        let new = checked(pairs)?;
        self.change_tags(caller, kind, ids, |mut tags| {
            tags.extend(new.clone());
            if tags.len() > MOST_TAGS {
                return Err(CloudError::TooMany {
                    what: Countable::TagsOnResource,
                    most: MOST_TAGS,
                });
            }
            Ok(tags)
        })
    }

    /// Takes tags off resources; no keys at all = every tag.
    pub fn untag_resources(
        &self,
        caller: &Caller,
        kind: ResourceType,
        ids: &[String],
        keys: Option<&[String]>,
    ) -> Result<(), CloudError> {
        caller.may(Right::Change, "UntagResources")?;
        keys.unwrap_or_default().iter().try_for_each(|key| check_key(key))?;
        self.change_tags(caller, kind, ids, |mut tags| {
            tags.retain(|key, _| keys.is_some_and(|keys| !keys.contains(key)));
            Ok(tags)
        })
    }

    /// The tags of the account's resources of a kind.
    pub fn list_tags(
        &self,
        caller: &Caller,
        asked: &TagList,
    ) -> Result<Page<TaggedResource>, CloudError> {
        caller.may(Right::Describe, "ListTagResources")?;
        check_count(asked.ids.as_deref().unwrap_or_default())?;
        asked.paging.check()?;
        if asked.tags.len() > MOST_TAGS {
            return Err(CloudError::TooMany { what: Countable::TagsInCall, most: MOST_TAGS });
        }
        for tag in &asked.tags {
            check_key(&tag.key)?;
            check_value(tag.value.as_deref().unwrap_or_default())?;
        }
        let world = self.world();
        for id in asked.ids.iter().flatten() {
            world.can_be_tagged(&caller.account, asked.kind, id)?;
        }
        let own = world.tagged_of(&caller.account, asked.kind);
        let fits = own.filter(|(id, tags)| {
            listed(asked.ids.as_deref(), id)
                && tagged(&asked.tags, tags)
                && tagged_like(&asked.patterns, tags)
        });
        let rows = fits.flat_map(|(id, tags)| {
            tags.iter().map(|(key, value)| TaggedResource {
                id: id.clone(),
                key: key.clone(),
                value: value.clone(),
            })
        });
        let rows: Vec<Row> = rows.map(Row::new).collect();
        let page = asked.paging.cut(rows);
        let items = page.items.into_iter().map(|row| row.tag).collect();
        let Page { total, number, size, next_token, .. } = page;
        Ok(Page { items, total, number, size, next_token })
    }

    fn change_tags(
        &self,
        caller: &Caller,
        kind: ResourceType,
        ids: &[String],
        change: impl Fn(Tags) -> Result<Tags, CloudError>,
    ) -> Result<(), CloudError> {
        if ids.is_empty() {
            return Err(CloudError::Missing { parameter: "ResourceId.1" });
        }
        check_count(ids)?;
        let names: Vec<_> = ids.iter().map(String::as_str).collect();
        let mut world = self.world_when(|world| world.is_free(&names));
        for id in &names {
            world.can_be_tagged(&caller.account, kind, id)?;
        }
        let mut changed = Vec::new();
        for id in &names {
            let tags = world.tags_mut(kind, id).cloned().unwrap_or_default();
            changed.push((*id, change(tags)?));
        }
        let holds = names.iter().map(|id| Hold::Quiet((*id).into())).collect();
        let claim = self.claim(caller, &mut world, holds)?;
        let mut batch = Batch::new();
        for (id, tags) in &changed {
            world.put_tagged(kind, id, tags.clone(), &mut batch)?;
        }
        drop(world);
        self.commit(&batch)?;
        claim.publish(|world| {
            for (id, tags) in changed {
                if let Some(place) = world.tags_mut(kind, id) {
                    *place = tags;
                }
            }
        });
        Ok(())
    }
}

impl World {
    fn tagged_of<'w>(
        &'w self,
        account: &str,
        kind: ResourceType,
    ) -> Box<dyn Iterator<Item = (&'w String, &'w Tags)> + 'w> {
        macro_rules! of {
            ($map:ident) => {{
                let account = account.to_owned();
                let own = self.$map.values().filter(move |record| record.account == account);
                Box::new(own.map(|record| (&record.id, &record.tags)))
            }};
        }
        match kind {
            ResourceType::Disk => of!(disks),
            ResourceType::Snapshot => of!(snapshots),
            ResourceType::Image => of!(images),
            ResourceType::Instance => of!(instances),
        }
    }

    /// It is the account's.
    fn can_be_tagged(&self, account: &str, kind: ResourceType, id: &str) -> Result<(), CloudError> {
        match kind {
            ResourceType::Disk => self.disk(account, id).map(drop),
            ResourceType::Snapshot => self.snapshot(account, id).map(drop),
            ResourceType::Image => self.own_image(account, id).map(drop),
            ResourceType::Instance => self.instance(account, id).map(drop),
        }
    }

    fn tags_mut(&mut self, kind: ResourceType, id: &str) -> Option<&mut Tags> {
        match kind {
            ResourceType::Disk => self.disks.get_mut(id).map(|record| &mut record.tags),
            ResourceType::Snapshot => self.snapshots.get_mut(id).map(|record| &mut record.tags),
            ResourceType::Image => self.images.get_mut(id).map(|record| &mut record.tags),
            ResourceType::Instance => self.instances.get_mut(id).map(|record| &mut record.tags),
        }
    }

    fn put_tagged(
        &self,
        kind: ResourceType,
        id: &str,
        tags: Tags,
        batch: &mut Batch,
    ) -> Result<(), CloudError> {
        macro_rules! put {
            ($map:ident) => {
                if let Some(mut record) = self.$map.get(id).cloned() {
                    record.tags = tags;
                    batch.put(&record)?;
                }
            };
        }
        match kind {
            ResourceType::Disk => put!(disks),
            ResourceType::Snapshot => put!(snapshots),
            ResourceType::Image => put!(images),
            ResourceType::Instance => put!(instances),
        }
        Ok(())
    }
}

impl ResourceType {
    /// The text of the API; none for a kind that carries no tags here.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "disk" => Some(Self::Disk),
            "snapshot" => Some(Self::Snapshot),
            "image" => Some(Self::Image),
            "instance" => Some(Self::Instance),
            _ => None,
        }
    }

    /// The kind of resource in errors.
    pub fn resource(self) -> Resource {
        match self {
            Self::Disk => Resource::Disk,
            Self::Snapshot => Resource::Snapshot,
            Self::Image => Resource::Image,
            Self::Instance => Resource::Instance,
        }
    }
}

/// A tag with the text its place in the list follows from.
struct Row {
    place: String,
    tag: TaggedResource,
}

impl Row {
    fn new(tag: TaggedResource) -> Self {
        Self { place: format!("{} {}", tag.id, tag.key), tag }
    }
}

impl Listed for Row {
    fn place(&self) -> (i64, &str) {
        (0, &self.place)
    }
}

fn check_count(ids: &[String]) -> Result<(), CloudError> {
    if ids.len() > MOST_RESOURCES {
        return Err(CloudError::TooMany { what: Countable::ResourceIds, most: MOST_RESOURCES });
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), CloudError> {
    let reserved = ["aliyun", "acs:", "http://", "https://"];
    let fits = (1..=128).contains(&key.chars().count())
        && !reserved.iter().any(|prefix| key.starts_with(prefix))
        && !key.chars().any(char::is_control);
    let rule = "1 to 128 characters, not starting with aliyun, acs:, http:// or https://";
    if fits { Ok(()) } else { Err(CloudError::Malformed { field: Field::TagKey, rule }) }
}

fn check_value(value: &str) -> Result<(), CloudError> {
    let fits = value.chars().count() <= 128
        && !value.starts_with("http://")
        && !value.starts_with("https://")
        && !value.chars().any(char::is_control);
    let rule = "at most 128 characters, not starting with http:// or https://";
    if fits { Ok(()) } else { Err(CloudError::Malformed { field: Field::TagValue, rule }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn keys_are_unique_and_shaped() {
        assert!(checked(&pairs(&[("k/1", "v=1&2"), ("环境", "")])).is_ok());
        assert!(matches!(
            checked(&pairs(&[("a", "1"), ("a", "2")])),
            Err(CloudError::DuplicateTagKey { .. })
        ));
        for bad in ["", "acs:x", "aliyun1", "http://x", "a\u{1}"] {
            assert!(checked(&pairs(&[(bad, "")])).is_err(), "{bad:?}");
        }
    }
}
