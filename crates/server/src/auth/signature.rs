//! The signature of a request by an access key: what is signed, and whether it was signed with a secret. Nothing is read
//! or remembered here.
//!
//! ```text
//! Authorization: OCP-ACCESS-KEY-HMACSHA1 {access key}:{Base64(HMAC-SHA1(secret, string to sign))}
//!
//! string to sign: METHOD \n MD5 of the body \n Content-Type \n Date \n Host \n x-ocp-… headers \n path[?query]
//! ```
//!
//! An absent part keeps its line. The date is that of `Date` or of `x-ocp-date`; the query's parameters are sorted. As some
//! clients write a space in the query `+` and others `%20`, both are tried, and so are both dates where there are two.

#[cfg(test)]
mod properties;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use axum::http::{
    HeaderMap,
    header::{AUTHORIZATION, CONTENT_TYPE, DATE, HOST},
    request::Parts,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// How far a request's date may be from the server's clock, exclusive.
pub const WINDOW: Duration = Duration::from_secs(15 * 60);
const SCHEME: &str = "OCP-ACCESS-KEY-HMACSHA1";
/// Headers whose names begin with this are signed.
const SIGNED_PREFIX: &str = "x-ocp";
/// Takes the place of `Date` for clients that cannot set it.
const OTHER_DATE: &str = "x-ocp-date";
/// More of an access key or of a signature belongs to nobody.
const LONGEST: usize = 64;

/// All that RFC 3986 does not leave as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// All that `java.net.URLEncoder` does not leave as it is; it writes spaces as `+` besides.
const ENCODED_BY_JAVA: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');

/// What a client says to be known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The access key.
    pub access_key: String,
    /// The signature, decoded.
    signature: Vec<u8>,
}

/// A request as far as it is signed, but for its body.
#[derive(Debug)]
pub struct Signed<'r> {
    method: &'r str,
    content_type: &'r str,
    /// As written and as meant; not empty, mostly one.
    dates: Vec<(&'r str, SystemTime)>,
    host: &'r str,
    headers: String,
    path: &'r str,
    query: Option<[String; 2]>,
}

/// Why a signature cannot be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsigned {
    /// The header is no `{access key}:{signature}`.
    Malformed,
    /// There is no date, or none of the form `Tue, 17 Jan 2023 03:36:01 GMT`.
    NoDate,
    /// Its date is too far from the server's clock.
    Stale,
}

impl Claim {
    /// What the header says; `None` when it is not of this scheme.
    pub fn of(headers: &HeaderMap) -> Option<Result<Self, Unsigned>> {
        let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, credentials) = header.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case(SCHEME)
            .then(|| Self::parse(credentials).ok_or(Unsigned::Malformed))
    }

    fn parse(credentials: &str) -> Option<Self> {
        let (access_key, signature) = credentials.trim().split_once(':')?;
        let plain = access_key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if access_key.is_empty() || access_key.len() > LONGEST || signature.len() > LONGEST || !plain {
            return None;
        }
        Some(Self {
            access_key: access_key.to_owned(),
            signature: BASE64_STANDARD.decode(signature).ok()?,
        })
    }

    /// Whether it was made with this secret, of such a request with a body of this MD5 (32 upper-case hexadecimal digits,
    /// nothing for no body). → the date that was signed
    pub fn is_of(&self, request: &Signed<'_>, body_md5: &str, secret: &str) -> Option<SystemTime> {
        // All are tried whatever comes of them: the time it takes tells nothing.
        let mut right = None;
        for (written, date) in &request.dates {
            for text in request.strings_to_sign(body_md5, written) {
                if self.is_right(&text, secret) {
                    right = Some(*date);
                }
            }
        }
        right
    }

    fn is_right(&self, text: &str, secret: &str) -> bool {
        Hmac::<Sha1>::new_from_slice(secret.as_bytes()).is_ok_and(|mut mac| {
            mac.update(text.as_bytes());
            // In a time that does not depend on where they differ.
            mac.verify_slice(&self.signature).is_ok()
        })
    }

    /// Names it, wherever it comes from: SHA-256, hexadecimal.
    pub fn id(&self) -> String {
        let digest = Sha256::new().chain_update(&self.access_key).chain_update(":");
        hex::encode(digest.chain_update(&self.signature).finalize())
    }
}

impl<'r> Signed<'r> {
    /// The signed parts of a request that came now.
    pub fn of(parts: &'r Parts, now: SystemTime) -> Result<Self, Unsigned> {
        let text = |name: &str| parts.headers.get(name).map(|value| value.to_str());
        let optional = |name| text(name).transpose().map_err(|_| Unsigned::Malformed);
        let dates = [optional(DATE.as_str())?, optional(OTHER_DATE)?].into_iter().flatten();
        let meant = dates.filter_map(|date| Some((date, httpdate::parse_http_date(date).ok()?)));
        let mut dates: Vec<_> = meant.collect();
        if dates.is_empty() {
            return Err(Unsigned::NoDate);
        }
        dates.retain(|(_, date)| distance(*date, now) < WINDOW);
        if dates.is_empty() {
            return Err(Unsigned::Stale);
        }
        // HTTP/2 has no Host header.
        let authority = parts.uri.authority().map(|authority| authority.as_str());
        Ok(Self {
            method: parts.method.as_str(),
            content_type: optional(CONTENT_TYPE.as_str())?.unwrap_or_default(),
            dates,
            host: optional(HOST.as_str())?.or(authority).unwrap_or_default(),
            headers: signed_headers(&parts.headers)?,
            path: parts.uri.path(),
            query: parts
                .uri
                .query()
                .filter(|query| !query.is_empty())
                .map(canonical_queries),
        })
    }

    /// One for each way to write the query.
    fn strings_to_sign(&self, body_md5: &str, date: &str) -> impl Iterator<Item = String> {
        let Self {
            method,
            content_type,
            host,
            headers,
            path,
            ..
        } = self;
        let head = format!("{method}\n{body_md5}\n{content_type}\n{date}\n{host}\n{headers}\n{path}");
        let tails = match &self.query {
            None => vec![String::new()],
            Some([one, other]) if one == other => vec![format!("?{one}")],
            Some(both) => both.iter().map(|query| format!("?{query}")).collect(),
        };
        tails.into_iter().map(move |tail| format!("{head}{tail}"))
    }
}

fn distance(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|error| error.duration())
}

/// `name:value` of each signed header, sorted; several values of one have commas between them, in the order they came.
fn signed_headers(headers: &HeaderMap) -> Result<String, Unsigned> {
    let mut signed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with(SIGNED_PREFIX))
    {
        let value = value.to_str().map_err(|_| Unsigned::Malformed)?;
        signed.entry(name.as_str()).or_default().push(value);
    }
    let lines = signed
        .into_iter()
        .map(|(name, values)| format!("{name}:{}", values.join(",")));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// The query's parameters sorted, those of one name as one, their values sorted with commas between them: encoded as
/// RFC 3986 says, and as Java does.
fn canonical_queries(query: &str) -> [String; 2] {
    let mut parameters: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        parameters
            .entry(name.into_owned())
            .or_default()
            .push(value.into_owned());
    }
    for values in parameters.values_mut() {
        values.sort_unstable();
    }
    let written = |encode: fn(&str) -> String| {
        let pairs = parameters
            .iter()
            .map(|(name, values)| format!("{}={}", encode(name), encode(&values.join(","))));
        pairs.collect::<Vec<_>>().join("&")
    };
    [
        written(|text| utf8_percent_encode(text, ENCODED).to_string()),
        written(|text| {
            utf8_percent_encode(text, ENCODED_BY_JAVA)
                .to_string()
                .replace("%20", "+")
        }),
    ]
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    const SECRET: &str = "2fc0c299cc94c6be266f2ceece765d4d";

    struct Vector {
        secret: &'static str,
        method: &'static str,
        uri: &'static str,
        body_md5: &'static str,
        headers: &'static [(&'static str, &'static str)],
        signature: &'static str,
    }

    /// The examples that OCP's documentation publishes.
    const PUBLISHED: [Vector; 3] = [
        Vector {
            secret: SECRET,
            method: "POST",
            uri: "/api/v2/compute/idcs",
            body_md5: "186974DB33A090A16D3E2CA35F547B56",
            headers: &[
                ("content-type", "application/json"),
                ("date", "Tue, 17 Jan 2023 09:13:57 GMT"),
                ("host", "ocp.alibaba.net:8080"),
                ("x-ocp-data", "A,1"),
            ],
            signature: "XN8P+O+v3vUabB16ZCooq5wMJoY=",
        },
        Vector {
            secret: SECRET,
            method: "GET",
            uri: "/api/v2/compute/idcs?size=100",
            body_md5: "",
            headers: &[
                ("content-type", "application/json;charset=utf-8"),
                ("date", "Tue, 17 Jan 2023 04:14:02 GMT"),
                ("host", "ocp.alibaba.net:8080"),
            ],
            signature: "TsQD6HDOuZuJ409m0wdnZPmijlc=",
        },
        Vector {
            secret: "d75332c5eed8d440a84a35ac6248d397",
            method: "GET",
            uri: "/api/v2/monitor/top?startTime=2024-04-15T14%3A29%3A55%2B08%3A00&endTime=2024-04-15T14%3A30%3A55%2B08%3A00\
                  &maxPoints=360&metrics=host_disk_total&labels=svr_ip:127.0.0.1&groupBy=app,svr_ip,device,mount_point",
            body_md5: "",
            headers: &[
                ("content-type", "application/json"),
                ("date", "Mon, 15 Apr 2024 09:25:02 GMT"),
                ("host", "127.0.0.1:8080"),
                ("x-ocp-origin", "for-test"),
            ],
            signature: "To11kg1EsB/dPWyDnnpuUzIUoQk=",
        },
    ];

    fn parts(vector: &Vector) -> Parts {
        let request = Request::builder().method(vector.method).uri(vector.uri);
        let request = vector
            .headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value));
        let authorization = format!("OCP-ACCESS-KEY-HMACSHA1 0123456789abcdef:{}", vector.signature);
        request
            .header(AUTHORIZATION, authorization)
            .body(())
            .unwrap()
            .into_parts()
            .0
    }

    fn is_right(parts: &Parts, body_md5: &str, secret: &str) -> bool {
        let claim = Claim::of(&parts.headers).unwrap().unwrap();
        let date = parts.headers[DATE].to_str().unwrap();
        let signed = Signed::of(parts, httpdate::parse_http_date(date).unwrap()).unwrap();
        claim.is_of(&signed, body_md5, secret).is_some()
    }

    #[test]
    fn the_published_examples_hold() {
        for vector in PUBLISHED {
            assert!(
                is_right(&parts(&vector), vector.body_md5, vector.secret),
                "{}",
                vector.signature
            );
        }
    }

    #[test]
    fn whatever_is_changed_does_not_hold() {
        let [vector, ..] = PUBLISHED;
        let wrong = |change: fn(&mut Parts)| {
            let mut parts = parts(&vector);
            change(&mut parts);
            !is_right(&parts, vector.body_md5, vector.secret)
        };
        assert!(wrong(|parts| parts.method = axum::http::Method::PUT));
        assert!(wrong(|parts| parts.uri = "/api/v2/compute/idcs/".parse().unwrap()));
        assert!(wrong(|parts| parts.uri = "/api/v2/compute/idcs?a=1".parse().unwrap()));
        for (name, value) in [
            ("content-type", "text/plain"),
            ("date", "Tue, 17 Jan 2023 09:13:58 GMT"),
            ("host", "ocp.alibaba.net"),
            ("x-ocp-data", "A,2"),
        ] {
            let mut parts = parts(&vector);
            parts.headers.insert(name, value.parse().unwrap());
            assert!(!is_right(&parts, vector.body_md5, vector.secret), "{name}");
        }
        assert!(wrong(|parts| assert!(
            !parts.headers.append("x-ocp-more", "1".parse().unwrap())
        )));
        assert!(wrong(|parts| drop(parts.headers.remove("x-ocp-data"))));
        assert!(!is_right(&parts(&vector), "", vector.secret), "the body");
        assert!(!is_right(&parts(&vector), vector.body_md5, "another secret"));
    }

    #[test]
    fn parameters_are_sorted_and_those_of_one_name_are_one() {
        let [plain, java] = canonical_queries("b=2&a=3&a=1&ab=&c&a=2");
        assert_eq!(plain, "a=1%2C2%2C3&ab=&b=2&c=");
        assert_eq!(plain, java);
        let [plain, java] = canonical_queries("k=a%20b&l=a+b&m=~*&n=%E6%B1%89");
        assert_eq!(plain, "k=a%20b&l=a%20b&m=~%2A&n=%E6%B1%89");
        assert_eq!(java, "k=a+b&l=a+b&m=%7E*&n=%E6%B1%89");
    }

    #[test]
    fn several_values_of_a_header_stay_in_order() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-ocp-b", "2"),
            ("X-OCP-Data", "b"),
            ("x-ocp-data", "a"),
            ("x-other", "1"),
        ] {
            headers.append(name.parse::<axum::http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        assert_eq!(signed_headers(&headers).unwrap(), "x-ocp-b:2\nx-ocp-data:b,a");
    }

    #[test]
    fn what_cannot_be_a_signature_is_told_apart_from_another_scheme() {
        let of = |header: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, header.parse().unwrap());
            Claim::of(&headers)
        };
        assert_eq!(of("Basic Zm9vOmJhcg=="), None);
        let long = format!("OCP-ACCESS-KEY-HMACSHA1 {}:AAAA", "a".repeat(LONGEST + 1));
        for header in [
            "OCP-ACCESS-KEY-HMACSHA1 ",
            "OCP-ACCESS-KEY-HMACSHA1 key",
            "OCP-ACCESS-KEY-HMACSHA1 :AAAA",
            "OCP-ACCESS-KEY-HMACSHA1 key:not base64",
            "OCP-ACCESS-KEY-HMACSHA1 k'ey:AAAA",
            &long,
        ] {
            assert_eq!(of(header), Some(Err(Unsigned::Malformed)), "{header}");
        }
    }

    #[test]
    fn a_date_has_to_be_there_and_either_will_do() {
        let [_, vector, _] = PUBLISHED;
        let mut parts = parts(&vector);
        let date = parts.headers.remove(DATE).unwrap();
        let now = httpdate::parse_http_date(date.to_str().unwrap()).unwrap();
        assert_eq!(Signed::of(&parts, now).unwrap_err(), Unsigned::NoDate);
        parts.headers.insert(DATE, "yesterday".parse().unwrap());
        assert_eq!(Signed::of(&parts, now).unwrap_err(), Unsigned::NoDate);
        parts
            .headers
            .insert(DATE, "Tue, 17 Jan 2023 02:14:02 GMT".parse().unwrap());
        assert_eq!(Signed::of(&parts, now).unwrap_err(), Unsigned::Stale);
        // A client's library may set Date itself: then the other is the one it signed.
        parts
            .headers
            .insert(DATE, "Tue, 17 Jan 2023 04:14:03 GMT".parse().unwrap());
        parts.headers.insert(OTHER_DATE, date);
        assert_eq!(Signed::of(&parts, now).unwrap().dates.len(), 2);
    }

    #[test]
    fn a_date_is_good_for_less_than_a_quarter_of_an_hour_either_way() {
        let [vector, ..] = PUBLISHED;
        let parts = parts(&vector);
        let date = httpdate::parse_http_date(vector.headers[1].1).unwrap();
        let second = Duration::from_secs(1);
        for (now, right) in [
            (date + WINDOW - second, true),
            (date + WINDOW, false),
            (date - WINDOW + second, true),
            (date - WINDOW, false),
        ] {
            assert_eq!(Signed::of(&parts, now).is_ok(), right, "{now:?}");
        }
    }
}
