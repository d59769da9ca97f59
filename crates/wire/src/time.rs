//! Points in time as OCP writes them.

use std::{fmt, str::FromStr};

use chrono::{DateTime, FixedOffset, Local, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Milliseconds since the Unix epoch, written as ISO-8601 with the server's offset and at most three fraction digits.
///
/// Trailing zeros of the fraction are dropped, as Java's `OffsetDateTime` does: `…46.53+08:00`, `…46+08:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The wall clock, now.
    pub fn now() -> Self {
        Self(Utc::now().timestamp_millis())
    }

    /// Milliseconds since the epoch.
    pub fn millis(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let utc = DateTime::<Utc>::from_timestamp_millis(self.0).ok_or(fmt::Error)?;
        let whole = utc.with_timezone(&Local).to_rfc3339_opts(SecondsFormat::Secs, true);
        // Behind the date are nine characters of time, `T08:25:46`, and the offset.
        let (seconds, offset) = whole.split_at(whole.find('T').ok_or(fmt::Error)? + 9);
        f.write_str(seconds)?;
        let millis = utc.timestamp_subsec_millis();
        if millis != 0 {
            let digits = format!("{millis:03}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str(offset)
    }
}

/// ISO-8601 with an offset.
impl FromStr for Timestamp {
    type Err = chrono::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = DateTime::<FixedOffset>::parse_from_rfc3339(text)?;
        Ok(Self(parsed.timestamp_millis()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fraction_loses_trailing_zeros() {
        let at = |ms: i64| Timestamp(1_630_657_918_000 + ms).to_string();
        assert!(at(151).contains(":58.151"), "{}", at(151));
        assert!(
            at(530).contains(":58.53") && !at(530).contains(":58.530"),
            "{}",
            at(530)
        );
        assert!(!at(0).contains('.'), "{}", at(0));
    }

    #[test]
    fn round_trips_through_json() {
        let at = Timestamp(1_630_657_918_151);
        let json = serde_json::to_string(&at).unwrap();
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), at);
    }
}
