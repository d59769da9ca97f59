//! The `Authorization: Basic` header.

use axum::http::{HeaderMap, header::AUTHORIZATION};
use base64::{Engine as _, prelude::BASE64_STANDARD};

/// A name longer than this belongs to nobody; the table of users has no room for it.
pub const LONGEST_NAME: usize = 128;

/// User and password as sent. Has no `Debug`: a password must not reach the log.
pub struct Credentials {
    /// Login name.
    pub user: String,
    /// Password in clear text.
    pub password: String,
}

impl Credentials {
    /// What the header says; `None` when there is none, or none that could be right.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, encoded) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("Basic") {
            return None;
        }
        let decoded = BASE64_STANDARD.decode(encoded.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (user, password) = text.split_once(':')?;
        (!user.is_empty() && user.len() <= LONGEST_NAME).then(|| Self {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(header: &str) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, header.parse().unwrap());
        Credentials::of(&headers).map(|c| (c.user, c.password))
    }

    #[test]
    fn splits_at_the_first_colon() {
        assert_eq!(of("Basic Zm9vOmJhcg=="), Some(("foo".into(), "bar".into())));
        assert_eq!(of("basic Zm9vOmJhcjpiYXo="), Some(("foo".into(), "bar:baz".into())));
        assert_eq!(of("Basic Zm9vOg=="), Some(("foo".into(), String::new())));
    }

    #[test]
    fn what_cannot_be_right_is_nothing() {
        let long = BASE64_STANDARD.encode(format!("{}:x", "u".repeat(LONGEST_NAME + 1)));
        for header in [
            "Basic",
            "Basic ",
            "Bearer Zm9vOmJhcg==",
            "Basic Zm9v",
            "Basic OmJhcg==",
            "Basic ///",
            "Basic /zo=",
            &format!("Basic {long}"),
        ] {
            assert_eq!(of(header), None, "{header}");
        }
        assert!(Credentials::of(&HeaderMap::new()).is_none());
    }
}
