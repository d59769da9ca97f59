//! The table of users, on every database.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use obfleet_store::users::failures::LockRule;
use obfleet_store::users::roles::{CustomRole, RoleDeleted};
use obfleet_store::users::{User, UserChange, UserRole};
use obfleet_wire::time::Timestamp;

use crate::on_every_database;
use crate::support::{Kind, Place};

on_every_database!(users_are_told_apart_by_every_letter);

async fn users_are_told_apart_by_every_letter(kind: Kind) {
    let place = Place::new(kind).await;
    let users = place.try_open().await.unwrap().users();
    let roles = vec![UserRole::everywhere("ADMIN"), UserRole::everywhere("审计")];
    let mut admin = User::new(100, "admin", "h1".into(), roles);
    (admin.created, admin.changed) = (Timestamp(1), Timestamp(1));
    assert!(users.insert(&admin, Timestamp(1)).await.unwrap());
    assert!(!users.insert(&admin, Timestamp(2)).await.unwrap(), "the id is taken");
    let same_name = User {
        id: 101,
        ..admin.clone()
    };
    assert!(!users.insert(&same_name, Timestamp(2)).await.unwrap());
    let other_name = User {
        id: 102,
        name: "Admin".into(),
        ..admin.clone()
    };
    assert!(users.insert(&other_name, Timestamp(2)).await.unwrap());
    assert_eq!(users.find("admin").await.unwrap(), Some(admin.clone()));
    assert!(!format!("{admin:?}").contains("h1"));
    assert_eq!(users.find("ADMIN").await.unwrap(), None);
    let ids = users.ids(&BTreeSet::from(["admin", "Admin", "ADMIN"])).await.unwrap();
    assert_eq!(
        ids,
        BTreeMap::from([("admin".to_owned(), 100), ("Admin".to_owned(), 102)])
    );
    assert_eq!(users.ids(&BTreeSet::new()).await.unwrap(), BTreeMap::new());
    assert!(
        users.set_password_hash(100, "h1", Timestamp(2)).await.unwrap(),
        "a row that stays the same is there"
    );
    assert!(users.set_password_hash(100, "h2", Timestamp(3)).await.unwrap());
    assert!(!users.set_password_hash(7, "h2", Timestamp(3)).await.unwrap());
    assert_eq!(users.find("admin").await.unwrap().unwrap().password_hash, "h2");
}

on_every_database!(roles_are_for_all_clusters_or_for_some);

async fn roles_are_for_all_clusters_or_for_some(kind: Kind) {
    let place = Place::new(kind).await;
    let database = place.try_open().await.unwrap();
    let (users, keys) = (database.users(), database.access_keys());
    let custom = CustomRole {
        name: "NIGHT".into(),
        description: "夜班".into(),
        rights: vec!["task:view".into(), "task:manage".into()],
        created: Timestamp(1),
        changed: Timestamp(1),
    };
    assert!(users.insert_role(&custom).await.unwrap());
    assert!(!users.insert_role(&custom).await.unwrap(), "the name is taken");
    let some = UserRole {
        clusters: Some(BTreeSet::from([3, 7])),
        ..UserRole::everywhere("OBPROXY_VIEWER")
    };
    let id = users.take_id().await.unwrap();
    assert_ne!(id, users.take_id().await.unwrap());
    let roles = vec![UserRole::everywhere("NIGHT"), some.clone()];
    let user = User::new(id, "some", "h".into(), roles.clone());
    assert!(users.insert(&user, Timestamp(1)).await.unwrap());
    let found = users.get(id).await.unwrap().unwrap();
    assert_eq!(found.roles[0].rights, custom.rights);
    assert_eq!(found.roles[1], some);
    assert_eq!(users.all().await.unwrap(), std::slice::from_ref(&found));

    assert_eq!(users.delete_role("NIGHT").await.unwrap(), RoleDeleted::InUse(1));
    let fewer = CustomRole {
        rights: vec!["task:view".into()],
        ..custom.clone()
    };
    assert!(users.update_role(&fewer).await.unwrap());
    assert_eq!(users.custom_roles().await.unwrap(), std::slice::from_ref(&fewer));
    let now = users.find("some").await.unwrap().unwrap();
    assert_eq!(now.roles[0].rights, fewer.rights, "who has it has what it is now");

    let change = UserChange {
        enabled: Some(false),
        description: Some("gone".into()),
        roles: Some(vec![UserRole::everywhere("TASK_VIEWER")]),
    };
    assert!(users.update(id, &change, Timestamp(5)).await.unwrap());
    let changed = users.find("some").await.unwrap().unwrap();
    assert_eq!(changed.roles, [UserRole::everywhere("TASK_VIEWER")]);
    assert_eq!((changed.enabled, changed.changed), (false, Timestamp(5)));
    assert_eq!(changed.description, "gone");
    assert!(!users.update(7, &change, Timestamp(5)).await.unwrap());
    assert!(users.set_password(id, "h2", true, None, Timestamp(6)).await.unwrap());
    assert!(users.get(id).await.unwrap().unwrap().must_change);
    assert_eq!(users.delete_role("NIGHT").await.unwrap(), RoleDeleted::Gone);
    assert_eq!(users.delete_role("NIGHT").await.unwrap(), RoleDeleted::Missing);

    // Somebody was given it at the moment it was deleted.
    let late = UserChange {
        roles: Some(roles),
        ..UserChange::default()
    };
    assert!(users.update(id, &late, Timestamp(7)).await.unwrap());
    assert_eq!(users.get(id).await.unwrap().unwrap().roles[0].rights, [""; 0]);
    assert!(users.insert_role(&custom).await.unwrap());
    assert_eq!(
        users.get(id).await.unwrap().unwrap().roles,
        [some],
        "another role of that name is nobody's"
    );

    assert!(users.delete(id).await.unwrap());
    assert!(!users.delete(id).await.unwrap());
    assert_eq!(users.all().await.unwrap(), []);
    assert_eq!(keys.of(id).await.unwrap(), []);
}

on_every_database!(failures_are_counted_and_lock_a_name);

async fn failures_are_counted_and_lock_a_name(kind: Kind) {
    let place = Place::new(kind).await;
    let users = place.try_open().await.unwrap().users();
    let rule = LockRule {
        failures: 3,
        time: Duration::from_secs(10),
    };
    let failed = async |name: &str, at| users.login_failed(name, rule, Timestamp(at)).await.unwrap();
    let locked = async |name: &str, at| users.locked_until(name, Timestamp(at)).await.unwrap();
    assert_eq!((failed("a", 100_000).await, failed("a", 101_000).await), (1, 2));
    assert_eq!(failed("b", 101_000).await, 1);
    assert_eq!(failed("a", 112_000).await, 1, "the others were too long ago");
    assert_eq!((failed("a", 113_000).await, failed("a", 114_000).await), (2, 3));
    assert_eq!(locked("a", 114_001).await, Some(Timestamp(124_000)));
    assert_eq!(
        users.locked(Timestamp(114_001)).await.unwrap(),
        [("a".into(), Timestamp(124_000))]
    );
    assert_eq!((locked("a", 124_000).await, locked("A", 114_001).await), (None, None));
    assert!(users.forgive("a").await.unwrap());
    assert!(!users.forgive("a").await.unwrap());
    assert_eq!(locked("a", 114_001).await, None);
    assert_eq!(users.forget_failures(rule, Timestamp(200_000)).await.unwrap(), 1);

    // Whoever fails at the same time is counted.
    let all = (0..6).map(|_| users.login_failed("c", rule, Timestamp(300_000)));
    let mut counts: Vec<i64> = futures::future::join_all(all)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 2, 3, 4, 5, 6]);
}
