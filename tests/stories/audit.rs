//! "Somebody reset the wrong disk last night. I want to know who, from where, and what it was before."

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
};

use serde_json::Value;
use tests::{
    daemon, program,
    signature::Signature,
    site::{Site, text},
};

fn entries(site: &Site) -> Vec<Value> {
    site.run(&["audit"])["Entries"].as_array().unwrap().clone()
}

/// A stopped machine with one data disk.
fn machine(site: &Site) -> tests::site::Machine {
    let image = tests::qemu::ext4_image(site.scratch(), 8);
    let id = site.import(&image, &["--format", "raw"]);
    let machine = site.machine(&id, &["1G"]);
    site.start(&machine.instance);
    site.io(&machine.data[0], &["write -P 0x61 1M 1M", "flush"]);
    site.stop(&machine.instance);
    machine
}

#[test]
fn the_log_says_who_reset_which_disk_also_when_the_daemon_is_gone() {
    let mut site = Site::new();
    let machine = machine(&site);
    let (data, key) = (&machine.data[0], site.ecs().key.id);
    let before = site.show(data)["Epoch"].as_u64().unwrap();
    site.reinit(data, Signature::Acs3);
    let receipt = site.show(data)["LastReset"].clone();
    site.kill_daemon();

    let all = entries(&site);
    let reset = all.iter().find(|entry| entry["Action"] == "ReInitDisk").unwrap();
    assert_eq!((text(reset, "Who"), text(reset, "Code")), (key, "OK".to_owned()));
    assert_eq!(reset["Resources"][0], data.as_str());
    let told = &reset["Resets"][0];
    assert_eq!(told["EpochBefore"], before);
    for field in ["RequestId", "EpochBefore", "EpochAfter", "Origin", "Root"] {
        assert_eq!(told[field], receipt[field], "{field}");
    }
    let words = site.offline(&["audit"]).ok().stdout;
    let line = words.lines().find(|line| line.contains("ReInitDisk")).unwrap();
    assert!(line.contains(&format!("{data} to empty, epoch {before} -> {}", before + 1)), "{line}");
    let ids = site.offline(&["audit", "-q"]).ok().stdout;
    assert!(ids.lines().any(|id| id == text(reset, "RequestId")), "{ids}");
}

#[test]
fn every_answered_reset_is_told_and_every_line_is_whole_after_kill_9() {
    // Small files, so that the kills also meet the log while it moves on.
    let mut site = Site::configured("audit_size = 2000\naudit_keep = 200\n", &[]);
    let machine = machine(&site);
    let mut answered = Vec::new();
    for round in 0..3 {
        let client = site.ecs();
        let (disk, pid) = (machine.data[0].clone(), site.daemon().pid());
        let resets = thread::spawn(move || {
            let mut done = Vec::new();
            while let Ok(answer) = client.try_call("ReInitDisk", &[("DiskId", &disk)]) {
                if answer.status == 200 {
                    done.push(answer.text("RequestId"));
                }
                if done.len() == 20 + round * 7 {
                    daemon::kill(pid);
                }
            }
            done
        });
        answered.extend(resets.join().unwrap());
        site.crash();
    }
    assert!(answered.len() >= 60, "{}", answered.len());
    let lines: Vec<String> = entries(&site).iter().map(|entry| text(entry, "RequestId")).collect();
    for id in &answered {
        assert_eq!(lines.iter().filter(|line| *line == id).count(), 1, "{id}");
    }
    let complaint = site.offline(&["audit"]).ok().stderr;
    assert_eq!(complaint, "", "every line can be read");
}

#[test]
fn what_happens_is_shown_while_it_happens() {
    let site = Site::configured("audit_size = 500\n", &[]);
    let mut following = Command::new(program::binary())
        .arg("--store")
        .arg(site.store())
        .args(["audit", "--follow", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut until = |wanted: &str| {
        for line in &mut lines {
            let entry: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if entry["Action"] == wanted {
                return;
            }
        }
        panic!("{wanted} was not shown");
    };
    until("CreateAccessKey");
    // Each line begins a new file or nearly so; a follower must go along.
    for _ in 0..5 {
        site.run(&["disk", "create", "--size", "1G"]);
        until("CreateDisk");
    }
    daemon::kill(following.id());
    following.wait().unwrap();
}
