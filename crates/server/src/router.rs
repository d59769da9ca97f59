//! All routes: the envelope around everything, the login around all but the public ones.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    middleware,
    routing::{delete, get, post},
};
use obfleet_wire::Code;

use crate::{
    api::{agents, clusters, diagnosis, hosts, obproxies, packages, peers, system, task_events, tasks},
    app::App,
    auth::{
        require_login, require_login_unless_local,
        role::{Area, require_role},
    },
    http::{ApiError, Fault, body, envelope},
    metrics,
    peers::Peers,
};

/// The service; `server_id` is told in every envelope.
pub fn router(app: Arc<App>, server_id: &str) -> Router {
    let authenticator = app.authenticator.clone();
    let metrics = Arc::clone(&app.metrics);
    let private = Router::new()
        .nest("/api/v2/obproxy", guarded(obproxy(), Area::Obproxy))
        .nest("/api/v2/tasks", guarded(tasks(), Area::Task))
        .nest("/api/v2/software-packages", guarded(software_packages(), Area::Package))
        .route("/api/v2/files/sys-package/{fileName}", get(packages::download))
        .nest("/api/v2/compute", guarded(compute(), Area::Host))
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_route)
        .layer(middleware::from_fn_with_state(authenticator.clone(), require_login));
    let local = Router::new()
        .route("/metrics", get(system::metrics))
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(
            authenticator,
            require_login_unless_local,
        ));
    let public = Router::new()
        .route("/api/v2/time", get(system::time))
        .route("/healthz", get(system::alive))
        .route("/readyz", get(system::ready))
        .route("/api/v2/compute/agents/enrol", post(agents::enrol))
        .method_not_allowed_fallback(wrong_method);
    let internal = app.peers.as_ref().map(internal).unwrap_or_default();
    private
        .merge(public)
        .merge(local)
        .merge(internal)
        .layer(DefaultBodyLimit::max(body::LIMIT))
        .layer(middleware::from_fn_with_state(
            Arc::<str>::from(server_id),
            envelope::wrap,
        ))
        .layer(middleware::from_fn_with_state(metrics, metrics::http::measure))
        .with_state(app)
}

/// What other servers ask for.
fn internal(app_peers: &Arc<Peers>) -> Router<Arc<App>> {
    Router::new()
        .route("/internal/nudge", post(peers::nudge))
        .route("/internal/packages/{sha256}", get(peers::package).post(peers::offered))
        .layer(middleware::from_fn_with_state(
            Arc::clone(app_peers),
            peers::require_pass,
        ))
}

/// Routes on which changes take the area's role.
fn guarded(routes: Router<Arc<App>>, area: Area) -> Router<Arc<App>> {
    routes.layer(middleware::from_fn_with_state(area, require_role))
}

fn compute() -> Router<Arc<App>> {
    Router::new()
        .route("/hosts", get(hosts::list))
        .route("/hosts/{hostId}", get(hosts::detail))
        .route("/agents/tokens", post(agents::create_token))
}

fn obproxy() -> Router<Arc<App>> {
    Router::new()
        .route("/clusters", get(clusters::list).post(clusters::create))
        .route("/clusters/{id}", get(clusters::detail).delete(clusters::remove))
        .route("/clusters/{id}/obproxies/batchAdd", post(obproxies::batch_add))
        .route("/clusters/{id}/obproxies/{obproxyIds}", delete(obproxies::remove))
        .route(
            "/clusters/{id}/obproxies/{obproxyIds}/upgrade",
            post(obproxies::upgrade),
        )
        .route("/exporterTargets", get(obproxies::exporter_targets))
}

fn tasks() -> Router<Arc<App>> {
    Router::new()
        .route("/{taskInstanceId}", get(tasks::detail))
        .route("/unreadable", get(tasks::unreadable))
        .route("/instances", get(tasks::list))
        .route("/instances/{taskInstanceId}", get(tasks::detail))
        .route("/instances/{taskInstanceId}/retry", post(tasks::retry))
        .route("/instances/{taskInstanceId}/rollback", post(tasks::rollback))
        .route("/instances/{taskInstanceId}/events", get(task_events::events))
        .route(
            "/instances/{taskInstanceId}/downloadDiagnosis",
            post(diagnosis::download),
        )
        .route("/instances/{taskInstanceId}/cancel", post(tasks::cancel))
        .route("/instances/{taskInstanceId}/pause", post(tasks::pause))
        .route("/instances/{taskInstanceId}/resume", post(tasks::resume))
        .route("/instances/{taskInstanceId}/abandon", post(tasks::abandon))
        .route(
            "/instances/{taskInstanceId}/subtasks/{subtaskInstanceId}/log",
            get(tasks::log),
        )
        .route(
            "/instances/{taskInstanceId}/subtasks/{subtaskInstanceId}/retry",
            post(tasks::retry_subtask),
        )
        .route(
            "/instances/{taskInstanceId}/subtasks/{subtaskInstanceId}/skip",
            post(tasks::skip_subtask),
        )
        .route(
            "/instances/{taskInstanceId}/subtasks/{subtaskInstanceId}/cancel",
            post(tasks::cancel_subtask),
        )
}

fn software_packages() -> Router<Arc<App>> {
    // A package is bounded while it is written to disk, not in memory.
    let upload = post(packages::upload).layer(DefaultBodyLimit::disable());
    Router::new()
        .route("/", get(packages::list).merge(upload))
        .route("/{id}", delete(packages::remove))
}

async fn wrong_method() -> ApiError {
    ApiError::plain(Code::Com10008)
}

async fn no_route(request: Request) -> ApiError {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    ApiError::fault(Fault::NoRoute { method, path })
}
