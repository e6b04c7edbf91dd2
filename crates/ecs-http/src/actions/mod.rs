//! The actions: parameters in, one call of the cloud, an answer out. One file per group.
//!
//! What must always hold
//! 1. An action that is not in a list here does not exist, whatever ECS knows.
//! 2. What an operator alone may do is not there for requests over TCP.
//! 3. An action sees the parameters it declares (`contract`) and no others, and answers the fields it
//!    declares (`shape`) and the codes it declares (`codes`), and no others.
//! 4. `DryRun=true` never changes anything: what only asks is done and its answer dropped, the cloud
//!    is asked by a caller for whom it does nothing, and any other action refuses it.
//!
//! Left to others: rules and states (`cloud`), codes (`status`).

mod codes;
mod contract;
mod disk;
mod image;
mod instance;
mod instance_power;
mod object;
mod operator;
mod operator_disk;
mod operator_image;
mod operator_scrub;
mod place;
mod reset;
mod shape;
mod snapshot;
mod snapshot_group;
mod tag;
mod task;

use std::cell::RefCell;

use block_store::RequestId;
use cloud::{Caller, Cloud, CloudError, GIB, Lock, Origin, Paging, ResetDone, TagFilter, Tags};
use jiff::Timestamp;

pub(crate) use codes::OF_NO_ACTION;
pub(crate) use contract::{DRY_RUN, Kind, Parameter};
pub(crate) use shape::{Field, Shape, through};

use codes::Codes;
use contract::Group;
use shape::Told;

use crate::{
    client::Client, front::Door, parameters::Parameters, refusal::Refusal, status, tree::Tree,
};

/// The fields of an answer, without its request id.
pub(crate) type Fields = Vec<(&'static str, Tree)>;

/// An action.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Action {
    /// As clients call it.
    pub(crate) name: &'static str,
    reach: Reach,
    dry_run: DryRun,
    is_instant: bool,
    takes: &'static [Group],
    answers: Told,
    refuses: &'static [Codes],
    run: fn(&Call<'_>) -> Result<Fields, Refusal>,
}

/// Through which doors an action can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Everyone,
    Operator,
}

/// What `DryRun=true` comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DryRun {
    /// The cloud is asked by a caller that only checks.
    Checked,
    /// The action changes nothing anyway.
    Harmless,
    /// It is refused.
    Refused,
}

/// One call of an action.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// The name of the action.
    pub(crate) action: &'static str,
    /// What answers.
    pub(crate) cloud: &'a Cloud,
    /// Who asks.
    pub(crate) caller: &'a Caller,
    /// What is asked.
    pub(crate) parameters: &'a Parameters,
    /// Of this call.
    pub(crate) request_id: RequestId,
    /// Where the client reaches us.
    pub(crate) host: &'a str,
    /// Whether it still waits.
    pub(crate) client: &'a Client,
    /// The resets this call has done, for the audit log.
    pub(crate) resets: &'a RefCell<Vec<ResetDone>>,
}

const GROUPS: [&[Action]; 15] = [
    reset::ACTIONS,
    disk::ACTIONS,
    instance::ACTIONS,
    instance_power::ACTIONS,
    snapshot::ACTIONS,
    snapshot_group::ACTIONS,
    image::ACTIONS,
    object::ACTIONS,
    place::ACTIONS,
    tag::ACTIONS,
    task::ACTIONS,
    operator::ACTIONS,
    operator_disk::ACTIONS,
    operator_image::ACTIONS,
    operator_scrub::ACTIONS,
];

/// Tags one list can be filtered by.
const MOST_TAG_FILTERS: usize = 20;

/// The action of that name, if it can be reached through that door.
pub(crate) fn find(name: &str, door: Door) -> Option<&'static Action> {
    all(door).find(|action| action.name == name)
}

/// All actions that can be reached through that door, in the order of the groups.
pub(crate) fn all(door: Door) -> impl Iterator<Item = &'static Action> {
    let actions = GROUPS.into_iter().flatten();
    actions.filter(move |action| action.reach == Reach::Everyone || door == Door::Control)
}

/// How the names of actions begin that change nothing. Any other counts as a change.
const LOOKING: [&str; 5] = ["Describe", "List", "Show", "Plan", "Verify"];

impl Action {
    /// Whether it changes something, which the audit log tells.
    pub(crate) fn changes(&self) -> bool {
        !LOOKING.iter().any(|look| self.name.starts_with(look))
    }

    /// Unless it says otherwise, it changes something by one call of the cloud, which is told of a dry
    /// run through the caller.
    const fn new(name: &'static str, run: fn(&Call<'_>) -> Result<Fields, Refusal>) -> Self {
        let (reach, dry_run) = (Reach::Everyone, DryRun::Checked);
        let (takes, answers, refuses) = (&[], &[], &[]);
        Self { name, reach, dry_run, is_instant: false, takes, answers, refuses, run }
    }

    /// It is over in about the time it takes to wake another thread.
    const fn that_is_instant(self) -> Self {
        Self { is_instant: true, ..self }
    }

    /// Not all of these check before they do anything.
    const fn for_operator(
        name: &'static str,
        run: fn(&Call<'_>) -> Result<Fields, Refusal>,
    ) -> Self {
        Self { reach: Reach::Operator, dry_run: DryRun::Refused, ..Self::new(name, run) }
    }

    /// It changes nothing.
    const fn that_only_asks(self) -> Self {
        Self { dry_run: DryRun::Harmless, ..self }
    }

    /// These parameters, and no others.
    const fn takes(self, takes: &'static [Group]) -> Self {
        Self { takes, ..self }
    }

    /// These fields, and no others.
    const fn answers(self, answers: Told) -> Self {
        Self { answers, ..self }
    }

    /// With these codes, and no others but those of every action.
    const fn refuses(self, refuses: &'static [Codes]) -> Self {
        Self { refuses, ..self }
    }

    /// Whether it is done where it came in.
    pub(crate) fn is_instant(&self) -> bool {
        self.is_instant
    }

    /// The fields of its answer.
    pub(crate) fn fields(&self, door: Door) -> impl Iterator<Item = &'static Field> {
        [&shape::REQUEST_ID].into_iter().chain(through(self.answers, door))
    }

    /// What it takes besides what every request has.
    pub(crate) fn parameters(&self, door: Door) -> impl Iterator<Item = &'static Parameter> {
        let all = self.takes.iter().copied().flatten().chain([&DRY_RUN]);
        all.filter(move |one| door == Door::Control || !one.for_operator)
    }

    /// Whether `DryRun=true` is more than a refusal.
    pub(crate) fn can_be_dry(&self) -> bool {
        self.dry_run != DryRun::Refused
    }

    /// The parameters of a request that are its own.
    pub(crate) fn own(&self, given: &Parameters, door: Door) -> Parameters {
        given.only(|name| self.parameters(door).any(|one| one.is_meant_by(name)))
    }

    /// Does it.
    pub(crate) fn run(&self, call: &Call<'_>) -> Result<Fields, Refusal> {
        if !call.dry_run()? {
            return self.answer(call);
        }
        match self.dry_run {
            DryRun::Checked => {
                let caller = &call.caller.checking();
                self.answer(&Call { caller, ..*call })
            }
            DryRun::Harmless => {
                self.answer(call)?;
                Err(call.dry_run_passed())
            }
            DryRun::Refused => {
                let message = format!("{} cannot be checked without being done.", self.name);
                Err(Refusal::invalid(message))
            }
        }
    }

    fn answer(&self, call: &Call<'_>) -> Result<Fields, Refusal> {
        let answer = (self.run)(call)?;
        debug_assert_eq!(shape::check(self.answers, &answer, call.door()), Ok(()), "{}", self.name);
        Ok(answer)
    }
}

impl Call<'_> {
    /// Through which it came.
    fn door(&self) -> Door {
        if self.caller.is_operator() { Door::Control } else { Door::Public }
    }

    /// One call of the cloud.
    fn ask<T>(
        &self,
        ask: impl FnOnce(&Cloud, &Caller) -> Result<T, CloudError>,
    ) -> Result<T, Refusal> {
        ask(self.cloud, self.caller).map_err(|error| status::refusal(self.action, &error))
    }

    /// Notes a reset that is done, so that its receipt gets into the audit log whatever follows.
    fn note(&self, done: &ResetDone) {
        self.resets.borrow_mut().push(done.clone());
    }

    /// The region must be named where the reference says so; the operator has only the one. Which
    /// region a client is set up for does not matter here.
    fn check_region(&self) -> Result<(), Refusal> {
        if self.caller.is_operator() || self.parameters.text("RegionId").is_some() {
            return Ok(());
        }
        let missing = Refusal::missing("RegionId");
        Err(match self.action {
            // The reference spells it like this.
            "DescribeDisks" => Refusal::new("MissingParamter.RegionId", 400, missing.message),
            _ => missing,
        })
    }

    /// Whether only a check is asked for.
    fn dry_run(&self) -> Result<bool, Refusal> {
        Ok(self.parameters.flag("DryRun")?.unwrap_or(false))
    }

    /// The answer to a check that found nothing in the way.
    fn dry_run_passed(&self) -> Refusal {
        status::refusal(self.action, &CloudError::DryRunPassed)
    }

    /// A size in GiB, as bytes.
    fn size(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(gib) = self.parameters.number::<u64>(name)? else { return Ok(None) };
        let bytes = gib.checked_mul(GIB);
        bytes
            .map(Some)
            .ok_or_else(|| Refusal::invalid(format!("The parameter {name} is too large.")))
    }

    /// The page asked for. By token as soon as one of its parameters is there; the operator gets
    /// everything unless a page is asked for.
    fn paging(&self) -> Result<Paging, Refusal> {
        let parameters = self.parameters;
        if parameters.text("MaxResults").or(parameters.text("NextToken")).is_some() {
            return self.token_paging();
        }
        let (number, size) = (parameters.number("PageNumber")?, parameters.number("PageSize")?);
        if self.caller.is_operator() && number.is_none() && size.is_none() {
            return Ok(Paging::All);
        }
        Ok(Paging::Number { number: number.unwrap_or(1), size: size.unwrap_or(10) })
    }

    /// The page of a list that has no numbered ones. Of disks a page may hold more.
    fn token_paging(&self) -> Result<Paging, Refusal> {
        let most = self.parameters.number("MaxResults")?.unwrap_or(10);
        if most > 100 && self.action != "DescribeDisks" {
            return Err(Refusal::invalid("MaxResults can be 100 at most."));
        }
        Ok(Paging::Token { most, after: self.parameters.owned("NextToken") })
    }

    /// `Tag.N` as a filter: an empty value stands for any.
    fn tag_filters(&self) -> Result<Vec<TagFilter>, Refusal> {
        let pairs = self.parameters.tags();
        if pairs.len() > MOST_TAG_FILTERS {
            let message = format!("A list is filtered by {MOST_TAG_FILTERS} tags at most.");
            return Err(Refusal::new("InvalidTagCount", 400, message));
        }
        if pairs.iter().any(|(key, _)| key.is_empty()) {
            let message = "A tag value was given without its key.";
            let code = match self.action {
                // It has the codes of those that change tags.
                "ListTagResources" => "InvalidTagKey.Malformed",
                _ => "InvalidTag.Mismatch",
            };
            return Err(Refusal::new(code, 400, message));
        }
        let filter = |(key, value): (String, String)| TagFilter {
            key,
            value: Some(value).filter(|value| !value.is_empty()),
        };
        Ok(pairs.into_iter().map(filter).collect())
    }

    /// The ids asked for; none can be what `is_possible` says nothing here is.
    fn ids_if(&self, ids: Option<Vec<String>>, is_possible: bool) -> Option<Vec<String>> {
        if is_possible { ids } else { Some(Vec::new()) }
    }

    /// A time.
    fn time(&self, name: &str) -> Result<Option<Timestamp>, Refusal> {
        let Some(text) = self.parameters.text(name) else { return Ok(None) };
        let example = "2024-01-01T00:00Z";
        let refused = |_| Refusal::invalid(format!("{name} must be a time such as {example}."));
        text.parse().map(Some).map_err(refused)
    }

    /// `Filter.N` with the two keys there are: the times of creation.
    fn created_between(&self) -> Result<(Option<Timestamp>, Option<Timestamp>), Refusal> {
        let (mut from, mut until) = (None, None);
        for n in self.parameters.numbers("Filter") {
            let value = format!("Filter.{n}.Value");
            let place = match self.parameters.text(&format!("Filter.{n}.Key")) {
                Some("CreationStartTime") => &mut from,
                Some("CreationEndTime") => &mut until,
                Some(_) | None => {
                    let message = "The specified filter key is not supported.";
                    return Err(Refusal::new("InvalidFilterKey.NotFound", 404, message));
                }
            };
            *place = Some(self.time(&value)?.ok_or_else(|| Refusal::missing(&value))?);
        }
        Ok((from, until))
    }

    /// `LockReason`.
    fn lock(&self) -> Result<Option<Lock>, Refusal> {
        match self.parameters.text("LockReason") {
            None => Ok(None),
            Some("financial") => Ok(Some(Lock::Financial)),
            Some("security") => Ok(Some(Lock::Security)),
            Some(_) => {
                let message = "The specified lock reason is not supported.";
                Err(Refusal::new("InvalidLockReason.NotFound", 404, message))
            }
        }
    }

    /// One of the values a parameter can have; `all` and nothing restrict nothing.
    fn one_of<T: Copy>(
        &self,
        name: &str,
        values: &[(&str, T)],
        (code, status): (&'static str, u16),
    ) -> Result<Option<T>, Refusal> {
        let Some(text) =
            self.parameters.text(name).filter(|text| !text.eq_ignore_ascii_case("all"))
        else {
            return Ok(None);
        };
        let found = values.iter().find(|(value, _)| *value == text).map(|(_, found)| *found);
        let message = || format!("The value {text:?} of the parameter {name} is not supported.");
        found.map(Some).ok_or_else(|| Refusal::new(code, status, message()))
    }
}

/// What every list answers about its page.
fn page_fields<T>(page: &cloud::Page<T>) -> Fields {
    vec![
        ("TotalCount", page.total.into()),
        ("PageNumber", page.number.into()),
        ("PageSize", page.size.into()),
    ]
}

/// The token for the next page; empty at the end.
fn next_token<T>(page: &cloud::Page<T>) -> (&'static str, Tree) {
    ("NextToken", page.next_token.as_str().into())
}

fn tags(tags: &Tags) -> Tree {
    Tree::list(
        "Tag",
        tags.iter()
            .map(|(key, value)| Tree::object([("TagKey", key.into()), ("TagValue", value.into())])),
    )
}

fn lock_name(lock: Lock) -> &'static str {
    match lock {
        Lock::Financial => "financial",
        Lock::Security => "security",
    }
}

/// A time to the second, as disks, snapshots and images show it; empty for none.
fn seconds(time: Option<Timestamp>) -> Tree {
    time.map_or_else(String::new, |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).into()
}

/// A time to the minute, as instances and tasks show it; empty for none.
fn minutes(time: Option<Timestamp>) -> Tree {
    time.map_or_else(String::new, |time| time.strftime("%Y-%m-%dT%H:%MZ").to_string()).into()
}

/// A root hash as hex digits; empty for none.
fn root(root: Option<[u8; 32]>) -> Tree {
    root_digits(root).into()
}

/// A root hash as hex digits; empty for none.
pub(crate) fn root_digits(root: Option<[u8; 32]>) -> String {
    let digits = |root: [u8; 32]| root.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    root.map_or_else(String::new, digits)
}

/// What a disk goes back to, in one word.
pub(crate) fn origin_name(origin: &Origin) -> String {
    match origin {
        Origin::Empty => "empty".into(),
        Origin::Image { id } => format!("image:{id}"),
        Origin::Snapshot { id } => format!("snapshot:{id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_is_told() {
        let changes = |name| find(name, Door::Control).unwrap().changes();
        for name in ["ReInitDisk", "ReInitDisks", "ResetDisk", "DeleteDisk", "CreateAccessKey"] {
            assert!(changes(name), "{name}");
        }
        for name in ["DescribeDisks", "ListAccessKeys", "ShowDisk", "PlanReInitDisks", "VerifyDisk"]
        {
            assert!(!changes(name), "{name}");
        }
    }
}
