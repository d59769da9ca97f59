//! Access keys and used signatures, on every database.

use obfleet_fleet::secrets::Sealed;
use obfleet_store::access_keys::{AccessKey, AccessKeys};
use obfleet_store::users::{User, UserRole};
use obfleet_wire::time::Timestamp;

use crate::on_every_database;
use crate::support::{Kind, Place};

fn user(id: i64, name: &str) -> User {
    let mut user = User::new(id, name, "h".into(), vec![UserRole::everywhere("ADMIN")]);
    (user.created, user.changed) = (Timestamp(1), Timestamp(1));
    user
}

fn key(user_id: i64, access_key: &str, created: i64) -> AccessKey {
    AccessKey {
        access_key: access_key.into(),
        user_id,
        secret: Sealed::from_text("00ff".into()),
        enabled: true,
        description: "夜间".into(),
        created: Timestamp(created),
    }
}

async fn names(keys: &AccessKeys, user_id: i64) -> Vec<String> {
    let keys = keys.of(user_id).await.unwrap();
    keys.into_iter().map(|key| key.access_key).collect()
}

on_every_database!(keys_are_their_users_and_counted);

async fn keys_are_their_users_and_counted(kind: Kind) {
    let place = Place::new(kind).await;
    let database = place.try_open().await.unwrap();
    let (users, keys) = (database.users(), database.access_keys());
    for (id, name) in [(1, "one"), (2, "two")] {
        assert!(users.insert(&user(id, name), Timestamp(1)).await.unwrap());
    }
    assert!(keys.insert(&key(1, "b", 1), 2).await.unwrap());
    assert!(keys.insert(&key(1, "a", 2), 2).await.unwrap());
    assert!(!keys.insert(&key(1, "c", 3), 2).await.unwrap(), "two are the most");
    assert!(keys.insert(&key(2, "d", 3), 2).await.unwrap());
    assert_eq!(names(&keys, 1).await, ["b", "a"]);
    assert_eq!(keys.find("d").await.unwrap(), Some((key(2, "d", 3), user(2, "two"))));
    assert_eq!(keys.find("D").await.unwrap(), None, "upper and lower case differ");

    assert!(!keys.set_enabled(1, "d", false).await.unwrap(), "another user's");
    assert!(keys.set_enabled(2, "d", false).await.unwrap());
    assert!(
        keys.set_enabled(2, "d", false).await.unwrap(),
        "it is like that already"
    );
    assert!(!keys.find("d").await.unwrap().unwrap().0.enabled);
    assert!(!keys.delete(1, "d").await.unwrap());
    assert!(keys.delete(2, "d").await.unwrap());
    assert!(!keys.delete(2, "d").await.unwrap());

    // Whoever adds at the same time is counted.
    let several: Vec<_> = (0..6).map(|n| key(2, &format!("k{n}"), 1)).collect();
    let added = futures::future::join_all(several.iter().map(|key| keys.insert(key, 3))).await;
    let added = added.into_iter().filter(|added| *added.as_ref().unwrap()).count();
    assert_eq!((added, names(&keys, 2).await.len()), (3, 3));
}

on_every_database!(a_signature_is_used_once);

async fn a_signature_is_used_once(kind: Kind) {
    let place = Place::new(kind).await;
    let keys = place.try_open().await.unwrap().access_keys();
    assert!(keys.use_signature("a", Timestamp(10)).await.unwrap());
    assert!(!keys.use_signature("a", Timestamp(20)).await.unwrap());
    assert!(keys.use_signature("b", Timestamp(20)).await.unwrap());
    assert_eq!(keys.forget_signatures(Timestamp(20)).await.unwrap(), 1);
    assert!(!keys.use_signature("b", Timestamp(20)).await.unwrap());
    assert!(keys.use_signature("a", Timestamp(10)).await.unwrap());
}
