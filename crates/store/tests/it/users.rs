//! The table of users, on every database.

use std::collections::{BTreeMap, BTreeSet};

use obfleet_store::users::User;
use obfleet_wire::time::Timestamp;

use crate::on_every_database;
use crate::support::{Kind, Place};

on_every_database!(users_are_told_apart_by_every_letter);

async fn users_are_told_apart_by_every_letter(kind: Kind) {
    let place = Place::new(kind).await;
    let users = place.try_open().await.unwrap().users();
    let admin = User {
        id: 100,
        name: "admin".into(),
        password_hash: "h1".into(),
        roles: vec!["ADMIN".into(), "审计".into()],
    };
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
