//! What other servers on the database ask for: `/internal/…`. There is no login; each call has a pass.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use obfleet_wire::{Code, Refusal, time::Timestamp};

use super::packages::file_response;
use crate::{
    app::AppState,
    auth::access::Access,
    http::{ApiError, ApiResult, PathIds},
    peers::{Peers, pass, pass::PassError},
    routes::Routes,
};

/// Below `/internal`.
pub fn routes() -> Routes {
    Routes::new()
        .post("/nudge", Access::Servers, nudge)
        .get("/packages/{sha256}", Access::Servers, package)
        .post("/packages/{sha256}", Access::Servers, offered)
}

/// Lets in only who has a pass.
pub async fn require_pass(State(peers): State<Arc<Peers>>, request: Request, next: Next) -> Response {
    let pass = request
        .headers()
        .get(pass::HEADER)
        .and_then(|value| value.to_str().ok());
    let (method, path) = (request.method().as_str(), request.uri().path());
    match peers.passes.check(pass, method, path, Timestamp::now()) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            let status = match error {
                PassError::Misdirected => StatusCode::MISDIRECTED_REQUEST,
                PassError::Missing | PassError::Wrong | PassError::Expired => StatusCode::UNAUTHORIZED,
            };
            match error {
                // Anybody can do that, as often as they like.
                PassError::Missing | PassError::Wrong => tracing::debug!(path, %error, "a call was refused"),
                PassError::Expired | PassError::Misdirected => {
                    tracing::warn!(path, %error, "a call of another server's was refused");
                }
            }
            ApiError::plain(Code::Iam10000).with_status(status).into_response()
        }
    }
}

/// `POST /internal/nudge`: there is work.
pub async fn nudge(State(app): AppState) -> StatusCode {
    app.fleet.engine().nudge();
    StatusCode::NO_CONTENT
}

/// `GET /internal/packages/{sha256}`: the file of a package, if it is on this server.
pub async fn package(State(app): AppState, path: PathIds, headers: HeaderMap) -> ApiResult<Response> {
    let file = app.fleet.package_file_here(path.text("sha256")).await?;
    let file = file.ok_or_else(|| ApiError::from(Refusal::new(Code::Pkg10014, [path.text("sha256")])))?;
    file_response(&file, &headers).await
}

/// `POST /internal/packages/{sha256}`: another server has the file of a package, and this one should have it, too. Answered
/// when it has.
pub async fn offered(State(app): AppState, path: PathIds) -> ApiResult<StatusCode> {
    let (fleet, sha256) = (app.fleet.clone(), path.text("sha256").to_owned());
    // Also when whoever offers it does not wait for so long.
    let taking = tokio::spawn(async move { fleet.take_package(&sha256).await });
    taking.await.map_err(ApiError::internal)??;
    Ok(StatusCode::NO_CONTENT)
}
