//! The query of a list: filters, order and pages, over entries whose members are of any type.
//!
//! The input is a query as it comes over the network, and behind the first line feed the members to sort by, a byte each.

#![no_main]

use axum::{
    extract::FromRequestParts as _,
    http::{Request, request::Parts},
};
use libfuzzer_sys::fuzz_target;
use obfleet_server::http::ListQuery;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const LARGEST_PAGE: u64 = 2000;
const NAMES: [&str; 7] = ["page", "size", "sort", "keyword", "status", "id", "clusterId"];

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
}

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let Some(mut parts) = asked(&input[..end]) else { return };
    let query = RUNTIME.with(|runtime| runtime.block_on(ListQuery::from_request_parts(&mut parts, &())));
    let Ok(query) = query else { return };
    for name in NAMES {
        let texts = query.texts(name);
        assert!(
            texts
                .iter()
                .all(|text| !text.is_empty() && text.trim() == *text && !text.contains(','))
        );
        assert!(texts.iter().all(|text| query.admits(name, text)));
        assert!(texts.is_empty() || !query.admits(name, "a,b"));
        if let Some(text) = query.text(name) {
            assert!(!text.is_empty() && query.mentions(name, &["", text]));
        }
        if let Ok(Some(id)) = query.id(name) {
            assert!(id > 0);
        }
        if let Ok(Some(number)) = query.number(name, 1..=9) {
            assert!((1..=9).contains(&number));
        }
    }
    let entries: Vec<Value> = input[end..]
        .iter()
        .enumerate()
        .map(|(id, byte)| entry(id, *byte))
        .collect();
    let all = entries.len();
    let Ok((number, size)) = query.paging() else {
        assert!(query.page(entries).is_err());
        return;
    };
    assert!(number > 0 && (1..=LARGEST_PAGE).contains(&size));
    let Ok(page) = query.page(entries.clone()) else {
        assert!(query.text("sort").is_some());
        return;
    };
    let before = (number - 1).saturating_mul(size);
    assert_eq!(page.page.total_elements, all as u64);
    assert_eq!(
        page.contents.len() as u64,
        size.min((all as u64).saturating_sub(before))
    );
    // Each is there, and once.
    if page.contents.len() == all {
        let mut shown = serde_json::to_value(&page.contents).expect("entries are JSON");
        let shown = shown.as_array_mut().expect("contents are a list");
        shown.sort_by_key(|entry| entry["id"].as_u64());
        assert_eq!(*shown, entries);
    }
});

fn asked(query: &[u8]) -> Option<Parts> {
    let request = Request::get([b"/obproxies?", query].concat());
    Some(request.body(()).ok()?.into_parts().0)
}

/// Members as lists have them: absent, null, numbers, texts, switches.
fn entry(id: usize, byte: u8) -> Value {
    let value = match byte % 8 {
        0 => return json!({"id": id}),
        1 => Value::Null,
        2 => json!(byte),
        3 => json!(f64::from(byte) / 3.0),
        4 => json!(byte.to_string()),
        5 => json!("n".repeat(usize::from(byte % 5))),
        6 => json!(byte > 99),
        _ => json!({"a": byte}),
    };
    json!({"id": id, "name": value})
}
