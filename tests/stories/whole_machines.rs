//! "I keep and renew whole machines, with all their disks, with the official SDK."

use serde_json::json;
use tests::{
    qemu,
    sdk::{Sdk, drive},
    site::{Site, text},
};

#[test]
fn a_machine_is_fetched_kept_put_back_and_renewed_with_all_its_disks() {
    let directory = tempfile::Builder::new().prefix("reinit-").tempdir().unwrap();
    let bucket = directory.path().join("bucket");
    std::fs::create_dir(&bucket).unwrap();
    let base = qemu::ext4_image(&bucket, 16);
    let object = base.file_name().unwrap().to_str().unwrap().to_owned();
    let config = format!("[buckets.images]\ndirectory = '{}'\n", bucket.display());
    let mut site = Site::inside(directory, &config, &[]);
    let mut client = site.ecs();
    let run = |client: &tests::ecs::Ecs, arguments: &[&str]| {
        drive(Sdk::Tea, &client.address, &client.key, arguments)
    };

    let image = text(&run(&client, &["fetch", "images", &object]), "image");
    let made = run(&client, &["create", &image]);
    let (instance, disks) = (text(&made, "instance"), &made["disks"]);
    let (system, data) = (text(disks, "system"), text(disks, "data"));
    assert!(site.holds(&system, &base, "raw"));
    site.io(&system, &["write -P 0x11 0 64k"]);
    site.io(&data, &["write -P 0x22 0 64k"]);
    let group = text(&run(&client, &["group", &instance]), "group");
    site.ruin(&system);
    site.ruin(&data);
    site.crash();
    client = site.ecs();
    let back = run(&client, &["back", &instance, &group]);
    assert_eq!(
        back,
        json!({"rows": ["Success", "Success"], "codes": ["200", "InvalidInstanceId.NotFound"]})
    );
    site.io(&system, &["read -P 0x11 0 64k"]);
    site.io(&data, &["read -P 0x22 0 64k", "read -P 0 64k 16M"]);

    let renewed = run(&client, &["renew", &instance, "images"]);
    let (new, exported) = (text(&renewed, "disk"), bucket.join(text(&renewed, "object")));
    assert_ne!(new, system);
    site.io(&new, &["read -P 0x11 0 64k"]);
    assert!(site.holds(&new, &exported, "raw"));
    site.io(&data, &["read -P 0x22 0 64k"]);
    let gone = run(&client, &["forget", &group]);
    assert_eq!(gone["rows"], json!(["Success", "Success"]));
    site.io(&data, &["read -P 0x22 0 64k"]);
}
