//! The fleet's inventory, on every database.

use std::collections::BTreeMap;

use obfleet_engine::TaskId;
use obfleet_fleet::inventory::{
    Cluster, ClusterSettings, EnrolToken, Host, HostPlace, HostProfile, HostSighting, HostStage, HostsDeleted,
    Inventory as _, InventoryChange, Package, Proxy, ProxySighting,
};
use obfleet_store::sql;
use obfleet_store::{ApplyError, ChangeApplier as _, Database, InventoryApplier};
use obfleet_wire::agent::HostFacts;
use obfleet_wire::obproxy::{OperateStatus, ProxyStatus, WorkMode};
use obfleet_wire::time::Timestamp;
use obfleet_wire::version::ProxyVersion;

use crate::on_every_database;
use crate::support::{Kind, Place};

pub(crate) async fn opened(kind: Kind) -> (Place, Database) {
    let place = Place::new(kind).await;
    let database = place.try_open().await.unwrap();
    (place, database)
}

pub(crate) fn host(uid: &str, address: &str) -> Host {
    Host {
        id: 0,
        facts: HostFacts {
            host_uid: uid.into(),
            name: uid.into(),
            architecture: "x86_64".into(),
            kernel: "6.1".into(),
            release: "el7".into(),
        },
        address: address.into(),
        agent_port: 62888,
        agent_version: "0.1.0".into(),
        online: true,
        reserved: false,
        profile: HostProfile::default(),
        stage: HostStage::Ready,
        bootstrap: None,
        deleted: false,
        created: Timestamp(1),
        updated: Timestamp(1),
    }
}

pub(crate) fn token(id: &str) -> EnrolToken {
    EnrolToken {
        id: id.into(),
        key: vec![1, 2],
        expires: Timestamp(9),
        place: HostPlace::default(),
        host_id: None,
    }
}

on_every_database!(a_token_enrols_once_and_a_host_that_comes_back_keeps_its_id);

async fn a_token_enrols_once_and_a_host_that_comes_back_keeps_its_id(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    inventory.insert_token(&token("t1")).await.unwrap();
    inventory.insert_token(&token("t2")).await.unwrap();
    assert_eq!(inventory.token("t1").await.unwrap(), Some(token("t1")));

    let id = inventory.enrol("t1", &host("a", "10.0.0.1")).await.unwrap().unwrap();
    assert_eq!(inventory.enrol("t1", &host("b", "10.0.0.2")).await.unwrap(), None);
    assert_eq!(inventory.token("t1").await.unwrap(), None);
    assert_eq!(inventory.enrol("t2", &host("a", "10.0.0.9")).await.unwrap(), Some(id));
    let hosts = Vec::from_iter(inventory.snapshot().await.unwrap().hosts.values().cloned());
    assert_eq!((hosts.len(), hosts[0].address.as_str()), (1, "10.0.0.9"));
}

on_every_database!(an_installation_keeps_its_id_and_gives_no_id_twice);

async fn an_installation_keeps_its_id_and_gives_no_id_twice(kind: Kind) {
    let (place, first) = opened(kind).await;
    let installation = first.inventory().installation().await.unwrap();
    let id = first.inventory().next_id().await.unwrap();
    first.close().await;
    let second = place.try_open().await.unwrap().inventory();
    assert_eq!(second.installation().await.unwrap(), installation);
    assert!(second.next_id().await.unwrap() > id);
}

on_every_database!(a_package_name_is_taken_once);

async fn a_package_name_is_taken_once(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    let package = Package {
        id: 1,
        name: "obproxy-ce-4.3.1.0-1.el7.x86_64.rpm".parse().unwrap(),
        is_proxy: true,
        size: 5,
        sha1: "a".into(),
        sha256: "b".into(),
        signed_by: None,
        created: Timestamp(3),
    };
    assert!(inventory.insert_package(&package).await.unwrap());
    assert!(
        !inventory
            .insert_package(&Package {
                id: 2,
                ..package.clone()
            })
            .await
            .unwrap()
    );
    let packages = async || {
        let fleet = inventory.snapshot().await.unwrap();
        Vec::from_iter(fleet.packages.values().cloned())
    };
    assert_eq!(packages().await, std::slice::from_ref(&package));
    let key = "C0FFEE".repeat(6);
    assert!(inventory.set_package_signer(1, &key).await.unwrap());
    assert!(!inventory.set_package_signer(2, &key).await.unwrap());
    let signed = Package {
        signed_by: Some(key),
        ..package
    };
    assert_eq!(packages().await, [signed]);
    assert!(inventory.delete_package(1).await.unwrap());
    assert!(!inventory.delete_package(1).await.unwrap());
}

pub(crate) fn cluster(id: i64) -> Cluster {
    Cluster {
        id,
        name: format!("c{id}"),
        address: None,
        port: None,
        work_mode: WorkMode::RsList,
        settings: ClusterSettings::default(),
        parameter_version: 1,
        version: None,
        creator_id: 100,
        creator_name: "admin".into(),
        deleted: false,
        created: Timestamp(1),
        updated: Timestamp(1),
    }
}

on_every_database!(what_clients_connect_to_changes_where_it_is_told);

async fn what_clients_connect_to_changes_where_it_is_told(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    let mut gone = cluster(2);
    gone.deleted = true;
    let mut tx = database.writer().write().await.unwrap();
    for cluster in [cluster(1), gone] {
        let insert = InventoryChange::InsertCluster(Box::new(cluster));
        InventoryApplier.apply(&mut tx, TaskId(1), &[insert]).await.unwrap();
    }
    tx.commit().await.unwrap();

    for (address, port) in [
        (Some("数据库"), None),
        (None, Some(65535)),
        (Some("b"), Some(1)),
        (None, None),
    ] {
        inventory
            .set_cluster_endpoint(1, address, port, Timestamp(7))
            .await
            .unwrap();
        inventory
            .set_cluster_endpoint(2, address, port, Timestamp(7))
            .await
            .unwrap();
        let now = inventory.cluster(1).await.unwrap().unwrap();
        if let Some(address) = address {
            assert_eq!(now.address.as_deref(), Some(address));
        }
        if let Some(port) = port {
            assert_eq!(now.port, Some(port));
        }
    }
    let now = inventory.cluster(1).await.unwrap().unwrap();
    assert_eq!(
        (now.address.as_deref(), now.port),
        (Some("b"), Some(1)),
        "what is not told stays"
    );
    assert_eq!((now.created, now.updated), (Timestamp(1), Timestamp(7)));
    let gone = inventory.cluster(2).await.unwrap().unwrap();
    assert_eq!((gone.address, gone.port, gone.updated), (None, None, Timestamp(1)));
}

pub(crate) fn proxy(id: i64, cluster_id: i64, host_id: i64, operate_status: OperateStatus) -> Proxy {
    Proxy {
        id,
        cluster_id,
        host_id,
        version: "4.2.1.0-11".parse().unwrap(),
        sql_port: 2883,
        exporter_port: 2884,
        rpc_port: None,
        status: ProxyStatus::Running,
        operate_status,
        parameter_version: 1,
        exporter_registered: true,
        last_active: None,
        offline: false,
        deleted: false,
    }
}

/// What an agent told of these proxies, asked and heard at once.
pub(crate) fn sighting(host_id: i64, ids: &[i64], seen: ProxySighting, at: i64) -> HostSighting {
    HostSighting {
        host_id,
        online: true,
        agent_version: None,
        proxies: ids.iter().map(|id| (*id, seen)).collect(),
        restarts: BTreeMap::new(),
        asked: Timestamp(at),
        at: Timestamp(at),
    }
}

pub(crate) fn seen(serving: bool, stopped: bool) -> ProxySighting {
    ProxySighting {
        serving,
        stopped,
        offline: false,
    }
}

/// Applies the changes as a task does that has an event of this time.
pub(crate) async fn apply(database: &Database, task: i64, at: i64, changes: &[InventoryChange]) {
    let mut tx = database.writer().write().await.unwrap();
    let query = sql::query(
        "INSERT INTO task_event (task_id, seq, at, kind, server, incarnation, nonce, payload) \
         VALUES (?, ?, ?, '', '', '', 0, '')",
    );
    // Times ascend, so they will do as numbers too.
    query.bind(task).bind(at).bind(at).execute(&mut tx).await.unwrap();
    InventoryApplier.apply(&mut tx, TaskId(task), changes).await.unwrap();
    tx.commit().await.unwrap();
}

on_every_database!(a_cluster_has_changed_when_one_of_its_proxies_has);

async fn a_cluster_has_changed_when_one_of_its_proxies_has(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    let change = |proxy_id, status| InventoryChange::SetProxyStatus {
        proxy_id,
        status,
        operate_status: OperateStatus::Normal,
    };
    let changes = [
        InventoryChange::InsertCluster(Box::new(cluster(1))),
        InventoryChange::InsertCluster(Box::new(cluster(2))),
    ];
    apply(&database, 7, 5, &changes).await;
    let times = async || {
        let clusters = inventory.snapshot().await.unwrap().clusters.clone();
        clusters
            .values()
            .map(|cluster| cluster.updated.millis())
            .collect::<Vec<_>>()
    };
    assert_eq!(times().await, [1, 1], "a new cluster says when it was made");
    let inserted = InventoryChange::InsertProxy(proxy(10, 1, 3, OperateStatus::Normal));
    apply(&database, 7, 6, &[inserted]).await;
    assert_eq!(times().await, [6, 1]);
    apply(&database, 8, 7, &[change(10, ProxyStatus::Upgrading)]).await;
    assert_eq!(times().await, [7, 1]);

    let sighting = |serving, at| sighting(3, &[10], seen(serving, false), at);
    inventory.record_sightings(&[sighting(true, 8)]).await.unwrap();
    assert_eq!(times().await, [8, 1]);
    inventory.record_sightings(&[sighting(true, 9)]).await.unwrap();
    assert_eq!(times().await, [8, 1], "no news");
    inventory.record_sightings(&[sighting(false, 10)]).await.unwrap();
    assert_eq!(times().await, [10, 1]);

    let gone = InventoryChange::SetProxyDeleted {
        proxy_id: 10,
        deleted: true,
    };
    apply(&database, 8, 11, &[gone]).await;
    assert_eq!(times().await, [11, 1]);
}

on_every_database!(what_is_changed_together_is_as_if_one_by_one);

async fn what_is_changed_together_is_as_if_one_by_one(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    let status = |proxy_id, status, operate_status| InventoryChange::SetProxyStatus {
        proxy_id,
        status,
        operate_status,
    };
    let held = |proxy_id| status(proxy_id, ProxyStatus::Upgrading, OperateStatus::Operating);
    let mut changes: Vec<_> = (1..4)
        .map(|id| InventoryChange::InsertCluster(Box::new(cluster(id))))
        .collect();
    let proxies = [(10, 1), (11, 1), (12, 2), (13, 2), (14, 3)];
    changes.extend(
        proxies.map(|(id, cluster)| InventoryChange::InsertProxy(proxy(id, cluster, 3, OperateStatus::Normal))),
    );
    apply(&database, 7, 5, &changes).await;

    let version: ProxyVersion = "4.3.0.0-1".parse().unwrap();
    let changes = [
        held(10),
        held(11),
        held(12),
        held(13),
        InventoryChange::SetProxyVersion {
            proxy_id: 11,
            version: version.clone(),
        },
        // The later one holds.
        status(11, ProxyStatus::Running, OperateStatus::Normal),
        status(12, ProxyStatus::Unavailable, OperateStatus::Normal),
    ];
    apply(&database, 8, 6, &changes).await;
    let fleet = inventory.snapshot().await.unwrap();
    let of = |id| {
        let proxy = fleet.proxies.get(&id).unwrap();
        (proxy.status, proxy.operate_status)
    };
    assert_eq!(of(10), (ProxyStatus::Upgrading, OperateStatus::Operating));
    assert_eq!(of(11), (ProxyStatus::Running, OperateStatus::Normal));
    assert_eq!(of(12), (ProxyStatus::Unavailable, OperateStatus::Normal));
    assert_eq!(of(13), (ProxyStatus::Upgrading, OperateStatus::Operating));
    assert_eq!(
        of(14),
        (ProxyStatus::Running, OperateStatus::Normal),
        "nobody changed it"
    );
    assert_eq!(fleet.proxies.get(&11).unwrap().version, version);
    let times = fleet.clusters.values().map(|cluster| cluster.updated.millis());
    assert_eq!(Vec::from_iter(times), [6, 6, 5], "of the third nothing has changed");
}

on_every_database!(clusters_that_are_gone_still_have_a_name);

async fn clusters_that_are_gone_still_have_a_name(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    let gone = InventoryChange::SetClusterDeleted {
        cluster_id: 1,
        deleted: true,
    };
    apply(
        &database,
        7,
        5,
        &[InventoryChange::InsertCluster(Box::new(cluster(1))), gone],
    )
    .await;
    let names = async |ids: &[i64]| inventory.cluster_names(&ids.iter().copied().collect()).await.unwrap();
    assert_eq!(names(&[1, 2]).await, BTreeMap::from([(1, "c1".to_owned())]));
    assert_eq!(names(&[]).await, BTreeMap::new());
}

on_every_database!(the_first_key_is_the_databases_for_ever);

async fn the_first_key_is_the_databases_for_ever(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    assert_eq!(inventory.key_fingerprint().await.unwrap(), None);
    for fingerprint in ["one", "another"] {
        inventory.keep_key_fingerprint(fingerprint).await.unwrap();
        assert_eq!(inventory.key_fingerprint().await.unwrap().as_deref(), Some("one"));
    }
}

on_every_database!(a_host_has_changed_only_when_there_is_news);

async fn a_host_has_changed_only_when_there_is_news(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    inventory.insert_token(&token("t")).await.unwrap();
    let host_id = inventory.enrol("t", &host("a", "10.0.0.1")).await.unwrap().unwrap();
    for (online, version, at, changed) in [
        (true, Some("0.1.0"), 5, 1),
        (true, None, 6, 1),
        (false, None, 7, 7),
        (false, None, 8, 7),
        (true, Some("0.2.0"), 9, 9),
        (true, Some("0.3.0"), 10, 10),
    ] {
        let sighting = HostSighting {
            host_id,
            online,
            agent_version: version.map(str::to_owned),
            proxies: BTreeMap::new(),
            restarts: BTreeMap::new(),
            asked: Timestamp(at),
            at: Timestamp(at),
        };
        inventory.record_sightings(&[sighting]).await.unwrap();
        let host = inventory.host(host_id).await.unwrap().unwrap();
        assert_eq!((host.online, host.updated), (online, Timestamp(changed)), "at {at}");
    }
}

on_every_database!(a_sighting_leaves_proxies_that_a_task_holds_alone);

async fn a_sighting_leaves_proxies_that_a_task_holds_alone(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    inventory.insert_token(&token("t")).await.unwrap();
    let host_id = inventory.enrol("t", &host("a", "10.0.0.1")).await.unwrap().unwrap();
    for (id, operate_status) in [(10, OperateStatus::Normal), (11, OperateStatus::Operating)] {
        let insert = InventoryChange::InsertProxy(proxy(id, 1, host_id, operate_status));
        apply(&database, 7, id, &[insert]).await;
    }
    let sighting = |serving, at| sighting(host_id, &[10, 11], seen(serving, false), at);
    inventory.record_sightings(&[sighting(false, 5)]).await.unwrap();
    let status = |proxies: Vec<Proxy>| proxies.iter().map(|proxy| proxy.status).collect::<Vec<_>>();
    assert_eq!(
        status(inventory.snapshot().await.unwrap().proxies.values().cloned().collect()),
        [ProxyStatus::Unavailable, ProxyStatus::Running]
    );
    inventory.record_sightings(&[sighting(true, 6)]).await.unwrap();
    assert_eq!(
        inventory.proxy(10).await.unwrap().unwrap().last_active,
        Some(Timestamp(6))
    );
}

on_every_database!(a_proxy_that_was_stopped_on_purpose_is_not_taken_for_one_that_failed);

async fn a_proxy_that_was_stopped_on_purpose_is_not_taken_for_one_that_failed(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    inventory.insert_token(&token("t")).await.unwrap();
    let host_id = inventory.enrol("t", &host("a", "10.0.0.1")).await.unwrap().unwrap();
    let stopped = Proxy {
        status: ProxyStatus::Stopped,
        ..proxy(10, 1, host_id, OperateStatus::Normal)
    };
    apply(&database, 7, 1, &[InventoryChange::InsertProxy(stopped)]).await;
    for (proxy, status) in [
        // An agent that does not know, or does not know yet.
        (seen(false, false), ProxyStatus::Stopped),
        (seen(false, true), ProxyStatus::Stopped),
        // Somebody started it by hand.
        (seen(true, true), ProxyStatus::Running),
        (seen(false, true), ProxyStatus::Stopped),
        (seen(true, false), ProxyStatus::Running),
        (seen(false, false), ProxyStatus::Unavailable),
    ] {
        let sighting = sighting(host_id, &[10], proxy, 5);
        inventory.record_sightings(&[sighting]).await.unwrap();
        assert_eq!(inventory.proxy(10).await.unwrap().unwrap().status, status);
    }
}

on_every_database!(what_was_seen_before_a_task_said_how_a_proxy_is_changes_nothing);

async fn what_was_seen_before_a_task_said_how_a_proxy_is_changes_nothing(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    inventory.insert_token(&token("t")).await.unwrap();
    let host_id = inventory.enrol("t", &host("a", "10.0.0.1")).await.unwrap().unwrap();
    let insert = InventoryChange::InsertProxy(proxy(10, 1, host_id, OperateStatus::Normal));
    apply(&database, 7, 1, &[insert]).await;
    let stopped = InventoryChange::SetProxyStatus {
        proxy_id: 10,
        status: ProxyStatus::Stopped,
        operate_status: OperateStatus::Normal,
    };
    apply(&database, 7, 20, &[stopped]).await;
    let state = async || {
        let proxy = inventory.proxy(10).await.unwrap().unwrap();
        (proxy.status, proxy.offline)
    };
    let away = ProxySighting {
        offline: true,
        ..seen(true, false)
    };
    for (asked, expected) in [(19, (ProxyStatus::Stopped, false)), (20, (ProxyStatus::Running, true))] {
        let late = HostSighting {
            at: Timestamp(30),
            ..sighting(host_id, &[10], away, asked)
        };
        inventory.record_sightings(&[late]).await.unwrap();
        assert_eq!(state().await, expected, "asked at {asked}");
    }
    let online = InventoryChange::SetProxyOffline {
        proxy_id: 10,
        offline: false,
    };
    apply(&database, 7, 40, &[online]).await;
    assert_eq!(state().await, (ProxyStatus::Running, false));
    let late = sighting(host_id, &[10], away, 39);
    inventory.record_sightings(&[late]).await.unwrap();
    assert_eq!(state().await, (ProxyStatus::Running, false));
}

on_every_database!(a_cluster_name_is_taken_once);

async fn a_cluster_name_is_taken_once(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let named = |id| {
        let name = "same".to_owned();
        InventoryChange::InsertCluster(Box::new(Cluster { name, ..cluster(id) }))
    };
    let insert = async |id| {
        let mut tx = database.writer().write().await?;
        InventoryApplier.apply(&mut tx, TaskId(7), &[named(id)]).await?;
        Ok::<_, ApplyError>(tx.commit().await?)
    };
    let results: [_; 3] = tokio::join!(insert(1), insert(2), insert(3)).into();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    let refused = |result: &&Result<(), ApplyError>| matches!(result, Err(ApplyError::Refused(_)));
    assert_eq!(results.iter().filter(refused).count(), 2, "{results:?}");
}

on_every_database!(ids_asked_for_at_once_all_differ);

async fn ids_asked_for_at_once_all_differ(kind: Kind) {
    let place = Place::new(kind).await;
    let (first, second) = (place.try_open().await.unwrap(), place.try_open().await.unwrap());
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..20 {
        let inventory = if number % 2 == 0 { &first } else { &second }.inventory();
        asking.spawn(async move { inventory.next_id().await.unwrap() });
    }
    let mut ids = asking.join_all().await;
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

on_every_database!(hosts_go_without_proxies_all_or_none_and_come_back_as_they_were);

async fn hosts_go_without_proxies_all_or_none_and_come_back_as_they_were(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    let enrol = async |id: &str, name: &str| {
        inventory.insert_token(&token(id)).await.unwrap();
        inventory.enrol(id, &host(name, "127.0.0.1")).await.unwrap().unwrap()
    };
    let (first, second) = (enrol("t1", "first").await, enrol("t2", "second").await);
    let insert = |id, host_id| InventoryChange::InsertProxy(proxy(id, 1, host_id, OperateStatus::Normal));
    let create = InventoryChange::InsertCluster(Box::new(cluster(1)));
    apply(&database, 7, 5, &[create, insert(10, first)]).await;
    let there = async || {
        inventory
            .snapshot()
            .await
            .unwrap()
            .hosts
            .keys()
            .copied()
            .collect::<Vec<_>>()
    };

    let carries = inventory.delete_hosts(&[second, first]).await.unwrap();
    assert_eq!(carries, HostsDeleted::Carries(first, vec![10]));
    let missing = inventory.delete_hosts(&[second, 777]).await.unwrap();
    assert_eq!(missing, HostsDeleted::Missing(777));
    assert_eq!(there().await, [first, second], "all or none");
    assert_eq!(inventory.delete_hosts(&[second]).await.unwrap(), HostsDeleted::Gone);
    assert_eq!(there().await, [first]);
    assert_eq!(
        inventory.delete_hosts(&[second]).await.unwrap(),
        HostsDeleted::Missing(second)
    );

    // A task planned before the host went.
    let mut tx = database.writer().write().await.unwrap();
    let refused = InventoryApplier.apply(&mut tx, TaskId(8), &[insert(11, second)]).await;
    assert!(
        matches!(&refused, Err(ApplyError::Refused(reason)) if reason.contains("was deleted")),
        "{refused:?}"
    );
    drop(tx);

    assert_eq!(enrol("t3", "second").await, second);
    assert_eq!(there().await, [first, second]);
    apply(&database, 8, 6, &[insert(11, second)]).await;
}
