//! Transactions of ours that others are in the way of, on the databases where that happens.

use std::collections::BTreeMap;
use std::time::Duration;

use obfleet_fleet::inventory::{EnrolToken, Host, HostPlace, HostProfile, HostSighting, HostStage, Inventory as _};
use obfleet_store::Database;
use obfleet_store::sql::{self, Transaction};
use obfleet_store::users::User;
use obfleet_wire::agent::HostFacts;
use obfleet_wire::time::Timestamp;
use tokio::time::{Instant, sleep};

use crate::on_every_server;
use crate::support::{Kind, Place, think_long};

const DEADLINE: Duration = Duration::from_secs(60);

async fn enrolled(database: &Database, uid: &str) -> i64 {
    let inventory = database.inventory();
    let token = EnrolToken {
        id: uid.into(),
        key: vec![1],
        expires: Timestamp(9),
        place: HostPlace::default(),
        host_id: None,
    };
    inventory.insert_token(&token).await.unwrap();
    let host = Host {
        id: 0,
        facts: HostFacts {
            host_uid: uid.into(),
            name: uid.into(),
            architecture: "x86_64".into(),
            kernel: "6.1".into(),
            release: "el7".into(),
        },
        address: "10.0.0.1".into(),
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
    };
    inventory.enrol(uid, &host).await.unwrap().unwrap()
}

fn away(host_id: i64) -> HostSighting {
    HostSighting {
        host_id,
        online: false,
        agent_version: None,
        proxies: BTreeMap::new(),
        restarts: BTreeMap::new(),
        asked: Timestamp(0),
        at: Timestamp(7),
    }
}

/// Changes the host's row to what the row is.
async fn touch(tx: &mut Transaction, host: i64) -> Result<u64, sqlx::Error> {
    let query = sql::query("UPDATE host SET updated_at = updated_at + 1 WHERE id = ?").bind(host);
    query.execute(tx).await
}

async fn is_locked(database: &Database, host: i64) -> bool {
    let mut tx = database.writer().write().await.unwrap();
    let look = sql::query("SELECT id FROM host WHERE id = ? FOR UPDATE NOWAIT").bind(host);
    look.fetch_all(&mut tx).await.is_err()
}

on_every_server!(a_transaction_that_loses_a_deadlock_is_made_all_the_same);

/// Another transaction takes the same two rows in the opposite order, and has so much to lose that ours is the one to go.
async fn a_transaction_that_loses_a_deadlock_is_made_all_the_same(kind: Kind) {
    let place = Place::new(kind).await;
    let (database, _store) = place.open().await;
    let (first, second) = (enrolled(&database, "a").await, enrolled(&database, "b").await);
    let deadline = Instant::now() + DEADLINE;
    for round in 0.. {
        assert!(Instant::now() < deadline, "ours has never been the one to go");
        let mut theirs = database.writer().write().await.unwrap();
        for number in 0..200_i64 {
            let note = sql::query("INSERT INTO notes (task_id, note) VALUES (?, ?)").bind(number);
            note.bind(format!("of round {round}"))
                .execute(&mut theirs)
                .await
                .unwrap();
        }
        touch(&mut theirs, second).await.unwrap();
        let ours = tokio::spawn({
            let inventory = database.inventory();
            async move { inventory.record_sightings(&[away(first), away(second)]).await }
        });
        while !is_locked(&database, first).await {
            assert!(Instant::now() < deadline && !ours.is_finished());
            sleep(Duration::from_millis(5)).await;
        }
        let survived = touch(&mut theirs, first).await;
        match survived {
            Ok(_) => theirs.commit().await.unwrap(),
            Err(_) => drop(theirs),
        }
        ours.await.unwrap().unwrap();
        let fleet = database.inventory().snapshot().await.unwrap();
        let hosts = &fleet.hosts;
        assert!(hosts.values().all(|host| !host.online), "{hosts:?}");
        if survived.is_ok() {
            break;
        }
        // Those who come back are seen again.
        let back = |host_id| HostSighting {
            online: true,
            ..away(host_id)
        };
        database
            .inventory()
            .record_sightings(&[back(first), back(second)])
            .await
            .unwrap();
    }
}

on_every_server!(a_statement_waits_for_longer_than_one_wait_for_a_lock);

async fn a_statement_waits_for_longer_than_one_wait_for_a_lock(kind: Kind) {
    let place = Place::new(kind).await;
    let database = place.try_open().await.unwrap();
    let users = database.users();
    let user = User::new(100, "admin", "h1".into(), Vec::new());
    users.insert(&user, Timestamp(1)).await.unwrap();
    let mut theirs = database.writer().write().await.unwrap();
    let change = "UPDATE users SET changed = changed + 1 WHERE id = 100";
    think_long(&mut theirs).await;
    sql::query(change).execute(&mut theirs).await.unwrap();
    let ours = tokio::spawn({
        let users = users.clone();
        async move { users.set_password_hash(100, "h2", Timestamp(2)).await }
    });
    // Whoever begins to wait later gives up later.
    for _ in 0..2 {
        let mut witness = database.writer().write().await.unwrap();
        sql::query(change).execute(&mut witness).await.unwrap_err();
    }
    assert!(!ours.is_finished());
    theirs.commit().await.unwrap();
    assert!(ours.await.unwrap().unwrap());
    assert_eq!(users.find("admin").await.unwrap().unwrap().password_hash, "h2");
}
