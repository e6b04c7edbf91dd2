//! Signature version 1.0: HMAC-SHA1 over the sorted parameters.
//!
//! What must always hold: the signed text is rebuilt from what was decoded, with every parameter of
//! query and form but `Signature`, unknown and empty ones included.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

use super::{Claimed, Signed, canonical_query, encode, incomplete, needed, parse_time};
use crate::{parameters::Parameters, refusal::Refusal, request::Request};

const SIGNATURE_BYTES: usize = 20;

/// Reads what the parameters claim.
pub(super) fn read(request: &Request) -> Result<Claimed, Refusal> {
    let parameters = &request.parameters;
    let access_key = needed(parameters, "AccessKeyId")?.to_owned();
    let signature = needed(parameters, "Signature")?;
    must_be(parameters, "SignatureMethod", "HMAC-SHA1")?;
    must_be(parameters, "SignatureVersion", "1.0")?;
    let nonce = needed(parameters, "SignatureNonce")?.to_owned();
    let time = parse_time(needed(parameters, "Timestamp")?)?;
    let signature = STANDARD.decode(signature).map_err(|_| incomplete())?;
    if signature.len() != SIGNATURE_BYTES {
        return Err(incomplete());
    }
    let security_token = parameters.owned("SecurityToken");
    let signed = Signed::V1(string_to_sign(request.method.as_str(), parameters));
    Ok(Claimed { access_key, time, nonce, security_token, signature, signed })
}

fn must_be(parameters: &Parameters, name: &str, only: &str) -> Result<(), Refusal> {
    if needed(parameters, name)?.eq_ignore_ascii_case(only) {
        return Ok(());
    }
    Err(Refusal::invalid(format!("The parameter {name} must be {only}.")))
}

fn string_to_sign(method: &str, parameters: &Parameters) -> String {
    let signed = parameters.iter().filter(|(name, _)| *name != "Signature");
    format!("{method}&%2F&{}", encode(&canonical_query(signed)))
}

/// The signature of a text.
pub(super) fn sign(secret: &str, text: &str) -> [u8; SIGNATURE_BYTES] {
    let key = format!("{secret}&");
    let mut mac =
        Hmac::<Sha1>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COMMON: &str = "AccessKeyId=testid&SignatureMethod=HMAC-SHA1&SignatureVersion=1.0&\
        SignatureNonce=3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf&Timestamp=2016-02-23T12%3A46%3A24Z&\
        Version=2014-05-26";

    fn vector(method: &str, own: &str, text: Option<&str>, signature: &str) {
        let form = format!("{COMMON}&{own}&Signature={}", encode(signature));
        let request = Request::for_test(method, &form, &[], b"");
        let claimed = read(&request).unwrap();
        if let (Some(expected), Signed::V1(built)) = (text, &claimed.signed) {
            assert_eq!(built, expected);
        }
        claimed.check_signature("testsecret").unwrap();
        assert_eq!(claimed.check_signature("other").unwrap_err().code, "SignatureDoesNotMatch");
    }

    #[test]
    fn libcloud_describe_regions() {
        vector("GET", "Action=DescribeRegions&Format=XML", None, "OLeaidS1JvxuMvnyHOwuJ+uX5qY=");
    }

    #[test]
    fn core_sdk_reinit_disk() {
        vector(
            "POST",
            "Action=ReInitDisk&DiskId=d-23jbf2v5m&RegionId=cn-hangzhou&Format=JSON&SignatureType=",
            Some(
                "POST&%2F&AccessKeyId%3Dtestid%26Action%3DReInitDisk%26DiskId%3Dd-23jbf2v5m%26Format%3DJSON%26RegionId%3Dcn-hangzhou%26SignatureMethod%3DHMAC-SHA1%26SignatureNonce%3D3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf%26SignatureType%3D%26SignatureVersion%3D1.0%26Timestamp%3D2016-02-23T12%253A46%253A24Z%26Version%3D2014-05-26",
            ),
            "a+YTT3AR7SGl+WGR72pxTBec/E0=",
        );
    }

    #[test]
    fn core_sdk_create_disk_with_every_odd_character() {
        for space in ["+", "%20"] {
            vector(
                "POST",
                &format!(
                    "Action=CreateDisk&DiskName=a{space}b%2Bc*~'(%E6%95%B0%E6%8D%AE%E7%9B%98)&ZoneId=cn-hangzhou-b&Size=20&\
                     Tag.1.Key=k/1&Tag.1.Value=v%3D1%262&RegionId=cn-hangzhou&Format=JSON&SignatureType="
                ),
                Some(
                    "POST&%2F&AccessKeyId%3Dtestid%26Action%3DCreateDisk%26DiskName%3Da%2520b%252Bc%252A~%2527%2528%25E6%2595%25B0%25E6%258D%25AE%25E7%259B%2598%2529%26Format%3DJSON%26RegionId%3Dcn-hangzhou%26SignatureMethod%3DHMAC-SHA1%26SignatureNonce%3D3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf%26SignatureType%3D%26SignatureVersion%3D1.0%26Size%3D20%26Tag.1.Key%3Dk%252F1%26Tag.1.Value%3Dv%253D1%25262%26Timestamp%3D2016-02-23T12%253A46%253A24Z%26Version%3D2014-05-26%26ZoneId%3Dcn-hangzhou-b",
                ),
                "PGwOjm4lcDsy/gmAWEtE5OUu1+0=",
            );
        }
    }

    fn code_without(name: &str) -> &'static str {
        let form = format!("{COMMON}&Signature=OLeaidS1JvxuMvnyHOwuJ%2BuX5qY%3D");
        let kept: Vec<_> =
            form.split('&').filter(|pair| !pair.starts_with(&format!("{name}="))).collect();
        read(&Request::for_test("GET", &kept.join("&"), &[], b"")).unwrap_err().code
    }

    #[test]
    fn each_part_is_needed() {
        let needed = [
            "AccessKeyId",
            "Signature",
            "SignatureMethod",
            "SignatureVersion",
            "SignatureNonce",
            "Timestamp",
        ];
        for name in needed {
            assert_eq!(code_without(name), "MissingParameter", "{name}");
        }
    }

    fn code_with(change: (&str, &str)) -> &'static str {
        let form = format!("{COMMON}&Signature=OLeaidS1JvxuMvnyHOwuJ%2BuX5qY%3D")
            .replace(change.0, change.1);
        read(&Request::for_test("GET", &form, &[], b"")).unwrap_err().code
    }

    #[test]
    fn each_part_is_checked() {
        assert_eq!(code_with(("HMAC-SHA1", "HMAC-SHA256")), "InvalidParameter");
        assert_eq!(code_with(("Version=1.0", "Version=2.0")), "InvalidParameter");
        assert_eq!(code_with(("OLea", "")), "IncompleteSignature");
        assert_eq!(code_with(("OLea", "****")), "IncompleteSignature");
        assert_eq!(code_with(("2016-02-23T", "yesterday")), "InvalidTimeStamp.Format");
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_reader(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = [COMMON.as_bytes(), b"&Signature=", &tail].concat();
            if let Ok(parameters) = Parameters::of_form(&text) {
                let request = Request::with_parameters("POST", parameters);
                if let Ok(claimed) = read(&request) {
                    prop_assert!(claimed.check_signature("testsecret").is_err());
                }
            }
        }
    }
}
