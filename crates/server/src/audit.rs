//! Writing down what was changed: a layer of every route that is no GET.
//!
//! A record says who asked for what, by which right, from where and with what outcome; and what the path named before and
//! after, which is what a GET of the same path tells. It is kept before the answer is given. Requests of nobody are written
//! down only when they did something, so that strangers cannot fill the database.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{Method, StatusCode, request::Parts},
    middleware::Next,
    response::Response,
    routing::MethodRouter,
};
use futures::TryStreamExt as _;
use obfleet_wire::{audit::AuditRecord, time::Timestamp};
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};
use tower::ServiceExt as _;

use crate::{
    app::App,
    auth::{Who, granted::Scope, right::Right},
    http::{
        body,
        envelope::{Outcome, TraceId},
        language::Language,
    },
    masking,
};

/// Bytes of a request that are kept.
const LONGEST_REQUEST: usize = 64 * 1024;
/// Bytes that are kept of what the path named, and of the answer.
const LONGEST_VIEW: usize = 4 * 1024;
/// Characters of a path that are kept.
const LONGEST_PATH: usize = 1000;
/// Characters of a user's name that are kept.
const LONGEST_NAME: usize = 255;

/// What the layer knows of its route.
#[derive(Clone)]
pub struct Audited {
    /// Where records go.
    pub app: Arc<App>,
    /// What the route takes.
    pub right: Option<Right>,
    /// Tells what the route's path names, where there is a GET for it.
    pub look: Option<MethodRouter>,
}

/// Layer: writes down what comes of the request.
pub async fn record(State(audited): State<Audited>, request: Request, next: Next) -> Response {
    let (request, copy) = copied(request);
    let (parts, body) = request.into_parts();
    let method = parts.method.clone();
    let is_edit = matches!(method, Method::PUT | Method::PATCH);
    let before = match is_edit || method == Method::DELETE {
        true => audited.look(&parts).await,
        false => None,
    };
    let mut record = begun(&parts, audited.right);
    let seen = parts.clone();
    if let Some(user) = &record.user_name {
        // The record comes after the change, for it tells of the outcome: should the server be killed between the two, this is
        // left of it.
        let (method, path, trace_id) = (&record.method, &record.path, &record.trace_id);
        tracing::info!(user, method, path, trace_id, "a change begins");
    }
    let mut response = next.run(Request::from_parts(parts, body)).await;

    let outcome = response.extensions().get::<Outcome>();
    record.status = match outcome {
        None => response.status().as_u16(),
        Some(Outcome::Done(_)) => StatusCode::OK.as_u16(),
        Some(Outcome::Refused(error)) => error.status().as_u16(),
    };
    let mut detail = Map::new();
    let mut tell = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            detail.insert(name.to_owned(), value);
        }
    };
    tell("request", copy.and_then(|copy| copy.shown()));
    match outcome {
        Some(Outcome::Refused(error)) => {
            let said = error.body(Language::English);
            let message = masking::text(&said.message);
            tell("error", Some(json!({"code": said.code, "message": message})));
        }
        Some(Outcome::Done(Some(data))) if !is_edit => tell("after", Some(view(data))),
        _ => {}
    }
    if record.status < 400 {
        tell("before", before);
        if is_edit {
            tell("after", audited.look(&seen).await);
        }
    }
    if let Some(Who(actor, _)) = response.extensions_mut().remove::<Who>() {
        (record.user_id, record.user_name) = (Some(actor.id), Some(cut(&actor.name, LONGEST_NAME)));
    }
    if record.status < 400 || record.user_id.is_some() {
        keep(&audited.app, record, detail).await;
    }
    response
}

impl Audited {
    /// What a GET of the path tells.
    async fn look(&self, at: &Parts) -> Option<Value> {
        let mut request = Request::new(Body::empty());
        request.uri_mut().clone_from(&at.uri);
        // The path's parts are among them. Whoever may change it need not be allowed to see it; the record has it all the same.
        request.extensions_mut().clone_from(&at.extensions);
        request.extensions_mut().insert(Scope::All);
        let answer = self.look.clone()?.oneshot(request).await;
        let mut answer = answer.unwrap_or_else(|never| match never {});
        match answer.extensions_mut().remove::<Outcome>() {
            Some(Outcome::Done(Some(data))) => Some(view(&data)),
            _ => None,
        }
    }
}

fn begun(parts: &Parts, right: Option<Right>) -> AuditRecord {
    let who = parts.extensions.get::<Who>();
    let address = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let trace_id = parts.extensions.get::<TraceId>();
    AuditRecord {
        address: address.map_or_else(String::new, |address| address.0.ip().to_canonical().to_string()),
        detail: Box::default(),
        hash: String::new(),
        method: parts.method.to_string(),
        path: cut(parts.uri.path(), LONGEST_PATH),
        previous: String::new(),
        right: right.map(|right| right.name().to_owned()),
        seq: 0,
        status: 0,
        time: Timestamp(0),
        trace_id: trace_id.map_or_else(String::new, |id| id.0.to_string()),
        user_id: who.map(|who| who.0.id),
        user_name: who.map(|who| cut(&who.0.name, LONGEST_NAME)),
    }
}

/// A failure changes nothing of what was done already, so it changes nothing of the answer either.
async fn keep(app: &App, mut record: AuditRecord, detail: Map<String, Value>) {
    record.time = Timestamp::now();
    let (user, method, path, status) = (&record.user_name, &record.method, &record.path, record.status);
    match to_raw_value(&detail) {
        Ok(text) => record.detail = text,
        Err(error) => tracing::error!(%error, user, method, path, "what a change was about cannot be written down"),
    }
    match app.audit.append(&record).await {
        // Whoever keeps this log elsewhere can tell by it if the records were written anew.
        Ok(kept) => tracing::info!(
            user,
            method,
            path,
            status,
            seq = kept.seq,
            hash = kept.hash,
            "audit record"
        ),
        Err(error) => {
            let detail = record.detail.get();
            let error = obfleet_agent::describe(&error);
            tracing::error!(error, user, method, path, status, detail, "an audit record is missing");
        }
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// What has arrived of a body.
#[derive(Clone, Default)]
struct Copy(Arc<Mutex<Arrived>>);

#[derive(Default)]
struct Arrived {
    bytes: Vec<u8>,
    is_cut: bool,
}

/// The request, of whose body a copy is kept while it is read, if it is JSON.
fn copied(request: Request) -> (Request, Option<Copy>) {
    if body::is_json(request.headers()) == Some(false) {
        return (request, None);
    }
    let copy = Copy::default();
    let to = copy.clone();
    let request = request.map(|body| {
        Body::from_stream(body.into_data_stream().inspect_ok(move |chunk| {
            let mut arrived = to.0.lock().unwrap_or_else(PoisonError::into_inner);
            match arrived.bytes.len() + chunk.len() > body::LIMIT {
                true => arrived.is_cut = true,
                false => arrived.bytes.extend_from_slice(chunk),
            }
        }))
    });
    (request, Some(copy))
}

impl Copy {
    fn shown(self) -> Option<Value> {
        let mut arrived = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = std::mem::take(&mut arrived.bytes);
        if arrived.is_cut {
            return Some(json!({"omitted": "too long"}));
        }
        match serde_json::from_slice(&bytes) {
            Ok(value) => Some(shown(value, LONGEST_REQUEST)),
            Err(_) if bytes.trim_ascii().is_empty() => None,
            // Who knows what it holds.
            Err(_) => Some(json!({"omitted": "not JSON"})),
        }
    }
}

/// What an answer tells. Of a long one, whose lists and objects are not shown, these are passed over: a task of a hundred
/// proxies has a thousand subtasks.
fn view(answer: &RawValue) -> Value {
    let text = answer.get();
    if text.len() <= LONGEST_VIEW {
        return shown(serde_json::from_str(text).unwrap_or_default(), LONGEST_VIEW);
    }
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
    let short = members.iter().filter(|(_, member)| is_short(member.get()));
    let short = short.filter_map(|(name, member)| Some((name.clone(), serde_json::from_str(member.get()).ok()?)));
    let mut shown = Value::Object(short.collect());
    masking::json(&mut shown);
    shown["omitted"] = json!(format!("{} bytes", text.len()));
    shown
}

/// Whether JSON is no list and no object, and short enough to be shown where those are not.
fn is_short(json: &str) -> bool {
    !json.starts_with(['{', '[']) && json.len() < 256
}

/// With secrets masked; without its lists and objects, if it is too long with them.
fn shown(mut value: Value, longest: usize) -> Value {
    masking::json(&mut value);
    let length = value.to_string().len();
    if length <= longest {
        return value;
    }
    let mut shown = json!({"omitted": format!("{length} bytes")});
    if let (Value::Object(members), Value::Object(shown)) = (value, &mut shown) {
        shown.extend(members.into_iter().filter(|(_, value)| is_short(&value.to_string())));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_told_in_part() {
        let task = json!({"id": 7, "name": "Upgrade obproxy", "subtasks": vec!["x"; 100], "text": "y".repeat(300)});
        assert_eq!(shown(task.clone(), 10_000), task);
        let length = task.to_string().len();
        let part = json!({"id": 7, "name": "Upgrade obproxy", "omitted": format!("{length} bytes")});
        assert_eq!(shown(task, 100), part);
        assert_eq!(shown(json!(["x".repeat(100)]), 100), json!({"omitted": "104 bytes"}));
    }

    #[test]
    fn a_long_answer_is_told_as_what_it_would_be_were_it_read_whole() {
        let many = vec!["x"; LONGEST_VIEW];
        let task = json!({"id": 7, "subtasks": many, "text": "y".repeat(300)});
        let read = |answer: &Value| view(&to_raw_value(answer).unwrap());
        for answer in [
            task,
            json!(many),
            json!("y".repeat(LONGEST_VIEW)),
            json!({"id": 7, "token": "s3"}),
        ] {
            assert_eq!(read(&answer), shown(answer, LONGEST_VIEW));
        }
        let secrets = read(&json!({"many": many, "token": "s3", "why": "password=s3 is wrong"}));
        assert_eq!(
            (&secrets["token"], &secrets["why"]),
            (&json!("******"), &json!("password=****** is wrong"))
        );
    }
}
