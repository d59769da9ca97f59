//! Parts of files: what `Range`, `If-Range` and `If-None-Match` ask for, so that a download that broke off can go on.

use std::ops::RangeInclusive;

use axum::http::{
    HeaderMap,
    header::{IF_NONE_MATCH, IF_RANGE, RANGE},
};

/// What of a file is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// These bytes of it, the first and the last one included.
    Bytes(RangeInclusive<u64>),
    /// Nothing: it ends before the first byte that is asked for.
    Beyond,
    /// Nothing: the client has it already.
    Unchanged,
}

/// What the headers ask for of a file with so many bytes and this `ETag`, quotes included.
///
/// What is not understood is passed over, as the protocol has it: a whole file is never wrong. So are several ranges in one
/// request.
pub fn part(headers: &HeaderMap, size: u64, etag: &str) -> Part {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let known = text(IF_NONE_MATCH).is_some_and(|tags| tags.split(',').any(|tag| is_same(tag.trim(), etag)));
    if known {
        return Part::Unchanged;
    }
    // A part of one file and the rest of another would be neither.
    if text(IF_RANGE).is_some_and(|tag| tag.trim() != etag) {
        return Part::Whole;
    }
    text(RANGE).and_then(|range| bytes(range, size)).unwrap_or(Part::Whole)
}

fn is_same(tag: &str, etag: &str) -> bool {
    tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
}

/// Reads `bytes=5-9`, `bytes=5-` or `bytes=-5`.
fn bytes(range: &str, size: u64) -> Option<Part> {
    let (unit, range) = range.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // More than fits is more than any file has.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let end = size.checked_sub(1);
    let wanted = match (first, last) {
        ("", last) => {
            let length = number(last)?;
            (length > 0).then(|| size.saturating_sub(length)..=u64::MAX)
        }
        (first, "") => Some(number(first)?..=u64::MAX),
        (first, last) => {
            let range = number(first)?..=number(last)?;
            if range.is_empty() {
                return None;
            }
            Some(range)
        }
    };
    Some(match (wanted, end) {
        (Some(wanted), Some(end)) if *wanted.start() <= end => Part::Bytes(*wanted.start()..=(*wanted.end()).min(end)),
        _ => Part::Beyond,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ETAG: &str = "\"abc\"";

    fn asked(pairs: &[(axum::http::HeaderName, &str)]) -> Part {
        let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        part(&headers.collect(), 10, ETAG)
    }

    #[test]
    fn ranges_are_read_as_the_protocol_has_them() {
        for (range, part) in [
            ("bytes=0-3", Part::Bytes(0..=3)),
            ("bytes=4-", Part::Bytes(4..=9)),
            ("bytes=9-9", Part::Bytes(9..=9)),
            ("BYTES = 2-99", Part::Bytes(2..=9)),
            ("bytes=-3", Part::Bytes(7..=9)),
            ("bytes=-99", Part::Bytes(0..=9)),
            ("bytes=10-", Part::Beyond),
            ("bytes=-0", Part::Beyond),
            ("bytes=99999999999999999999999-", Part::Beyond),
            ("bytes=3-2", Part::Whole),
            ("bytes=0-1,4-5", Part::Whole),
            ("bytes=", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("lines=1-2", Part::Whole),
        ] {
            assert_eq!(asked(&[(RANGE, range)]), part, "{range}");
        }
        assert_eq!(bytes("bytes=0-", 0), Some(Part::Beyond));
    }

    #[test]
    fn a_part_goes_with_the_file_it_was_begun_with() {
        let range = (RANGE, "bytes=4-");
        assert_eq!(asked(&[range.clone(), (IF_RANGE, ETAG)]), Part::Bytes(4..=9));
        for other in ["\"xyz\"", "W/\"abc\"", "Tue, 17 Jan 2023 03:36:01 GMT"] {
            assert_eq!(asked(&[range.clone(), (IF_RANGE, other)]), Part::Whole, "{other}");
        }
        for same in [ETAG, "W/\"abc\"", "\"x\", \"abc\"", "*"] {
            assert_eq!(asked(&[(IF_NONE_MATCH, same)]), Part::Unchanged, "{same}");
        }
        assert_eq!(asked(&[(IF_NONE_MATCH, "\"x\"")]), Part::Whole);
    }

    proptest! {
        #[test]
        fn no_text_leads_outside_the_file(range in "(bytes=)?[0-9, =-]{0,24}|\\PC{0,12}", size in 0..50_u64) {
            if let Some(Part::Bytes(part)) = bytes(&range, size) {
                prop_assert!(!part.is_empty() && *part.end() < size);
            }
        }
    }
}
