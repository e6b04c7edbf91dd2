#!/usr/bin/env python3
"""Takes one mechanism of the program away at a time and demands that its named test notices.

    tests/mutations.py            make each mutation, run its test, tell which went unnoticed
    tests/mutations.py NAME...    only these
    tests/mutations.py --list     their names
    tests/mutations.py --check    only look that each still fits the source (part of the tests)

A mutation is a text of one source file that is replaced by another. It is made in a copy under
target/mutations, never here. It counts as noticed if the program still builds and the test fails.
The missing-sync mutations need no such copy: they are switches of the recorded storage, in
tests/tests/power_cuts.rs.
"""

import os
import pathlib
import shutil
import subprocess
import sys
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRATCH = ROOT / "target" / "mutations"
TRIES = 3


class Mutation(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    package: str
    target: str  # of the package: the integration test's name, or "lib"
    test: str


STORE = "crates/block-store/src/"
MUTATIONS = [
    Mutation("words-before-data", STORE + "flush.rs",
             """        let proof = sync_data(head)?;
        if captured.is_empty() {
            return Ok(());
        }
        publish(head, &captured, position, &proof)
""",
             """        if !captured.is_empty() {
            publish(head, &captured, position, &DataDurable(()))?;
        }
        sync_data(head).map(drop)
""",
             "tests", "power_cuts", "every_change_of_a_flush_is_survived"),
    Mutation("flush-joins-the-running-round", STORE + "flush.rs",
             "let mine = state.begun + 1;", "let mine = state.ended + 1;",
             "tests", "power_cuts", "a_flush_in_the_middle_of_a_round_waits_for_the_next_one"),
    Mutation("failed-round-forgets-its-list", STORE + "flush.rs",
             "head.changed.put_back(changed);", "drop(changed);",
             "tests", "faults", "a_flush_that_passes_after_a_failed_one_covers_both"),
    Mutation("failed-sync-is-forgiven", STORE + "head.rs",
             "Some(reason) => Err(DeviceError::Poisoned { reason: reason.clone() }),",
             "Some(_) => Ok(()),",
             "tests", "faults",
             "a_failed_sync_poisons_its_disk_alone_until_a_reset_leaves_the_head_behind"),
    Mutation("foreign-word-is-merged", STORE + "head.rs",
             "change(*cluster, word.at(epoch))", "change(*cluster, word.said())",
             "block-store", "disks", "words_of_the_old_epoch_are_replaced_whole"),
    Mutation("discard-shows-the-base", STORE + "head.rs",
             "blocks.zeroed(needed)",
             "Blocks { data: blocks.data & !needed, zero: blocks.zero }",
             "block-store", "disks", "a_discard_never_reveals_the_base"),
    Mutation("partial-block-is-not-filled", STORE + "head.rs",
             "if block == range.start || is_present", "if true || is_present",
             "block-store", "disks", "a_partial_write_over_the_base_keeps_the_rest_of_the_block"),
    Mutation("punch-before-the-headers-epoch", STORE + "reclaim.rs",
             """    head.refresh_header(&disk.position(shared, &state.record))?;
    let punched = head.punch_stale(state.record.epoch.tag(), range.clone())?;
""",
             """    let punched = head.punch_stale(state.record.epoch.tag(), range.clone())?;
    head.refresh_header(&disk.position(shared, &state.record))?;
""",
             "tests", "reclaim",
             "an_older_ledger_finds_every_block_or_is_refused_wherever_a_walk_was_cut"),
    Mutation("walk-asks-at-each-punch", STORE + "known_stretch.rs",
             "if !self.0.contains(&from) {", "if !self.0.contains(&from) || from > 0 {",
             "tests", "reclaim",
             "a_walk_asks_where_data_is_once_for_each_stretch_not_for_each_punch"),
    Mutation("seal-without-a-last-flush", STORE + "snapshot.rs",
             "    disk.flush(shared, state).map_err(|error| refused(error.to_string()))?;\n",
             "    let _ = &refused;\n",
             "tests", "in_flight",
             "sixteen_times_sixteen_requests_in_flight_and_snapshots_meanwhile"),
    Mutation("changes-fill-memory", STORE + "disk.rs",
             "&& head.changed.is_round_due()",
             "&& head.changed.is_round_due() && head.poisoned().is_some()",
             "block-store", "disks",
             "so_many_changes_that_they_would_fill_memory_are_made_durable_unasked"),
    Mutation("walk-is-in-nobodys-way", STORE + "manners.rs",
             "self.busy_until = now + self.longest * REMEMBERED;", "self.busy_until = now;",
             "block-store", "lib",
             "manners::tests::a_rest_ends_when_enough_requests_passed_each_punch"),
    Mutation("pressure-is-not-relieved", "crates/cloud/src/space.rs",
             "space.free.get() < space.total.get() / PRESSURE", "space.free.get() < PRESSURE",
             "cloud", "cloud", "space::stale_blocks_are_given_back_under_pressure_until_there_is_room"),
    Mutation("map-sector-unchecked", STORE + "map_sector.rs",
             "if empty || check == check_word(", "if empty || check != 0 || check == check_word(",
             "tests", "faults", "damage_anywhere_is_found_or_harmless"),
    Mutation("ledger-record-unchecked", STORE + "ledger_record.rs",
             "raw.magic.get() != MAGIC || crc32c::crc32c(&bytes[..CHECKED]) != raw.crc.get()",
             "raw.magic.get() != MAGIC",
             "block-store", "lib",
             "ledger_record::tests::a_record_reads_back_and_every_flipped_bit_is_found"),
    Mutation("ledger-slot-unchecked", STORE + "ledger_record.rs",
             "if raw.slot.get() != slot {", "if raw.slot.get() > u64::MAX - slot {",
             "block-store", "lib", "ledger_record::tests::a_record_that_strayed_is_found_out"),
    Mutation("failed-ledger-is-forgiven", STORE + "ledger.rs",
             "state.failure = Some(reason);", "drop(reason);",
             "tests", "faults",
             "a_failed_sync_of_the_ledger_fences_the_batch_and_stops_the_ledger"),
    Mutation("reset-keeps-old-handles", STORE + "reset.rs",
             "    state.session += 1;\n", "",
             "block-store", "disks", "a_reset_brings_the_origin_back_and_fences_older_handles"),
    Mutation("reset-without-a-new-epoch", STORE + "reset.rs",
             "        epoch,\n        base: target.reset.base,\n        head:",
             "        epoch: { let _ = epoch; before.epoch },\n        base: target.reset.base,\n        head:",
             "block-store", "disks", "a_reset_brings_the_origin_back_and_fences_older_handles"),
    Mutation("pins-do-not-hold", STORE + "names.rs",
             "let used = state.named.contains(&layer) || pinned;",
             "let used = state.named.contains(&layer);",
             "block-store", "disks", "layers_live_as_long_as_somebody_needs_them"),
    Mutation("lock-left-to-the-closing", STORE + "storage.rs",
             "let _ = self.file.unlock();", "",
             "block-store", "disks", "a_closed_store_is_free_though_a_copy_of_its_lock_is_open"),
    Mutation("imported-catalog-sweeps", "crates/cloud/src/recovery.rs",
             "if catalog.get::<Import>(Import::ID)?.is_some() {",
             "if catalog.get::<Import>(Import::ID)?.is_some() && disks_unknown() {",
             "cloud", "cloud", "restarts::the_first_start_on_an_imported_catalog_sweeps_nothing"),
    Mutation("delete-without-a-claim", "crates/cloud/src/disk/delete.rs",
             "vec![Hold::Quiet(id.into())]", "Vec::new()",
             "cloud", "cloud", "pairs::any_two_calls_at_once_end_as_one_order_of_them_would"),
    Mutation("tag-answered-without-a-commit", "crates/cloud/src/tags.rs",
             """        drop(world);
        self.commit(&batch)?;
""",
             """        drop(world);
""",
             "tests", "clients", "any_number_of_clients_see_one_order_through_kills"),
    Mutation("snapshot-never-lets-go", "crates/cloud/src/claim.rs",
             "Hold::Snapshotting(disk) => drop(claims.snapshotting.remove(&disk)),",
             "Hold::Snapshotting(_) => {}",
             "tests", "clients", "any_number_of_clients_see_one_order_through_kills"),
    Mutation("waiting-reset-always-counts", "crates/cloud/src/recovery.rs",
             "info.sequence >= pending.ledger_sequence", "pending.ledger_sequence > 0",
             "cloud", "cloud", "restarts::what_waited_for_a_reset_counts_if_the_ledger_got_there"),
    Mutation("catalog-record-unchecked", "crates/catalog/src/envelope.rs",
             "if found != computed {", "if found == 0 && computed == 0 {",
             "catalog", "lib", "envelope::tests::every_single_bit_counts"),
    Mutation("census-unchecked", "crates/catalog/src/sled_catalog/database.rs",
             "} else if records != found {", "} else if records > u64::MAX - found {",
             "catalog", "catalog", "recovery::a_record_that_vanished_is_missed"),
    Mutation("copy-from-an-older-one", STORE + "header.rs",
             "broken == 1 && is_last(&found.header)", "broken == 1 && found.header.layer == layer",
             "block-store", "fsck", "repair::a_header_of_a_sealed_and_hashed_layer"),
    Mutation("mended-record-unpaired", STORE + "fsck/repair/ledger.rs",
             "Parsed::Record(record) => fits(&record),",
             "Parsed::Record(record) => fits(&record) || record.slot < u64::MAX,",
             "block-store", "fsck", "repair::of_a_record_that_is_more_than_a_bit_wrong_nothing_is_guessed"),
    Mutation("rebuilt-disks-open", STORE + "fsck/rebuild/new_ledger.rs",
             "map(SlotState::Closed)", "map(SlotState::Live)",
             "block-store", "fsck",
             "rebuild::a_lost_ledger_comes_back_and_every_disk_is_closed_until_somebody_chose"),
    Mutation("origin-with-the-old-head", STORE + "fsck/rebuild/accept.rs",
             "Ok(DiskRecord { epoch, base, head: None, last_reset, ..record.clone() })",
             "Ok(DiskRecord { base, last_reset, ..record.clone() }).inspect(|_| drop(epoch))",
             "block-store", "fsck", "rebuild::back_at_its_origin_nothing_of_the_head_ever_counts_again"),
    Mutation("lost-ledger-not-kept", STORE + "fsck/rebuild/new_ledger.rs",
             'let aside = set_aside(storage).map_err(StoreError::io("keeping the lost ledger"))?;',
             'let aside = (storage.exists("").is_err()).then(|| set_aside(storage).unwrap_or_default().unwrap_or_default());',
             "tests", "rebuild", "power_may_fail_at_every_change_of_a_rebuilding"),
    Mutation("check-opens-for-writing", STORE + "fsck/layer.rs",
             "let opened = LayerFiles::open_to_read(storage, layer)",
             "let opened = LayerFiles::open(storage, layer)",
             "block-store", "fsck", "a_read_only_file_system_is_checked_like_any_other"),
]
# What a mutation may name without a warning stopping the build.
HELPERS = {"imported-catalog-sweeps": "\nfn disks_unknown() -> bool {\n    false\n}\n"}


def misfits() -> list[str]:
    """Mutations whose text is not in the source exactly once, or whose test is gone."""
    found = []
    for mutation in MUTATIONS:
        count = (ROOT / mutation.file).read_text().count(mutation.old)
        if count != 1:
            found.append(f"{mutation.name}: its text is {count} times in {mutation.file}")
        name = mutation.test.rsplit("::", 1)[-1]
        places = [*ROOT.glob("crates/*/src/**/*.rs"), *ROOT.glob("crates/*/tests/**/*.rs"),
                  *ROOT.glob("tests/**/*.rs")]
        if not any(f"fn {name}(" in place.read_text() for place in places):
            found.append(f"{mutation.name}: there is no test {name}")
    return found


def copy_tree(tree: pathlib.Path) -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    for name in filter(None, files.stdout.decode().split("\0")):
        source, place = ROOT / name, tree / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_file() and (not place.exists() or place.read_bytes() != source.read_bytes()):
            shutil.copyfile(source, place)


def cargo(tree: pathlib.Path, mutation: Mutation, *more: str) -> bool:
    which = ["--lib"] if mutation.target == "lib" else ["--test", mutation.target]
    command = ["cargo", "test", "--quiet", "--package", mutation.package, *which, *more]
    environment = os.environ | {"CARGO_TARGET_DIR": str(SCRATCH / "target"), "RUSTFLAGS": "--cap-lints warn"}
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=900)
    except subprocess.TimeoutExpired:
        return False
    if "--no-run" in more and done.returncode != 0:
        print(done.stderr.decode(errors="replace")[-2000:])
    return done.returncode == 0


def verdict(tree: pathlib.Path, mutation: Mutation) -> str:
    place = tree / mutation.file
    original = place.read_text()
    try:
        place.write_text(original.replace(mutation.old, mutation.new) + HELPERS.get(mutation.name, ""))
        if not cargo(tree, mutation, "--no-run"):
            return "does not build"
        # Some need two threads to meet; a mechanism that is there passes every time.
        passed = all(cargo(tree, mutation, "--", "--exact", mutation.test) for _ in range(TRIES))
        return "NOT NOTICED" if passed else "noticed"
    finally:
        place.write_text(original)


def main() -> int:
    wanted = sys.argv[1:]
    if wanted in (["--help"], ["-h"]):
        print(__doc__)
        return 0
    if wanted == ["--list"]:
        print(*(mutation.name for mutation in MUTATIONS), sep="\n")
        return 0
    found = misfits()
    print(*found, sep="\n", end="\n" if found else "")
    if found or wanted == ["--check"]:
        return 1 if found else 0
    unknown = set(wanted) - {mutation.name for mutation in MUTATIONS}
    if unknown:
        print(f"no such mutation: {', '.join(sorted(unknown))} (--list tells the names)")
        return 2
    tree = SCRATCH / "tree"
    copy_tree(tree)
    bad = 0
    for mutation in MUTATIONS:
        if not wanted or mutation.name in wanted:
            outcome = verdict(tree, mutation)
            bad += outcome != "noticed"
            print(f"{mutation.name:34} {outcome:14} {mutation.test}", flush=True)
    print(f"mutations: {bad} not noticed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
