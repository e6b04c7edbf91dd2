//! "Whatever ECS client I have: I point it here, and it works unmodified."
//!
//! The flows are told once, in the API's own names; each client makes the calls in its own way and through its own types.
//! Every client goes through the main job and a disk's way back to its snapshot; images, tasks, sharing, tags and groups
//! are gone through with a typed client of Python, one of Node, and one that reads XML. libcloud and Ansible are also used
//! by their own verbs.

mod ansible;
mod groups;
mod images;
mod keys;
mod libcloud;
mod replacements;
mod resets;
mod shapes;
mod sharing;
mod sources;
mod words;

use tests::{client::Kind, qemu, site::Site};

/// Flows (a) and (b), one after the other on one machine.
fn main_job(kind: Kind) {
    let site = Site::new();
    let file = qemu::ext4_image(site.scratch(), 16);
    let image = site.import(&file, &["--format", "raw"]);
    let mut client = words::client(&site, kind);
    let machine = resets::flow(&site, &mut client, &image, &file);
    sources::flow(&site, &mut client, &machine);
}

#[test]
fn tea_does_the_main_job() {
    main_job(Kind::Tea);
}

#[test]
fn tea_with_the_older_signature_does_the_main_job() {
    main_job(Kind::TeaV1);
}

#[test]
fn the_core_sdk_does_the_main_job() {
    main_job(Kind::Core);
}

#[test]
fn footmark_does_the_main_job_through_a_proxy() {
    main_job(Kind::Footmark);
}

#[test]
fn libcloud_does_the_main_job() {
    main_job(Kind::Libcloud);
}

#[test]
fn pop_core_does_the_main_job_in_the_query() {
    main_job(Kind::PopGet);
}

#[test]
fn pop_core_does_the_main_job_in_a_form() {
    main_job(Kind::PopPost);
}

#[test]
fn tea_of_node_does_the_main_job() {
    main_job(Kind::NodeTea);
}

#[test]
fn tea_of_node_with_the_older_signature_does_the_main_job() {
    main_job(Kind::NodeTeaV1);
}

#[test]
fn tea_makes_images_and_watches_tasks() {
    images::flow(Kind::Tea);
}

#[test]
fn libcloud_makes_images_and_watches_tasks() {
    images::flow(Kind::Libcloud);
}

#[test]
fn tea_of_node_makes_images_and_watches_tasks() {
    images::flow(Kind::NodeTea);
}

#[test]
fn two_accounts_share_an_image_with_tea() {
    sharing::flow(Kind::Tea);
}

#[test]
fn two_accounts_share_an_image_with_libcloud() {
    sharing::flow(Kind::Libcloud);
}

#[test]
fn two_accounts_share_an_image_with_tea_of_node() {
    sharing::flow(Kind::NodeTea);
}

#[test]
fn tea_tags_and_groups() {
    groups::flow(Kind::Tea);
}

#[test]
fn libcloud_tags_and_groups() {
    groups::flow(Kind::Libcloud);
}

#[test]
fn tea_of_node_tags_and_groups() {
    groups::flow(Kind::NodeTea);
}

#[test]
fn pop_core_tags_and_groups_in_a_form() {
    groups::flow(Kind::PopPost);
}

#[test]
fn the_core_sdk_tags_and_groups() {
    groups::flow(Kind::Core);
}

#[test]
fn the_core_sdk_replaces_a_system_disk() {
    replacements::flow(Kind::Core);
}
