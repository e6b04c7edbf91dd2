//! The shapes that names and other texts of a request need.
//!
//! What must always hold: a text that passed can be shown in XML and JSON (no control characters) and
//! fits its record; an empty text counts as not given.
//! Left to others: passwords (`password`), tags (`tags`).

use crate::{CloudError, Field};

/// 2 to 128 characters, not starting with `http://` or `https://`.
pub(crate) fn name(field: Field, text: Option<&str>) -> Result<String, CloudError> {
    let rule = "2 to 128 characters, not starting with http:// or https://";
    plain(field, text, 2..=128, rule)
}

/// 2 to 256 characters, not starting with `http://` or `https://`.
pub(crate) fn description(text: Option<&str>) -> Result<String, CloudError> {
    let rule = "2 to 256 characters, not starting with http:// or https://";
    plain(Field::Description, text, 2..=256, rule)
}

/// As a name, but names that start with `auto` are those of automatic snapshots.
pub(crate) fn snapshot_name(text: Option<&str>) -> Result<String, CloudError> {
    let name = name(Field::SnapshotName, text)?;
    let rule = "names that start with auto are kept for automatic snapshots";
    allowed(Field::SnapshotName, rule, !name.starts_with("auto")).map(|()| name)
}

/// Letters, digits, `-` and `.`; both only singly and inside.
pub(crate) fn host_name(text: Option<&str>) -> Result<String, CloudError> {
    let Some(name) = given(text) else { return Ok(String::new()) };
    let rule = "2 to 64 letters, digits, - and ., the last two only singly and inside";
    let labels = name.split(['.', '-']);
    let fits = (2..=64).contains(&name.len())
        && labels.into_iter().all(|label| !label.is_empty() && alphanumeric(label));
    allowed(Field::HostName, rule, fits).map(|()| name.into())
}

/// A letter, then letters, digits, `:`, `_` and `-`.
pub(crate) fn key_pair(text: Option<&str>) -> Result<String, CloudError> {
    let Some(name) = given(text) else { return Ok(String::new()) };
    let rule = "2 to 128 letters, digits, :, _ and -, starting with a letter";
    let inner = |c: char| c.is_alphanumeric() || matches!(c, ':' | '_' | '-');
    let fits = (2..=128).contains(&name.chars().count())
        && name.starts_with(char::is_alphabetic)
        && name.chars().all(inner);
    allowed(Field::KeyPairName, rule, fits).map(|()| name.into())
}

/// Base64, short enough for the record of an instance.
pub(crate) fn user_data(text: Option<&str>) -> Result<String, CloudError> {
    let text = text.unwrap_or_default();
    let rule = "at most 8192 bytes of base64";
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let fits = text.len() <= 8192 && text.bytes().all(inner);
    allowed(Field::UserData, rule, fits).map(|()| text.into())
}

/// 1 to 64 printable ASCII characters.
pub(crate) fn client_token(text: &str) -> Result<(), CloudError> {
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let fits = (1..=64).contains(&text.len()) && printable;
    allowed(Field::ClientToken, "1 to 64 printable ASCII characters", fits)
}

/// The name of an account: safe in a path, a label of a layer and a key of the catalog.
pub(crate) fn account_name(text: &str) -> Result<(), CloudError> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let fits = (1..=64).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(inner);
    let rule = "1 to 64 letters, digits, -, _ and ., starting with a letter or digit";
    allowed(Field::AccountName, rule, fits)
}

/// An id the front echoes back, such as that of a security group.
pub(crate) fn echoed(field: Field, text: Option<&str>) -> Result<String, CloudError> {
    plain(field, text, 1..=128, "at most 128 characters")
}

/// What was given, if anything.
pub(crate) fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn plain(
    field: Field,
    text: Option<&str>,
    length: std::ops::RangeInclusive<usize>,
    rule: &'static str,
) -> Result<String, CloudError> {
    let Some(text) = given(text) else { return Ok(String::new()) };
    let fits = length.contains(&text.chars().count())
        && !text.starts_with("http://")
        && !text.starts_with("https://")
        && !text.chars().any(char::is_control);
    allowed(field, rule, fits).map(|()| text.into())
}

fn alphanumeric(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn allowed(field: Field, rule: &'static str, fits: bool) -> Result<(), CloudError> {
    if fits { Ok(()) } else { Err(CloudError::Malformed { field, rule }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_measured_in_characters() {
        let fits = |text: &str| name(Field::DiskName, Some(text)).is_ok();
        assert!(fits("数据") && fits(&"盘".repeat(128)) && fits("a<b>&c"));
        assert!(!fits("a") && !fits(&"x".repeat(129)));
        assert!(!fits("http://x") && !fits("https://x") && !fits("a\0b") && !fits("a\nb"));
        assert_eq!(name(Field::DiskName, None).unwrap(), "");
    }

    #[test]
    fn host_names_have_their_own_rule() {
        let fits = |text: &str| host_name(Some(text)).is_ok();
        assert!(fits("web-1.lab") && fits("ab"));
        assert!(!fits("-ab") && !fits("ab.") && !fits("a..b") && !fits("a_b") && !fits("a"));
    }

    #[test]
    fn account_names_are_safe_in_paths() {
        assert!(account_name("lab-1.x").is_ok());
        for bad in ["", "../x", "a/b", ".a", "a b", "é"] {
            assert!(account_name(bad).is_err(), "{bad}");
        }
    }
}
