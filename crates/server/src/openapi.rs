//! The API as an OpenAPI 3.1 document, made from what is declared: paths and rights from [`routes`](crate::routes), bodies
//! and answers from the handlers' signatures ([`described`]) and their types' own deserialisers ([`shape`]), words from doc
//! comments ([`source`]). It is made when the sources are at hand, checked in as `docs/openapi.json`, and served from there.

pub mod described;
pub mod shape;
pub mod source;

use std::{collections::BTreeMap, path::Path};

use axum::http::Method;
use obfleet_wire::{config_server, envelope::Envelope, iam::LoggedIn, id::MOST_IDS};
use serde_json::{Map, Value, json};

use self::described::{Answer, Operation, Schema};
use crate::{
    auth::access::{Access, Reach},
    health::Readiness,
    routes::Route,
};

/// Statuses of refusals, and when they come.
const REFUSALS: &[(u16, &str)] = &[
    (
        400,
        "Something is wrong with the request; `error.target` and `error.subErrors` name the field",
    ),
    (401, "Nobody is logged in, or the signature or password is wrong"),
    (403, "The user lacks the right that `x-right` names"),
    (404, "What the path or the body names is not there"),
    (
        409,
        "Something stands in the way: another task, a state, a name that is taken",
    ),
    (413, "The body is too large"),
    (415, "The body is not of a type that is read here"),
    (416, "What `Range` asks for lies beyond the file"),
    (
        429,
        "Too many requests, or too many failed logins; `Retry-After` tells when to come back",
    ),
    (
        500,
        "The server failed; its log tells why, under the answer's `traceId`",
    ),
    (502, "A host's agent did not answer, or not as it should"),
    (
        503,
        "The server cannot serve this now; `Retry-After` tells when to come back",
    ),
    (507, "The server's disk is full"),
];

/// Answers of handlers that make the whole response themselves.
const OWN: &[(&str, Own)] = &[
    ("audit.export", Own::Kind("application/x-ndjson")),
    (
        "config_server.answer",
        Own::Json(shape::schema::<config_server::Answer<Value>>),
    ),
    ("diagnosis.download", Own::Kind("application/zip")),
    ("documentation.document", Own::Json(shape::schema::<Map<String, Value>>)),
    ("documentation.page", Own::Kind("text/html")),
    ("login.login", Own::Data(shape::schema::<LoggedIn>)),
    ("login.logout", Own::Nothing),
    ("monitor.exposition", Own::Kind("text/plain")),
    ("packages.download", Own::Kind("application/x-rpm")),
    ("proxy_logs.read", Own::Kind("application/octet-stream")),
    ("system.metrics", Own::Kind("application/openmetrics-text")),
    ("system.ready", Own::Json(shape::schema::<Readiness>)),
    ("task_events.events", Own::Kind("text/event-stream")),
];

/// An answer that the handler's signature does not tell.
#[derive(Clone, Copy)]
enum Own {
    /// The envelope, with this in it.
    Data(Schema),
    /// The envelope, with nothing in it.
    Nothing,
    /// This, without an envelope.
    Json(Schema),
    /// Something of this type.
    Kind(&'static str),
}

/// Statuses besides, of a few handlers.
const ALSO: &[(&str, &[u16])] = &[
    ("agents.enrol", &[401]),
    ("config_server.answer", &[404]),
    ("diagnosis.download", &[507]),
    ("hosts.obproxies", &[502]),
    ("login.login", &[401, 429]),
    ("obproxies.load_balance_info", &[404]),
    ("packages.download", &[416]),
    ("packages.upload", &[507]),
    ("take_over.precheck", &[502]),
];

/// Handlers whose refusals are in the form of their answers, and no envelopes.
const OF_ONE_FORM: &[&str] = &["config_server.answer", "system.ready", "system.status"];

/// Handlers that answer a file, or the part of it that `Range` asks for, or that it has not changed.
const FILES: &[&str] = &["packages.download"];

/// Bodies of handlers that read the whole request themselves: content type and members.
const RAW: &[(&str, &str, &[&str])] = &[
    (
        "login.login",
        "application/x-www-form-urlencoded",
        &["username", "password"],
    ),
    ("packages.upload", "multipart/form-data", &["file"]),
];

/// Types around others, which are shown in their place.
const GENERIC: &[&str] = &["Contents", "Paged"];

/// The document of these routes; the crate's sources are below `src`.
///
/// # Errors
/// What a handler lacks to be documented.
pub fn document(routes: &[Route], src: &Path) -> Result<Value, String> {
    let mut schemas = Map::new();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    named(shape::schema::<Envelope<Value>>, &mut schemas)?;
    let mut lacks = Vec::new();
    for route in routes.iter().filter(|route| route.access != Access::Servers) {
        let shown = match operation(route, src, &mut schemas, &mut names) {
            Ok(shown) => shown,
            Err(lack) => {
                lacks.push(lack);
                continue;
            }
        };
        let path = paths.entry(route.path.clone()).or_default();
        path.insert(route.method.as_str().to_lowercase(), shown);
    }
    if !lacks.is_empty() {
        return Err(lacks.join("\n"));
    }
    let refused = |(status, why): &(u16, &str)| {
        let content = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Envelope"}}});
        (
            format!("Refused{status}"),
            json!({"description": why, "content": content}),
        )
    };
    Ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "obfleet",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "OCP's REST API for OBProxy. What OCP does not have is marked `x-extension`. \
                            `x-right` is the right a route takes, `x-reach` how far it has to go.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": REFUSALS.iter().map(refused).collect::<Map<_, _>>(),
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "accessKey": {
                    "type": "apiKey", "in": "header", "name": "Authorization",
                    "description": "`OCP-ACCESS-KEY-HMACSHA1 accessKey:signature`, as OCP documents it",
                },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": "JSESSIONID",
                    "description": "From `POST /api/v2/login`; changes also repeat the cookie XSRF-TOKEN in X-XSRF-TOKEN",
                },
            },
        },
    }))
}

fn named(schema: Schema, schemas: &mut Map<String, Value>) -> Result<Value, String> {
    let mut these = Map::new();
    let mut root = schema(&mut these)?;
    for name in GENERIC {
        // Another type each time, under the one name.
        if let Some(generic) = these.remove(*name) {
            root = generic;
        }
    }
    for (name, schema) in these {
        match schemas.get(&name) {
            Some(other) if *other != schema => return Err(format!("{name} is the name of two types")),
            _ => drop(schemas.insert(name, schema)),
        }
    }
    Ok(root)
}

fn operation(
    route: &Route,
    src: &Path,
    schemas: &mut Map<String, Value>,
    names: &mut BTreeMap<String, usize>,
) -> Result<Value, String> {
    let operation = (route.operation)();
    let found = source::look(operation.handler, src)?;
    let parts: Vec<&str> = operation.handler.split("::").skip(2).collect();
    let name = parts.join(".");
    let times = names.entry(name.clone()).or_default();
    *times += 1;
    let id = if *times == 1 {
        name.clone()
    } else {
        format!("{name}{times}")
    };
    let mut shown = json!({
        "operationId": id,
        "tags": [parts.first().copied().unwrap_or_default()],
        "summary": found.summary,
        "description": found.description,
        "responses": responses(&name, route, &operation, schemas)?,
    });
    let parameters = parameters(route, &operation, &found);
    if !parameters.is_empty() {
        shown["parameters"] = json!(parameters);
    }
    if let Some(body) = body(&name, &operation, schemas)? {
        shown["requestBody"] = body;
    }
    if found.extension {
        shown["x-extension"] = json!(true);
    }
    shown["security"] = match route.access {
        Access::Open => json!([]),
        _ => json!([{"basic": []}, {"accessKey": []}, {"session": []}]),
    };
    if let Some(right) = route.access.right() {
        shown["x-right"] = json!(right.name());
    }
    if let Access::Needs(_, reach) = route.access {
        shown["x-reach"] = json!(match reach {
            Reach::Cluster(_) => "cluster",
            Reach::Task(_) => "task",
            Reach::Filtered => "filtered",
            Reach::Shared => "shared",
            Reach::Whole => "whole",
        });
    }
    Ok(shown)
}

fn parameters(route: &Route, operation: &Operation, found: &source::Found) -> Vec<Value> {
    let variable = |part: &str| part.strip_prefix('{')?.strip_suffix('}').map(str::to_owned);
    let in_path = route.path.split('/').filter_map(variable);
    let mut parameters: Vec<Value> = in_path
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": path_schema(&name)}))
        .collect();
    // An empty one counts as absent.
    let query = |name: &str, schema: Value| json!({"name": name, "in": "query", "required": false, "allowEmptyValue": true, "schema": schema});
    if operation.query {
        parameters.extend(found.query.iter().map(|(name, schema)| query(name, schema.clone())));
        if found.paged {
            parameters.push(query("page", json!({"type": "integer", "minimum": 1, "default": 1})));
            let size = json!({"type": "integer", "minimum": 1, "maximum": 2000, "default": 10});
            parameters.push(query("size", size));
            parameters.push(query("sort", json!({"type": "string", "examples": ["name,asc"]})));
        }
    }
    if operation.idempotent {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "A request that comes again under the same key is answered with the same task",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }));
    }
    if matches!(operation.answer, Answer::Data(_) | Answer::Nothing) {
        parameters.push(json!({
            "name": "Accept-Language", "in": "header", "required": false,
            "description": "Sentences are in Chinese for `zh`, otherwise in English",
            "schema": {"type": "string"},
        }));
    }
    parameters
}

/// By the names that OCP gives to what varies in a path.
fn path_schema(name: &str) -> Value {
    if name.ends_with("Ids") {
        let others = MOST_IDS - 1;
        json!({"type": "string", "pattern": format!("^ *[1-9][0-9]*( *, *[1-9][0-9]*){{0,{others}}} *$")})
    } else if name == "id" || name == "sid" || name.ends_with("Id") {
        json!({"type": "integer", "format": "int64", "minimum": 1})
    } else {
        json!({"type": "string"})
    }
}

fn body(name: &str, operation: &Operation, schemas: &mut Map<String, Value>) -> Result<Option<Value>, String> {
    if operation.raw {
        let (_, kind, members) = RAW
            .iter()
            .find(|(handler, ..)| *handler == name)
            .ok_or_else(|| format!("{name} reads its request itself, and nothing says what of it"))?;
        let properties: Map<_, _> = members
            .iter()
            .map(|member| ((*member).to_owned(), json!({"type": "string"})))
            .collect();
        let schema = json!({"type": "object", "required": members, "properties": properties});
        return Ok(Some(json!({"required": true, "content": {*kind: {"schema": schema}}})));
    }
    let Some((schema, required)) = operation.body else {
        return Ok(None);
    };
    let schema = named(schema, schemas)?;
    let schema = if required {
        schema
    } else {
        json!({"anyOf": [schema, {"type": "null"}]})
    };
    Ok(Some(
        json!({"required": required, "content": {"application/json": {"schema": schema}}}),
    ))
}

/// The answer when all is well.
fn done(name: &str, operation: &Operation, schemas: &mut Map<String, Value>) -> Result<Value, String> {
    let envelope = json!({"$ref": "#/components/schemas/Envelope"});
    let enveloped = |schema| json!({"description": "Done", "content": {"application/json": {"schema": schema}}});
    let bare = |kind: &str, schema| {
        let content = json!({kind: {"schema": schema}});
        json!({"description": "Done, without envelope", "content": content})
    };
    let own = match operation.answer {
        Answer::Data(schema) => Own::Data(schema),
        Answer::Nothing => Own::Nothing,
        Answer::Json(schema) => Own::Json(schema),
        Answer::Text => Own::Kind("text/plain"),
        Answer::Own => OWN
            .iter()
            .find(|(handler, _)| *handler == name)
            .map(|(_, own)| *own)
            .ok_or_else(|| format!("{name} makes its response itself, and nothing says what it is"))?,
    };
    Ok(match own {
        Own::Data(schema) => {
            let data = named(schema, schemas)?;
            enveloped(
                json!({"allOf": [envelope, {"type": "object", "required": ["data"], "properties": {"data": data}}]}),
            )
        }
        Own::Nothing => enveloped(envelope),
        Own::Json(schema) => bare("application/json", named(schema, schemas)?),
        Own::Kind(kind) => bare(kind, json!({"type": "string"})),
    })
}

fn responses(
    name: &str,
    route: &Route,
    operation: &Operation,
    schemas: &mut Map<String, Value>,
) -> Result<Value, String> {
    let done = done(name, operation, schemas)?;
    let also = ALSO.iter().find(|(handler, _)| *handler == name);
    let also = also.map_or(&[][..], |(_, statuses)| *statuses);
    let changes = route.method != Method::GET;
    let body = operation.body.is_some() || operation.raw;
    let comes = |status: u16| match status {
        _ if also.contains(&status) => true,
        400 => body || operation.query || operation.idempotent || route.path.contains('{'),
        401 | 429 => route.access != Access::Open,
        403 => route.access.right().is_some(),
        404 => route.path.contains('{') || operation.body.is_some(),
        409 => changes && route.access != Access::Open,
        413 | 415 => body,
        500 | 503 => true,
        _ => false,
    };
    let mut responses: Map<_, _> = REFUSALS
        .iter()
        .filter(|(status, _)| comes(*status))
        .map(|(status, _)| {
            let refused = json!({"$ref": format!("#/components/responses/Refused{status}")});
            let refused = if OF_ONE_FORM.contains(&name) {
                done.clone()
            } else {
                refused
            };
            (status.to_string(), refused)
        })
        .collect();
    if FILES.contains(&name) {
        responses.insert("206".to_owned(), done.clone());
        responses.insert(
            "304".to_owned(),
            json!({"description": "It is what `If-None-Match` names"}),
        );
    }
    responses.insert("200".to_owned(), done);
    Ok(Value::Object(responses))
}
