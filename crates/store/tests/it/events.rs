//! What befalls hosts and proxies is written down once, with what it changed.

use std::collections::BTreeMap;

use obfleet_fleet::inventory::{
    EventFilter, Events as _, FleetEvent, HostSighting, Incident, Inventory as _, ProxySighting, Restarts,
};
use obfleet_store::sql;
use obfleet_store::{Database, SqlInventory};
use obfleet_wire::time::Timestamp;

use crate::on_every_database;
use crate::support::{Kind, Place};

/// Host 1 with proxy 10 of cluster 5, which runs.
async fn fleet(database: &Database) -> SqlInventory {
    for insert in [
        "INSERT INTO host (id, host_uid, facts, address, agent_port, agent_version, online, reserved, created_at, updated_at) \
         VALUES (1, 'u', '{}', '10.0.0.1', 1, '1', TRUE, TRUE, 0, 0)",
        "INSERT INTO obproxy_server (id, cluster_id, host_id, version, sql_port, exporter_port, status, operate_status, \
         parameter_version, exporter_registered, deleted) VALUES (10, 5, 1, '4.2.1.0-11', 1, 2, 'RUNNING', 'NORMAL', 1, TRUE, \
         FALSE)",
    ] {
        sql::query(insert).execute(database.writer()).await.unwrap();
    }
    database.inventory()
}

fn seen(at: i64, online: bool, serving: bool, count: i64, trouble: Option<&str>) -> HostSighting {
    let trouble = trouble.map(str::to_owned);
    let seen = ProxySighting {
        serving,
        stopped: false,
        offline: false,
    };
    HostSighting {
        host_id: 1,
        online,
        agent_version: None,
        proxies: BTreeMap::from([(10, seen)]),
        restarts: BTreeMap::from([(10, Restarts { count, trouble })]),
        asked: Timestamp(at),
        at: Timestamp(at),
    }
}

async fn all(inventory: &SqlInventory) -> Vec<FleetEvent> {
    inventory.events(&EventFilter::default(), 0, 100).await.unwrap().0
}

fn kinds(events: &[FleetEvent]) -> Vec<(i64, &'static str)> {
    events
        .iter()
        .map(|event| (event.at.millis(), event.incident.kind()))
        .collect()
}

on_every_database!(each_incident_is_told_once);
async fn each_incident_is_told_once(kind: Kind) {
    let place = Place::new(kind).await;
    let (database, _) = place.open().await;
    let inventory = fleet(&database).await;
    for sighting in [
        seen(1, true, true, 0, None),
        seen(2, true, true, 1, None),
        // As another server sees it.
        seen(3, true, true, 1, None),
        seen(4, true, false, 2, None),
        seen(5, true, false, 3, Some("no room")),
        // Tried again and again.
        seen(6, true, false, 9, Some("no room")),
        seen(7, true, true, 9, None),
        seen(8, false, true, 9, None),
        seen(9, true, true, 10, None),
    ] {
        inventory
            .record_sightings(std::slice::from_ref(&sighting))
            .await
            .unwrap();
        inventory.record_sightings(&[sighting]).await.unwrap();
    }
    let events = all(&inventory).await;
    let mut told = kinds(&events);
    told.sort_unstable();
    assert_eq!(
        told,
        [
            (2, "PROXY_CRASHED"),
            (4, "PROXY_CRASHED"),
            (4, "PROXY_UNAVAILABLE"),
            (5, "PROXY_CRASHED"),
            (5, "PROXY_START_FAILED"),
            (7, "PROXY_AVAILABLE"),
            (8, "AGENT_OFFLINE"),
            (9, "AGENT_ONLINE"),
            (9, "PROXY_CRASHED"),
        ]
    );
    assert!(
        events.is_sorted_by_key(|event| std::cmp::Reverse(event.at)),
        "the newest first"
    );
    let failed = events
        .iter()
        .find(|event| event.at == Timestamp(5) && event.incident.kind() == "PROXY_START_FAILED");
    let failed = failed.unwrap();
    assert_eq!(
        (failed.host_id, failed.proxy_id, failed.cluster_id),
        (1, Some(10), Some(5))
    );
    assert_eq!(
        failed.incident,
        Incident::ProxyStartFailed {
            reason: "no room".into()
        }
    );

    let of_cluster = EventFilter {
        cluster_id: Some(5),
        kinds: vec!["PROXY_CRASHED".into(), "AGENT_OFFLINE".into()],
        ..EventFilter::default()
    };
    let (page, total) = inventory.events(&of_cluster, 1, 2).await.unwrap();
    assert_eq!(
        (kinds(&page), total),
        (vec![(5, "PROXY_CRASHED"), (4, "PROXY_CRASHED")], 4)
    );
    let seen_by = async |clusters: &[i64]| {
        let within = EventFilter {
            within: Some(clusters.iter().copied().collect()),
            ..EventFilter::default()
        };
        inventory.events(&within, 0, 9).await.unwrap().1
    };
    assert_eq!(
        (seen_by(&[]).await, seen_by(&[6]).await, seen_by(&[5, 6]).await),
        (0, 0, 7),
        "what befell the host is not of the cluster"
    );
    let elsewhere = EventFilter {
        host_id: Some(2),
        proxy_id: Some(10),
        ..EventFilter::default()
    };
    assert_eq!(inventory.events(&elsewhere, 0, 9).await.unwrap().1, 0);

    assert_eq!(inventory.prune_events(Timestamp(3), 100).await.unwrap(), 1, "too old");
    assert_eq!(inventory.prune_events(Timestamp(3), 3).await.unwrap(), 5, "too many");
    assert_eq!(all(&inventory).await.len(), 3);
    assert_eq!(inventory.prune_events(Timestamp(3), 3).await.unwrap(), 0);
}
