//! What is measured of proxies: `/api/v2/monitor/…`, in OCP's shape, and all of it at once for Prometheus.

mod catalogue;
mod question;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use obfleet_fleet::monitor::query::{Group, Query};
use obfleet_wire::{
    envelope::{Contents, Paged},
    time::Timestamp,
};
use serde_json::{Map, Value};

use crate::{
    app::AppState,
    auth::{granted::Scope, right::Right},
    http::{ApiResult, Data, Entry, ListQuery, language::Language},
    routes::Routes,
};

/// Below `/api/v2/monitor`.
pub fn routes() -> Routes {
    Routes::new()
        .get("/metricGroups", Right::ObproxyView.shared(), groups)
        .get("/metric", Right::ObproxyView.filtered(), metric)
        .get("/metricsWithLabel", Right::ObproxyView.filtered(), with_label)
}

/// The metrics there are, by class and group.
pub async fn groups(headers: HeaderMap, query: ListQuery) -> ApiResult<Data<Paged<Entry<catalogue::Class>>>> {
    let classes = catalogue::classes(&query, Language::of(&headers))?;
    Ok(Data(query.page(classes)?))
}

/// Values by time: one entry for each time and group.
pub async fn metric(State(app): AppState, scope: Scope, query: ListQuery) -> ApiResult<Data<Contents<Value>>> {
    let query = question::read(&query, &scope, Timestamp::now())?;
    let groups = app.monitor.ask(&query).await?;
    let entries = groups.iter().flat_map(|group| {
        samples(&query, group).map(|mut sample| {
            sample.extend(labels(group));
            sample.into()
        })
    });
    let contents = entries.collect();
    Ok(Data(Contents { contents }))
}

/// Values by group: its labels, and `data` with an entry for each time.
pub async fn with_label(State(app): AppState, scope: Scope, query: ListQuery) -> ApiResult<Data<Contents<Value>>> {
    let query = question::read(&query, &scope, Timestamp::now())?;
    let groups = app.monitor.ask(&query).await?;
    let entry = |group: &Group| {
        let mut entry: Map<String, Value> = labels(group).collect();
        let data: Vec<Value> = samples(&query, group).map(Value::from).collect();
        entry.insert("data".to_owned(), data.into());
        Value::from(entry)
    };
    let contents = groups.iter().map(entry).collect();
    Ok(Data(Contents { contents }))
}

fn labels(group: &Group) -> impl Iterator<Item = (String, Value)> {
    group
        .labels
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into()))
}

/// An entry for each time: `timestamp`, in seconds since the epoch, and each metric that was asked for, null where nothing is
/// known.
fn samples(query: &Query, group: &Group) -> impl Iterator<Item = Map<String, Value>> {
    group.values.iter().map(|(at, values)| {
        let mut sample = Map::new();
        sample.insert("timestamp".to_owned(), at.div_euclid(1000).into());
        for metric in &query.metrics {
            sample.insert(metric.name.to_owned(), values.get(metric.name).copied().into());
        }
        sample
    })
}

/// `GET /api/v2/obproxy/metrics` (*extension*): what all exporters said last, labelled, as text for Prometheus; no envelope.
pub async fn exposition(State(app): AppState) -> ApiResult<Response> {
    let text = app.monitor.exposition().await?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(CONTENT_TYPE, kind)], text).into_response())
}
