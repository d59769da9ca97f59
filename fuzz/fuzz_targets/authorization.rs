//! How a request says whose it is: signatures, passwords, cookies. What a client signs as OCP's documentation has it is
//! let in, and nothing that somebody made up.
//!
//! The input is a request, as text.

#![no_main]

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use axum::{
    extract::Query,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{AUTHORIZATION, CONTENT_TYPE, DATE, HOST},
        request::Parts,
    },
};
use libfuzzer_sys::fuzz_target;
use md5::{Digest as _, Md5};
use obfleet_client::sign::{Draft, query};
use obfleet_fuzz::request;
use obfleet_server::{
    auth::{
        basic::{Credentials, LONGEST_NAME},
        session::SessionKey,
        signature::{Claim, Signed, WINDOW},
    },
    http::{
        language::Language,
        range::{Part, part},
        trace::trace_id,
    },
};

const SECRET: &str = "2fc0c299cc94c6be266f2ceece765d4d";
const OTHER_SECRET: &str = "2fc0c299cc94c6be266f2ceece765d4e";
/// The date of the seeds: Tue, 17 Jan 2023 09:13:57 GMT.
const NOW: Duration = Duration::from_secs(1_673_946_837);

fuzz_target!(|input: &[u8]| {
    let Some((mut parts, body)) = request::read(input) else {
        return;
    };
    look_at_headers(&parts.headers);
    let now = SystemTime::UNIX_EPOCH + NOW;
    let md5 = match body.is_empty() {
        true => String::new(),
        false => hex::encode_upper(Md5::digest(body)),
    };
    if let Some(Ok(claim)) = Claim::of(&parts.headers) {
        assert_eq!(claim.id().len(), 64);
        if let Ok(signed) = Signed::of(&parts, now) {
            assert_eq!(
                claim.is_of(&signed, &md5, OTHER_SECRET),
                None,
                "nobody guesses a signature"
            );
        }
    }
    if let Some(authorization) = sign(&mut parts, &md5) {
        parts.headers.insert(AUTHORIZATION, authorization);
        let claim = Claim::of(&parts.headers)
            .expect("it is of this scheme")
            .expect("a signature");
        let signed = Signed::of(&parts, now).expect("a client's date is that of the moment");
        assert!(
            claim.is_of(&signed, &md5, SECRET).is_some(),
            "what a client signs is right"
        );
        assert_eq!(claim.is_of(&signed, &md5, OTHER_SECRET), None);
        assert_eq!(
            claim.is_of(&signed, "186974DB33A090A16D3E2CA35F547B56", SECRET),
            None,
            "the body"
        );
    }
});

/// Signs the request as a client does that sends each parameter and each header once; `None` if it cannot have made it.
fn sign(parts: &mut Parts, md5: &str) -> Option<HeaderValue> {
    let text = |name: HeaderName| parts.headers.get(name).map_or(Some(""), |value| value.to_str().ok());
    let (content_type, host) = (text(CONTENT_TYPE)?, text(HOST)?);
    let dates = [text(DATE)?, text(HeaderName::from_static("x-ocp-date"))?];
    let date = dates.into_iter().find(|date| is_now(date))?;
    let mut headers = BTreeMap::new();
    for (name, value) in parts
        .headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-ocp"))
    {
        headers.insert(name.as_str(), value.to_str().ok()?);
    }
    let single = |name: &HeaderName| parts.headers.get_all(name).iter().count() == 1;
    let path = parts.uri.path();
    if !parts.headers.keys().all(single) || host.is_empty() || !path.starts_with('/') {
        return None;
    }
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).ok()?;
    let pairs: BTreeMap<_, _> = pairs.into_iter().collect();
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let target = match query(&pairs).as_str() {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    };
    let headers: Vec<_> = headers.into_iter().collect();
    let draft = Draft {
        method: parts.method.as_str(),
        body: b"",
        content_type,
        date,
        host,
        headers: &headers,
        target: &target,
    };
    let authorization = draft.authorization_for(md5, "0123456789abcdef", SECRET);
    parts.uri = target.parse().ok()?;
    authorization.parse().ok()
}

fn is_now(date: &str) -> bool {
    let now = SystemTime::UNIX_EPOCH + NOW;
    let date = httpdate::parse_http_date(date);
    date.is_ok_and(|date| {
        date.max(now)
            .duration_since(date.min(now))
            .is_ok_and(|away| away < WINDOW)
    })
}

fn look_at_headers(headers: &HeaderMap) {
    if let Some(credentials) = Credentials::of(headers) {
        assert!((1..=LONGEST_NAME).contains(&credentials.user.len()) && !credentials.user.contains(':'));
    }
    if let Some(key) = SessionKey::of(headers) {
        assert!(key.digest().len() == 64 && key.token() != key.digest());
    }
    let trace = trace_id(headers);
    assert!(trace.len() == 16 && trace.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let _ = Language::of(headers);
    for size in [0, 1, 10, u64::MAX] {
        if let Part::Bytes(range) = part(headers, size, "\"etag\"") {
            assert!(!range.is_empty() && *range.end() < size);
        }
    }
}
