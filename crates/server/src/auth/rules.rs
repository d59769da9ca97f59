//! What names and passwords of users have to be.

use obfleet_wire::{Code, Refusal};

use super::first_user;

/// Punctuation a password may have.
const PUNCTUATION: &str = "~!@#%^&*_-+=|(){}[]:;,.?/`$'\"<>\\";
/// Names that nobody may have, as they mislead.
const RESERVED: [&str; 4] = [first_user::ADMIN, "sys", "dba", "proxy"];

/// Checks the password of a user's in this member of a request.
///
/// # Errors
/// IAM10009; what was given is not told.
pub fn password(password: &str, field: &str) -> Result<(), Refusal> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || PUNCTUATION.contains(c);
    let classes: [fn(char) -> bool; 4] = [
        |c| c.is_ascii_digit(),
        |c| c.is_ascii_lowercase(),
        |c| c.is_ascii_uppercase(),
        |c| PUNCTUATION.contains(c),
    ];
    let present = classes.iter().filter(|class| password.chars().any(**class)).count();
    let good = (8..=32).contains(&password.len()) && present >= 3 && password.chars().all(is_known);
    match good {
        true => Ok(()),
        false => Err(Refusal::new(Code::Iam10009, [""; 0]).field(field)),
    }
}

/// Checks the name of a new user.
///
/// # Errors
/// IAM10008 for its form, IAM11005 for one that is reserved.
pub fn user_name(name: &str) -> Result<(), Refusal> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(Refusal::new(Code::Iam11005, [name]).field("name"));
    }
    match is_name(name, 4, 48, inner) {
        true => Ok(()),
        false => Err(Refusal::new(Code::Iam10008, [name]).field("name")),
    }
}

/// Checks the name of a new role.
///
/// # Errors
/// IAM10016.
pub fn role_name(name: &str) -> Result<(), Refusal> {
    match is_name(name, 2, 32, |c| c.is_ascii_alphanumeric() || c == '_') {
        true => Ok(()),
        false => Err(Refusal::new(Code::Iam10016, [name]).field("name")),
    }
}

/// A letter first, a letter or digit last.
fn is_name(name: &str, least: usize, most: usize, inner: impl Fn(char) -> bool) -> bool {
    (least..=most).contains(&name.len())
        && name.chars().all(inner)
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_have_three_of_four_classes() {
        for good in ["Abcdefg1", "abcdef1!", "ABCDEF1\\", "aA!aaaaa", &"aA1".repeat(10)] {
            assert_eq!(password(good, "password"), Ok(()), "{good}");
        }
        for bad in [
            "",
            "Abcdef1",
            "abcdefg1",
            "abcdefgh!",
            "Abcdefg1 ",
            "Abcdefg1é",
            "Abc\ndefg1",
            &"aA1".repeat(11),
        ] {
            let refusal = password(bad, "newPassword").unwrap_err();
            assert_eq!(refusal.code, Code::Iam10009, "{bad}");
            assert_eq!(refusal.field.as_deref(), Some("newPassword"));
        }
    }

    #[test]
    fn names_begin_with_a_letter_and_end_in_a_letter_or_digit() {
        for good in ["anna", "night.shift-2_x", &"a".repeat(48)] {
            assert_eq!(user_name(good), Ok(()), "{good}");
        }
        for bad in [
            "abc",
            "1anna",
            "anna.",
            "an na",
            "anna:x",
            "änna",
            "a/../b",
            &"a".repeat(49),
        ] {
            assert_eq!(user_name(bad).unwrap_err().code, Code::Iam10008, "{bad}");
        }
        for reserved in ["admin", "Admin", "SYS", "proxy"] {
            assert_eq!(user_name(reserved).unwrap_err().code, Code::Iam11005, "{reserved}");
        }
        assert_eq!(role_name("NIGHT_SHIFT2"), Ok(()));
        for bad in ["A", "NIGHT_", "2NIGHT", "NIGHT-SHIFT", "NIGHT,ADMIN"] {
            assert_eq!(role_name(bad).unwrap_err().code, Code::Iam10016, "{bad}");
        }
    }
}
