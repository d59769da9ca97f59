//! Lists of ids in a path and in a body: positive, each once, no more than a call is about.
//!
//! The input is a segment of a path as it comes over the network.

#![no_main]

use std::{cell::RefCell, collections::BTreeSet, sync::LazyLock};

use axum::{Router, body::Body, http::Request, routing::get};
use libfuzzer_sys::fuzz_target;
use obfleet_server::http::{ApiError, PathIds, language::Language};
use obfleet_wire::id::{IdList, MOST_IDS, few};
use serde::Deserialize;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

type Read = (String, Result<Vec<i64>, ApiError>, Result<i64, ApiError>);

thread_local! {
    /// What the handler saw.
    static READ: RefCell<Option<Read>> = const { RefCell::new(None) };
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
}

static ROUTES: LazyLock<Router> = LazyLock::new(|| {
    Router::new().route(
        "/obproxies/{ids}/status",
        get(async |path: PathIds| {
            let read = (path.text("ids").to_owned(), path.ids("ids"), path.id("ids"));
            READ.set(Some(read));
        }),
    )
});

#[derive(Deserialize)]
struct Listed {
    #[serde(deserialize_with = "few")]
    ids: Vec<i64>,
}

fuzz_target!(|segment: &[u8]| {
    let target = [b"/obproxies/", segment, b"/status"].concat();
    if let Ok(request) = Request::get(&target[..]).body(Body::empty()) {
        READ.set(None);
        let answered = RUNTIME.with(|runtime| runtime.block_on(ROUTES.clone().oneshot(request)));
        answered.expect("a router always answers");
        if let Some((text, ids, id)) = READ.take() {
            look_at(&text, ids, id);
        }
    }
    if let Ok(text) = str::from_utf8(segment)
        && let Ok(listed) = serde_json::from_str::<Listed>(&format!("{{\"ids\":[{text}]}}"))
    {
        assert!(listed.ids.len() <= MOST_IDS);
    }
});

fn look_at(text: &str, ids: Result<Vec<i64>, ApiError>, id: Result<i64, ApiError>) {
    let each: Vec<_> = text
        .split(',')
        .map(|part| part.trim().parse::<i64>().ok().filter(|id| *id > 0))
        .collect();
    let good = each.len() <= MOST_IDS && each.iter().all(Option::is_some);
    assert_eq!(ids.is_ok(), good, "{text:?}");
    assert_eq!(
        id.as_ref().ok().copied(),
        each[0].filter(|_| each.len() == 1),
        "{text:?}"
    );
    match ids {
        Ok(ids) => {
            let set: BTreeSet<_> = ids.iter().copied().collect();
            assert_eq!(set.len(), ids.len(), "each once");
            assert_eq!(set, each.into_iter().flatten().collect());
            let written: Vec<_> = ids.iter().map(i64::to_string).collect();
            assert_eq!(written.join(",").parse(), Ok(IdList(ids)));
        }
        Err(refused) => {
            assert_eq!(refused.status(), 400);
            for language in [Language::English, Language::Chinese] {
                let body = refused.body(language);
                assert!(
                    !body.message.is_empty() && body.message.len() < text.len() * 12 + 400,
                    "{}",
                    body.message
                );
            }
        }
    }
}
