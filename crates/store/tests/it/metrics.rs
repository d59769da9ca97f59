//! The history of what is measured.

use std::collections::BTreeMap;

use obfleet_fleet::monitor::{MetricStore as _, points::Hour};
use obfleet_wire::{agent::ProxySample, time::Timestamp};

use crate::on_every_database;
use crate::support::{Kind, Place};

fn sample(proxy_id: i64, at: i64, value: f64) -> ProxySample {
    ProxySample {
        proxy_id,
        at: Timestamp(at),
        values: [("odp_sql_request_total/SELECT".to_owned(), value)].into(),
    }
}

fn hour(proxy_id: i64, hour: i64, value: f64) -> Hour {
    Hour {
        proxy_id,
        hour,
        minutes: BTreeMap::from([("obproxy_up".to_owned(), vec![Some(value), None])]),
    }
}

on_every_database!(history_comes_and_goes);
async fn history_comes_and_goes(kind: Kind) {
    let place = Place::new(kind).await;
    let (database, _) = place.open().await;
    let metrics = database.metrics();
    // More than a transaction takes; the second time as another server would, that heard the same.
    let samples: Vec<_> = (0..300).map(|n| sample(n % 3, n * 1000, 0.5)).collect();
    metrics.write(&samples).await.unwrap();
    metrics.write(&samples).await.unwrap();
    metrics.write(&[]).await.unwrap();
    let all = metrics.samples(&[0, 1, 2], 0, i64::MAX).await.unwrap();
    assert_eq!(all.len(), 300);
    assert!(all.is_sorted_by_key(|one| (one.proxy_id, one.at)));
    let some = metrics.samples(&[2, 9], 2000, 8000).await.unwrap();
    assert_eq!(some, [sample(2, 2000, 0.5), sample(2, 5000, 0.5)]);
    assert!(metrics.samples(&[], 0, i64::MAX).await.unwrap().is_empty());

    metrics
        .write_hours(&[hour(1, 10, 1.0), hour(7, 10, 1.0)])
        .await
        .unwrap();
    metrics
        .write_hours(&[hour(1, 10, 2.0), hour(1, 11, 3.0)])
        .await
        .unwrap();
    assert_eq!(
        metrics.hours(&[1], 0, 12).await.unwrap(),
        [hour(1, 10, 2.0), hour(1, 11, 3.0)]
    );
    assert_eq!(metrics.proxies().await.unwrap(), [0, 1, 2, 7]);

    metrics.forget(1, 200_000, 11).await.unwrap();
    let left = metrics.samples(&[0, 1], 0, i64::MAX).await.unwrap();
    assert!(left.iter().all(|one| one.proxy_id == 0 || one.at >= Timestamp(200_000)));
    assert_eq!(left.iter().filter(|one| one.proxy_id == 0).count(), 100);
    assert_eq!(
        metrics.hours(&[1, 7], 0, 99).await.unwrap(),
        [hour(1, 11, 3.0), hour(7, 10, 1.0)]
    );
}
