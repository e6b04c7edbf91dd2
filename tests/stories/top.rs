//! "Which of my VMs is hammering the disks right now?"

use std::{
    path::Path,
    process::{Command, Stdio},
};

use tests::{
    program, qemu,
    signature::Signature,
    site::{Machine, Site},
};

fn machine(site: &Site) -> Machine {
    let image = site.import(&qemu::ext4_image(site.scratch(), 8), &[]);
    let machine = site.machine(&image, &["1G"]);
    site.start(&machine.instance);
    site.stop(&machine.instance);
    site.reinit(&machine.data[0], Signature::V1);
    site.start(&machine.instance);
    machine
}

#[test]
fn it_tells_who_writes_how_much_and_how_many_resets_there_were() {
    let site = Site::new();
    let machine = machine(&site);
    let disk = &machine.data[0];
    let mut looking = Command::new(program::binary());
    looking.arg("--store").arg(site.store()).args(["top", "--json", "--interval", "1"]);
    let mut looking = looking.stdout(Stdio::piped()).spawn().unwrap();
    // Until it has looked twice, so that it does not matter when it begins.
    while looking.try_wait().unwrap().is_none() {
        site.io(disk, &["write -P 0x31 0 4M", "flush"]);
    }
    let output = looking.wait_with_output().unwrap();
    assert!(output.status.success());
    let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["Resets"], 1, "{seen}");
    assert_eq!(seen["Disks"]["In_use"], 2, "{seen}");
    let exports = seen["Exports"].as_array().unwrap();
    assert_eq!(exports.len(), 2, "{seen}");
    // The busiest comes first.
    assert_eq!(exports[0]["DiskId"], disk.as_str(), "{seen}");
    assert!(exports[0]["WrittenBytesPerSecond"].as_u64().unwrap() > 0, "{seen}");
    assert_eq!(exports[1]["WrittenBytesPerSecond"], 0, "{seen}");
    // A person in a pipe sees the same once.
    let text = site.offline(&["top", "--once"]).ok().stdout;
    assert!(text.contains(disk.as_str()) && text.contains("2 In_use"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn the_terminal_is_given_back_on_every_signal() {
    let site = Site::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("stories/python/terminal.py");
    for signal in ["SIGINT", "SIGTERM", "SIGHUP"] {
        let mut command = Command::new("python3");
        command.arg(&script).args([signal, "Connections"]).arg(program::binary());
        command.arg("--store").arg(site.store()).arg("top");
        let seen = program::run(&mut command).ok().json();
        let shown = seen["shown"].as_str().unwrap();
        assert!(shown.starts_with("\u{1b}[?1049h\u{1b}[?25l"), "{signal}: {shown:?}");
        assert!(shown.ends_with("\u{1b}[?25h\u{1b}[?1049l"), "{signal}: {shown:?}");
        assert_eq!(seen["status"], 0, "{signal}");
    }
}
