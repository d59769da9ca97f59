//! Who comes by plain HTTP is told to come by HTTPS: an address of its own that answers nothing but that.
//!
//! What was sent is not looked at, and has been sent in clear text all the same: this is for browsers and for who mistyped.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::Request,
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri,
        header::{CONNECTION, HOST, LOCATION},
    },
    response::{IntoResponse as _, Response},
};

use crate::routes;

/// The port that nobody writes.
const USUAL: u16 = 443;

/// Answers everything with 308 to the same path and query on `port`.
pub fn router(port: u16) -> Router {
    routes::one_answer(async move |request: Request| answer(request.headers(), request.uri(), port))
}

/// Where clients find HTTPS: the port in the public URL if that is HTTPS, otherwise the one that is listened on.
pub fn port(public: &str, listen: SocketAddr) -> u16 {
    let public: Option<Uri> = public
        .parse()
        .ok()
        .filter(|url: &Uri| url.scheme_str() == Some("https"));
    public.map_or(listen.port(), |url| url.port_u16().unwrap_or(USUAL))
}

fn answer(headers: &HeaderMap, uri: &Uri, port: u16) -> Response {
    let location = host(headers)
        .map(|host| location(host, uri, port))
        .and_then(|location| HeaderValue::try_from(location).ok());
    // Its body is not read, so nothing can follow it.
    let close = (CONNECTION, HeaderValue::from_static("close"));
    match location {
        Some(location) => (StatusCode::PERMANENT_REDIRECT, [close, (LOCATION, location)]).into_response(),
        None => (
            StatusCode::BAD_REQUEST,
            [close],
            "this address sends to HTTPS, and needs a Host header to do so\n",
        )
            .into_response(),
    }
}

fn location(host: &str, uri: &Uri, port: u16) -> String {
    // That of a whole URL, or of `*`, is not part of ours.
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let slash = if path.starts_with('/') { "" } else { "/" };
    match port {
        USUAL => format!("https://{host}{slash}{path}"),
        port => format!("https://{host}:{port}{slash}{path}"),
    }
}

/// The name or address in the `Host` header, without the port; `None` if it is anything else, which could lead elsewhere.
fn host(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(HOST).iter();
    let text = given.next()?.to_str().ok()?;
    if given.next().is_some() {
        return None;
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(inside) => {
            let end = inside.find(']')?;
            let is_address = inside[..end].parse::<std::net::Ipv6Addr>().is_ok();
            is_address.then(|| text.split_at(end + 2))?
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let named = |host: &str| {
        !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    let is_port = port.is_empty() || port[1..].bytes().all(|b| b.is_ascii_digit());
    let follows = port.is_empty() || port.starts_with(':');
    ((host.starts_with('[') || named(host)) && host.len() <= 255 && follows && is_port).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(hosts: &[&[u8]], target: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_bytes(host).unwrap());
        }
        let response = answer(&headers, &target.parse().unwrap(), 8443);
        let location = response.headers().get(LOCATION)?;
        assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
        Some(location.to_str().unwrap().to_owned())
    }

    #[test]
    fn path_and_query_are_kept_and_the_host_without_its_port() {
        for (host, target, location) in [
            ("fleet.example", "/", "https://fleet.example:8443/"),
            (
                "fleet.example:80",
                "/a/b?c=%20d&e",
                "https://fleet.example:8443/a/b?c=%20d&e",
            ),
            ("10.0.0.1:8080", "/a?", "https://10.0.0.1:8443/a?"),
            ("[::1]:8080", "/a", "https://[::1]:8443/a"),
            ("[::1]", "//evil.example", "https://[::1]:8443//evil.example"),
            ("a", "http://evil.example/b?c", "https://a:8443/b?c"),
            ("a", "*", "https://a:8443/*"),
        ] {
            assert_eq!(
                sent(&[host.as_bytes()], target).as_deref(),
                Some(location),
                "{host} {target}"
            );
        }
    }

    #[test]
    fn a_host_that_could_lead_elsewhere_leads_nowhere() {
        let hosts: [&[u8]; 14] = [
            b"",
            b":80",
            b"a b",
            b"user@evil.example",
            b"good.example@evil.example",
            b"evil.example/",
            b"evil.example?",
            b"evil.example#",
            b"a\\b",
            b"a:80:90",
            b"a:x",
            b"[::1",
            b"[evil.example]",
            b"\xff",
        ];
        for host in hosts {
            assert_eq!(sent(&[host], "/"), None, "{}", host.escape_ascii());
        }
        assert_eq!(sent(&[], "/"), None);
        assert_eq!(sent(&[b"a", b"b"], "/"), None, "one of two");
        assert_eq!(sent(&["a".repeat(256).as_bytes()], "/"), None);
    }

    #[test]
    fn the_port_is_where_clients_find_the_server() {
        let listen = ([0, 0, 0, 0], 8443).into();
        assert_eq!(port("https://fleet.example", listen), 443);
        assert_eq!(port("https://fleet.example:9443/x", listen), 9443);
        assert_eq!(port("http://10.0.0.1:8080", listen), 8443);
        let usual = location("a", &"/b".parse().unwrap(), USUAL);
        assert_eq!(usual, "https://a/b");
    }
}
