//! A server that has read the inventory reads what others change of it, on every database.

use std::collections::BTreeMap;

use obfleet_fleet::inventory::{
    ClusterSettings, HostProfile, HostSighting, HostStage, Inventory as _, InventoryChange, Package, SealedAccount,
    Site, SiteKind, Sites as _,
};
use obfleet_fleet::secrets::Sealed;
use obfleet_store::{Database, sql};
use obfleet_wire::agent::HostFacts;
use obfleet_wire::ob::ClusterType;
use obfleet_wire::obproxy::{LinkStatus, OperateStatus, ProxyStatus};
use obfleet_wire::time::Timestamp;

use crate::inventory::{apply, cluster, host, opened, proxy, seen, sighting, token};
use crate::ob_clusters::{known, link};
use crate::on_every_database;
use crate::support::{Kind, Place};

/// Two servers of one database: one changes, the other looks.
struct Servers {
    place: Place,
    writer: Database,
    watcher: Database,
    /// Time of the last change, which is the number of its event too.
    at: i64,
}

impl Servers {
    /// Both have what somebody reads who has never looked.
    async fn agree(&self) {
        let late = self.place.try_open().await.unwrap();
        let all = late.inventory().snapshot().await.unwrap();
        assert_eq!(self.watcher.inventory().snapshot().await.unwrap(), all);
        assert_eq!(self.writer.inventory().snapshot().await.unwrap(), all);
        late.close().await;
    }

    /// A task's change; the other server sees it.
    async fn change(&mut self, change: InventoryChange) {
        let before = self.watcher.inventory().snapshot().await.unwrap();
        self.at += 1;
        apply(&self.writer, 7, self.at, std::slice::from_ref(&change)).await;
        let after = self.watcher.inventory().snapshot().await.unwrap();
        assert_ne!(before, after, "{change:?} was not seen");
        self.agree().await;
    }

    /// The other server sees what was changed since it looked last.
    async fn see(&self, what: &str, before: &obfleet_fleet::plan::Snapshot) {
        let after = self.watcher.inventory().snapshot().await.unwrap();
        assert_ne!(*before, *after, "{what} was not seen");
        self.agree().await;
    }
}

on_every_database!(another_server_sees_every_change_of_a_tasks);

async fn another_server_sees_every_change_of_a_tasks(kind: Kind) {
    let (place, writer) = opened(kind).await;
    let watcher = place.try_open().await.unwrap();
    let mut servers = Servers {
        place,
        writer,
        watcher,
        at: 100,
    };
    let facts = HostFacts {
        kernel: "6.2".into(),
        ..host("", "10.0.0.1").facts
    };
    let mut coming = host("", "10.0.0.1");
    (coming.id, coming.stage) = (9, HostStage::New);
    let stage = |stage| InventoryChange::SetHostStage { host_id: 9, stage };
    let deleted = |deleted| InventoryChange::SetClusterDeleted { cluster_id: 1, deleted };
    let changes = [
        InventoryChange::InsertHost(Box::new(coming)),
        InventoryChange::SetHostFound {
            host_id: 9,
            facts,
            host_key: "SHA256:k".into(),
        },
        stage(HostStage::Ready),
        InventoryChange::SetHostReserved {
            host_id: 9,
            reserved: true,
        },
        InventoryChange::InsertCluster(Box::new(cluster(1))),
        InventoryChange::SetClusterSettings {
            cluster_id: 1,
            settings: Box::new(ClusterSettings {
                config_base: "http://b".into(),
                ..ClusterSettings::default()
            }),
        },
        InventoryChange::SetClusterVersion {
            cluster_id: 1,
            version: Some("4.3.1.0-1".parse().unwrap()),
        },
        InventoryChange::SetWantedParameters {
            cluster_id: 1,
            parameter_version: 2,
            rows: Vec::new(),
        },
        InventoryChange::InsertProxy(proxy(10, 1, 9, OperateStatus::Operating)),
        InventoryChange::SetProxyStatus {
            proxy_id: 10,
            status: ProxyStatus::Upgrading,
            operate_status: OperateStatus::Operating,
        },
        InventoryChange::SetProxyOffline {
            proxy_id: 10,
            offline: true,
        },
        InventoryChange::SetProxyVersion {
            proxy_id: 10,
            version: "4.3.1.0-1".parse().unwrap(),
        },
        InventoryChange::SetProxyParameterVersion {
            proxy_id: 10,
            parameter_version: 2,
        },
        InventoryChange::SetExporterRegistered {
            proxy_id: 10,
            registered: false,
        },
        InventoryChange::InsertObCluster(Box::new(known(71, "north", Some(1), ClusterType::Primary))),
        InventoryChange::SetObCluster {
            id: 71,
            ob_cluster_id: Some(2),
            cluster_type: ClusterType::Primary,
            root_servers: Vec::new(),
        },
        InventoryChange::InsertObLink(link(1, "north", 71)),
        InventoryChange::SetObLink {
            cluster_id: 1,
            name: "north".into(),
            status: LinkStatus::Running,
            told: true,
        },
        // Its links are of no cluster while it is gone.
        deleted(true),
        deleted(false),
        InventoryChange::DeleteObLink {
            cluster_id: 1,
            name: "north".into(),
        },
        InventoryChange::DeleteObCluster { id: 71 },
        InventoryChange::SetProxyDeleted {
            proxy_id: 10,
            deleted: true,
        },
        stage(HostStage::Deleting),
        InventoryChange::SetHostGone { host_id: 9 },
    ];
    for change in changes {
        servers.change(change).await;
    }
}

on_every_database!(another_server_sees_what_no_task_changes);

async fn another_server_sees_what_no_task_changes(kind: Kind) {
    let (place, writer) = opened(kind).await;
    let watcher = place.try_open().await.unwrap();
    let servers = Servers {
        place,
        writer,
        watcher,
        at: 0,
    };
    let inventory = servers.writer.inventory();
    let look = async || servers.watcher.inventory().snapshot().await.unwrap();

    let before = look().await;
    inventory.insert_token(&token("t")).await.unwrap();
    let host_id = inventory.enrol("t", &host("a", "10.0.0.1")).await.unwrap().unwrap();
    servers.see("a host that enrolled", &before).await;

    let before = look().await;
    let region = Site {
        id: 0,
        name: "south".into(),
        description: None,
        created: Some(Timestamp(1)),
        updated: Some(Timestamp(1)),
    };
    inventory.insert_site(SiteKind::Region, &region).await.unwrap();
    servers.see("a region", &before).await;

    let before = look().await;
    let profile = HostProfile {
        alias: Some("b".into()),
        ..HostProfile::default()
    };
    assert!(inventory.edit_host(host_id, &profile).await.unwrap());
    servers.see("an alias", &before).await;

    let before = look().await;
    let package = Package {
        id: 5,
        name: "obproxy-ce-4.2.1.0-11.el7.x86_64.rpm".parse().unwrap(),
        is_proxy: true,
        size: 1,
        sha1: "1".into(),
        sha256: "2".into(),
        signed_by: None,
        created: Timestamp(1),
    };
    assert!(inventory.insert_package(&package).await.unwrap());
    servers.see("a package", &before).await;

    let before = look().await;
    assert!(inventory.set_package_signer(5, "C0FFEE").await.unwrap());
    servers.see("who signed a package", &before).await;

    let insert = [
        InventoryChange::InsertCluster(Box::new(cluster(1))),
        InventoryChange::InsertProxy(proxy(10, 1, host_id, OperateStatus::Normal)),
    ];
    apply(&servers.writer, 7, 5, &insert).await;
    let before = look().await;
    let told = sighting(host_id, &[10], seen(false, false), 6);
    inventory.record_sightings(&[told]).await.unwrap();
    servers.see("a proxy that does not serve", &before).await;

    let before = look().await;
    inventory
        .set_cluster_endpoint(1, Some("b"), None, Timestamp(7))
        .await
        .unwrap();
    servers.see("an address", &before).await;

    let before = look().await;
    assert!(
        inventory
            .insert_ob_cluster(&known(71, "north", None, ClusterType::Primary))
            .await
            .unwrap()
    );
    servers.see("an OceanBase cluster", &before).await;

    let before = look().await;
    let account = SealedAccount {
        user: "u".into(),
        password: Sealed::from_text("s".into()),
    };
    assert!(
        inventory
            .keep_ob_secrets(71, None, Some(&account), Timestamp(8))
            .await
            .unwrap()
    );
    servers.see("an account", &before).await;

    let before = look().await;
    assert!(inventory.delete_ob_cluster(71).await.unwrap());
    servers.see("an OceanBase cluster that is gone", &before).await;

    let before = look().await;
    assert!(inventory.delete_package(5).await.unwrap());
    servers.see("a package that is gone", &before).await;

    let gone = InventoryChange::SetProxyDeleted {
        proxy_id: 10,
        deleted: true,
    };
    apply(&servers.writer, 7, 9, &[gone]).await;
    let before = look().await;
    inventory.delete_hosts(&[host_id]).await.unwrap();
    servers.see("a host that is gone", &before).await;
}

on_every_database!(who_looks_again_too_late_reads_all_of_it);

async fn who_looks_again_too_late_reads_all_of_it(kind: Kind) {
    let (place, writer) = opened(kind).await;
    let watcher = place.try_open().await.unwrap();
    let inventory = writer.inventory();
    for uid in ["a", "b"] {
        inventory.insert_token(&token(uid)).await.unwrap();
        inventory.enrol(uid, &host(uid, uid)).await.unwrap().unwrap();
    }
    let before = watcher.inventory().snapshot().await.unwrap();
    assert_eq!(before.hosts.len(), 2);
    let news = async || {
        let count = sql::query("SELECT COUNT(*) AS number FROM inventory_news");
        let row = count.fetch_one(writer.writer()).await.unwrap();
        row.get::<i64>("number").unwrap()
    };

    // As after thousands of changes, of which the first ones are forgotten.
    let change = sql::query("UPDATE host SET reserved = TRUE WHERE host_uid = 'a'");
    change.execute(writer.writer()).await.unwrap();
    let count = sql::query("UPDATE inventory_revision SET revision = revision + 100000");
    count.execute(writer.writer()).await.unwrap();
    assert_eq!(news().await, 2);
    let away = HostSighting {
        online: false,
        proxies: BTreeMap::new(),
        ..sighting(*before.hosts.keys().last().unwrap(), &[], seen(false, false), 5)
    };
    inventory.record_sightings(&[away]).await.unwrap();
    assert_eq!(news().await, 1, "what nobody needs any more is forgotten");

    let after = watcher.inventory().snapshot().await.unwrap();
    let told = |host: &obfleet_fleet::inventory::Host| (host.reserved, host.online);
    assert_eq!(
        after.hosts.values().map(told).collect::<Vec<_>>(),
        [(true, true), (false, false)]
    );
}
