//! "A public image carries the security software in a layer of its own, and Active resets lead there."

use std::path::PathBuf;

use tests::{
    ecs::Format,
    qemu,
    signature::Signature,
    site::{REGION, Site, text},
};

/// A site with a public image, a machine of it, and a snapshot of its system disk with an agent installed.
struct Hardened {
    site: Site,
    image: String,
    system: String,
    instance: String,
    snapshot: String,
    plain: PathBuf,
}

fn installed() -> Hardened {
    let site = Site::new();
    let plain = qemu::ext4_image(site.scratch(), 8);
    let image = site.import(&plain, &["--format", "raw", "--public"]);
    let machine = site.machine(&image, &[]);
    site.start(&machine.instance);
    site.io(&machine.system, &[AGENT, "flush"]);
    site.stop(&machine.instance);
    let snapshot = site.snapshot(&machine.system);
    let (system, instance) = (machine.system, machine.instance);
    Hardened { site, image, system, instance, snapshot, plain }
}

const AGENT: &str = "write -P 0xa6 6M 64k";
const AGENT_IS_THERE: &str = "read -P 0xa6 6M 64k";

impl Hardened {
    fn harden(&self) {
        self.site.run(&["image", "harden", &self.image, "--from", &self.snapshot]);
    }

    fn active(&self, signature: Signature) {
        let call = [("DiskId", self.system.as_str()), ("SecurityEnhancementStrategy", "Active")];
        self.site.ecs().signing(signature).call("ReInitDisk", &call).ok();
        self.site.wait_for_disk(&self.system, "In_use");
    }

    fn has_agent(&self) {
        self.site.start(&self.instance);
        self.site.io(&self.system, &[AGENT_IS_THERE]);
        self.site.stop(&self.instance);
    }

    fn is_initial(&self) {
        let verified = self.site.run(&["disk", "verify", &self.system, "--deep"]);
        assert_eq!(verified["InInitialState"], true, "{verified}");
    }
}

#[test]
fn active_brings_the_agent_and_deactive_the_plain_image() {
    let made = installed();
    made.harden();
    let shown = made.site.run(&["image", "show", &made.image]);
    assert_eq!(shown["SecurityLayer"]["SnapshotId"], made.snapshot.as_str(), "{shown}");
    for signature in [Signature::V1, Signature::Acs3] {
        made.site.start(&made.instance);
        made.site.ruin(&made.system);
        made.site.stop(&made.instance);
        made.active(signature);
        made.is_initial();
        made.has_agent();
        assert_eq!(made.site.show(&made.system)["SecurityEnhancementStrategy"], "Active");
        made.site.reinit(&made.system, signature);
        made.site.start(&made.instance);
        assert!(made.site.holds(&made.system, &made.plain, "raw"));
        made.site.stop(&made.instance);
        made.is_initial();
        assert_eq!(made.site.show(&made.system)["SecurityEnhancementStrategy"], "Deactive");
    }
}

#[test]
fn the_command_line_leads_to_the_layer_and_leaves_data_disks_as_ever() {
    let made = installed();
    made.harden();
    let machine = made.site.machine(&made.image, &["1G"]);
    made.site.start(&machine.instance);
    made.site.ruin(&machine.system);
    made.site.io(&machine.data[0], &["write -P 0x21 0 1M", "flush"]);
    let line = ["reset", "--instance", &machine.instance, "--cycle", "--verify"];
    made.site.run(&[&line[..], &["--security-enhancement", "active"]].concat());
    assert_eq!(made.site.show(&machine.system)["SecurityEnhancementStrategy"], "Active");
    made.site.io(&machine.system, &[AGENT_IS_THERE]);
    made.site.io(&machine.data[0], &["read -P 0 0 1M"]);
    let of_data = ["reset", &machine.data[0], "--cycle", "--security-enhancement", "Active"];
    let refused = made.site.offline(&[&of_data[..], &["--json"]].concat()).fails();
    assert_eq!(refused.json()["Code"], "InvalidParameter", "{refused}");
    let of_system = ["reset", &machine.system, "--cycle", "--security-enhancement", "Deactive"];
    made.site.run(&of_system);
    assert_eq!(made.site.show(&machine.system)["SecurityEnhancementStrategy"], "Deactive");
    assert!(made.site.holds(&machine.system, &made.plain, "raw"));
}

#[test]
fn active_without_a_layer_is_refused_and_changes_nothing() {
    let made = installed();
    let before = made.site.show(&made.system);
    let call = [("DiskId", made.system.as_str()), ("SecurityEnhancementStrategy", "Active")];
    let create = [
        REGION,
        ("ImageId", made.image.as_str()),
        ("InstanceType", "ecs.g6.large"),
        ("SecurityEnhancementStrategy", "Active"),
    ];
    let replace = [
        ("InstanceId", made.instance.as_str()),
        ("ImageId", made.image.as_str()),
        ("SecurityEnhancementStrategy", "Active"),
    ];
    for format in [Format::Json, Format::Xml] {
        let client = made.site.ecs().asking(format);
        client.call("ReInitDisk", &call).refuses("InvalidParameter", 400);
        client.call("CreateInstance", &create).refuses("InvalidParameter", 400);
        client.call("RunInstances", &create).refuses("InvalidParameter", 400);
        client.call("ReplaceSystemDisk", &replace).refuses("InvalidParameter", 400);
    }
    assert_eq!(made.site.show(&made.system), before);
    // With a layer the same calls are taken.
    made.harden();
    made.site.ecs().call("CreateInstance", &create).ok();
    let new = made.site.ecs().call("ReplaceSystemDisk", &replace).ok().text("DiskId");
    made.site.wait_for_disk(&new, "In_use");
    made.site.start(&made.instance);
    made.site.io(&new, &[AGENT_IS_THERE]);
}

#[test]
fn the_layer_outlives_its_snapshot_and_kill_9_and_is_told_by_name() {
    let mut made = installed();
    made.harden();
    made.site.run(&["snapshot", "rm", &made.snapshot]);
    made.site.crash();
    made.active(Signature::V1);
    made.site.crash();
    made.is_initial();
    made.has_agent();
    made.site.end_daemon();
    made.site.offline(&["fsck"]).ok();
    made.site.start_daemon();
    made.site.run(&["scrub"]);
    made.site.run(&["image", "harden", &made.image, "--remove"]);
    let gone = made.site.offline(&["image", "harden", &made.image, "--remove", "--json"]).fails();
    assert_eq!(gone.json()["Code"], "InvalidParameter", "{gone}");
    // The disk stands on it until it is reset.
    made.site.crash();
    made.has_agent();
    made.site.reinit(&made.system, Signature::V1);
    made.site.start(&made.instance);
    assert!(made.site.holds(&made.system, &made.plain, "raw"));
}

#[test]
fn a_snapshot_of_another_image_is_refused() {
    let made = installed();
    let other = made.site.scratch().join("other.raw");
    std::fs::write(&other, vec![7; 1 << 20]).unwrap();
    let file = other.display().to_string();
    let line = ["image", "import", &file, "--name", "other", "--format", "raw", "--public"];
    let other = text(&made.site.run(&line), "ImageId");
    let line = ["image", "harden", &other, "--from", &made.snapshot, "--json"];
    let refused = made.site.offline(&line).fails();
    assert_eq!(refused.json()["Code"], "InvalidParameter.Mismatch", "{refused}");
    assert!(made.site.run(&["image", "show", &other])["SecurityLayer"].is_null());
}
