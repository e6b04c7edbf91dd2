//! "Every command behaves: help with an example, exit codes that mean something, JSON a script can read."

use tests::{
    program::{Outcome, reinit},
    site::Site,
};

/// Every command of the command line, found by walking its own help.
fn every_command() -> Vec<Vec<String>> {
    let mut found = Vec::new();
    walk(&[], &mut found);
    found
}

fn walk(path: &[String], found: &mut Vec<Vec<String>>) {
    let help = help_of(path).ok().stdout;
    found.push(path.to_vec());
    let listed = help.split_once("Commands:\n").map(|(_, rest)| rest).unwrap_or_default();
    for line in listed.lines().take_while(|line| line.starts_with("  ")) {
        // A command stands two spaces in; its text goes on further in.
        let is_name = |line: &str| line.starts_with("  ") && !line.starts_with("   ");
        let name = line.split_whitespace().next().unwrap_or_default();
        if is_name(line) && name != "help" {
            walk(&[path, &[name.to_owned()]].concat(), found);
        }
    }
}

fn help_of(path: &[String]) -> Outcome {
    reinit(path.iter().map(String::as_str).chain(["--help"]))
}

#[test]
fn every_command_explains_itself_with_an_example() {
    let commands = every_command();
    assert!(commands.len() > 35, "only {} commands were found", commands.len());
    for command in &commands {
        let help = help_of(command).ok();
        assert!(help.stdout.contains("Example"), "{help}");
        assert!(help.stdout.contains("--json") && help.stdout.contains("--quiet"), "{help}");
        assert_eq!(help.stderr, "", "{help}");
    }
}

#[test]
fn wrong_usage_is_exit_2_and_says_why_on_standard_error() {
    for command in every_command() {
        let wrong = reinit(command.iter().map(String::as_str).chain(["--no-such-flag"]));
        assert_eq!(wrong.code, Some(2), "{wrong}");
        assert_eq!(wrong.stdout, "", "{wrong}");
        assert!(wrong.stderr.contains("--no-such-flag"), "{wrong}");
    }
    for line in [
        &["disk", "create", "--size", "much"][..],
        &["disk", "create"],
        &["reset"],
        &["reset", "d-1", "--instance", "i-1"],
        &["serve", "--listen", "nowhere"],
        &["image", "import", "file"],
        &["account", "set", "default"],
        &["no-such-verb"],
        &["disk", "show", ""],
        &["disk", "rollback", "d-1", ""],
        &["disk", "reclaim", ""],
        &["reset", ""],
        &["reset", "--instance", ""],
    ] {
        assert_eq!(reinit(line).code, Some(2), "{line:?}");
    }
}

#[test]
fn the_version_is_printed() {
    assert!(reinit(["--version"]).ok().stdout.starts_with("reinit "));
}

#[test]
fn completions_and_manual_pages_are_there() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(reinit(["completions", shell]).ok().stdout.contains("snapshot"), "{shell}");
    }
    assert!(reinit(["man"]).ok().stdout.contains(".TH"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display().to_string();
    reinit(["man", "--dir", &path]).ok();
    assert!(directory.path().join("reinit-disk-create.1").exists());
}

#[test]
fn an_error_is_a_json_document_on_standard_output_and_one_line_on_the_other() {
    let site = Site::new();
    let failed = site.offline(&["disk", "show", "d-nothing", "--json"]).fails();
    let document = failed.json();
    assert_eq!(document["Code"], "InvalidDiskId.NotFound");
    assert!(!document["Message"].as_str().unwrap().is_empty());
    assert_eq!(document["RequestId"].as_str().unwrap().len(), 36);
}

#[test]
fn results_are_ids_when_quiet_tables_when_not_and_one_document_as_json() {
    let site = Site::new();
    let quiet = site.offline(&["disk", "create", "--size", "1G", "--name", "first", "-q"]).ok();
    let id = quiet.stdout.trim().to_owned();
    assert!(id.starts_with("d-") && quiet.stdout.lines().count() == 1, "{quiet}");
    assert_eq!(site.offline(&["disk", "ls", "-q"]).ok().stdout.trim(), id);
    let table = site.offline(&["disk", "ls"]).ok();
    assert!(table.stdout.contains("first") && table.stdout.contains("1 GiB"), "{table}");
    let listed = site.run(&["disk", "ls"]);
    assert_eq!(listed["Disks"][0]["DiskId"], id.as_str());
    assert_eq!(listed["Disks"][0]["DiskName"], "first");
    let shown = site.show(&id);
    for field in [
        "DiskId",
        "Status",
        "Size",
        "SizeInBytes",
        "Origin",
        "Epoch",
        "NbdUri",
        "BytesWrittenSinceReset",
    ] {
        assert!(!shown[field].is_null(), "{field} is missing in {shown}");
    }
}

#[test]
fn a_list_longer_than_one_page_is_whole() {
    let site = Site::new();
    for _ in 0..103 {
        let call = [
            tests::site::REGION,
            ("ZoneId", "cn-hangzhou-b"),
            ("DiskCategory", "cloud_auto"),
            ("Size", "1"),
        ];
        site.ecs().call("CreateDisk", &call).ok();
    }
    assert_eq!(site.run(&["disk", "ls"])["Disks"].as_array().unwrap().len(), 103);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let store = Site::new();
    let line = format!(
        "'{}' --store '{}' disk ls | true; exit ${{PIPESTATUS[0]}}",
        tests::program::binary().display(),
        store.store().display()
    );
    tests::program::run(std::process::Command::new("bash").args(["-c", &line])).ok();
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let store = Site::new();
    let line = format!(
        "'{}' --store '{}' key create > /dev/full",
        tests::program::binary().display(),
        store.store().display()
    );
    let failed =
        tests::program::run(std::process::Command::new("bash").args(["-c", &line])).fails();
    assert!(failed.complaint().contains("No space left"), "{failed}");
}

#[test]
fn a_disk_named_twice_is_reclaimed_once_and_a_rate_of_0_is_no_limit() {
    let site = Site::new();
    let quiet = site.offline(&["disk", "create", "--size", "1G", "-q"]).ok();
    let disk = quiet.stdout.trim();
    let done = site.run(&["disk", "reclaim", disk, disk, "--rate", "0"]);
    assert_eq!(done["Disks"].as_array().unwrap().len(), 1, "{done}");
}

#[test]
fn what_stands_in_the_way_is_said_with_a_next_step_that_drops_nothing() {
    let site = Site::new();
    let file = site.scratch().join("image.raw");
    tests::qemu::patterned_image(&file, 1);
    let image = site.import(&file, &["--format", "raw"]);
    let machine = site.machine(&image, &["1G"]);
    let disk = machine.data[0].as_str();
    let never_reset = site.offline(&["disk", "show", disk]).ok();
    assert!(!never_reset.stdout.contains("Last reset"), "{never_reset}");
    site.start(&machine.instance);
    let kept = site.run(&["reset", disk, "--keep", "--cycle"]);
    let snapshot = kept["Disks"][0]["SnapshotId"].as_str().unwrap();

    let refused = site.offline(&["disk", "rollback", disk, snapshot]).fails();
    assert!(refused.stderr.contains("reinit instance stop"), "{refused}");
    assert!(!refused.stderr.contains("reinit reset"), "{refused}");
    let refused = site.offline(&["reset", disk]).fails();
    assert!(refused.stderr.contains("--cycle"), "{refused}");
    let unknown = site.offline(&["reset", "--instance", "i-none"]).fails();
    assert_eq!(unknown.complaint().matches("reinit instance ls").count(), 1, "{unknown}");
    let shown = site.offline(&["disk", "show", disk]).ok();
    assert!(
        shown.stdout.contains("Last reset") && shown.stdout.contains("epoch 1 to 2"),
        "{shown}"
    );
}
