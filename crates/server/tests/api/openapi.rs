//! The document of the API: that it is what the code says, that it is served, and that the server does what it says of
//! requests that are wrong.

use std::{collections::BTreeSet, path::Path};

use obfleet_server::{auth::access::Access, openapi, router};
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::support::{Api, Reply};

/// Set by `cargo xtask openapi`: the document is written and not compared.
const WRITE: &str = "OBFLEET_WRITE_OPENAPI";

/// The document of this code.
pub fn made() -> Value {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    openapi::document(&router::routes().declared(), &src).unwrap()
}

/// Each operation with its method and path.
fn operations(document: &Value) -> Vec<(Method, String, Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().iter().map(|(method, operation)| {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                (method, path.clone(), operation.clone())
            })
        })
        .collect()
}

#[test]
fn what_is_checked_in_is_what_the_code_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let text = format!("{}\n", serde_json::to_string_pretty(&made()).unwrap());
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap();
    let differs = kept.lines().zip(text.lines()).find(|(kept, made)| kept != made);
    assert!(
        kept == text,
        "docs/openapi.json is old; write it with `cargo xtask openapi`. First difference: {differs:?}"
    );
}

#[test]
fn every_route_is_in_it_with_its_right() {
    let document = made();
    let declared = router::routes().declared();
    let mut ids = BTreeSet::new();
    for route in &declared {
        let operation = &document["paths"][&route.path][route.method.as_str().to_lowercase()];
        if route.access == Access::Servers {
            assert!(operation.is_null(), "{}", route.path);
            continue;
        }
        let right = route.access.right().map(|right| right.name());
        assert_eq!(operation["x-right"].as_str(), right, "{} {}", route.method, route.path);
        assert_eq!(
            operation["security"] == json!([]),
            route.access == Access::Open,
            "{}",
            route.path
        );
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{}", route.path);
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id), "{} {}: an id twice", route.method, route.path);
    }
    // No reference leads nowhere.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}

#[tokio::test]
async fn document_and_page_are_served_without_a_login() {
    let api = Api::start().await;
    let document = Reply::of(api.bare(Method::GET, "/api/v2/openapi.json")).await;
    assert_eq!(document.status, 200);
    assert_eq!(document.headers[CONTENT_TYPE], "application/json");
    assert!(document.json() == made(), "what is served was not made from this code");
    let page = Reply::of(api.bare(Method::GET, "/api/v2/docs")).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.headers[CONTENT_TYPE], "text/html; charset=utf-8");
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; connect-src 'self'"), "{policy}");
    for outside in ["http:", "https:", "src=", "//cdn", "@import", "innerHTML"] {
        assert!(!page.text.contains(outside), "{outside}");
    }
}

/// What every route says of what it cannot read: made from the document, so that no route is forgotten.
#[tokio::test]
async fn malformed_requests_are_refused_as_the_document_says() {
    let api = Api::start().await;
    let document = made();
    let mut tried = [0; 5];
    for (method, path, operation) in operations(&document) {
        let what = format!("{method} {path}");
        let filled = |value: &str| {
            let parts = path
                .split('/')
                .map(|part| if part.starts_with('{') { value } else { part });
            parts.collect::<Vec<_>>().join("/")
        };
        let known = |reply: &Reply| {
            let status = reply.status.as_u16();
            assert!(
                status < 500 && !operation["responses"][status.to_string()].is_null(),
                "{what}: {status} is not in the document: {}",
                reply.text
            );
        };
        let mut content = operation["requestBody"]["content"]["application/json"].clone();
        if let Some(optional) = content["schema"]["anyOf"].get(0).cloned() {
            content["schema"] = optional;
        }
        let content = &content;
        // An id that is none.
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if parameter["in"] == "path" && parameter["schema"]["type"] == "integer" {
                let mut request = api.request(method.clone(), &filled("none"));
                if let Some(body) = sample(&document, &content["schema"]) {
                    request = request.json(&body);
                }
                let reply = Reply::of(request).await;
                known(&reply);
                assert!([400, 404].contains(&reply.status.as_u16()), "{what}: {}", reply.text);
                tried[0] += 1;
                break;
            }
        }
        if content.is_null() {
            continue;
        }
        let request = || api.request(method.clone(), &filled("999999"));
        let unread = Reply::of(request().header(CONTENT_TYPE, "text/csv").body("1,2")).await;
        known(&unread);
        assert_eq!(unread.status, 415, "{what}: {}", unread.text);
        let cut = Reply::of(request().header(CONTENT_TYPE, "application/json").body("{\"a\": ")).await;
        known(&cut);
        assert_eq!(cut.status, 400, "{what}: {}", cut.text);
        let large = format!("{{\"a\": \"{}\"}}", "x".repeat(1 << 20));
        let large = Reply::of(request().header(CONTENT_TYPE, "application/json").body(large)).await;
        known(&large);
        assert_eq!(large.status, 413, "{what}: {}", large.text);
        tried[1] += 1;
        let Some(schema) = content["schema"]["$ref"].as_str() else {
            continue;
        };
        let schema = document.pointer(&schema[1..]).unwrap();
        if schema["additionalProperties"] == json!(false) {
            let reply = Reply::of(request().json(&json!({"x-unknown": 1}))).await;
            known(&reply);
            assert_eq!(
                (reply.status.as_u16(), reply.refusal().2.as_str()),
                (400, "x-unknown"),
                "{what}"
            );
            tried[2] += 1;
        }
        if let Some(Value::String(first)) = schema["required"].get(0) {
            let reply = Reply::of(request().json(&json!({}))).await;
            known(&reply);
            assert_eq!(reply.status, 400, "{what}: {first}: {}", reply.text);
            tried[3] += 1;
        }
        for (name, member) in schema["properties"].as_object().unwrap() {
            // An object where a number or a text is wanted, or a word that is none of those.
            let kind = member["type"].as_str().or_else(|| member["type"][0].as_str());
            if ["string", "integer", "boolean"].contains(&kind.unwrap_or_default()) {
                let wrong = if member["enum"].is_null() {
                    json!({})
                } else {
                    json!("x-unknown")
                };
                let reply = Reply::of(request().json(&json!({name: wrong}))).await;
                known(&reply);
                assert_eq!(
                    (reply.status.as_u16(), reply.refusal().2),
                    (400, name.clone()),
                    "{what}"
                );
                tried[4] += 1;
                break;
            }
        }
    }
    // Of each kind something was tried: the document did not lose what it is made from.
    let least = [40, 30, 25, 15, 20];
    assert!(
        tried.iter().zip(least).all(|(tried, least)| *tried >= least),
        "{tried:?}"
    );
}

/// A body of required members, as far as it needs no knowledge.
fn sample(document: &Value, schema: &Value) -> Option<Value> {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..])?,
        None => schema,
    };
    if schema.is_null() {
        return None;
    }
    if let Some(one) = schema["enum"].get(0) {
        return Some(one.clone());
    }
    Some(match schema["type"].as_str().or_else(|| schema["type"][0].as_str()) {
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten();
            let members = required.filter_map(|name| {
                let name = name.as_str()?;
                Some((name.to_owned(), sample(document, &schema["properties"][name])?))
            });
            Value::Object(members.collect())
        }
        Some("integer") => json!(1),
        Some("boolean") => json!(true),
        Some("string") => json!("text"),
        _ => json!([]),
    })
}
