//! All routes: the envelope around everything, the login around all but the public ones.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    middleware,
};
use obfleet_wire::Code;

use crate::{
    api::{
        access_keys, agents, audit, clusters, config_server, credentials, documentation, events, hosts, login, monitor,
        ob_clusters, ob_links, obproxies, packages, parameters, passwords, peers, peers::require_pass, profile,
        proxy_logs, roles, servers, sites, system, take_over, tasks, users,
    },
    app::App,
    auth::{access::Access, require_login, require_login_unless_local},
    http::{ApiError, Fault, body, envelope},
    metrics,
    routes::Routes,
};

/// Every route there is.
pub fn routes() -> Routes {
    let obproxy = clusters::routes()
        .merge(obproxies::routes())
        .merge(servers::routes())
        .merge(take_over::routes())
        .merge(parameters::routes())
        .merge(ob_links::routes())
        .merge(events::routes())
        .merge(passwords::routes())
        .merge(proxy_logs::routes());
    let compute = hosts::routes().merge(agents::routes()).merge(sites::routes());
    Routes::new()
        .nest("/api/v2/obproxy", obproxy)
        .nest("/api/v2/monitor", monitor::routes())
        .nest("/api/v2/ob", ob_clusters::routes())
        .nest("/api/v2/tasks", tasks::routes())
        .nest("/api/v2", packages::routes().merge(login::routes()))
        .nest("/api/v2/compute", compute)
        .nest(
            "/api/v2/iam",
            access_keys::routes().merge(users::routes()).merge(roles::routes()),
        )
        .nest("/api/v2/audit", audit::routes())
        .nest("/api/v2/profiles/me", profile::routes().merge(credentials::routes()))
        .merge(system::routes())
        .merge(config_server::routes())
        .merge(documentation::routes())
        .nest("/internal", peers::routes())
}

/// The service; `server_id` is told in every envelope.
pub fn router(app: Arc<App>, server_id: &str) -> Router {
    let authenticator = app.authenticator.clone();
    let metrics = Arc::clone(&app.metrics);
    let mut routes = routes();
    let private = routes
        .router(&app, |access| matches!(access, Access::Own | Access::Needs(..)))
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_route)
        .layer(middleware::from_fn_with_state(authenticator.clone(), require_login));
    let local = routes
        .router(&app, |access| matches!(access, Access::NeedsUnlessLocal(_)))
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(
            authenticator,
            require_login_unless_local,
        ));
    let public = routes
        .router(&app, |access| access == Access::Open)
        .method_not_allowed_fallback(wrong_method);
    let mut service = private.merge(public).merge(local);
    // What other servers ask for.
    if let Some(peers) = &app.peers {
        let internal = routes.router(&app, |access| access == Access::Servers);
        let pass = middleware::from_fn_with_state(Arc::clone(peers), require_pass);
        service = service.merge(internal.layer(pass));
    }
    service
        .layer(DefaultBodyLimit::max(body::LIMIT))
        .layer(middleware::from_fn_with_state(
            Arc::<str>::from(server_id),
            envelope::wrap,
        ))
        .layer(middleware::from_fn_with_state(metrics, metrics::http::measure))
        .with_state(app)
}

async fn wrong_method() -> ApiError {
    ApiError::plain(Code::Com10008)
}

async fn no_route(request: Request) -> ApiError {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    ApiError::fault(Fault::NoRoute { method, path })
}
