//! Credentials and what people say of hosts, on every database.

use obfleet_fleet::inventory::{
    Credential, CredentialRemoved, EnrolToken, HostPlace, HostProfile, Inventory as _, Vault as _,
};
use obfleet_fleet::secrets::Sealed;
use obfleet_wire::{credential::SshLoginType, time::Timestamp};

use crate::inventory::host;
use crate::on_every_database;
use crate::support::{Kind, Place};

fn credential(user_id: i64, name: &str) -> Credential {
    Credential {
        id: 0,
        user_id,
        name: name.into(),
        description: Some("北京".into()),
        login: SshLoginType::PrivateKey,
        username: "deploy".into(),
        secret: Sealed::from_text("00ff".repeat(2000)),
        key_passphrase: Some(Sealed::from_text("0a".into())),
        created: Timestamp(5),
        updated: Timestamp(6),
    }
}

on_every_database!(a_credential_is_its_users_alone);

async fn a_credential_is_its_users_alone(kind: Kind) {
    let place = Place::new(kind).await;
    let database = place.try_open().await.unwrap();
    let inventory = database.inventory();
    let add = async |user, name| inventory.insert_credential(&credential(user, name)).await.unwrap();
    let one = add(1, "a").await.unwrap();
    assert_eq!(add(1, "a").await, None, "the name is taken");
    let other = add(2, "a").await.unwrap();
    let password = Credential {
        login: SshLoginType::Password,
        key_passphrase: None,
        description: None,
        ..credential(1, "b")
    };
    let two = inventory.insert_credential(&password).await.unwrap().unwrap();

    let kept = Credential {
        id: one,
        ..credential(1, "a")
    };
    let password = Credential { id: two, ..password };
    assert_eq!(inventory.credentials(1).await.unwrap(), [kept.clone(), password]);
    assert_eq!(inventory.credential(1, one).await.unwrap(), Some(kept));
    assert_eq!(inventory.credential(2, one).await.unwrap(), None);
    assert_eq!(
        inventory.delete_credential(2, one).await.unwrap(),
        CredentialRemoved::Missing
    );
    assert_eq!(
        inventory.delete_credential(1, one).await.unwrap(),
        CredentialRemoved::Gone
    );
    assert_eq!(
        inventory.delete_credential(1, one).await.unwrap(),
        CredentialRemoved::Missing
    );
    assert!(inventory.credential(2, other).await.unwrap().is_some());
    assert!(add(1, "a").await.is_some(), "the name is free again");
}

on_every_database!(what_people_say_of_a_host_is_kept);

async fn what_people_say_of_a_host_is_kept(kind: Kind) {
    let place = Place::new(kind).await;
    let database = place.try_open().await.unwrap();
    let inventory = database.inventory();
    let token = EnrolToken {
        id: "t".into(),
        key: vec![1],
        expires: Timestamp(9),
        place: HostPlace::default(),
        host_id: None,
    };
    inventory.insert_token(&token).await.unwrap();
    let id = inventory.enrol("t", &host("a", "10.0.0.1")).await.unwrap().unwrap();
    let before = inventory.host(id).await.unwrap().unwrap();
    let profile = HostProfile {
        alias: Some("front".into()),
        description: Some("北".into()),
        ..before.profile.clone()
    };
    assert!(inventory.edit_host(id, &profile).await.unwrap());
    assert!(!inventory.edit_host(id + 1000, &profile).await.unwrap());
    let after = inventory.host(id).await.unwrap().unwrap();
    assert_eq!(after.profile, profile);
    assert_eq!((after.facts, after.address), (before.facts, before.address));
}
