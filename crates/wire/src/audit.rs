//! What was changed, and by whom: *extension*. The records form a chain, each holding the digest of the one before it, so
//! that none can be altered, taken out or put in between without all that follow telling.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::time::Timestamp;

/// One request that changed something, or tried to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuditRecord {
    /// Where the request came from.
    pub address: String,
    /// An object, as it was written: `request` (the body), `before` and `after` (what the path named), `error`. Secrets are
    /// masked; what is too long is told in part.
    pub detail: Box<RawValue>,
    /// SHA-256 of the record without this member, as JSON without blanks, hexadecimal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
    /// DELETE, PATCH, POST or PUT.
    pub method: String,
    /// The request's path, without its query.
    pub path: String,
    /// The `hash` of the record before it; empty in the first.
    pub previous: String,
    /// The right that the route takes, if it takes one.
    pub right: Option<String>,
    /// From 1, without gaps.
    pub seq: i64,
    /// HTTP status of the answer.
    pub status: u16,
    /// When it was answered. In UTC, as it is digested: servers and whoever verifies may have other zones.
    #[serde(with = "utc")]
    pub time: Timestamp,
    /// The request's trace id, also in the server's log.
    pub trace_id: String,
    /// The user's id; absent where nobody had logged in.
    pub user_id: Option<i64>,
    /// The user's name at that time.
    pub user_name: Option<String>,
}

impl AuditRecord {
    /// What its `hash` has to be.
    ///
    /// # Errors
    /// Its time is no date.
    pub fn digest(&self) -> Result<String, serde_json::Error> {
        let without = Self {
            hash: String::new(),
            ..self.clone()
        };
        let digest = Sha256::digest(serde_json::to_vec(&without)?);
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Times whose text does not depend on where it is written.
mod utc {
    use chrono::{DateTime, SecondsFormat, Utc};
    use serde::{Deserialize as _, Deserializer, Serializer, ser};

    use crate::time::Timestamp;

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        let utc = DateTime::<Utc>::from_timestamp_millis(time.millis());
        let utc = utc.ok_or_else(|| ser::Error::custom("the time is no date"))?;
        serializer.collect_str(&utc.to_rfc3339_opts(SecondsFormat::Millis, true))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(deserializer)
    }
}

/// Where a chain of records is broken.
#[derive(Debug, thiserror::Error)]
pub enum BrokenChain {
    /// The record is not as it was written.
    #[error("record {0} was altered: its hash is not that of what it says")]
    Altered(i64),
    /// Records are missing before it, or it stands twice.
    #[error("record {found} follows where {wanted} should: records were taken out, put in or moved")]
    Gap {
        /// The number that should follow.
        wanted: i64,
        /// The number that does.
        found: i64,
    },
    /// It was not written after the one before it.
    #[error("record {0} does not follow from the one before it: one of them was replaced")]
    Replaced(i64),
    /// It cannot be written as JSON.
    #[error("record {seq} cannot be digested")]
    Undigestible {
        /// Its number.
        seq: i64,
        /// Why.
        source: serde_json::Error,
    },
}

/// Goes along a chain of records, from the oldest on.
#[derive(Debug, Default)]
pub struct Chain {
    /// Number and digest of the last record.
    last: Option<(i64, String)>,
    count: u64,
}

impl Chain {
    /// The next record. A chain may begin anywhere, but at 1 with nothing before it.
    ///
    /// # Errors
    /// The record does not follow from those before it.
    pub fn follow(&mut self, record: &AuditRecord) -> Result<(), BrokenChain> {
        let seq = record.seq;
        let digest = record.digest();
        let digest = digest.map_err(|source| BrokenChain::Undigestible { seq, source })?;
        if digest != record.hash {
            return Err(BrokenChain::Altered(seq));
        }
        let (wanted, previous) = match &self.last {
            Some((last, hash)) => (last + 1, hash.as_str()),
            None if seq == 1 => (1, ""),
            None => (seq, record.previous.as_str()),
        };
        if seq != wanted {
            return Err(BrokenChain::Gap { wanted, found: seq });
        }
        if record.previous != previous {
            return Err(BrokenChain::Replaced(seq));
        }
        self.last = Some((seq, digest));
        self.count += 1;
        Ok(())
    }

    /// Number and digest of the last record, if there was one.
    pub fn last(&self) -> Option<(i64, &str)> {
        self.last.as_ref().map(|(seq, hash)| (*seq, hash.as_str()))
    }

    /// Records so far.
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(length: i64) -> Vec<AuditRecord> {
        let mut previous = String::new();
        let records = (1..=length).map(|seq| {
            let mut record = AuditRecord {
                address: "127.0.0.1".into(),
                detail: RawValue::from_string(format!(r#"{{"request": {{"名字": {seq}.10}}}}"#)).unwrap(),
                hash: String::new(),
                method: "POST".into(),
                path: "/api/v2/obproxy/clusters".into(),
                previous: previous.clone(),
                right: Some("obproxy:manage".into()),
                seq,
                status: 200,
                time: Timestamp(seq),
                trace_id: "0fda4c74b7a84932".into(),
                user_id: Some(100),
                user_name: Some("admin".into()),
            };
            record.hash = record.digest().unwrap();
            previous.clone_from(&record.hash);
            record
        });
        records.collect()
    }

    fn follow(records: &[AuditRecord]) -> Result<u64, BrokenChain> {
        let mut chain = Chain::default();
        records.iter().try_for_each(|record| chain.follow(record))?;
        Ok(chain.count())
    }

    #[test]
    fn a_chain_holds_from_anywhere_and_through_its_text() {
        let records = chain(4);
        assert_eq!(follow(&records).unwrap(), 4);
        assert_eq!(follow(&records[2..]).unwrap(), 2);
        let read = records.iter().map(|record| {
            let line = serde_json::to_string(record).unwrap();
            serde_json::from_str(&line).unwrap()
        });
        assert_eq!(follow(&read.collect::<Vec<_>>()).unwrap(), 4);
    }

    #[test]
    fn a_digest_is_the_same_everywhere() {
        let record = &chain(1)[0];
        let text = serde_json::to_string(record).unwrap();
        let digested = concat!(
            r#"{"address":"127.0.0.1","detail":{"request": {"名字": 1.10}},"method":"POST","#,
            r#""path":"/api/v2/obproxy/clusters","previous":"","right":"obproxy:manage","seq":1,"status":200,"#,
            r#""time":"1970-01-01T00:00:00.001Z","traceId":"0fda4c74b7a84932","userId":100,"userName":"admin"}"#,
        );
        assert_eq!(text.replace(&format!(r#""hash":"{}","#, record.hash), ""), digested);
        let digest = Sha256::digest(digested);
        assert_eq!(
            digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            record.hash
        );
    }

    #[test]
    fn whatever_is_done_to_a_record_is_told() {
        let alterations: [fn(&mut AuditRecord); 6] = [
            |record| record.user_name = Some("somebody".into()),
            |record| record.user_id = None,
            |record| record.status = 403,
            |record| record.time = Timestamp(7),
            |record| record.detail = RawValue::from_string(r#"{"request":{"名字": 2.1}}"#.into()).unwrap(),
            |record| record.hash = String::new(),
        ];
        for alter in alterations {
            let mut records = chain(3);
            alter(&mut records[1]);
            assert!(matches!(follow(&records), Err(BrokenChain::Altered(2))));
        }
    }

    #[test]
    fn records_taken_out_moved_or_written_anew_are_told() {
        let mut without = chain(3);
        without.remove(1);
        let gap = follow(&without).unwrap_err();
        assert!(matches!(gap, BrokenChain::Gap { wanted: 2, found: 3 }), "{gap}");
        let mut moved = chain(3);
        moved.swap(1, 2);
        assert!(matches!(follow(&moved), Err(BrokenChain::Gap { .. })));
        let mut anew = chain(3);
        anew[1].user_name = Some("somebody".into());
        anew[1].hash = anew[1].digest().unwrap();
        assert!(matches!(follow(&anew), Err(BrokenChain::Replaced(3))));
        let mut first = chain(1);
        first[0].previous = "00".into();
        first[0].hash = first[0].digest().unwrap();
        assert!(matches!(follow(&first), Err(BrokenChain::Replaced(1))));
    }
}
