//! The id a request is found by in the log.

use axum::http::HeaderMap;
use rand::Rng as _;

const LENGTH: usize = 16;

/// The client's `x-trace-id` when it is sixteen hexadecimal digits or can be cut to them (a W3C trace id has 32), else
/// a random one. Lower case.
pub fn trace_id(headers: &HeaderMap) -> String {
    let given = headers
        .get("x-trace-id")
        .and_then(|value| value.to_str().ok())
        .map(str::trim);
    match given {
        Some(id) if id.len() >= LENGTH && id.bytes().all(|b| b.is_ascii_hexdigit()) => {
            id[..LENGTH].to_ascii_lowercase()
        }
        _ => format!("{:016x}", rand::rng().random::<u64>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adopts_what_looks_like_one() {
        let of = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-trace-id", id.parse().unwrap());
            trace_id(&headers)
        };
        assert_eq!(of("0FDA4C74b7a84932"), "0fda4c74b7a84932");
        assert_eq!(of("0fda4c74b7a849320fda4c74b7a84932"), "0fda4c74b7a84932");
        for made in [of("short"), of("no hexadecimal!!"), trace_id(&HeaderMap::new())] {
            assert_eq!(made.len(), LENGTH);
            assert!(made.bytes().all(|b| b.is_ascii_hexdigit()));
        }
    }
}
