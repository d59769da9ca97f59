//! Who may use a route. Each says so where it is declared ([`Routes`](crate::routes::Routes)); this is what comes of it.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts as _, Request, State},
    http::request::Parts,
    middleware::Next,
    response::Response,
};
use obfleet_engine::{EngineError, TaskId};
use obfleet_wire::{Code, Refusal};

use super::{Who, granted::Scope, right::Right, role};
use crate::{
    app::App,
    http::{ApiError, ApiResult, PathIds},
};

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without a login.
    Open,
    /// Everybody who is logged in, for what is the user's own.
    Own,
    /// Users with a right that reaches far enough.
    Needs(Right, Reach),
    /// The same, and whoever asks from the server's own machine, without a login.
    NeedsUnlessLocal(Right),
    /// Other servers on the database.
    Servers,
}

/// What a route with a right is about: how far the right has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A proxy cluster: the part of the path with its id.
    Cluster(&'static str),
    /// A task: the part of the path with its id.
    Task(&'static str),
    /// As much as the user may see.
    Filtered,
    /// Nothing of any cluster.
    Shared,
    /// More than clusters.
    Whole,
}

impl Access {
    /// The right it takes.
    pub fn right(self) -> Option<Right> {
        match self {
            Self::Needs(right, _) | Self::NeedsUnlessLocal(right) => Some(right),
            Self::Open | Self::Own | Self::Servers => None,
        }
    }
}

/// Layer of a route, behind the login: lets pass who may use it, and tells the handler the [`Scope`] of the right.
pub async fn authorize(
    State((app, access)): State<(Arc<App>, Access)>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    match access {
        Access::Open | Access::Servers => {}
        Access::Own => drop(Who::from_request_parts(&mut parts, &()).await?),
        Access::Needs(right, reach) => {
            let scope = check(&app, &mut parts, right, reach).await?;
            parts.extensions.insert(scope);
        }
        // Who has no name here was let in for where the request comes from.
        Access::NeedsUnlessLocal(right) => {
            if parts.extensions.get::<Who>().is_some() {
                check(&app, &mut parts, right, Reach::Whole).await?;
            }
        }
    }
    Ok(next.run(Request::from_parts(parts, body)).await)
}

async fn check(app: &App, parts: &mut Parts, right: Right, reach: Reach) -> ApiResult<Scope> {
    let Who(actor, login) = Who::from_request_parts(parts, &()).await?;
    if login.must_change {
        return Err(ApiError::plain(Code::Iam10020));
    }
    let Some(scope) = login.granted.scope(right).cloned() else {
        tracing::warn!(
            user = actor.name,
            needed = right.name(),
            path = parts.uri.path(),
            "refused: no right"
        );
        return Err(Refusal::new(Code::Iam11000, [right.name().to_owned(), role::with(right)]).into());
    };
    let Scope::Clusters(clusters) = &scope else {
        return Ok(scope);
    };
    let within = match reach {
        Reach::Filtered | Reach::Shared => true,
        Reach::Whole => false,
        Reach::Cluster(name) => match PathIds::from_request_parts(parts, &()).await?.id(name) {
            Ok(id) => clusters.contains(&id),
            // What is wrong with it is for the handler to say.
            Err(_) => true,
        },
        Reach::Task(name) => match PathIds::from_request_parts(parts, &()).await?.id(name) {
            Ok(id) => is_task_within(app, TaskId(id), &scope).await?,
            Err(_) => true,
        },
    };
    if !within {
        tracing::warn!(
            user = actor.name,
            needed = right.name(),
            path = parts.uri.path(),
            "refused: out of scope"
        );
        return Err(Refusal::new(Code::Iam10017, [right.name()]).into());
    }
    Ok(scope)
}

/// A task that is not there is for the handler to say.
async fn is_task_within(app: &App, id: TaskId, scope: &Scope) -> ApiResult<bool> {
    match app.fleet.engine().task(id).await {
        Ok(task) => Ok(task.cluster_id.is_some_and(|cluster| scope.holds(cluster))),
        Err(EngineError::TaskNotFound(_)) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
