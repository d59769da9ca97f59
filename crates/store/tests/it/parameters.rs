//! What clusters give their proxies, what proxies have, and what was changed, on every database.

use std::collections::{BTreeMap, BTreeSet};

use obfleet_engine::TaskId;
use obfleet_fleet::inventory::{
    ConfigValues, Inventory as _, InventoryChange, ParameterChange, ParameterRecords as _, ProxyConfig, SeenItem,
    WantedRow, WantedValue,
};
use obfleet_store::{ApplyError, ChangeApplier as _, Database, InventoryApplier};
use obfleet_wire::{obproxy::OperateStatus, parameter::ChangeKind, time::Timestamp};

use crate::inventory::{apply, cluster, opened, proxy};
use crate::on_every_database;
use crate::support::Kind;

fn row(proxy_id: Option<i64>, name: &str, value: Option<(&str, i64)>) -> WantedRow {
    WantedRow {
        proxy_id,
        name: name.into(),
        value: value.map(|(value, version)| (value.into(), version)),
    }
}

fn wanted(proxy_id: Option<i64>, name: &str, value: &str, version: i64) -> WantedValue {
    WantedValue {
        proxy_id,
        name: name.into(),
        value: value.into(),
        version,
    }
}

fn set(version: i64, rows: Vec<WantedRow>) -> InventoryChange {
    InventoryChange::SetWantedParameters {
        cluster_id: 1,
        parameter_version: version,
        rows,
    }
}

on_every_database!(a_set_is_changed_row_by_row_and_back);

async fn a_set_is_changed_row_by_row_and_back(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    let clusters = [1, 2].map(|id| InventoryChange::InsertCluster(Box::new(cluster(id))));
    apply(&database, 7, 1, &clusters).await;
    let forth = set(
        2,
        vec![
            row(None, "syslog_level", Some(("WARN", 2))),
            row(Some(10), "proxy_idc_name", Some(("北", 2))),
        ],
    );
    // Twice, as a step may be run.
    apply(&database, 7, 2, std::slice::from_ref(&forth)).await;
    apply(&database, 7, 3, &[forth]).await;
    assert_eq!(
        inventory.wanted(1).await.unwrap(),
        [
            wanted(None, "syslog_level", "WARN", 2),
            wanted(Some(10), "proxy_idc_name", "北", 2)
        ]
    );
    assert_eq!(inventory.wanted(2).await.unwrap(), []);
    let changed = inventory.cluster(1).await.unwrap().unwrap();
    assert_eq!((changed.parameter_version, changed.updated), (2, Timestamp(3)));

    let back = set(
        1,
        vec![
            row(None, "syslog_level", Some(("INFO", 1))),
            row(Some(10), "proxy_idc_name", None),
        ],
    );
    apply(&database, 7, 4, &[back]).await;
    assert_eq!(
        inventory.wanted(1).await.unwrap(),
        [wanted(None, "syslog_level", "INFO", 1)]
    );
    assert_eq!(inventory.cluster(1).await.unwrap().unwrap().parameter_version, 1);
}

on_every_database!(what_was_planned_for_another_set_is_refused);

async fn what_was_planned_for_another_set_is_refused(kind: Kind) {
    let (_place, database) = opened(kind).await;
    apply(&database, 7, 1, &[InventoryChange::InsertCluster(Box::new(cluster(1)))]).await;
    let expect = async |cluster_id, parameter_version| {
        let mut tx = database.writer().write().await.unwrap();
        let expected = InventoryChange::ExpectParameterVersion {
            cluster_id,
            parameter_version,
        };
        InventoryApplier.apply(&mut tx, TaskId(7), &[expected]).await
    };
    assert!(expect(1, 1).await.is_ok());
    assert!(matches!(expect(1, 2).await, Err(ApplyError::Refused(_))));
    assert!(matches!(expect(777, 1).await, Err(ApplyError::Refused(_))));
}

fn config(proxy_id: i64, digest: &str) -> ProxyConfig {
    ProxyConfig {
        proxy_id,
        digest: digest.into(),
        version: "4.2.1.0-11".parse().unwrap(),
        read: Timestamp(5),
        values: ConfigValues {
            shown: BTreeMap::from([("syslog_level".into(), digest.into())]),
            in_force: BTreeMap::from([("work_thread_num".into(), "128".into())]),
            came_with: BTreeMap::from([("proxy_idc_name".into(), "北京".into())]),
        },
    }
}

on_every_database!(of_two_readings_the_one_that_knew_the_last_is_kept);

async fn of_two_readings_the_one_that_knew_the_last_is_kept(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    let record = async |digest, before| inventory.record_config(&config(10, digest), before).await.unwrap();
    assert_eq!(inventory.config(10).await.unwrap(), None);
    assert!(!record("a", Some("z")).await);
    let first = tokio::join!(record("a", None), record("b", None));
    assert!(first.0 != first.1, "{first:?}");
    let (known, other) = if first.0 { ("a", "b") } else { ("b", "a") };
    assert_eq!(inventory.config(10).await.unwrap(), Some(config(10, known)));
    assert!(!record("c", Some(other)).await && record("c", Some(known)).await && !record("d", Some(known)).await);

    // What a task has read counts, whatever was known.
    let by_task = |digest| InventoryChange::SetProxyConfig(Box::new(config(10, digest)));
    apply(
        &database,
        7,
        1,
        &[by_task("t"), InventoryChange::SetProxyConfig(Box::new(config(11, "u")))],
    )
    .await;
    assert_eq!(inventory.config(10).await.unwrap(), Some(config(10, "t")));
    for id in [10, 11, 12] {
        let insert = InventoryChange::InsertProxy(proxy(id, 1 + id % 2, 3, OperateStatus::Normal));
        apply(&database, 7, id, &[insert]).await;
    }
    let of = async |cluster| inventory.configs(cluster).await.unwrap();
    assert_eq!(of(1).await, BTreeMap::from([(10, config(10, "t"))]));
    assert_eq!(of(2).await, BTreeMap::from([(11, config(11, "u"))]));
    let gone = InventoryChange::SetProxyDeleted {
        proxy_id: 10,
        deleted: true,
    };
    apply(&database, 7, 20, &[gone]).await;
    assert_eq!(of(1).await, BTreeMap::new());
}

on_every_database!(what_proxies_say_of_their_items_is_kept_once_a_version);

async fn what_proxies_say_of_their_items_is_kept_once_a_version(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    let items = |info: &str| {
        let item = SeenItem {
            info: info.into(),
            need_restart: true,
            range: "[1,2]".into(),
            visible: "USER".into(),
        };
        BTreeMap::from([("syslog_level".to_owned(), item)])
    };
    assert_eq!(inventory.seen_items("4.2.1.0").await.unwrap(), None);
    for info in ["级别", "another"] {
        inventory.keep_seen_items("4.2.1.0", &items(info)).await.unwrap();
    }
    inventory.keep_seen_items("4.3.1.0", &items("other")).await.unwrap();
    assert_eq!(inventory.seen_items("4.2.1.0").await.unwrap(), Some(items("级别")));
    let versions = ["4.2.1.0", "4.3.1.0"].map(str::to_owned);
    assert_eq!(inventory.seen_versions().await.unwrap(), BTreeSet::from(versions));
}

fn change(name: &str, after: &str) -> ParameterChange {
    ParameterChange {
        kind: ChangeKind::Edit,
        name: name.into(),
        whole_cluster: true,
        before: Some("北".into()),
        after: after.into(),
        proxies: BTreeMap::from([(10, "x".into())]),
        operator: "ann".into(),
    }
}

async fn changed(database: &Database, task: i64, at: i64, cluster_id: i64, changes: &[ParameterChange]) {
    let changes = InventoryChange::SetParameterChanges {
        cluster_id,
        changes: changes.to_vec(),
    };
    apply(database, task, at, &[changes]).await;
}

on_every_database!(what_was_changed_is_told_by_page_the_newest_first);

async fn what_was_changed_is_told_by_page_the_newest_first(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    // Twice, as a step may be run.
    for at in [5, 6] {
        changed(&database, 7, at, 1, &[change("a", "1"), change("b", "2")]).await;
    }
    changed(&database, 8, 7, 1, &[change("a", "3")]).await;
    changed(&database, 9, 8, 2, &[change("a", "4")]).await;
    let page = async |name, page, size| {
        let (changes, total) = inventory.past_changes(1, name, page, size).await.unwrap();
        let told = changes
            .into_iter()
            .map(|past| (past.task_id, past.at.millis(), past.change.after));
        (told.collect::<Vec<_>>(), total)
    };
    let told = |told: &[(i64, i64, &str)]| {
        let owned = told.iter().map(|(task, at, after)| (*task, *at, (*after).to_owned()));
        owned.collect::<Vec<_>>()
    };
    assert_eq!(page(None, 1, 2).await, (told(&[(8, 7, "3"), (7, 6, "1")]), 3));
    assert_eq!(page(None, 2, 2).await, (told(&[(7, 6, "2")]), 3));
    assert_eq!(page(Some("B"), 1, 2).await, (told(&[(7, 6, "2")]), 1));
    let (all, _) = inventory.past_changes(1, Some("b"), 1, 1).await.unwrap();
    assert_eq!(all[0].change, change("b", "2"));
    // It was undone.
    changed(&database, 8, 9, 1, &[]).await;
    assert_eq!(page(None, 1, 2).await, (told(&[(7, 6, "1"), (7, 6, "2")]), 2));
}
