//! Values as a part of the text, for messages of several statements: MySQL's protocol binds values for single ones only.

use std::fmt::Write as _;

use super::Value;

/// The text with each mark replaced by its value. The texts of this crate have marks nowhere else.
pub(super) fn with_literals(text: &str, values: &[Value<'_>]) -> String {
    let mut values = values.iter();
    let mut filled = String::with_capacity(text.len() + 64 * values.len());
    let mut parts = text.split('?');
    filled.push_str(parts.next().unwrap_or_default());
    for part in parts {
        match values.next() {
            Some(value) => push_literal(&mut filled, value),
            // The database will refuse it.
            None => filled.push('?'),
        }
        filled.push_str(part);
    }
    filled
}

/// Whatever its bytes are, a text comes out as one literal and nothing else: a quote is doubled, and what holds a backslash,
/// which is an escape or not depending on the session, is written as digits.
fn push_literal(sql: &mut String, value: &Value<'_>) {
    // A String takes every text.
    let _ = match value {
        Value::Null => sql.write_str("NULL"),
        Value::Bool(value) => sql.write_str(if *value { "TRUE" } else { "FALSE" }),
        Value::Integer(value) => write!(sql, "{value}"),
        Value::Text(text) if text.contains(['\\', '\0']) => {
            write!(sql, "_utf8mb4 x'{}'", hex::encode(text.as_bytes()))
        }
        Value::Text(text) => write!(sql, "'{}'", text.replace('\'', "''")),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_the_places_of_their_marks() {
        let values = ["it's".into(), Value::Null, 7_i64.into(), true.into(), "?".into()];
        assert_eq!(
            with_literals("UPDATE t SET a = ?, b = ?, c = ? WHERE d = ? AND e = ?", &values),
            "UPDATE t SET a = 'it''s', b = NULL, c = 7 WHERE d = TRUE AND e = '?'"
        );
        assert_eq!(with_literals("BEGIN", &[]), "BEGIN");
    }

    #[test]
    fn a_backslash_is_never_left_to_the_session() {
        assert_eq!(with_literals("?", &[r"\'".into()]), "_utf8mb4 x'5c27'");
    }
}
