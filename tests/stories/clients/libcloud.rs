//! "I keep my lab with libcloud": the script says it in the driver's own verbs, and looks at the bytes itself.

use tests::{program, qemu, sdk::script, site::Site};

#[test]
fn a_lab_is_kept_with_the_verbs_of_the_driver() {
    let site = Site::new();
    let file = qemu::ext4_image(site.scratch(), 8);
    let image = site.import(&file, &["--format", "raw"]);
    let client = site.ecs();
    let mut command = script("libcloud_driver.py");
    command.args([&client.address, &client.key.id, &client.key.secret, &image]);
    program::run(command.arg(site.nbd("{}"))).ok();
}
