//! qemu-img and qemu-io.

use super::{Bench, MIB, SIZE, shown, tool};

fn qemu_img(arguments: &[&str]) -> tests::program::Outcome {
    tool("qemu-img", arguments)
}

#[test]
fn qemu_img_converts_onto_a_disk_and_from_it() {
    let mut bench = Bench::new();
    bench.expect_noise(0, 2 * MIB);
    bench.expect_noise(77 * MIB, 300_032);
    bench.expect_noise(SIZE - 4096, 4096);
    bench.site.io(bench.disk(), &["write -P 0xee 30M 1M"]);
    let (twin, disk) = (shown(&bench.twin), bench.uri());
    let qcow2 = shown(&tests::qemu::to_qcow2(
        &bench.twin,
        &bench.site.scratch().join("twin.qcow2"),
        &["-c"],
    ));
    // Out of order (`-W`) and in order, with the target's old content in the way and without.
    qemu_img(&["convert", "-n", "-W", "-m", "16", "-f", "qcow2", "-O", "raw", &qcow2, &disk]);
    assert!(bench.is_twin(&disk));
    bench.site.run(&["reset", bench.disk(), "--cycle"]);
    qemu_img(&["convert", "-n", "--target-is-zero", "-f", "raw", "-O", "raw", &twin, &disk]);
    assert!(bench.is_twin(&disk));
    let back = shown(&bench.site.scratch().join("back.qcow2"));
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2", &disk, &back]);
    // Both have the same content, told by a comparison that knows nothing of this server.
    qemu_img(&["compare", "-f", "raw", "-F", "qcow2", &twin, &back]);
    bench.files_hold_the_twin();
}

#[test]
fn qemu_img_compare_finds_one_sector_that_differs() {
    let bench = Bench::new();
    assert!(bench.is_twin(&bench.uri()));
    bench.site.io(bench.disk(), &["write -P 1 900M 512"]);
    assert!(!bench.is_twin(&bench.uri()));
    bench.site.io(bench.disk(), &["write -P 0 900M 512"]);
    assert!(bench.is_twin(&bench.uri()));
}

#[test]
fn qemu_img_maps_data_and_zeros() {
    let bench = Bench::new();
    bench.site.io(bench.disk(), &["write -P 1 1M 64k", "write -z 2M 64k", "write -P 2 3M 4k"]);
    let told = qemu_img(&["map", "-f", "raw", "--output", "json", &bench.uri()]).json();
    let extents = told.as_array().unwrap();
    let held = extents.iter().filter(|extent| extent["data"] == true);
    let data: Vec<_> = held
        .map(|extent| (extent["start"].as_u64().unwrap(), extent["length"].as_u64().unwrap()))
        .collect();
    assert_eq!(data, [(MIB, 64 << 10), (3 * MIB, 4096)]);
    assert!(extents.iter().all(|extent| extent["data"] != extent["zero"]), "{told}");
}

#[test]
fn qemu_img_bench_writes_what_it_says() {
    let mut bench = Bench::new();
    let (count, size, step, start) = (512_u64, 4096_u64, 12_288_u64, MIB);
    let numbers = [count, size, step, start].map(|number| number.to_string());
    let [c, s, step_text, o] = &numbers;
    let how = ["bench", "-w", "--pattern=90", "-f", "raw", "-t", "none", "-d", "16"];
    let where_to = ["-c", c, "-s", s, "-S", step_text, "-o", o, "--flush-interval", "64"];
    qemu_img(&[&how[..], &where_to, &[&bench.uri()]].concat());
    for nth in 0..count {
        bench.expect(&[90; 4096], start + nth * step);
    }
    qemu_img(&["bench", "-f", "raw", "-d", "64", "-c", "2048", "-s", "4096", &bench.uri()]);
    bench.files_hold_the_twin();
}

/// The same script against the disk and against a plain file.
#[test]
fn qemu_io_does_to_a_disk_what_it_does_to_a_file() {
    let mut bench = Bench::new();
    let script = [
        "aio_write -P 0x11 0 1M",
        "aio_write -P 0x12 1M 1M",
        "aio_write -P 0x13 2M 1M",
        "aio_flush",
        "writev -P 0x21 5M 512 4096 65536 512",
        "write -P 0x31 33554944 3584",
        "write -f -P 0x41 40M 2M",
        "write -z 512k 1M",
        "write -z -u 40M 12k",
        "aio_write -z 41M 64k",
        "aio_flush",
        "discard 2M 256k",
        "read -P 0x12 1572864 4k",
        "readv -P 0 2M 4096 512",
        "write -P 0x51 1023M 1M",
        "discard 1073737728 4k",
        "flush",
    ];
    tests::qemu::io(&bench.uri(), "raw", &script);
    tests::qemu::io(&shown(&bench.twin), "raw", &script);
    bench.files_hold_the_twin();
    let beyond = tests::qemu::try_io(&bench.uri(), "raw", &["write 1G 512"]);
    assert!(beyond.code != Some(0) || beyond.stdout.contains("failed"), "{beyond}");
}
