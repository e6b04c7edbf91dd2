//! "I attach my disk to QEMU": its own tools against the server. Skipped, loudly, where they are
//! not installed.

use std::{path::Path, process::Command};

use block_device::{BlockDevice, Durability};

use crate::support::{MIB, TestServer, at, bytes};

/// What a tool said; it must have ended well. `None` if it is not installed.
pub(crate) fn run(tool: &str, arguments: &[&str]) -> Option<String> {
    let output = match Command::new(tool).args(arguments).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: {tool} is not installed");
            return None;
        }
        Err(error) => panic!("{tool}: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}: {said}{complained}");
    // qemu-io ends well even if a command of it failed: its words tell.
    for bad in ["failed", "rror", "mismatch", "verification"] {
        assert!(!said.contains(bad) && !complained.contains(bad), "{said}{complained}");
    }
    Some(said)
}

fn uri(test: &TestServer) -> String {
    format!("nbd+unix:///disk?socket={}", test.path().display())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn qemu_img_sees_size_and_allocation() {
    let (test, disk) = TestServer::of_memory(16 * MIB);
    disk.write_at(&vec![9; 1 << 20], at(4 * MIB), Durability::Cached).unwrap();
    let Some(info) = run("qemu-img", &["info", &uri(&test)]) else { return };
    assert!(info.contains("16 MiB (16777216 bytes)"), "{info}");
    let map = run("qemu-img", &["map", "--output=json", &uri(&test)]).unwrap();
    let map: String = map.split_whitespace().collect();
    for part in [
        "\"start\":0,\"length\":4194304,\"depth\":0,\"present\":true,\"zero\":true",
        "\"start\":4194304,\"length\":1048576,\"depth\":0,\"present\":true,\"zero\":false",
        "\"start\":5242880,\"length\":11534336,\"depth\":0,\"present\":true,\"zero\":true",
    ] {
        assert!(map.contains(part), "{part} is not in {map}");
    }
}

#[test]
fn qemu_img_converts_in_and_out_and_compares() {
    let (test, disk) = TestServer::of_memory(64 * MIB);
    let image = test.directory().join("image.raw");
    let qcow2 = test.directory().join("image.qcow2");
    let data: Vec<u8> = (0..64 * MIB)
        .map(|place| if (place / MIB).is_multiple_of(3) { (place % 251) as u8 } else { 0 })
        .collect();
    std::fs::write(&image, &data).unwrap();
    let convert = ["convert", "-n", "-f", "raw", "-O", "raw", text(&image), &uri(&test)];
    if run("qemu-img", &convert).is_none() {
        return;
    }
    let mut held = vec![0; data.len()];
    disk.read_at(&mut held, at(0)).unwrap();
    assert!(held == data);
    assert!(disk.flushes() > 0, "it flushes at its end");
    let compare = ["compare", "-f", "raw", "-F", "raw", text(&image), &uri(&test)];
    assert!(run("qemu-img", &compare).unwrap().contains("identical"));
    run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &uri(&test), text(&qcow2)]).unwrap();
    let compare = ["compare", "-f", "raw", "-F", "qcow2", text(&image), text(&qcow2)];
    assert!(run("qemu-img", &compare).unwrap().contains("identical"));
}

#[test]
fn qemu_io_writes_reads_discards_zeroes_and_flushes() {
    let (test, disk) = TestServer::of_memory(16 * MIB);
    let commands = [
        "write -P 0x11 0 1M",
        "read -P 0x11 0 1M",
        "write -f -P 0x22 512 512",
        "read -P 0x22 512 512",
        "read -P 0x11 1024 3k",
        "aio_write -P 0x33 4M 2M",
        "aio_write -P 0x44 8M 2M",
        "aio_flush",
        "read -P 0x33 4M 2M",
        "read -P 0x44 8M 2M",
        "write -z 4M 64k",
        "write -z -u 5M 64k",
        "read -P 0 4M 64k",
        "read -P 0 5M 64k",
        "read -P 0x33 4160k 64k",
        "discard 8M 1M",
        "read -P 0 8M 1M",
        "read -P 0x44 9M 1M",
        "flush",
    ];
    let uri = uri(&test);
    let mut arguments = vec!["-f", "raw", &uri];
    commands.iter().for_each(|command| arguments.extend(["-c", command]));
    let Some(said) = run("qemu-io", &arguments) else { return };
    assert!(said.contains("wrote 1048576/1048576 bytes at offset 0"), "{said}");
    assert!(disk.flushes() >= 3, "the forced write, aio_flush and flush");
    let zeroed = disk.extents(at(8 * MIB), bytes(MIB), 4).unwrap();
    assert_eq!(zeroed.len(), 1);
}

#[test]
fn qemu_nbd_lists_the_exports() {
    let (test, _disk) = TestServer::of_memory(16 * MIB);
    let socket = test.path();
    let Some(said) = run("qemu-nbd", &["--list", "-k", text(&socket)]) else { return };
    for part in [
        "exports available: 1",
        "export: 'disk'",
        "size:  16777216",
        "min block: 512",
        "opt block: 4096",
        "max block: 33554432",
        "base:allocation",
        "reinit:dirty",
        "multi",
        "cache",
        "fast-zero",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

#[test]
fn qemu_img_bench_keeps_a_deep_queue() {
    let (test, disk) = TestServer::of_memory(64 * MIB);
    let uri = uri(&test);
    let bench = ["bench", "-f", "raw", "-c", "20000", "-d", "64", "-s", "4k", &uri];
    if run("qemu-img", &bench).is_none() {
        return;
    }
    let bench = [
        "bench",
        "-w",
        "-f",
        "raw",
        "-c",
        "5000",
        "-d",
        "32",
        "-s",
        "4k",
        "--flush-interval=500",
        &uri,
    ];
    run("qemu-img", &bench).unwrap();
    assert!(disk.flushes() >= 9);
}
