//! "I watch the daemon from Prometheus: every name in the documents is there, and I can see where the time of a reset goes."

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use tests::{
    ecs, qemu,
    signature::Signature,
    site::{Machine, Site},
};

/// What is known of a family: its kind and the labels of its samples.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

#[test]
fn the_table_in_the_documents_is_the_page() {
    let (site, machine) = reset_once();
    site.io(&machine.data[0], &["write -P 0x21 0 1M", "flush"]);
    let served = families(&of_operator(&site));
    let told = documented();
    assert_eq!(served, told);
    // What a stranger sees is the same without single disks.
    let page = public(&site);
    assert!(!page.contains(&machine.data[0]) && !page.contains("disk=\""), "{page}");
    let sums = told.into_iter().filter(|(name, _)| !name.starts_with("reinit_export_")).collect();
    assert_eq!(families(&page), sums);
}

#[test]
fn the_phases_of_a_reset_and_its_group_are_counted() {
    let (site, machine) = reset_once();
    let before = public(&site);
    let count = |page: &str, phase: &str| {
        value(page, &format!("reinit_reset_phase_seconds_count{{phase=\"{phase}\"}}"))
    };
    site.stop(&machine.instance);
    let groups = value(&before, "reinit_ledger_group_records_count");
    site.reinit(&machine.data[0], Signature::V1);
    let after = public(&site);
    for phase in ["close_exports", "open", "ledger", "answer"] {
        assert_eq!(count(&after, phase), count(&before, phase) + 1, "{phase}: {after}");
    }
    assert_eq!(value(&after, "reinit_ledger_group_records_count"), groups + 1);
    // A refused one goes through no phase.
    site.start(&machine.instance);
    let refused = site.ecs().call("ReInitDisk", &[("DiskId", &machine.data[0])]);
    refused.refuses("IncorrectInstanceStatus", 403);
    let last = public(&site);
    assert_eq!(count(&last, "close_exports"), count(&after, "close_exports"));
    let refusals =
        r#"reinit_http_requests_total{action="ReInitDisk",code="IncorrectInstanceStatus"}"#;
    assert_eq!(value(&last, refusals), 1);
}

#[test]
fn an_export_is_told_while_it_is_open_and_its_sums_stay() {
    let (site, machine) = reset_once();
    let disk = &machine.data[0];
    let written = format!("reinit_export_written_bytes_total{{disk=\"{disk}\"}}");
    assert_eq!(value(&of_operator(&site), &written), 0);
    let before = value(&public(&site), "reinit_nbd_written_bytes_total");
    site.io(disk, &["write -P 0x21 0 1M", "flush"]);
    let page = of_operator(&site);
    assert_eq!(value(&page, &written), 1 << 20, "{page}");
    assert_eq!(value(&page, &format!("reinit_export_connections_open{{disk=\"{disk}\"}}")), 0);
    assert_eq!(value(&page, "reinit_nbd_requests_under_way"), 0);
    assert_eq!(value(&page, "reinit_exports"), 2);
    let writes = value(&page, &format!("reinit_export_writes_total{{disk=\"{disk}\"}}"));
    let timed =
        |name: &str, operation: &str| value(&page, &format!("reinit_{name}{operation}\"}}"));
    let of_disk = format!("export_request_seconds_count{{disk=\"{disk}\",operation=\"");
    assert_eq!(timed(&of_disk, "write"), writes, "{page}");
    let flushes = timed(&of_disk, "flush");
    assert!(flushes > 0 && flushes <= timed("nbd_request_seconds_count{operation=\"", "flush"));
    site.stop(&machine.instance);
    let page = of_operator(&site);
    assert!(!page.contains(&written), "{page}");
    assert_eq!(value(&page, "reinit_exports"), 0);
    assert_eq!(value(&page, "reinit_nbd_written_bytes_total"), before + (1 << 20));
}

/// A machine that runs after a reset of its data disk.
fn reset_once() -> (Site, Machine) {
    let site = Site::new();
    let image = site.import(&qemu::ext4_image(site.scratch(), 8), &[]);
    let machine = site.machine(&image, &["1G"]);
    site.start(&machine.instance);
    site.stop(&machine.instance);
    site.reinit(&machine.data[0], Signature::Acs3);
    site.start(&machine.instance);
    (site, machine)
}

fn public(site: &Site) -> String {
    let (status, page) = ecs::get(&site.daemon().http(), "/metrics");
    assert_eq!(status, 200);
    page
}

fn of_operator(site: &Site) -> String {
    let (status, page) = ecs::get_as_operator(&site.store(), "/metrics");
    assert_eq!(status, 200);
    page
}

fn value(page: &str, sample: &str) -> u64 {
    let found = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {sample} in {page}")).parse().unwrap()
}

/// The families of a page, each of which must have a help text and come once.
fn families(page: &str) -> Families {
    let mut families = Families::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(page.contains(&format!("# HELP {name} ")), "{name} has no help");
        let twice = families.insert(name.into(), (kind.into(), BTreeSet::new()));
        assert_eq!(twice, None, "{name} comes twice");
    }
    for line in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (sample, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let of_histogram = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end).filter(|name| families.contains_key(*name)));
        let family = families.get_mut(of_histogram.unwrap_or(name));
        let (_, known) = family.unwrap_or_else(|| panic!("{name} has no kind"));
        let keys = labels.split(',').filter_map(|pair| pair.split_once('='));
        known.extend(keys.map(|(key, _)| key.to_owned()).filter(|key| key != "le"));
    }
    families
}

/// The table of the documents.
fn documented() -> Families {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let text = fs::read_to_string(page).unwrap();
    let (_, section) = text.split_once("\n## Metrics\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `reinit_"));
    let row = |line: &str| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels))
    };
    rows.map(row).collect()
}
