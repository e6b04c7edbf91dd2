//! Each client understands why it is not let in, and comes in with a temporary key.

use serde_json::json;
use tests::{
    client::{Client, Kind},
    signature::Key,
    site::{Site, text},
};

use super::words::*;

const V1_GET: &str = "GET&%2F&";
const V1_POST: &str = "POST&%2F&";
const ACS3: &str = "ACS3-HMAC-SHA256";

/// The refusal holds the text that should have been signed, which also tells how each client asked. The core SDK, and
/// footmark upon it, compares it with its own: if it is the same text, the secret must be wrong.
#[test]
fn every_client_is_told_that_its_secret_is_wrong() {
    let site = Site::new();
    let account = site.ecs();
    let wrong = Key { id: account.key.id.clone(), secret: "wrong".into() };
    for (kind, code, signed) in [
        (Kind::Tea, "SignatureDoesNotMatch", ACS3),
        (Kind::TeaV1, "SignatureDoesNotMatch", V1_POST),
        (Kind::Core, "InvalidAccessKeySecret", ""),
        (Kind::Footmark, "InvalidAccessKeySecret", ""),
        (Kind::Libcloud, "SignatureDoesNotMatch", V1_GET),
        (Kind::PopGet, "SignatureDoesNotMatch", V1_GET),
        (Kind::PopPost, "SignatureDoesNotMatch", V1_POST),
        (Kind::NodeTea, "SignatureDoesNotMatch", ACS3),
        (Kind::NodeTeaV1, "SignatureDoesNotMatch", V1_POST),
    ] {
        let mut client = Client::start(kind, &account.address, &wrong);
        let told = client.refuses("DescribeDisks", &json!({"RegionId": REGION}), code, 400);
        assert!(told.contains(signed), "{client} signed otherwise: {told}");
    }
}

#[test]
fn a_temporary_key_with_its_token_does_for_node_and_footmark() {
    let site = Site::new();
    let address = site.ecs().address;
    let made = site.run(&["key", "create", "--temporary", "--role", "read"]);
    let key = Key { id: text(&made, "AccessKeyId"), secret: text(&made, "AccessKeySecret") };
    let token = text(&made, "SecurityToken");
    let question = json!({"RegionId": REGION});
    let reset = json!({"DiskId": "d-none"});
    for kind in [Kind::NodeTea, Kind::PopPost, Kind::Footmark] {
        let mut with = Client::start_with(kind, &address, &key, Some(&token));
        with.call("DescribeDisks", &question);
        with.refuses("ReInitDisk", &reset, "Forbidden.RAM", 403);
        let mut without = Client::start(kind, &address, &key);
        let code = "InvalidSecurityToken.MismatchWithAccessKey";
        without.refuses("DescribeDisks", &question, code, 400);
    }
}
