//! What a user may change: everybody who is let in may look at everything, but changes take a role.

use axum::{
    extract::{FromRequestParts as _, Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use obfleet_wire::{Code, Refusal};

use super::Who;
use crate::http::ApiError;

/// May change everything.
pub const ADMIN: &str = "ADMIN";

/// A part of the API that a role lets its users change. The words are OCP's.
#[derive(Debug, Clone, Copy)]
pub enum Area {
    /// Clusters and their proxies.
    Obproxy,
    /// Tasks.
    Task,
    /// Packages.
    Package,
    /// Hosts and their agents.
    Host,
}

impl Area {
    fn manager(self) -> &'static str {
        match self {
            Self::Obproxy => "OBPROXY_MANAGER",
            Self::Task => "TASK_MANAGER",
            Self::Package => "PACKAGE_MANAGER",
            Self::Host => "HOST_MANAGER",
        }
    }

    /// Whether a user with these roles may send such a request.
    fn admits(self, method: &Method, roles: &[String]) -> bool {
        method.is_safe() || roles.iter().any(|role| role == ADMIN || role == self.manager())
    }
}

/// Layer, behind the login: lets pass what the caller's roles allow in this area.
pub async fn require_role(State(area): State<Area>, request: Request, next: Next) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let Who(actor, roles) = Who::from_request_parts(&mut parts, &()).await?;
    if !area.admits(&parts.method, &roles) {
        tracing::warn!(
            user = actor.name,
            needed = area.manager(),
            "a change was refused: no role for it"
        );
        return Err(ApiError::from(Refusal::new(Code::Iam11000, [area.manager()])));
    }
    Ok(next.run(Request::from_parts(parts, body)).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_is_free_and_changes_take_the_areas_role() {
        let roles = |roles: &[&str]| roles.iter().map(|role| (*role).to_owned()).collect::<Vec<_>>();
        for area in [Area::Obproxy, Area::Task, Area::Package, Area::Host] {
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                assert!(area.admits(&method, &roles(&[ADMIN])), "{area:?} {method}");
                assert!(
                    area.admits(&method, &roles(&["X", area.manager()])),
                    "{area:?} {method}"
                );
                assert!(!area.admits(&method, &roles(&[])), "{area:?} {method}");
                assert!(!area.admits(&method, &roles(&["OBPROXY_VIEWER"])), "{area:?} {method}");
            }
            assert!(area.admits(&Method::GET, &roles(&[])));
        }
        assert!(!Area::Obproxy.admits(&Method::POST, &roles(&["HOST_MANAGER"])));
    }
}
