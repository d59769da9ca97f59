//! The password of a proxy that is being taken over, on every database.

use obfleet_fleet::{
    inventory::{Inventory as _, InventoryChange},
    secrets::Sealed,
};

use crate::inventory::{apply, opened};
use crate::on_every_database;
use crate::support::Kind;

on_every_database!(a_password_is_kept_until_it_is_replaced_or_dropped);

async fn a_password_is_kept_until_it_is_replaced_or_dropped(kind: Kind) {
    let (_place, database) = opened(kind).await;
    let inventory = database.inventory();
    let set = |proxy_id, password: Option<&str>| InventoryChange::SetTakeOverPassword {
        proxy_id,
        password: password.map(|text| Sealed::from_text(text.into())),
    };
    let kept = async || {
        let mut texts = Vec::new();
        for id in [7_i64, 8] {
            let sealed = inventory.take_over_password(id).await.unwrap();
            texts.push(sealed.map(|sealed| sealed.text().to_owned()));
        }
        texts
    };
    assert_eq!(kept().await, [None, None]);
    let changes = [set(7, Some("one")), set(8, Some("other")), set(7, Some("two"))];
    apply(&database, 1, 1, &changes).await;
    assert_eq!(kept().await, [Some("two".to_owned()), Some("other".to_owned())]);
    apply(&database, 1, 2, &[set(7, None), set(7, None)]).await;
    assert_eq!(kept().await, [None, Some("other".to_owned())]);
}
