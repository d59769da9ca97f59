//! The one place where OCP's envelope is made.
//!
//! Handlers answer with [`Data`], [`NoData`] or an [`ApiError`]; these leave an [`Outcome`] in the response, and
//! [`wrap`], the outermost layer, turns it into the envelope; headers of theirs are kept. Answers without an outcome (files,
//! plain text) pass.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use obfleet_wire::{envelope::Envelope, time::Timestamp};
use serde::Serialize;
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use tracing::Instrument as _;

use super::{error::ApiError, language::Language, trace::trace_id};

/// What a handler came to.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It did what was asked for; `data` is absent when there is none.
    Done(Option<Box<RawValue>>),
    /// It did not.
    Refused(ApiError),
}

/// An answer's `data`.
#[derive(Debug)]
pub struct Data<T>(pub T);

/// An answer without `data`.
#[derive(Debug)]
pub struct NoData;

impl IntoResponse for Outcome {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(self);
        response
    }
}

impl<T: Serialize> IntoResponse for Data<T> {
    fn into_response(self) -> Response {
        match text(&self.0) {
            Ok(data) => Outcome::Done(Some(data)).into_response(),
            Err(error) => ApiError::internal(error).into_response(),
        }
    }
}

impl IntoResponse for NoData {
    fn into_response(self) -> Response {
        Outcome::Done(None).into_response()
    }
}

/// JSON whose objects have their members in alphabetical order, as in OCP's answers. Types declare them so: to bring them into
/// order here would take longer than all the rest of a large answer.
fn text(answer: &impl Serialize) -> serde_json::Result<Box<RawValue>> {
    let text = to_raw_value(answer)?;
    if cfg!(debug_assertions) {
        // The objects of a `Value` are in order.
        let ordered = serde_json::from_str::<Value>(text.get())?.to_string();
        // What they hold may be secret.
        let kind = std::any::type_name_of_val(answer);
        assert!(
            ordered == text.get(),
            "members of {kind} are not declared in alphabetical order"
        );
    }
    Ok(text)
}

/// The id a request is known by, in its extensions.
#[derive(Debug, Clone)]
pub struct TraceId(pub Arc<str>);

/// Outermost layer: times the request, gives it its trace id and language, and makes the envelope.
///
/// The state is the opaque id of this server.
pub async fn wrap(State(server): State<Arc<str>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let trace_id = trace_id(request.headers());
    request.extensions_mut().insert(TraceId(trace_id.as_str().into()));
    let language = Language::of(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = tracing::info_span!("request", trace_id, %method, path);

    // A task of its own: what has begun is finished, also when the client hangs up half-way.
    let answer = tokio::spawn(next.run(request).instrument(span.clone())).await;
    let mut response = answer.unwrap_or_else(|_| ApiError::internal("its handler panicked").into_response());
    let Some(outcome) = response.extensions_mut().remove::<Outcome>() else {
        return response;
    };
    let _inside = span.enter();

    let (status, data, error) = match outcome {
        Outcome::Done(data) => (StatusCode::OK, data, None),
        Outcome::Refused(error) => (error.status(), None, Some(error)),
    };
    let duration = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    if let Some(error) = &error {
        let said = error.body(Language::English);
        if status.is_server_error() {
            tracing::error!(status = status.as_u16(), duration, "request failed: {}", said.message);
        } else {
            tracing::info!(status = status.as_u16(), duration, "request refused: {}", said.message);
        }
    }
    let envelope = Envelope {
        data,
        duration,
        error: error.as_ref().map(|error| error.body(language)),
        server: server.to_string(),
        status: status.as_u16(),
        successful: status.is_success(),
        timestamp: Timestamp::now(),
        trace_id,
    };
    let headers = std::mem::take(response.headers_mut());
    let mut response = render(&envelope, status).into_response();
    response.headers_mut().extend(headers);
    if let Some(seconds) = error.and_then(|error| error.retry_after_seconds()) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn render(envelope: &Envelope<Box<RawValue>>, status: StatusCode) -> impl IntoResponse + use<> {
    let json = text(envelope)
        .map(|text| String::from(Box::<str>::from(text)))
        .unwrap_or_default();
    (
        status,
        [(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        json,
    )
}

#[cfg(test)]
mod tests {
    use axum::{Router, middleware, routing::get};
    use obfleet_wire::{Code, Refusal};
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(path: &str, language: &str) -> (StatusCode, String) {
        let app = Router::new()
            .route(
                "/data",
                get(async || Data(serde_json::json!({"b": 1, "a": {"d": 1, "c": 2}}))),
            )
            .route("/none", get(async || NoData))
            .route("/plain", get(async || "text"))
            .route(
                "/refused",
                get(async || ApiError::from(Refusal::new(Code::Odp21002, [7]).field("obproxyIds"))),
            )
            .layer(middleware::from_fn_with_state(Arc::<str>::from("0123456789"), wrap));
        let request = Request::get(path)
            .header("accept-language", language)
            .header("x-trace-id", "0fda4c74b7a84932")
            .body(Body::empty())
            .unwrap();
        let response = app.oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn keys_are_alphabetical_and_absent_members_absent() {
        let (status, text) = ask("/data", "en").await;
        assert_eq!(status, StatusCode::OK);
        let keys = [
            "\"data\":{\"a\":{\"c\"",
            "\"duration\":",
            "\"server\":\"0123456789\"",
            "\"status\":200",
            "\"successful\":true",
            "\"timestamp\":",
            "\"traceId\":\"0fda4c74b7a84932\"",
        ];
        let places: Vec<usize> = keys
            .iter()
            .map(|key| text.find(key).unwrap_or_else(|| panic!("{key} in {text}")))
            .collect();
        assert!(places.is_sorted(), "{text}");
        assert!(!text.contains("\"error\""), "{text}");

        let (_, text) = ask("/none", "en").await;
        assert!(!text.contains("\"data\"") && !text.contains("null"), "{text}");
    }

    #[test]
    #[should_panic(expected = "alphabetical order")]
    fn a_type_that_is_declared_in_another_order_is_found_in_development() {
        #[derive(Serialize)]
        struct Disorderly {
            b: u8,
            a: u8,
        }
        let _ = Data(Disorderly { b: 1, a: 2 }).into_response();
    }

    #[tokio::test]
    async fn a_refusal_speaks_the_readers_language() {
        let (status, english) = ask("/refused", "en-US").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let english: Value = serde_json::from_str(&english).unwrap();
        assert_eq!(english["error"]["code"], 21002);
        assert_eq!(english["error"]["debugMessage"], "ODP21002");
        assert_eq!(english["error"]["subErrors"][0]["field"], "obproxyIds");
        assert_eq!(english["successful"], false);
        assert!(
            english["error"]["message"]
                .as_str()
                .unwrap()
                .contains("proxy server with id 7")
        );
        let (_, chinese) = ask("/refused", "zh-CN").await;
        assert!(chinese.contains("没有 ID 为 7 的"), "{chinese}");
    }

    #[tokio::test]
    async fn plain_answers_pass() {
        assert_eq!(ask("/plain", "en").await, (StatusCode::OK, "text".to_owned()));
    }
}
