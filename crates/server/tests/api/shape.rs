//! Compares answers with the tables of member names and JSON types in `tests/fixtures`.
//!
//! A fixture is a JSON object: member → type. Types are `string`, `integer`, `boolean`, `timestamp`, `hex`, each
//! optionally with `|null`; `#name` is a string that is one of the words of that name in `words.json`; `@name` is another fixture, `[type]` an array of it, `{type}` an object of any members of
//! that type. A member name ending in `?` may be absent. Members that are not in the table are an error.

use serde_json::{Value, json};

/// Every way in which `value` differs from the fixture.
pub fn differences(value: &Value, fixture: &str) -> Vec<String> {
    let mut found = Vec::new();
    compare("", value, &format!("@{fixture}"), &mut found);
    found
}

fn load(fixture: &str) -> Value {
    let path = format!("{}/tests/fixtures/{fixture}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The spellings that a member may have.
fn words(name: &str) -> Vec<Value> {
    let mut words = load("words");
    let words = words
        .get_mut(name)
        .unwrap_or_else(|| panic!("'{name}' is not in words.json"));
    words.as_array().unwrap().clone()
}

fn compare(at: &str, value: &Value, wanted: &str, found: &mut Vec<String>) {
    if let Some(fixture) = wanted.strip_prefix('@') {
        members(at, value, &load(fixture), found);
    } else if let Some(inner) = wanted.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let Some(items) = value.as_array() else {
            return found.push(format!("{at} is no array: {value}"));
        };
        for (index, item) in items.iter().enumerate() {
            compare(&format!("{at}[{index}]"), item, inner, found);
        }
    } else if let Some(inner) = wanted.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let Some(object) = value.as_object() else {
            return found.push(format!("{at} is no object: {value}"));
        };
        for (name, item) in object {
            compare(&format!("{at}.{name}"), item, inner, found);
        }
    } else if !wanted.split('|').any(|kind| is(value, kind)) {
        found.push(format!("{at} is not {wanted}: {value}"));
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "any" => true,
        _ if kind.starts_with('#') => value
            .as_str()
            .is_some_and(|word| words(&kind[1..]).contains(&json!(word))),
        "timestamp" => value.as_str().is_some_and(is_timestamp),
        "hex" => value
            .as_str()
            .is_some_and(|text| !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))),
        _ => panic!("'{kind}' is no type"),
    }
}

/// ISO-8601 with offset, at most three fraction digits, none of them a trailing zero.
fn is_timestamp(text: &str) -> bool {
    let fraction = text
        .split_once('.')
        .map(|(_, rest)| rest.split(['+', '-', 'Z']).next().unwrap_or_default());
    chrono::DateTime::parse_from_rfc3339(text).is_ok()
        && fraction.is_none_or(|digits| digits.len() <= 3 && !digits.ends_with('0'))
}

fn members(at: &str, value: &Value, table: &Value, found: &mut Vec<String>) {
    let Some(object) = value.as_object() else {
        return found.push(format!("{at} is no object: {value}"));
    };
    let table = table.as_object().unwrap();
    for (name, wanted) in table {
        let (name, optional) = name
            .strip_suffix('?')
            .map_or((name.as_str(), false), |name| (name, true));
        match object.get(name) {
            Some(member) => compare(&format!("{at}.{name}"), member, wanted.as_str().unwrap(), found),
            None if optional => {}
            None => found.push(format!("{at}.{name} is missing")),
        }
    }
    for name in object.keys() {
        if !table.contains_key(name) && !table.contains_key(&format!("{name}?")) {
            found.push(format!("{at}.{name} is not in the table"));
        }
    }
}

#[test]
fn differences_are_found() {
    let page = serde_json::json!({"number": 1, "size": "10", "totalPage": 1, "totalElements": 2});
    assert_eq!(
        differences(&page, "page"),
        [
            ".size is not integer: \"10\"",
            ".totalPages is missing",
            ".totalPage is not in the table"
        ]
    );
    assert!(is_timestamp("2021-09-03T16:31:58.15+08:00") && !is_timestamp("2021-09-03T16:31:58.150+08:00"));
    assert!(is_timestamp("2021-09-03T16:31:58+08:00") && !is_timestamp("2021-09-03 16:31:58"));
}
