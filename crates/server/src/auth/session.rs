//! Browsers that are logged in: a cookie that scripts cannot read, of which the database has the digest alone.
//!
//! A browser sends its cookies whoever made it send a request. So a change needs a header besides that only a page of this
//! origin can set: it repeats another cookie, which follows from the first and is of no use without it. Requests with an
//! `Authorization` header are no such requests, and need none.

use std::time::Duration;

use axum::http::{
    HeaderMap, HeaderValue, Method,
    header::{COOKIE, HOST, ORIGIN},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use obfleet_store::{
    sessions::{Session, SessionRule, Sessions, SessionsError},
    users::User,
};
use obfleet_wire::{Code, time::Timestamp};
use sha2::{Digest as _, Sha256};

use crate::http::{ApiError, ApiResult, Fault, fault::LoginFault};

/// Half an hour without a request, half a day at most.
pub const RULE: SessionRule = SessionRule {
    idle: Duration::from_secs(30 * 60),
    longest: Duration::from_secs(12 * 60 * 60),
    most: 50,
};
/// What the browser is known by; OCP's name.
const SESSION: &str = "JSESSIONID";
/// What a page repeats in [`REPEATED`].
const TOKEN: &str = "XSRF-TOKEN";
const REPEATED: &str = "x-xsrf-token";
/// A session is not noted as seen more often.
const SEEN_EVERY: i64 = 60 * 1000;

/// What a browser has. Has no `Debug`: it must not reach the log.
#[derive(Clone)]
pub struct SessionKey(String);

impl SessionKey {
    /// A new one.
    pub fn new() -> Self {
        Self(hex::encode(rand::random::<[u8; 32]>()))
    }

    /// The one that came with a request. Two different ones are none: the browser cannot tell which is its own, either.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut named = cookies
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .filter(|(name, _)| *name == SESSION)
            .map(|(_, value)| value.trim_matches('"'));
        let first = named.next()?;
        let is_key = first.len() == 64 && first.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_key && named.all(|other| other == first)).then(|| Self(first.to_owned()))
    }

    /// What the database has of it.
    pub fn digest(&self) -> String {
        hex::encode(Sha256::digest(&self.0))
    }

    /// What a page repeats with each change.
    pub fn token(&self) -> String {
        hex::encode(self.mac().finalize().into_bytes())
    }

    fn mac(&self) -> Hmac<Sha256> {
        // An HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()) else {
            unreachable!("an HMAC key has any length")
        };
        mac.update(TOKEN.as_bytes());
        mac
    }

    /// Whether the token is this session's; in a time that does not depend on where they differ.
    fn has_token(&self, token: &str) -> bool {
        hex::decode(token).is_ok_and(|token| self.mac().verify_slice(&token).is_ok())
    }

    /// The cookies of a new session.
    pub fn cookies(&self, https: bool) -> [HeaderValue; 2] {
        let secure = if https { "; Secure" } else { "" };
        [
            cookie(&format!(
                "{SESSION}={}; Path=/; HttpOnly; SameSite=Strict{secure}",
                self.0
            )),
            cookie(&format!("{TOKEN}={}; Path=/; SameSite=Strict{secure}", self.token())),
        ]
    }
}

impl Default for SessionKey {
    fn default() -> Self {
        Self::new()
    }
}

/// Cookies that take those of a session away.
pub fn no_cookies() -> [HeaderValue; 2] {
    [SESSION, TOKEN].map(|name| cookie(&format!("{name}=; Path=/; Max-Age=0; SameSite=Strict")))
}

/// All of it is plain.
fn cookie(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// The user of the session that a request came with, and the session.
///
/// # Errors
/// 401 when there is no such session, 403 for a change that another site may have made the browser send.
pub async fn check(
    sessions: &Sessions,
    key: &SessionKey,
    method: &Method,
    headers: &HeaderMap,
) -> ApiResult<(User, Session)> {
    let now = Timestamp::now();
    let found = sessions.find(&key.digest(), RULE, now).await.map_err(failed)?;
    let (session, user) = found.ok_or_else(|| ApiError::fault(Fault::Login(LoginFault::NoSession)))?;
    if !user.enabled {
        return Err(ApiError::plain(Code::Iam10001));
    }
    if !method.is_safe() {
        let token = headers.get(REPEATED).and_then(|value| value.to_str().ok());
        if !token.is_some_and(|token| key.has_token(token)) {
            return Err(ApiError::fault(Fault::OtherSite));
        }
    }
    if now.millis() - session.seen.millis() > SEEN_EVERY {
        // It goes on all the same; the next request notes it.
        if let Err(error) = sessions.seen(&session.id, now).await {
            tracing::warn!(%error, "that a session was seen is not noted");
        }
    }
    Ok((user, session))
}

/// Refuses a login that another site made the browser send: it would be somebody else's.
///
/// # Errors
/// 403.
pub fn check_origin(headers: &HeaderMap) -> ApiResult<()> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let from_elsewhere = match (text(ORIGIN.as_str()), text(HOST.as_str())) {
        (None, _) => false,
        (Some(origin), Some(host)) => origin
            .split_once("://")
            .is_none_or(|(_, of)| !of.eq_ignore_ascii_case(host)),
        (Some(_), None) => true,
    };
    match from_elsewhere || text("sec-fetch-site") == Some("cross-site") {
        true => Err(ApiError::fault(Fault::OtherSite)),
        false => Ok(()),
    }
}

pub(crate) fn failed(error: SessionsError) -> ApiError {
    ApiError::internal(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_key_is_read_from_among_other_cookies() {
        let (key, other) = (SessionKey::new(), SessionKey::new());
        let cookie = format!("a=b; JSESSIONID={}; c", key.0);
        let of = |pairs: &[(&'static str, &str)]| SessionKey::of(&headers(pairs)).map(|key| key.0);
        assert_eq!(of(&[("cookie", &cookie)]), Some(key.0.clone()));
        assert_eq!(of(&[("cookie", &cookie), ("cookie", &cookie)]), Some(key.0.clone()));
        let second = format!("JSESSIONID={}", other.0);
        assert_eq!(of(&[("cookie", &cookie), ("cookie", &second)]), None, "which is it?");
        for none in ["", "JSESSIONID=", "JSESSIONID=abc", "jsessionid=x", "XJSESSIONID=x"] {
            assert_eq!(of(&[("cookie", none)]), None, "{none}");
        }
    }

    #[test]
    fn a_token_is_of_one_session_and_does_not_tell_it() {
        let (key, other) = (SessionKey::new(), SessionKey::new());
        assert!(key.has_token(&key.token()) && !key.has_token(&other.token()));
        assert!(!key.has_token("") && !key.has_token("xy") && !key.has_token(&key.0));
        assert!(key.token() != key.digest() && key.digest() != key.0);
    }

    #[test]
    fn cookies_are_kept_from_scripts_and_other_sites() {
        let key = SessionKey::new();
        let [session, token] = key.cookies(true).map(|cookie| cookie.to_str().unwrap().to_owned());
        assert!(
            session.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"),
            "{session}"
        );
        assert!(token.ends_with("; Path=/; SameSite=Strict; Secure"), "{token}");
        assert!(
            key.cookies(false)
                .iter()
                .all(|cookie| !cookie.to_str().unwrap().contains("Secure"))
        );
    }

    #[test]
    fn a_login_comes_from_a_page_of_ours_or_from_no_page() {
        for (fine, pairs) in [
            (true, vec![("host", "fleet:8080")]),
            (true, vec![("host", "fleet:8080"), ("origin", "http://fleet:8080")]),
            (true, vec![("host", "fleet:8080"), ("sec-fetch-site", "same-origin")]),
            (false, vec![("host", "fleet:8080"), ("origin", "http://evil")]),
            (false, vec![("host", "fleet:8080"), ("origin", "http://fleet:80801")]),
            (false, vec![("host", "fleet:8080"), ("origin", "null")]),
            (false, vec![("host", "fleet:8080"), ("sec-fetch-site", "cross-site")]),
        ] {
            assert_eq!(check_origin(&headers(&pairs)).is_ok(), fine, "{pairs:?}");
        }
    }
}
