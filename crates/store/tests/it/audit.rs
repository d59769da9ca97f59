//! Audit records, on every database.

use obfleet_store::audit::{AuditFilter, VerifyError, verify};
use obfleet_store::sql;
use obfleet_wire::audit::{AuditRecord, BrokenChain};
use obfleet_wire::time::Timestamp;
use serde_json::json;
use serde_json::value::to_raw_value;

use crate::on_every_database;
use crate::support::{Kind, Place};

fn record(user: Option<&str>, path: &str, status: u16) -> AuditRecord {
    AuditRecord {
        address: "127.0.0.1".into(),
        detail: to_raw_value(&json!({"request": {"name": "集群", "share": 0.1}})).unwrap(),
        hash: String::new(),
        method: "POST".into(),
        path: path.into(),
        previous: String::new(),
        right: None,
        seq: 0,
        status,
        time: Timestamp(5),
        trace_id: "0fda4c74b7a84932".into(),
        user_id: user.map(|_| 100),
        user_name: user.map(str::to_owned),
    }
}

on_every_database!(records_follow_each_other_whoever_adds_them);

async fn records_follow_each_other_whoever_adds_them(kind: Kind) {
    let place = Place::new(kind).await;
    let database = place.try_open().await.unwrap();
    let audit = database.audit();
    let mut adding = tokio::task::JoinSet::new();
    for number in 0..12 {
        let audit = audit.clone();
        let user = ["anna", "bert"][number % 2];
        adding.spawn(async move { audit.append(&record(Some(user), "/a/b", 200)).await.unwrap().seq });
    }
    let mut numbers = adding.join_all().await;
    numbers.sort_unstable();
    assert_eq!(numbers, Vec::from_iter(1..=12));
    let last = audit.append(&record(None, "/a", 403)).await.unwrap();

    let mut told = Vec::new();
    let tell = |record: &AuditRecord| {
        told.push(record.seq);
        Ok(())
    };
    let chain = verify(&place.location(), tell).await.unwrap();
    assert_eq!((chain.count(), chain.last()), (13, Some((13, last.hash.as_str()))));
    assert_eq!(told, Vec::from_iter(1..=13));

    let of = |user: Option<&str>, path: Option<&str>, status| AuditFilter {
        user: user.map(str::to_owned),
        path: path.map(str::to_owned),
        status,
    };
    for (filter, total) in [
        (AuditFilter::default(), 13),
        (of(Some("anna"), None, None), 6),
        (of(None, Some("/a/"), None), 12),
        (of(None, Some("/a"), Some(403)), 1),
        (of(Some("anna"), None, Some(403)), 0),
    ] {
        let (page, found) = audit.list(&filter, 0, 5).await.unwrap();
        assert_eq!(
            (found, page.len()),
            (total, usize::try_from(total.min(5)).unwrap()),
            "{filter:?}"
        );
        assert!(page.is_sorted_by(|newer, older| newer.seq > older.seq));
    }
    let (page, _) = audit.list(&AuditFilter::default(), 12, 5).await.unwrap();
    assert_eq!(page.iter().map(|record| record.seq).collect::<Vec<_>>(), [1]);
    assert_eq!(audit.after(11).await.unwrap().len(), 2);
    database.close().await;
}

on_every_database!(the_oldest_records_go_and_the_rest_is_verified);

async fn the_oldest_records_go_and_the_rest_is_verified(kind: Kind) {
    let place = Place::new(kind).await;
    let database = place.try_open().await.unwrap();
    let audit = database.audit();
    for at in 1..=6 {
        let record = AuditRecord {
            time: Timestamp(at),
            ..record(Some("anna"), "/a", 200)
        };
        audit.append(&record).await.unwrap();
    }
    let verified = async || {
        let chain = verify(&place.location(), |_| Ok(())).await.unwrap();
        (chain.first(), chain.count())
    };
    let prune = async |before, most| {
        let pruned = audit.prune(Timestamp(before), most, Timestamp(100)).await.unwrap();
        pruned.map(|(removed, told)| (removed, told.seq))
    };
    assert_eq!(prune(1, 10).await, None, "none is that old");
    assert_eq!(prune(4, 2).await, Some((2, 7)), "two at a time");
    assert_eq!(verified().await, (3, 5));
    assert_eq!(prune(4, 2).await, Some((1, 8)));
    assert_eq!(prune(4, 2).await, None);
    assert_eq!(verified().await, (4, 5));
    // What a hand takes away besides is found as ever.
    sql::query("DELETE FROM audit_record WHERE seq = 4")
        .execute(database.writer())
        .await
        .unwrap();
    let beheaded = verify(&place.location(), |_| Ok(())).await;
    assert!(
        matches!(beheaded, Err(VerifyError::Broken(BrokenChain::Gap { found: 5, .. }))),
        "{beheaded:?}"
    );
    // All of them: what is left tells of it.
    assert_eq!(prune(1000, 100).await, Some((4, 9)));
    assert_eq!(verified().await, (9, 1));
    database.close().await;
}

on_every_database!(what_a_hand_did_to_records_is_found);

async fn what_a_hand_did_to_records_is_found(kind: Kind) {
    let place = Place::new(kind).await;
    let database = place.try_open().await.unwrap();
    for _ in 0..4 {
        database.audit().append(&record(Some("anna"), "/a", 200)).await.unwrap();
    }
    let by_hand = async |statement: &'static str| {
        sql::query(statement).execute(database.writer()).await.unwrap();
        verify(&place.location(), |_| Ok(())).await
    };
    let altered = by_hand("UPDATE audit_record SET user_name = 'bert' WHERE seq = 2").await;
    assert!(
        matches!(altered, Err(VerifyError::Broken(BrokenChain::Altered(2)))),
        "{altered:?}"
    );
    let mended = by_hand("UPDATE audit_record SET user_name = 'anna' WHERE seq = 2").await;
    assert_eq!(mended.unwrap().count(), 4);
    let cut_off = by_hand("DELETE FROM audit_record WHERE seq = 4").await;
    assert!(
        matches!(cut_off, Err(VerifyError::CutOff { wanted: 4, found: 3 })),
        "{cut_off:?}"
    );
    let beheaded = by_hand("DELETE FROM audit_record WHERE seq = 1").await;
    let gap = BrokenChain::Gap { wanted: 1, found: 2 };
    assert!(
        matches!(&beheaded, Err(VerifyError::Broken(found)) if found.to_string() == gap.to_string()),
        "{beheaded:?}"
    );
    database.close().await;
}
