//! Browsers' sessions, on every database.

use std::time::Duration;

use obfleet_store::sessions::{Session, SessionRule, Sessions};
use obfleet_store::users::{User, UserChange, UserRole};
use obfleet_wire::time::Timestamp;

use crate::on_every_database;
use crate::support::{Kind, Place};

const RULE: SessionRule = SessionRule {
    idle: Duration::from_secs(10),
    longest: Duration::from_secs(60),
    most: 3,
};

fn session(id: &str, user_id: i64, created: i64) -> Session {
    Session {
        id: id.into(),
        user_id,
        created: Timestamp(created),
        seen: Timestamp(created),
    }
}

async fn is_there(sessions: &Sessions, id: &str, now: i64) -> bool {
    sessions.find(id, RULE, Timestamp(now)).await.unwrap().is_some()
}

on_every_database!(sessions_end_when_they_are_idle_or_old);

async fn sessions_end_when_they_are_idle_or_old(kind: Kind) {
    let place = Place::new(kind).await;
    let database = place.try_open().await.unwrap();
    let (users, sessions) = (database.users(), database.sessions());
    let user = User::new(7, "anna", "h".into(), vec![UserRole::everywhere("ADMIN")]);
    assert!(users.insert(&user, Timestamp(1)).await.unwrap());
    assert!(sessions.begin(&session("a", 7, 100_000), RULE).await.unwrap());
    assert!(
        !sessions.begin(&session("b", 8, 100_000), RULE).await.unwrap(),
        "nobody's"
    );
    let (found, of) = sessions.find("a", RULE, Timestamp(109_999)).await.unwrap().unwrap();
    assert_eq!((found, of.name.as_str()), (session("a", 7, 100_000), "anna"));
    assert_eq!(of.roles, [UserRole::everywhere("ADMIN")]);
    assert!(!is_there(&sessions, "A", 100_001).await);
    assert!(!is_there(&sessions, "a", 110_000).await, "it is idle");
    for at in (105_000..160_000).step_by(9_000) {
        sessions.seen("a", Timestamp(at)).await.unwrap();
    }
    sessions.seen("a", Timestamp(159_000)).await.unwrap();
    assert!(is_there(&sessions, "a", 159_999).await);
    assert!(!is_there(&sessions, "a", 160_000).await, "it is old");
    assert_eq!(sessions.forget(RULE, Timestamp(159_999)).await.unwrap(), 0);
    assert_eq!(sessions.forget(RULE, Timestamp(160_000)).await.unwrap(), 1);
}

on_every_database!(sessions_end_with_what_they_stand_for);

async fn sessions_end_with_what_they_stand_for(kind: Kind) {
    let place = Place::new(kind).await;
    let database = place.try_open().await.unwrap();
    let (users, sessions) = (database.users(), database.sessions());
    for (id, name) in [(7, "anna"), (8, "berta")] {
        let user = User::new(id, name, "h".into(), Vec::new());
        assert!(users.insert(&user, Timestamp(1)).await.unwrap());
        assert!(sessions.begin(&session(name, id, 100_000), RULE).await.unwrap());
    }
    let left = async || {
        let mut left = Vec::new();
        for id in ["anna", "berta", "a1", "a2", "a3"] {
            if is_there(&sessions, id, 100_010).await {
                left.push(id);
            }
        }
        left
    };
    for (id, at) in [("a1", 100_001), ("a2", 100_002), ("a3", 100_003)] {
        assert!(sessions.begin(&session(id, 7, at), RULE).await.unwrap());
    }
    assert_eq!(left().await, ["berta", "a1", "a2", "a3"], "the oldest made room");
    assert!(sessions.end("a1").await.unwrap());
    assert!(!sessions.end("a1").await.unwrap());
    assert!(
        users
            .set_password(7, "h2", false, Some("a3"), Timestamp(2))
            .await
            .unwrap()
    );
    assert_eq!(
        left().await,
        ["berta", "a3"],
        "the one that changed the password goes on"
    );
    assert!(users.set_password(7, "h3", true, None, Timestamp(3)).await.unwrap());
    assert_eq!(left().await, ["berta"]);
    assert!(sessions.begin(&session("a2", 7, 100_004), RULE).await.unwrap());
    let disable = UserChange {
        enabled: Some(false),
        ..UserChange::default()
    };
    assert!(users.update(7, &disable, Timestamp(4)).await.unwrap());
    assert_eq!(left().await, ["berta"]);
    assert!(users.delete(8).await.unwrap());
    assert_eq!(left().await, [""; 0]);
}
