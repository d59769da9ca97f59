//! Values of configuration items: judged the same however they are written, and sent to a proxy as one literal.
//!
//! The input is the number of an item in two bytes, and two values with a line feed between them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use obfleet_config_items::{ValueType, all, find, parse_bool, parse_bytes, parse_micros};
use obfleet_obproxy::admin::set_config_statement;

fuzz_target!(|input: &[u8]| {
    let [high, low, values @ ..] = input else { return };
    let Ok(values) = str::from_utf8(values) else { return };
    let (value, other) = values.split_once('\n').unwrap_or((values, ""));
    let item = &all()[usize::from(u16::from_be_bytes([*high, *low])) % all().len()];
    assert_eq!(find(&item.name.to_uppercase()), Some(item));
    let (good, other_good) = (item.check(value).is_ok(), item.check(other).is_ok());
    assert!(item.means_same(value, value) && item.means_same(other, other));
    assert_eq!(item.means_same(value, other), item.means_same(other, value));
    if item.means_same(value, other) {
        assert_eq!(good, other_good, "{}: {value:?} and {other:?} mean the same", item.name);
    }
    match item.value_type {
        ValueType::Bool => assert_eq!(good, parse_bool(value).is_some()),
        ValueType::Time => assert!(!good || parse_micros(value).is_some()),
        ValueType::Cap => assert!(!good || parse_bytes(value).is_some()),
        _ => {}
    }
    statement(&item.name, value);
    // Any name, too: it has to be one.
    statement(other, value);
});

/// What is sent sets this item to this value, and does nothing else, however a proxy reads escapes.
fn statement(name: &str, value: &str) {
    let Ok(sql) = set_config_statement(name, value) else {
        return;
    };
    assert!(
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
        "{sql}"
    );
    let start = format!("alter proxyconfig set {name} = ");
    let literal = sql.strip_prefix(&start).expect("it sets this item");
    assert!(!sql.contains(['\\', '\n', '\0']), "{sql}");
    match literal.strip_prefix(['\'', '"']) {
        Some(inside) => {
            let quote = literal.chars().next().unwrap_or_default();
            assert_eq!(inside.find(quote), Some(inside.len() - 1), "{sql} has one literal");
            assert_eq!(&inside[..inside.len() - 1], value);
        }
        None => {
            assert_eq!(literal, value);
            assert!(
                value.parse::<i64>().is_ok() && !name.contains("password"),
                "{sql} is a number"
            );
        }
    }
}
