//! Regions, IDCs and host types, on every database.

use obfleet_fleet::inventory::{
    Added, DEFAULT_SITE, EnrolToken, HostPlace, Idc, Inventory as _, Removed, Site, SiteKind, Sites as _,
};
use obfleet_store::{Database, sql};
use obfleet_wire::time::Timestamp;

use crate::inventory::host;
use crate::on_every_database;
use crate::support::{Kind, Place};

fn site(name: &str) -> Site {
    Site {
        id: 0,
        name: name.into(),
        description: Some("北京".into()),
        created: Some(Timestamp(5)),
        updated: Some(Timestamp(6)),
    }
}

fn idc(name: &str, region_id: i64) -> Idc {
    Idc {
        site: site(name),
        region_id,
    }
}

fn id(added: Added) -> i64 {
    match added {
        Added::Id(id) => id,
        other => panic!("not added: {other:?}"),
    }
}

async fn opened(kind: Kind) -> (Place, Database) {
    let place = Place::new(kind).await;
    let database = place.try_open().await.unwrap();
    (place, database)
}

on_every_database!(sites_are_added_once_and_kept_while_they_are_used);

async fn sites_are_added_once_and_kept_while_they_are_used(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    let beginning = inventory.sites().await.unwrap();
    assert_eq!(beginning.idcs[&DEFAULT_SITE].region_id, DEFAULT_SITE);
    assert_eq!(beginning.host_types[&DEFAULT_SITE].created, None);

    let north = id(inventory.insert_site(SiteKind::Region, &site("north")).await.unwrap());
    let again = inventory.insert_site(SiteKind::Region, &site("north")).await.unwrap();
    assert_eq!(again, Added::NameTaken);
    let tiny = id(inventory.insert_site(SiteKind::HostType, &site("north")).await.unwrap());
    let other_case = inventory.insert_site(SiteKind::Region, &site("North")).await.unwrap();
    assert!(matches!(other_case, Added::Id(_)), "{other_case:?}");
    assert_eq!(inventory.insert_idc(&idc("n1", 777)).await.unwrap(), Added::NoRegion);
    let n1 = id(inventory.insert_idc(&idc("n1", north)).await.unwrap());
    assert_eq!(inventory.insert_idc(&idc("n1", 1)).await.unwrap(), Added::NameTaken);

    let all = inventory.snapshot().await.unwrap().sites.clone();
    assert_eq!(all, inventory.sites().await.unwrap());
    let kept = Site {
        id: north,
        ..site("north")
    };
    assert_eq!(all.regions[&north], kept);

    let token = EnrolToken {
        id: "t".into(),
        key: vec![1],
        expires: Timestamp(9),
        place: HostPlace {
            idc_id: n1,
            type_id: tiny,
        },
        host_id: None,
    };
    inventory.insert_token(&token).await.unwrap();
    assert_eq!(inventory.token("t").await.unwrap(), Some(token.clone()));
    let host_id = inventory.enrol("t", &host("a", "10.0.0.1")).await.unwrap().unwrap();
    assert_eq!(
        inventory.host(host_id).await.unwrap().unwrap().profile.place,
        token.place
    );

    let delete = async |kind, id| inventory.delete_site(kind, id).await.unwrap();
    assert_eq!(delete(SiteKind::Region, north).await, Removed::UsedBy(vec![n1]));
    assert_eq!(delete(SiteKind::Idc, n1).await, Removed::UsedBy(vec![host_id]));
    assert_eq!(delete(SiteKind::HostType, tiny).await, Removed::UsedBy(vec![host_id]));
    let gone = sql::query("UPDATE host SET deleted = TRUE WHERE id = ?").bind(host_id);
    gone.execute(database.writer()).await.unwrap();
    assert!(inventory.snapshot().await.unwrap().hosts.is_empty());
    assert_eq!(delete(SiteKind::Idc, n1).await, Removed::Gone);
    assert_eq!(delete(SiteKind::Idc, n1).await, Removed::Missing);
    assert_eq!(delete(SiteKind::Region, north).await, Removed::Gone);
    assert_eq!(delete(SiteKind::HostType, tiny).await, Removed::Gone);
}

on_every_database!(a_region_is_not_removed_from_under_a_new_idc);

/// Both at once, many times: never is there an IDC whose region is gone.
async fn a_region_is_not_removed_from_under_a_new_idc(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    for turn in 0..10 {
        let name = format!("r{turn}");
        let region = id(inventory.insert_site(SiteKind::Region, &site(&name)).await.unwrap());
        let new = idc(&name, region);
        let (added, removed) = tokio::join!(
            inventory.insert_idc(&new),
            inventory.delete_site(SiteKind::Region, region)
        );
        match (added.unwrap(), removed.unwrap()) {
            (Added::Id(idc), Removed::UsedBy(by)) => assert_eq!(by, [idc]),
            (Added::NoRegion, Removed::Gone) => {}
            other => panic!("turn {turn}: {other:?}"),
        }
    }
}
