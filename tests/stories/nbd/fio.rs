//! fio with its NBD engine: what it wrote it must read back by its checksums, over NBD and from the store's files.

use super::{Bench, MIB, shown, tool};

/// Where the jobs write: 8 MiB.
const PLACE: [&str; 2] = ["--offset=16m", "--size=8m"];

fn fio(arguments: &[&str]) -> serde_json::Value {
    let told = tool("fio", &[&["--output-format=json", "--name=story"], arguments].concat());
    // A line about the connection comes before the document.
    let start = told.stdout.find('{').unwrap_or_else(|| panic!("{told}"));
    let told: serde_json::Value = serde_json::from_str(&told.stdout[start..]).unwrap();
    assert_eq!(told["jobs"][0]["error"], 0, "{told}");
    told
}

#[test]
fn random_writes_are_verified_by_their_checksums() {
    let mut bench = Bench::new();
    let uri = format!("--uri={}", bench.uri());
    let verify = [
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--randseed=7",
        "--rw=randwrite",
    ];
    let shape = ["--bs=4k", "--iodepth=16", "--fsync=256"];
    let over_nbd = ["--ioengine=nbd", &uri];
    let done = fio(&[&over_nbd[..], &PLACE, &shape, &verify, &["--do_verify=1"]].concat());
    assert_eq!(done["jobs"][0]["write"]["total_ios"], 2048, "{done}");
    assert_eq!(done["jobs"][0]["read"]["total_ios"], 2048, "each was read back");

    let files = format!("--filename={}", shown(&bench.files_of()));
    let from_files = ["--ioengine=psync", &files, "--verify_only", "--allow_file_create=0"];
    let done = fio(&[&from_files[..], &PLACE, &["--bs=4k"], &verify].concat());
    assert_eq!(done["jobs"][0]["read"]["total_ios"], 2048, "{done}");
    // One wrong byte in them must be found.
    bench.twin = bench.site.scratch().join("files.raw");
    bench.expect(&[0xee], 20 * MIB + 100);
    let line = [&["--name=story"][..], &from_files, &PLACE, &["--bs=4k"], &verify].concat();
    let told = tests::program::run(std::process::Command::new("fio").args(line));
    assert_ne!(told.code, Some(0), "{told}");
}

#[test]
fn trims_leave_zeros_and_nothing_around_them_changes() {
    let mut bench = Bench::new();
    bench.site.io(bench.disk(), &["write -P 0x61 15M 10M"]);
    bench.expect(&vec![0x61; 10 << 20], 15 * MIB);
    bench.expect(&vec![0; 8 << 20], 16 * MIB);
    let uri = format!("--uri={}", bench.uri());
    let trims = ["--ioengine=nbd", &uri, "--rw=randtrim", "--bs=64k", "--iodepth=16"];
    let done = fio(&[&trims[..], &PLACE].concat());
    assert_eq!(done["jobs"][0]["trim"]["total_ios"], 128, "{done}");
    bench.files_hold_the_twin();
}

/// One after the other, for at a greater depth fio sends a block's write without waiting for its trim.
#[test]
fn what_is_written_after_a_trim_stays() {
    let mut bench = Bench::new();
    bench.site.io(bench.disk(), &["write -P 0x61 15M 10M"]);
    bench.expect(&vec![0x61; 10 << 20], 15 * MIB);
    let uri = format!("--uri={}", bench.uri());
    // Not `randtrimwrite`, which ends after one trim on any server.
    let jobs = ["--ioengine=nbd", &uri, "--rw=trimwrite", "--bs=4k", "--iodepth=1"];
    let done = fio(&[&jobs[..], &PLACE, &["--buffer_pattern=0x62"]].concat());
    let job = &done["jobs"][0];
    assert_eq!(
        (&job["trim"]["total_ios"], &job["write"]["total_ios"]),
        (&2048.into(), &2048.into())
    );
    bench.expect(&vec![0x62; 8 << 20], 16 * MIB);
    bench.files_hold_the_twin();
}
