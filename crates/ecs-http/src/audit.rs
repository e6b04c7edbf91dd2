//! The audit log: who did what, from where, and what came of it.
//!
//! One line for each call that changes something, and for each that is refused, through either door:
//! ```text
//! {"Time":"2026-01-31T12:00:00.123Z","RequestId":"...","Account":"lab","Who":"LTAI...","From":"10.0.0.7:51234",
//!  "Action":"ReInitDisk","Resources":["d-..."],"Code":"OK","Status":200,
//!  "Resets":[{"DiskId":"d-...","RequestId":"...","Time":"...","EpochBefore":7,"EpochAfter":8,"Origin":"empty","Root":"..."}]}
//! ```
//!
//! What must always hold
//! 1. Of a request only names that look like ids get in here: never a password, a secret, a token, a
//!    signature, or any other text a client chose.
//! 2. A line is written before its request is answered, but nothing waits for a device, and nothing
//!    fails because of it (`audit_log`).
//! 3. Strangers, who prove no key, get few lines: they must not push the lines of others out.
//!
//! Left to others: the file (`audit_log`), which actions change something (`actions`).

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use cloud::ResetDone;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    actions::{Fields, origin_name, root_digits},
    audit_log::AuditLog,
    bucket::{Bucket, Pace},
    front::Door,
    metering::Metering,
    parameters::Parameters,
    tree::Tree,
};

/// The lines of all strangers together: enough to see what they try.
const OF_STRANGERS: Pace = Pace { rate: 1.0, burst: 100.0 };

/// The longest id; all of ours are far shorter.
const LONGEST_ID: usize = 64;

/// Ids of places and of accounts elsewhere, which name nothing that is acted on.
const NO_RESOURCES: [&str; 4] = ["RegionId", "ZoneId", "OwnerId", "ResourceOwnerId"];

/// The audit log of one front.
#[derive(Debug)]
pub(crate) struct Audit {
    log: AuditLog,
    strangers: Mutex<Strangers>,
    metering: Metering,
}

#[derive(Debug)]
struct Strangers {
    bucket: Bucket,
    /// Lines of theirs that were left out since their last one.
    left_out: u64,
}

/// Who sent a request, as far as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sender {
    /// The access key that is named, or `operator`.
    pub(crate) who: String,
    /// For whom it acts; empty until that is proven.
    pub(crate) account: String,
}

/// What is told of one call.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    pub(crate) request_id: String,
    pub(crate) sender: &'a Sender,
    pub(crate) from: &'a str,
    pub(crate) action: &'a str,
    pub(crate) resources: Vec<String>,
    pub(crate) code: &'a str,
    pub(crate) status: u16,
    pub(crate) resets: &'a [ResetDone],
}

/// A line, in the order in which its fields are read best.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line<'a> {
    time: String,
    request_id: &'a str,
    account: &'a str,
    who: &'a str,
    from: &'a str,
    action: &'a str,
    resources: &'a [String],
    code: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resets: Vec<Receipt<'a>>,
    /// Lines of strangers that were left out before this one.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: u64,
}

/// A reset, as the ledger has it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Receipt<'a> {
    disk_id: &'a str,
    request_id: &'a str,
    time: String,
    epoch_before: u64,
    epoch_after: u64,
    origin: String,
    root: String,
}

impl Audit {
    pub(crate) fn new(log: AuditLog, metering: Metering) -> Self {
        let bucket = Bucket::full(OF_STRANGERS, Instant::now());
        Self { log, strangers: Mutex::new(Strangers { bucket, left_out: 0 }), metering }
    }

    /// Writes the line of a call that was admitted.
    pub(crate) fn tell(&self, told: &Told<'_>, left_out: u64, now: Timestamp) {
        self.log.append(told.line(left_out, now));
    }

    /// How many lines were left out before this one; none if this one is left out too, for its sender is
    /// a stranger and they had their share.
    pub(crate) fn admit(&self, sender: &Sender) -> Option<u64> {
        if !sender.account.is_empty() {
            return Some(0);
        }
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if strangers.bucket.take(OF_STRANGERS, Instant::now()) {
            return Some(std::mem::take(&mut strangers.left_out));
        }
        strangers.left_out += 1;
        self.metering.audit_left_out();
        None
    }
}

impl Told<'_> {
    fn line(&self, left_out: u64, now: Timestamp) -> String {
        let line = Line {
            time: millis(now),
            request_id: &self.request_id,
            account: &self.sender.account,
            who: &self.sender.who,
            from: self.from,
            action: self.action,
            resources: &self.resources,
            code: self.code,
            status: self.status,
            resets: self.resets.iter().map(receipt).collect(),
            left_out,
        };
        serde_json::to_string(&line).expect("texts and numbers always make a document")
    }
}

impl Sender {
    /// Who opened the control socket.
    pub(crate) fn operator() -> Self {
        Self { who: "operator".into(), account: String::new() }
    }

    /// Whoever has this key, or claims to.
    pub(crate) fn of_key(access_key: &str) -> Self {
        let who = if is_id(access_key) { access_key.to_owned() } else { String::new() };
        Self { who, account: String::new() }
    }
}

/// The ids a call names and the ids it answered, each once.
pub(crate) fn resources(parameters: &Parameters, door: Door, answer: &Fields) -> Vec<String> {
    let asked = parameters.iter().filter(|(name, _)| names_resource(name, door));
    let asked = asked.flat_map(|(_, value)| ids(value)).map(str::to_owned);
    let mut seen = HashSet::new();
    let all = asked.chain(answer.iter().flat_map(|(name, value)| answered(name, value)));
    all.filter(|id| seen.insert(id.clone())).collect()
}

/// Why the first of a batch was refused, where the batch itself is answered all the same.
pub(crate) fn first_refused(answer: &Fields) -> Option<&str> {
    let items = answer.iter().filter_map(|(_, value)| match value {
        Tree::List { items, .. } => Some(items),
        _ => None,
    });
    let codes = items.flatten().filter_map(|item| match item {
        Tree::Object(fields) => {
            fields.iter().find(|(name, _)| ["Code", "ErrorCode"].contains(name))
        }
        _ => None,
    });
    codes
        .filter_map(|(_, code)| match code {
            Tree::Text(code) if !["", "200"].contains(&code.as_str()) => Some(code.as_str()),
            _ => None,
        })
        .next()
}

/// `DiskId`, `DiskId.3`, `DataDisk.1.SnapshotId`, `DiskIds`; for a signed request not the key it is signed with.
fn names_resource(name: &str, door: Door) -> bool {
    let is_number = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
    let last = name.rsplit('.').find(|part| !is_number(part)).unwrap_or_default();
    let signs = door == Door::Public && last == "AccessKeyId";
    (last.ends_with("Id") || last.ends_with("Ids")) && !NO_RESOURCES.contains(&last) && !signs
}

/// One id, or the ids of a list such as `["d-1","d-2"]`; anything else is none.
fn ids(value: &str) -> impl Iterator<Item = &str> {
    let pieces = value.split([',', '"', '\'', '[', ']']).map(str::trim);
    pieces.filter(|piece| is_id(piece))
}

fn is_id(text: &str) -> bool {
    // Temporary keys are the only ids with a dot.
    let text = text.strip_prefix("STS.").unwrap_or(text);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !text.is_empty() && text.len() <= LONGEST_ID && text.bytes().all(fits)
}

fn answered(name: &str, value: &Tree) -> Vec<String> {
    match value {
        _ if NO_RESOURCES.contains(&name) => vec![],
        Tree::Text(id) if name.ends_with("Id") && is_id(id) => vec![id.clone()],
        Tree::List { items, .. } if name.ends_with("Ids") || name.ends_with("IdSets") => {
            let texts = items.iter().filter_map(|item| match item {
                Tree::Text(id) if is_id(id) => Some(id.clone()),
                _ => None,
            });
            texts.collect()
        }
        _ => vec![],
    }
}

fn receipt(done: &ResetDone) -> Receipt<'_> {
    let kept = &done.receipt;
    Receipt {
        disk_id: &done.disk,
        request_id: &kept.request_id,
        time: millis(kept.time),
        epoch_before: kept.epoch_before,
        epoch_after: kept.epoch_after,
        origin: kept.origin.as_ref().map(origin_name).unwrap_or_default(),
        root: root_digits(kept.root),
    }
}

fn millis(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(form: &str) -> Parameters {
        Parameters::of_form(form.as_bytes()).unwrap()
    }

    #[test]
    fn who_used_a_temporary_key_is_told_as_well() {
        assert_eq!(Sender::of_key("STS.uZTDjQ2eSvfsFDLucgUs").who, "STS.uZTDjQ2eSvfsFDLucgUs");
        assert!(["STS.", "a.b", "STS.a.b"].iter().all(|key| Sender::of_key(key).who.is_empty()));
        let answer = vec![("AccessKeyId", "STS.u".into()), ("RegionId", "cn-hangzhou".into())];
        assert_eq!(resources(&parameters("RegionId=r"), Door::Control, &answer), ["STS.u"]);
    }

    #[test]
    fn ids_get_in_and_nothing_else_does() {
        let asked = parameters(
            "DiskId=d-1&DiskId.2=d-2&DataDisk.1.SnapshotId=s-1&InstanceIds=[\"i-1\",\"i-2\"]&RegionId=r&\
             AccessKeyId=LTAI1&Password=Secret-1&SecurityToken=token-1&Signature=sig&Description=d-9&\
             ImageId=not%20an%20id!&KeyPairName=name&ClientToken=t-1&ResourceId.1=d-1",
        );
        let answer: Fields = vec![
            ("AccessKeySecret", "secret".into()),
            ("TaskId", "t-7".into()),
            ("InstanceIdSets", Tree::texts("InstanceIdSet", ["i-7"])),
        ];
        let all = resources(&asked, Door::Public, &answer);
        assert_eq!(all, ["s-1", "d-1", "d-2", "i-1", "i-2", "t-7", "i-7"]);
        let named = resources(&parameters("AccessKeyId=LTAI1"), Door::Control, &vec![]);
        assert_eq!(named, ["LTAI1"]);
    }

    #[test]
    fn strangers_get_their_share_and_the_next_line_says_what_was_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let place = crate::AuditPlace {
            path: directory.path().join("audit.jsonl"),
            file_bytes: 1 << 20,
            files_kept: 1,
        };
        let metering = Metering::new();
        let log = AuditLog::open(place, metering.clone()).unwrap();
        let audit = Audit::new(log, metering.clone());
        let stranger = Sender::of_key("LTAI1");
        let admitted = (0..1000).filter(|_| audit.admit(&stranger).is_some()).count();
        // More by what the time this takes gives, at one a second.
        assert!((100..200).contains(&admitted), "{admitted}");
        assert!(metering.render().contains("reinit_audit_left_out_total"));
        audit.strangers.lock().unwrap().bucket = Bucket::full(OF_STRANGERS, Instant::now());
        let told = audit.admit(&stranger).unwrap();
        assert!(told > 0 && told <= 900, "{told}");
        let known = Sender { account: "lab".into(), ..stranger };
        assert!((0..1000).all(|_| audit.admit(&known) == Some(0)));
    }
}
