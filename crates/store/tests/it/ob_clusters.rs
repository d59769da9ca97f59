//! OceanBase clusters and links to them, on every database.

use obfleet_engine::TaskId;
use obfleet_fleet::{
    inventory::{Inventory as _, InventoryChange, ObCluster, ObLink, SealedAccount},
    secrets::Sealed,
};
use obfleet_store::{ApplyError, ChangeApplier as _, Database, InventoryApplier};
use obfleet_wire::{ob::ClusterType, obproxy::LinkStatus, time::Timestamp};

use crate::inventory::{apply, cluster, opened};
use crate::on_every_database;
use crate::support::Kind;

pub(crate) fn known(id: i64, name: &str, ob_cluster_id: Option<i64>, cluster_type: ClusterType) -> ObCluster {
    ObCluster {
        id,
        name: name.into(),
        ob_cluster_id,
        cluster_type,
        root_servers: vec!["10.0.0.1:2881".parse().unwrap(), "[::1]:3882:3881".parse().unwrap()],
        proxyro_password: None,
        account: None,
        creator_id: 100,
        creator_name: "admin".into(),
        created: Timestamp(3),
        updated: Timestamp(3),
    }
}

pub(crate) fn link(cluster_id: i64, name: &str, ob_cluster: i64) -> ObLink {
    ObLink {
        cluster_id,
        name: name.into(),
        ob_cluster,
        username: "proxyro".into(),
        status: LinkStatus::Creating,
        told: false,
    }
}

async fn refused(database: &Database, change: InventoryChange) -> bool {
    let mut tx = database.writer().write().await.unwrap();
    let applied = InventoryApplier.apply(&mut tx, TaskId(7), &[change]).await;
    matches!(applied, Err(ApplyError::Refused(_)))
}

on_every_database!(ob_clusters_of_a_name_are_told_apart_and_keep_their_secrets);

async fn ob_clusters_of_a_name_are_told_apart_and_keep_their_secrets(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    let (primary, standby) = (ClusterType::Primary, ClusterType::Standby);
    let first = known(71, "north", Some(1), primary);
    assert!(inventory.insert_ob_cluster(&first).await.unwrap());
    for (other, is_added) in [
        (known(72, "north", Some(1), standby), false),
        (known(72, "north", None, standby), false),
        (known(72, "north", Some(2), primary), false),
        (known(72, "north", Some(2), standby), true),
        (known(73, "south", None, primary), true),
        (known(74, "south", Some(5), standby), false),
    ] {
        assert_eq!(
            inventory.insert_ob_cluster(&other).await.unwrap(),
            is_added,
            "{other:?}"
        );
    }
    let password = Sealed::from_text("aa".into());
    let account = SealedAccount {
        user: "root@sys".into(),
        password: Sealed::from_text("bb".into()),
    };
    assert!(
        inventory
            .keep_ob_secrets(71, Some(&password), None, Timestamp(8))
            .await
            .unwrap()
    );
    assert!(
        inventory
            .keep_ob_secrets(71, None, Some(&account), Timestamp(9))
            .await
            .unwrap()
    );
    assert!(
        !inventory
            .keep_ob_secrets(99, Some(&password), None, Timestamp(9))
            .await
            .unwrap()
    );
    let kept = ObCluster {
        proxyro_password: Some(password),
        account: Some(account),
        updated: Timestamp(9),
        ..first
    };
    let all = inventory.snapshot().await.unwrap().ob_clusters.clone();
    assert_eq!(all[&71], kept);
    assert_eq!(all[&73], known(73, "south", None, primary));

    let change = InventoryChange::SetObCluster {
        id: 73,
        ob_cluster_id: Some(4),
        cluster_type: standby,
        root_servers: Vec::new(),
    };
    apply(&database, 7, 20, &[change]).await;
    let changed = ObCluster {
        root_servers: Vec::new(),
        updated: Timestamp(20),
        ..known(73, "south", Some(4), standby)
    };
    assert_eq!(inventory.snapshot().await.unwrap().ob_clusters[&73], changed);
    assert!(inventory.delete_ob_cluster(73).await.unwrap());
    assert!(!inventory.delete_ob_cluster(73).await.unwrap());
}

on_every_database!(a_link_keeps_its_ob_cluster_and_may_be_made_twice);

async fn a_link_keeps_its_ob_cluster_and_may_be_made_twice(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    let north = known(71, "north", None, ClusterType::Primary);
    let changes = [
        InventoryChange::InsertCluster(Box::new(cluster(1))),
        InventoryChange::InsertCluster(Box::new(cluster(2))),
        InventoryChange::InsertObCluster(Box::new(north.clone())),
        InventoryChange::InsertObLink(link(1, "north", 71)),
        InventoryChange::InsertObLink(link(1, "north", 71)),
    ];
    apply(&database, 7, 5, &changes).await;
    let backends = inventory.snapshot().await.unwrap();
    assert_eq!(backends.ob_links, [link(1, "north", 71)]);
    assert_eq!(backends.clusters.len(), 2);
    assert_eq!(backends.clusters[&1].updated, Timestamp(5), "its links are part of it");
    assert!(!inventory.delete_ob_cluster(71).await.unwrap(), "somebody serves it");

    // What came before the task was submitted is found by the database only.
    assert!(refused(&database, InventoryChange::InsertObCluster(Box::new(north))).await);
    assert!(refused(&database, InventoryChange::InsertObLink(link(2, "south", 72))).await);

    let told = InventoryChange::SetObLink {
        cluster_id: 1,
        name: "north".into(),
        status: LinkStatus::Running,
        told: true,
    };
    // An OceanBase cluster that a link brought stays while somebody serves it.
    apply(&database, 7, 6, &[told, InventoryChange::DeleteObCluster { id: 71 }]).await;
    let running = ObLink {
        status: LinkStatus::Running,
        told: true,
        ..link(1, "north", 71)
    };
    assert_eq!(inventory.snapshot().await.unwrap().ob_links, [running]);
    let gone = [
        InventoryChange::DeleteObLink {
            cluster_id: 1,
            name: "north".into(),
        },
        InventoryChange::DeleteObCluster { id: 71 },
    ];
    apply(&database, 7, 7, &gone).await;
    let backends = inventory.snapshot().await.unwrap();
    assert!(backends.ob_links.is_empty() && backends.ob_clusters.is_empty());
}
