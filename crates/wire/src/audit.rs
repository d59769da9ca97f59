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

/// What the records of a removal are about; no route deletes there.
const RECORDS: &str = "/api/v2/audit/records";

#[derive(Serialize, Deserialize)]
struct Removal {
    removed: UpTo,
}

/// The newest of the records that were removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct UpTo {
    hash: String,
    seq: i64,
}

impl AuditRecord {
    /// What is written down when a server removes its oldest records: all up to the one of this number and digest.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn of_removal(seq: i64, hash: &str, time: Timestamp) -> Result<Self, serde_json::Error> {
        let removed = UpTo {
            hash: hash.to_owned(),
            seq,
        };
        Ok(Self {
            address: String::new(),
            detail: serde_json::value::to_raw_value(&Removal { removed })?,
            hash: String::new(),
            method: "DELETE".to_owned(),
            path: RECORDS.to_owned(),
            previous: String::new(),
            right: None,
            seq: 0,
            status: 200,
            time,
            trace_id: String::new(),
            user_id: None,
            user_name: None,
        })
    }

    /// What was removed, if it tells of that. No request leaves such a record: it has no address.
    fn removed(&self) -> Option<UpTo> {
        let is_one =
            self.user_id.is_none() && self.address.is_empty() && self.method == "DELETE" && self.path == RECORDS;
        let removal: Removal = is_one.then(|| serde_json::from_str(self.detail.get()).ok())??;
        Some(removal.removed)
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
    /// What was before its first record, and is known to have been removed as too old.
    before: Option<UpTo>,
    is_accounted: bool,
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
        let before = self.before.get_or_insert_with(|| UpTo {
            hash: record.previous.clone(),
            seq: seq - 1,
        });
        self.is_accounted |= seq == 1 || record.removed().is_some_and(|removed| removed == *before);
        self.last = Some((seq, digest));
        self.count += 1;
        Ok(())
    }

    /// Number and digest of the last record, if there was one.
    pub fn last(&self) -> Option<(i64, &str)> {
        self.last.as_ref().map(|(seq, hash)| (*seq, hash.as_str()))
    }

    /// The number of its first record; 1 for none.
    pub fn first(&self) -> i64 {
        self.before.as_ref().map_or(1, |before| before.seq + 1)
    }

    /// Whether nothing is missing before it but what one of its records tells was removed as too old.
    pub fn has_its_beginning(&self) -> bool {
        self.is_accounted || self.count == 0
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
    fn a_removal_accounts_for_what_is_missing_before_the_chain() {
        let mut records = chain(5);
        let mut append = |seq: i64, hash: &str| {
            let last = records.last().unwrap();
            let mut removal = AuditRecord::of_removal(seq, hash, Timestamp(9)).unwrap();
            (removal.seq, removal.previous) = (last.seq + 1, last.hash.clone());
            removal.hash = removal.digest().unwrap();
            records.push(removal);
        };
        let third = chain(3)[2].hash.clone();
        append(2, &"0".repeat(64));
        append(3, &third);
        let accounted = |records: &[AuditRecord]| {
            let mut chain = Chain::default();
            records.iter().for_each(|record| chain.follow(record).unwrap());
            (chain.first(), chain.has_its_beginning())
        };
        assert_eq!(accounted(&[]), (1, true));
        assert_eq!(accounted(&records), (1, true));
        assert_eq!(accounted(&records[3..]), (4, true));
        assert_eq!(
            accounted(&records[2..]),
            (3, false),
            "the digest of that one is another"
        );
        assert_eq!(accounted(&records[4..]), (5, false), "more is missing than was removed");
        assert_eq!(accounted(&records[3..6]), (4, false), "nothing tells of it");
        // Whatever somebody sends, a request's record has an address.
        let mut sent = records[6].clone();
        sent.address = "127.0.0.1".into();
        sent.hash = sent.digest().unwrap();
        records[6] = sent;
        assert_eq!(accounted(&records[3..]), (4, false));
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
