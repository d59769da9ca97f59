//! `Idempotency-Key`: a request that arrives twice is done once.
//!
//! The key stands for one user and route. What is kept of it is a hash, and of the request a digest under the key, so
//! that neither tells what was sent.

use axum::{
    extract::{FromRequestParts, MatchedPath},
    http::request::Parts,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use obfleet_fleet::Once;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{error::ApiError, fault::Wanted};
use crate::auth::Who;

const HEADER: &str = "Idempotency-Key";
const MEMBER: &str = "clientToken";
/// Characters of a key.
const LENGTH: (usize, usize) = (1, 255);

/// The key of a request, if it has one, and what it stands for. Behind the login only.
#[derive(Debug)]
pub struct Idempotency {
    key: Option<String>,
    user: i64,
    route: String,
    path: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Idempotency {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Who(actor, _) = Who::from_request_parts(parts, state).await?;
        let matched = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let given = parts.headers.get(HEADER);
        let key = given.map(|value| checked(HEADER, value.to_str().unwrap_or_default()));
        Ok(Self {
            key: key.transpose()?,
            user: actor.id,
            route: format!("{} {matched}", parts.method),
            path: parts.uri.path().to_owned(),
        })
    }
}

fn checked(name: &str, key: &str) -> Result<String, ApiError> {
    let printable = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if printable && (LENGTH.0..=LENGTH.1).contains(&key.len()) {
        Ok(key.to_owned())
    } else {
        Err(ApiError::value(name, key, Wanted::Length(LENGTH.0, LENGTH.1)))
    }
}

impl Idempotency {
    /// With the body, and OCP's key in it where there is one. `None` when the client gave no key.
    pub fn of(self, body: &impl Serialize, client_token: Option<&str>) -> Result<Option<Once>, ApiError> {
        let inner = client_token.map(|token| checked(MEMBER, token)).transpose()?;
        let key = match (self.key, inner) {
            (Some(key), Some(token)) if key != token => {
                return Err(ApiError::value(MEMBER, &token, Wanted::SameAs(HEADER)));
            }
            (key, token) => key.or(token),
        };
        let Some(key) = key else { return Ok(None) };
        let token = Sha256::digest(format!("{}\0{}\0{key}", self.user, self.route));
        // Through a value, so that the order of members and spaces do not count.
        let body = serde_json::to_value(body).map_err(ApiError::internal)?;
        let mut digest = Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_err(ApiError::internal)?;
        digest.update(format!("{}\0{body}", self.path).as_bytes());
        Ok(Some(Once {
            token: hex::encode(token),
            digest: hex::encode(digest.finalize().into_bytes()),
        }))
    }
}
