//! Signing a request with an access key.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::Sha1;

/// All that RFC 3986 does not leave as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is signed of a request.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'r> {
    /// `GET`
    pub method: &'r str,
    /// Nothing where there is none.
    pub body: &'r [u8],
    /// Nothing where there is none.
    pub content_type: &'r str,
    /// As it is sent.
    pub date: &'r str,
    /// With its port, if it is not the usual one.
    pub host: &'r str,
    /// The `x-ocp-…` headers, sorted.
    pub headers: &'r [(&'r str, &'r str)],
    /// Path and query, as they are sent; the query sorted and encoded by [`query`].
    pub target: &'r str,
}

impl Draft<'_> {
    /// The `Authorization` header.
    pub fn authorization(&self, access_key: &str, secret_key: &str) -> String {
        let md5 = match self.body.is_empty() {
            true => String::new(),
            false => hex::encode_upper(Md5::digest(self.body)),
        };
        self.authorization_for(&md5, access_key, secret_key)
    }

    /// The same for a body that is not in memory, by its MD5 in upper-case hexadecimal digits.
    pub fn authorization_for(&self, md5: &str, access_key: &str, secret_key: &str) -> String {
        let headers: Vec<String> = self
            .headers
            .iter()
            .map(|(name, value)| format!("{name}:{value}"))
            .collect();
        let text = [
            self.method,
            md5,
            self.content_type,
            self.date,
            self.host,
            &headers.join("\n"),
            self.target,
        ]
        .join("\n");
        // An HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret_key.as_bytes()) else {
            unreachable!("an HMAC key has any length")
        };
        mac.update(text.as_bytes());
        let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
        format!("OCP-ACCESS-KEY-HMACSHA1 {access_key}:{signature}")
    }
}

/// A part of a path, or of a query, as it is sent.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// Parameters as they are sent and signed: sorted, encoded. Each name once.
pub fn query(parameters: &[(&str, &str)]) -> String {
    let mut sorted = parameters.to_vec();
    sorted.sort_unstable();
    let pairs: Vec<String> = sorted
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
        .collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_examples_are_signed_as_published() {
        let post = Draft {
            method: "POST",
            body: br#"{"name":"test01","description":"test","regionId":1}"#,
            content_type: "application/json",
            date: "Tue, 17 Jan 2023 09:13:57 GMT",
            host: "ocp.alibaba.net:8080",
            headers: &[("x-ocp-data", "A,1")],
            target: "/api/v2/compute/idcs",
        };
        let top = query(&[
            ("startTime", "2024-04-15T14:29:55+08:00"),
            ("endTime", "2024-04-15T14:30:55+08:00"),
            ("maxPoints", "360"),
            ("metrics", "host_disk_total"),
            ("labels", "svr_ip:127.0.0.1"),
            ("groupBy", "app,svr_ip,device,mount_point"),
        ]);
        let top = format!("/api/v2/monitor/top?{top}");
        let get = Draft {
            method: "GET",
            body: b"",
            content_type: "application/json",
            date: "Mon, 15 Apr 2024 09:25:02 GMT",
            host: "127.0.0.1:8080",
            headers: &[("x-ocp-origin", "for-test")],
            target: &top,
        };
        for (draft, secret, signature) in [
            (post, "2fc0c299cc94c6be266f2ceece765d4d", "XN8P+O+v3vUabB16ZCooq5wMJoY="),
            (get, "d75332c5eed8d440a84a35ac6248d397", "To11kg1EsB/dPWyDnnpuUzIUoQk="),
        ] {
            let header = draft.authorization("AK", secret);
            assert_eq!(header, format!("OCP-ACCESS-KEY-HMACSHA1 AK:{signature}"));
        }
    }
}
