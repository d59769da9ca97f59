//! Texts and JSON before they are shown: a secret under a name that says so is nowhere in them.
//!
//! The input is any text, and behind the first zero byte a secret.

#![no_main]

use libfuzzer_sys::fuzz_target;
use obfleet_server::masking::{MASK, is_secret, json, text, values};
use serde_json::{Value, json};

fuzz_target!(|input: &str| {
    let (shown, secret) = input.split_once('\0').unwrap_or((input, ""));
    let masked = text(shown).into_owned();
    assert_eq!(text(&masked), masked, "what is masked stays as it is");
    if let Ok(mut value) = serde_json::from_str::<Value>(shown) {
        json(&mut value);
        look_through(&value);
        let once = value.clone();
        json(&mut value);
        assert_eq!(value, once);
    }
    let secret: String = secret
        .chars()
        .filter(|c| c.is_alphanumeric() || "-_.!$%".contains(*c))
        .collect();
    for name in ["obproxy_sys_password", "secretKey", "token", "privateKey"] {
        assert!(is_secret(name));
        assert!(
            values(name, std::slice::from_ref(&secret))
                .iter()
                .all(|value| value == MASK)
        );
        let structure =
            |secret: &str| json!({"before": shown, name: secret, "list": [{"name": name, "value": secret}]});
        let mut value = structure(&secret);
        json(&mut value);
        assert_hidden(&secret, &value.to_string(), &structure(MASK).to_string());
        // A quote that is never closed, or a name without its value, says something else of what follows it.
        if shown.contains(['\'', '"', '`', '\\']) || is_secret(shown) || shown.to_lowercase().contains("identified by")
        {
            continue;
        }
        for statement in [
            |shown: &str, name: &str, secret: &str| format!("{shown} {name}='{secret}' {shown}"),
            |shown: &str, name: &str, secret: &str| format!("{shown} {name} = \"{secret}\", {shown}"),
            |shown: &str, name: &str, secret: &str| format!("{shown} {{\"{name}\": \"{secret}\"}} {shown}"),
        ] {
            assert_hidden(
                &secret,
                &text(&statement(shown, name, &secret)),
                &statement(shown, name, MASK),
            );
        }
    }
});

/// The secret is nowhere in what is shown, unless the rest of it has the same characters.
fn assert_hidden(secret: &str, shown: &str, rest: &str) {
    let by_chance = secret.is_empty() || rest.contains(secret);
    assert!(by_chance || !shown.contains(secret), "{secret:?} is in {shown:?}");
}

fn look_through(value: &Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let hidden = member.is_null() || member == MASK;
                assert!(!is_secret(name) || hidden, "{name} is shown");
                look_through(member);
            }
        }
        Value::Array(entries) => entries.iter().for_each(look_through),
        _ => {}
    }
}
