//! nbdinfo and nbdcopy.

use std::process::Command;

use tests::program::run;

use super::{Bench, MIB, SIZE, shown, tool};

#[test]
fn nbdinfo_shows_what_a_disk_is_and_can() {
    let bench = Bench::new();
    let told = tool("nbdinfo", &["--json", &bench.uri()]).json();
    assert_eq!(told["protocol"], "newstyle-fixed");
    let export = &told["exports"][0];
    assert_eq!(export["export-name"], bench.disk());
    assert_eq!(export["export-size"], SIZE);
    assert_eq!(export["is_read_only"], false);
    for ability in ["can_df", "can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero"] {
        assert_eq!(export[ability], true, "{ability}: {told}");
    }
    assert_eq!(export["block_size_minimum"], 512);
    assert_eq!(export["block_size_preferred"], 4096);
    let contexts = export["contexts"].as_array().unwrap();
    assert!(contexts.iter().any(|context| context == "base:allocation"), "{told}");
    assert_eq!(tool("nbdinfo", &["--size", &bench.uri()]).stdout.trim(), SIZE.to_string());
}

#[test]
fn nbdinfo_lists_the_disks_of_running_machines_only() {
    let bench = Bench::new();
    let socket = format!("nbd+unix:///?socket={}", shown(&bench.site.store().join("run/nbd.sock")));
    let listed = || {
        let told = tool("nbdinfo", &["--list", "--json", &socket]).json();
        let all = told["exports"].as_array().unwrap().clone();
        let mut names: Vec<_> =
            all.iter().map(|one| one["export-name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let mut both = vec![bench.machine.system.clone(), bench.disk().to_owned()];
    both.sort();
    assert_eq!(listed(), both);
    bench.site.stop(&bench.machine.instance);
    assert!(listed().is_empty());
    let refused = run(Command::new("nbdinfo").arg(bench.uri()));
    assert_ne!(refused.code, Some(0), "{refused}");
    bench.site.start(&bench.machine.instance);
    assert_eq!(listed(), both);
}

/// Where data lies, as `nbdinfo --map` tells it: place and length.
fn data_in_the_map(uri: &str) -> Vec<(u64, u64)> {
    let told = tool("nbdinfo", &["--map", "--json", uri]).json();
    let mut place = 0;
    let mut data = Vec::new();
    for extent in told.as_array().unwrap() {
        assert_eq!(extent["offset"], place, "no gap and no overlap: {told}");
        let length = extent["length"].as_u64().unwrap();
        // Bit 1: it reads as zeros.
        if extent["type"].as_u64().unwrap() & 2 == 0 {
            data.push((place, length));
        }
        place += length;
    }
    assert_eq!(place, SIZE, "{told}");
    data
}

#[test]
fn nbdinfo_maps_what_was_written_and_a_reset_clears_it() {
    let bench = Bench::new();
    assert_eq!(data_in_the_map(&bench.uri()), []);
    let deeds = ["write -P 1 1M 64k", "write -P 2 5000192 512", "write -P 3 512M 8k"];
    bench.site.io(bench.disk(), &deeds);
    bench.site.io(bench.disk(), &["discard 1M 4k", "write -z 512M 4k"]);
    let block = 4096;
    let data = [(MIB + block, 15 * block), (5_000_192 / block * block, block)];
    let data = [data[0], data[1], (512 * MIB + block, block)];
    assert_eq!(data_in_the_map(&bench.uri()), data);
    let totals = tool("nbdinfo", &["--map", "--totals", &bench.uri()]).stdout;
    let held: Vec<_> = totals.lines().filter(|line| line.ends_with(" data")).collect();
    assert_eq!(held.len(), 1, "{totals}");
    assert!(held[0].trim_start().starts_with(&(17 * block).to_string()), "{totals}");
    bench.site.run(&["reset", bench.disk(), "--cycle"]);
    assert_eq!(data_in_the_map(&bench.uri()), []);
}

#[test]
fn nbdcopy_brings_a_file_in_and_out_again() {
    let mut bench = Bench::new();
    bench.expect_noise(0, 3 * MIB);
    bench.expect_noise(20 * MIB + 512, 100_352);
    bench.expect_noise(SIZE - MIB, MIB);
    // What the disk held must not shine through the file's holes.
    bench.site.io(bench.disk(), &["write -P 0xee 10M 1M"]);
    tool("nbdcopy", &["--connections=4", "--requests=16", &shown(&bench.twin), &bench.uri()]);
    let out = shown(&bench.site.scratch().join("out.raw"));
    for way in [&["--connections=4"][..], &["--synchronous"], &["--no-extents", "--sparse=0"]] {
        tool("nbdcopy", &[way, &[&bench.uri(), &out]].concat());
        assert!(bench.is_twin(&out), "{way:?}");
        std::fs::remove_file(&out).unwrap();
    }
    bench.files_hold_the_twin();
}

#[test]
fn nbdcopy_copies_one_disk_to_another() {
    let mut bench = Bench::new();
    let system = bench.site.nbd(&bench.machine.system);
    tool("nbdcopy", &["--flush", "--destination-is-zero", &system, &bench.uri()]);
    tool("nbdcopy", &[&system, &shown(&bench.twin)]);
    bench.files_hold_the_twin();
}
