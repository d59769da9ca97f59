//! The server itself: its clock, its health and its metrics. Nothing here is in an envelope.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use obfleet_engine::{TaskFilter, TaskStatus};
use obfleet_wire::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    app::AppState,
    auth::{access::Access, right::Right},
    http::{ApiError, ApiResult},
    metrics,
    routes::Routes,
};

/// What the server is, as OCP tells it; what OCP says of Java besides has no meaning here.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    artifact: String,
    build_version: String,
    group: String,
    name: String,
}

/// At the root.
pub fn routes() -> Routes {
    Routes::new()
        .get("/api/v2/time", Access::Open, time)
        .get("/api/v2/info", Access::Own, info)
        .get("/api/status", Access::Own, status)
        .get("/healthz", Access::Open, alive)
        .get("/readyz", Access::Open, ready)
        .get("/metrics", Access::NeedsUnlessLocal(Right::SystemView), metrics)
}

/// `GET /api/v2/time`: the server's clock as plain text, without a login. Clients use it as a sign of life.
pub async fn time() -> String {
    Timestamp::now().to_string()
}

/// `GET /api/v2/info`: name and version of the server.
pub async fn info() -> Json<Info> {
    Json(Info {
        artifact: "obfleet".to_owned(),
        build_version: env!("CARGO_PKG_VERSION").to_owned(),
        group: "obfleet".to_owned(),
        name: "obfleet".to_owned(),
    })
}

/// `GET /api/status`: `okay`, or `bad` with 503 while requests should not be sent here.
pub async fn status(State(app): AppState) -> (StatusCode, &'static str) {
    match app.health.look().await.ready {
        true => (StatusCode::OK, "okay"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "bad"),
    }
}

/// `GET /healthz`: that the process answers, without a login.
pub async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: whether requests should be sent here, and what is missing if not; 200 or 503, without a login.
pub async fn ready(State(app): AppState) -> Response {
    let readiness = app.health.look().await;
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness)).into_response()
}

/// `GET /metrics`, for Prometheus.
pub async fn metrics(State(app): AppState) -> ApiResult<Response> {
    for status in [TaskStatus::Running, TaskStatus::Failed] {
        let only_counted = TaskFilter {
            status: vec![status],
            size: 1,
            ..TaskFilter::default()
        };
        let counted = app.fleet.engine().list(&only_counted).await;
        // A scrape is wanted most when the database is away.
        let counted = counted.inspect_err(|error| tracing::warn!(%error, "the tasks could not be counted"));
        app.metrics.steps.stand(status, counted.ok().map(|page| page.total));
    }
    app.metrics.steps.left_alone(app.fleet.engine().unreadable().len());
    let text = app.metrics.render().map_err(ApiError::internal)?;
    let kind = (CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    Ok(([kind], text).into_response())
}
