//! All routes: the envelope around everything, the login around all but the public ones.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    middleware,
    routing::{get, post},
};
use obfleet_wire::Code;

use crate::{
    api::{
        access_keys, agents, clusters, config_server, hosts, monitor, ob_clusters, ob_links, obproxies, packages,
        parameters, peers, servers, sites, system, tasks,
    },
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
        .nest(
            "/api/v2/obproxy",
            guarded(
                clusters::routes()
                    .merge(obproxies::routes())
                    .merge(servers::routes())
                    .merge(parameters::routes())
                    .merge(ob_links::routes()),
                Area::Obproxy,
            ),
        )
        .nest("/api/v2/monitor", monitor::routes())
        .nest("/api/v2/ob", guarded(ob_clusters::routes(), Area::Obproxy))
        .nest("/api/v2/tasks", guarded(tasks::routes(), Area::Task))
        .nest("/api/v2/software-packages", guarded(packages::routes(), Area::Package))
        .route("/api/v2/files/sys-package/{fileName}", get(packages::download))
        .nest(
            "/api/v2/compute",
            guarded(
                hosts::routes().merge(agents::routes()).merge(sites::routes()),
                Area::Host,
            ),
        )
        .nest("/api/v2/iam", access_keys::routes())
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
        .merge(config_server::routes())
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

async fn wrong_method() -> ApiError {
    ApiError::plain(Code::Com10008)
}

async fn no_route(request: Request) -> ApiError {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    ApiError::fault(Fault::NoRoute { method, path })
}
