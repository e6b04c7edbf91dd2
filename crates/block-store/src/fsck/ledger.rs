//! The ledger by itself: its headers, its length and every slot.
//!
//! Left to others: whether the layers its records name are there (`references`).

use std::collections::BTreeSet;

use crate::{
    disk::closed_reason,
    fsck::{
        finding::{FindingKind, Findings},
        layer::told,
    },
    geometry::bytes,
    ledger::{self, Contents},
    ledger_record::SlotState,
    storage::Storage,
};

const RESTORE: &str = "restore the ledger from a backup that is not older than the last reset";

/// Reads the ledger; none if nothing of it can be believed.
pub(crate) fn look(storage: &dyn Storage, findings: &mut Findings) -> Option<Contents> {
    let inspected = match ledger::inspect(storage) {
        Ok(inspected) => inspected,
        Err(error) => {
            let message = format!(
                "{}: no disk can be served; {RESTORE}, or make it anew with fsck --rebuild",
                told(&error)
            );
            findings.failure(FindingKind::LedgerUnreadable, "the ledger", &error, message);
            return None;
        }
    };
    if inspected.broken_headers > 0 {
        let message = "one of its two headers is broken; the other one is whole, so all disks are \
                       served, but nothing protects it any more: look at the device, then fsck --repair";
        findings.damage(FindingKind::LedgerHeaderCopy, "the ledger", message);
    }
    if inspected.is_cut {
        let message = "it does not end where a segment ends: its growing was cut short, or it lost \
                       its end; look whether disks are missing";
        findings.note(FindingKind::LedgerLength, "the ledger", message);
    }
    look_at_slots(&inspected.contents, findings);
    Some(inspected.contents)
}

fn look_at_slots(contents: &Contents, findings: &mut Findings) {
    for damage in &contents.damaged {
        let message = format!(
            "{}: the disk it speaks of is refused, and nothing is swept; the other record alone does \
             not tell whether it was the newer one, so none is written from it; {RESTORE}",
            damage.detail
        );
        let found =
            findings.damage(FindingKind::LedgerRecord, format!("ledger {}", damage.slot), message);
        found.affects.extend(damage.disk.as_ref().map(ToString::to_string));
    }
    let damaged: BTreeSet<_> = contents.damaged.iter().filter_map(|d| d.disk.as_ref()).collect();
    let mut live = BTreeSet::new();
    for (slot, state) in &contents.slots {
        if let SlotState::Closed(record) = state {
            let found = findings.damage(
                FindingKind::ClosedDisk,
                format!("disk {}", record.disk),
                closed_reason(&record.disk),
            );
            found.affects.insert(record.disk.to_string());
        }
        match state {
            SlotState::Live(record) | SlotState::Closed(record) => {
                let is_known = damaged.contains(&record.disk);
                if !live.insert(&record.disk) || is_known {
                    let message = format!(
                        "several records speak of disk {0}: it is refused; {RESTORE}",
                        record.disk
                    );
                    let found = findings.damage(
                        FindingKind::TwinRecords,
                        format!("ledger {slot}"),
                        message,
                    );
                    found.affects.insert(record.disk.to_string());
                }
            }
            SlotState::Creating(record) | SlotState::Deleting(record) => {
                let message = format!(
                    "making or deleting disk {} was cut short; the next start settles it",
                    record.disk
                );
                findings.note(FindingKind::Unsettled, format!("ledger {slot}"), message);
            }
            SlotState::Free => {}
        }
    }
    findings.checked.disks = bytes(live.len());
}
