//! Hosts that get their agents over SSH, on every database.

use obfleet_engine::TaskId;
use obfleet_fleet::{
    bootstrap::BootstrapSettings,
    inventory::{EnrolToken, Host, HostPlace, HostProfile, HostStage, Inventory as _, InventoryChange, Vault as _},
};
use obfleet_store::{ApplyError, ChangeApplier as _, Database, InventoryApplier};
use obfleet_wire::{agent::HostFacts, host::HostKind, obproxy::OperateStatus, time::Timestamp};

use crate::inventory::{apply, cluster, host, opened, proxy};
use crate::on_every_database;
use crate::support::Kind;

fn coming(id: i64, address: &str) -> Host {
    Host {
        id,
        facts: HostFacts {
            host_uid: String::new(),
            ..host("", address).facts
        },
        agent_port: 2889,
        agent_version: String::new(),
        online: false,
        stage: HostStage::New,
        bootstrap: Some(BootstrapSettings {
            credential_id: 3,
            user_id: 4,
            root: Some("/srv/x".into()),
            agent_port: 2889,
            bind: "0.0.0.0".into(),
            host_key: None,
        }),
        profile: HostProfile {
            alias: Some("nine".into()),
            description: Some("北".into()),
            place: HostPlace::default(),
            kind: HostKind::DedicatedContainer,
            publish_ports: Some("8080:8080".into()),
            serial_number: Some("s1".into()),
            ssh_port: Some(2222),
        },
        ..host("", address)
    }
}

fn insert(host: Host) -> InventoryChange {
    InventoryChange::InsertHost(Box::new(host))
}

async fn is_refused(database: &Database, host: Host) -> bool {
    refuses(database, &insert(host)).await
}

async fn refuses(database: &Database, change: &InventoryChange) -> bool {
    let mut tx = database.writer().write().await.unwrap();
    let applied = InventoryApplier
        .apply(&mut tx, TaskId(7), std::slice::from_ref(change))
        .await;
    matches!(applied, Err(ApplyError::Refused(_)))
}

on_every_database!(a_host_comes_without_an_agent_and_its_token_brings_one);

async fn a_host_comes_without_an_agent_and_its_token_brings_one(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    apply(
        &database,
        7,
        5,
        &[insert(coming(1001, "10.0.0.1")), insert(coming(1002, "10.0.0.2"))],
    )
    .await;
    assert_eq!(inventory.host(1001).await.unwrap(), Some(coming(1001, "10.0.0.1")));
    assert!(
        is_refused(&database, coming(1003, "10.0.0.1")).await,
        "the same machine"
    );
    let other_port = |ssh, agent| Host {
        agent_port: agent,
        profile: HostProfile {
            ssh_port: ssh,
            ..HostProfile::default()
        },
        ..coming(1003, "10.0.0.1")
    };
    assert!(is_refused(&database, other_port(None, 2889)).await, "the same agent");
    apply(&database, 7, 6, &[insert(other_port(None, 2890))]).await;

    // What is found out stays, and the key is known for the next time.
    let facts = HostFacts {
        name: "nine".into(),
        ..coming(0, "").facts
    };
    let found = |key: &str| InventoryChange::SetHostFound {
        host_id: 1001,
        facts: facts.clone(),
        host_key: key.into(),
    };
    apply(
        &database,
        7,
        7,
        &[found("SHA256:a"), found("SHA256:a"), found("SHA256:b")],
    )
    .await;
    let known = inventory.host(1001).await.unwrap().unwrap();
    assert_eq!((&known.facts, known.updated), (&facts, Timestamp(7)));
    assert_eq!(known.bootstrap.unwrap().host_key.as_deref(), Some("SHA256:b"));
    let key = async |address, port| inventory.ssh_host_key(address, port).await.unwrap();
    assert_eq!(key("10.0.0.1", 2222).await.as_deref(), Some("SHA256:b"));
    assert_eq!(key("10.0.0.1", 22).await, None);

    // The token is for that host, whoever the agent is, unless it is another host's.
    let token = async |id: &str| {
        let token = EnrolToken {
            id: id.into(),
            key: vec![1],
            expires: Timestamp(9),
            place: HostPlace::default(),
            host_id: Some(1001),
        };
        inventory.insert_token(&token).await.unwrap();
    };
    for (id, uid) in [("t1", "a"), ("t2", "b")] {
        token(id).await;
        assert_eq!(inventory.enrol(id, &host(uid, "10.0.0.1")).await.unwrap(), Some(1001));
        let enrolled = inventory.host(1001).await.unwrap().unwrap();
        assert_eq!(
            (enrolled.facts.host_uid.as_str(), enrolled.stage),
            (uid, HostStage::New)
        );
        assert!(enrolled.online && enrolled.profile.alias.is_some());
    }
    apply(&database, 7, 8, &[found("SHA256:b")]).await;
    let enrolled = inventory.host(1001).await.unwrap().unwrap();
    assert_eq!(enrolled.facts.host_uid, "b", "an agent knows better");
    let theirs = EnrolToken {
        id: "t3".into(),
        key: vec![1],
        expires: Timestamp(9),
        place: HostPlace::default(),
        host_id: Some(1002),
    };
    inventory.insert_token(&theirs).await.unwrap();
    assert_eq!(inventory.enrol("t3", &host("b", "10.0.0.2")).await.unwrap(), None);

    let stage = InventoryChange::SetHostStage {
        host_id: 1001,
        stage: HostStage::Ready,
    };
    apply(&database, 7, 9, &[stage]).await;
    assert!(inventory.host(1001).await.unwrap().unwrap().is_ready());

    // Nobody puts a proxy on a host that goes, and none goes with one.
    let deleting = || InventoryChange::SetHostStage {
        host_id: 1001,
        stage: HostStage::Deleting,
    };
    let insert_proxy = |id| InventoryChange::InsertProxy(proxy(id, 1, 1001, OperateStatus::Normal));
    let create = InventoryChange::InsertCluster(Box::new(cluster(1)));
    apply(&database, 8, 9, &[create, insert_proxy(10)]).await;
    assert!(refuses(&database, &deleting()).await);
    let gone = InventoryChange::SetProxyDeleted {
        proxy_id: 10,
        deleted: true,
    };
    apply(&database, 8, 10, &[gone, deleting()]).await;
    assert!(refuses(&database, &insert_proxy(11)).await);

    // Nobody enrols as a host that is gone.
    token("t4").await;
    let gone = || InventoryChange::SetHostGone { host_id: 1001 };
    apply(&database, 7, 10, &[gone(), gone()]).await;
    assert_eq!(inventory.enrol("t4", &host("c", "10.0.0.1")).await.unwrap(), None);
    let left: Vec<i64> = inventory.snapshot().await.unwrap().hosts.keys().copied().collect();
    assert_eq!(left, [1002, 1003]);
    apply(&database, 7, 11, &[insert(coming(1004, "10.0.0.1"))]).await;
}
