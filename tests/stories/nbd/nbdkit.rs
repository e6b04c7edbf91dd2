//! nbdkit as a proxy before a disk: another server's view of this one, and its filters over it.

use super::{Bench, MIB, SIZE, shown, tool};

/// Runs a shell command against nbdkit, whose address it finds in `$uri`.
fn behind(filters: &[&str], bench: &Bench, command: &str) -> tests::program::Outcome {
    let disk = format!("uri={}", bench.uri());
    let mut arguments = vec!["-U", "-"];
    arguments.extend(filters);
    arguments.extend(["nbd", &disk, "--run", command]);
    tool("nbdkit", &arguments)
}

#[test]
fn a_proxy_passes_all_of_it_on() {
    let mut bench = Bench::new();
    bench.expect_noise(MIB + 512, 2 * MIB);
    bench.expect_noise(600 * MIB, 4096);
    let twin = shown(&bench.twin);
    let told = behind(&[], &bench, "nbdinfo --json \"$uri\"").json();
    let export = &told["exports"][0];
    assert_eq!(export["export-size"], SIZE);
    for ability in ["can_flush", "can_fua", "can_trim", "can_zero", "can_multi_conn"] {
        assert_eq!(export[ability], true, "{ability}: {told}");
    }
    behind(&[], &bench, &format!("nbdcopy --flush '{twin}' \"$uri\""));
    behind(&[], &bench, &format!("qemu-img compare -f raw -F raw '{twin}' \"$uri\""));
    let same = "nbdinfo --map \"$uri\"";
    let direct = tool("nbdinfo", &["--map", &bench.uri()]);
    assert_eq!(behind(&[], &bench, same).stdout, direct.stdout);
    bench.files_hold_the_twin();
}

/// The offset filter makes a partition of the disk, the readahead and the cache filter ask in their own way.
#[test]
fn filters_of_nbdkit_work_on_a_disk() {
    let mut bench = Bench::new();
    let part = ["--filter=cache", "--filter=offset"];
    let script = "qemu-io -f raw -c 'write -P 7 0 96k' -c 'write -P 8 1M 512' -c flush \"$uri\"";
    let disk = format!("uri={}", bench.uri());
    let place = ["offset=33M", "range=8M", "cache=writethrough"];
    let line = [&["-U", "-"][..], &part, &["nbd", &disk], &place, &["--run", script]].concat();
    let told = tool("nbdkit", &line);
    assert!(!told.stdout.contains("failed"), "{told}");
    bench.expect(&vec![7; 96 << 10], 33 * MIB);
    bench.expect(&[8; 512], 34 * MIB);
    bench.files_hold_the_twin();
}
