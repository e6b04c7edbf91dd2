//! What a password for a guest needs.
//!
//! What must always hold: the password itself is in no error.

use crate::{CloudError, Field, SecretText};

/// The special characters the reference allows.
const SPECIAL: &str = "()`~!@#$%^&*-_+=|{}[]:;'<>,.?/";

/// 8 to 30 characters, of at least three of: upper case, lower case, digit, special.
pub(crate) fn check(password: &SecretText) -> Result<(), CloudError> {
    let text = password.reveal();
    let has = |of: fn(char) -> bool| usize::from(text.chars().any(of));
    let special: fn(char) -> bool = |c| SPECIAL.contains(c);
    let classes = has(|c| c.is_ascii_uppercase())
        + has(|c| c.is_ascii_lowercase())
        + has(|c| c.is_ascii_digit())
        + has(special);
    let known = text.chars().all(|c| c.is_ascii_alphanumeric() || special(c));
    if (8..=30).contains(&text.len()) && known && classes >= 3 {
        return Ok(());
    }
    let rule = "8 to 30 characters of at least three of: upper case, lower case, digits, \
                ()`~!@#$%^&*-_+=|{}[]:;'<>,.?/";
    Err(CloudError::Malformed { field: Field::Password, rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_of_four_classes_are_asked_for() {
        let fits = |text: &str| check(&SecretText::new(text)).is_ok();
        assert!(fits("Abcdefg1") && fits("abcdef1!") && fits("ABC123!!"));
        assert!(!fits("Abcdef1") && !fits("abcdefg1") && !fits(&"Ab1".repeat(11)));
        assert!(!fits("Abcdefg1\n") && !fits("Äbcdefg1!"));
    }
}
