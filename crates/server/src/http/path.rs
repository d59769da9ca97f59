//! Ids in the path, by the name OCP's documentation gives them.

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};
use obfleet_wire::id::{IdList, MOST_IDS};

use super::{error::ApiError, fault::Wanted};

/// Characters of a list that is too long which are told.
const SHOWN: usize = 40;

/// The variable segments of a request's path, decoded (`%2C` is a comma).
#[derive(Debug)]
pub struct PathIds(Vec<(String, String)>);

impl PathIds {
    /// The segment as text; empty when the route has none of that name.
    pub fn text(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    /// The segment as one positive id.
    pub fn id(&self, name: &str) -> Result<i64, ApiError> {
        let text = self.text(name);
        let id = text.trim().parse().ok().filter(|id: &i64| *id > 0);
        id.ok_or_else(|| ApiError::value(name, text, Wanted::Id))
    }

    /// The segment as positive ids with commas between them, each once.
    pub fn ids(&self, name: &str) -> Result<Vec<i64>, ApiError> {
        let text = self.text(name);
        if text.bytes().filter(|byte| *byte == b',').count() >= MOST_IDS {
            let shown: String = text.chars().take(SHOWN).chain("…".chars()).collect();
            return Err(ApiError::value(name, &shown, Wanted::AtMost(MOST_IDS)));
        }
        let ids: Result<IdList, _> = text.parse();
        ids.map(|ids| ids.0)
            .map_err(|_| ApiError::value(name, text, Wanted::Ids))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathIds {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let raw = RawPathParams::from_request_parts(parts, state).await;
        let raw = raw.map_err(|_| ApiError::value("path", parts.uri.path(), Wanted::Utf8))?;
        Ok(Self(
            raw.iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        ))
    }
}
