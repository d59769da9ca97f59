//! What may be secret is not shown. Contexts, failures and logs hold no secrets; this is for the day somebody errs, or
//! another program's message quotes one.

use std::borrow::Cow;

use serde_json::Value;

/// Stands in the place of a secret.
pub const MASK: &str = "******";

/// Parts of names whose values are not shown.
const SECRET: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "private_key",
    "privatekey",
];
/// What may stand between a name and its value; a value begins on the line of its name.
const BLANK: [char; 2] = [' ', '\t'];
/// What a secret follows in statements.
const BEFORE_LITERAL: &[&str] = &["identified by"];

/// Whether a value under this key may be a secret.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET.iter().any(|part| key.contains(part))
}

/// The values of a key of a context: masked altogether under a secret name, otherwise where they quote a secret.
pub fn values(key: &str, values: &[String]) -> Vec<String> {
    match is_secret(key) {
        true => values.iter().map(|_| MASK.to_owned()).collect(),
        false => values.iter().map(|value| text(value).into_owned()).collect(),
    }
}

/// A JSON value with everything masked that is under a secret name, or called by one: `{"name": "x_password", "value": "y"}`.
pub fn json(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let named = members.get("name").and_then(Value::as_str).is_some_and(is_secret);
            for (key, member) in members {
                if member.is_null() {
                } else if is_secret(key) || (named && key.starts_with("value")) {
                    *member = Value::from(MASK);
                } else {
                    json(member);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(json),
        Value::String(given) => {
            if let Cow::Owned(masked) = text(given) {
                *given = masked;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text with the values masked that it gives to secret names: `x_password = 'y'`, `"token": "y"`, `identified by 'y'`.
pub fn text(text: &str) -> Cow<'_, str> {
    let lower = text.to_ascii_lowercase();
    let mut masked = String::new();
    let (mut copied, mut from) = (0, 0);
    while let Some(name_end) = next_name(&lower, from) {
        from = name_end;
        if let Some((start, end)) = value(text, name_end) {
            masked.push_str(&text[copied..start]);
            masked.push_str(MASK);
            (copied, from) = (end, end);
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    masked.push_str(&text[copied..]);
    Cow::Owned(masked)
}

/// Where the first secret name at or after `from` ends.
fn next_name(lower: &str, from: usize) -> Option<usize> {
    let found = SECRET.iter().chain(BEFORE_LITERAL).filter_map(|part| {
        let at = from + lower[from..].find(part)?;
        Some((at, at + part.len()))
    });
    let (_, end) = found.min()?;
    let rest = lower[end..].bytes();
    Some(
        end + rest
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
            .count(),
    )
}

/// The value that is given to the name which ends here.
fn value(text: &str, name_end: usize) -> Option<(usize, usize)> {
    let after_name = text[name_end..].trim_start_matches(['"', '\'', '`', '\\']);
    let quoted_name = after_name.len() < text.len() - name_end;
    let given = after_name.trim_start_matches(BLANK);
    let separated = given.strip_prefix('=').or_else(|| match quoted_name {
        true => given.strip_prefix(':'),
        false => None,
    });
    let spaced = given.len() < after_name.len();
    let literal = match separated {
        Some(rest) => rest.trim_start_matches(BLANK),
        None if spaced && !quoted_name && given.starts_with(['\'', '"']) => given,
        None => return None,
    };
    let start = text.len() - literal.len();
    let escaped = literal.starts_with("\\\"");
    let unescaped = literal.trim_start_matches('\\');
    let (start, length) = match unescaped.chars().next() {
        Some(quote @ ('\'' | '"')) => {
            let inside = &unescaped[1..];
            (text.len() - inside.len(), quoted_length(inside, quote, escaped))
        }
        // Backslashes that escape no quote are of the value.
        _ => (
            start,
            literal
                .find(|c: char| c.is_whitespace() || ",;&)}]".contains(c))
                .unwrap_or(literal.len()),
        ),
    };
    (length > 0).then_some((start, start + length))
}

/// Bytes up to the closing quote, or the end of the line when there is none. Within a text that is quoted itself, quotes are escaped.
fn quoted_length(inside: &str, quote: char, escaped: bool) -> usize {
    if escaped {
        return inside.find("\\\"").unwrap_or(inside.len());
    }
    let mut skip = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if skip => skip = false,
            '\\' => skip = true,
            '\n' => return at,
            c if c == quote => return at,
            _ => {}
        }
    }
    inside.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secret_names_are_masked() {
        for (given, shown) in [
            (
                "alter proxyconfig set observer_sys_password = 'a\\'b c', x = 1",
                "alter proxyconfig set observer_sys_password = '******', x = 1",
            ),
            ("obproxy_sys_password=0123ab,x=1", "obproxy_sys_password=******,x=1"),
            (
                r#"{"rootPassword": "s3", "port": 1}"#,
                r#"{"rootPassword": "******", "port": 1}"#,
            ),
            (
                r#"said "{\"token\":\"s3\"}" here"#,
                r#"said "{\"token\":\"******\"}" here"#,
            ),
            ("user u IDENTIFIED BY 's3'; done", "user u IDENTIFIED BY '******'; done"),
            ("near 'password = 's3", "near 'password = '******"),
            ("密码 password='汉字' 后", "密码 password='******' 后"),
            ("password='s3\nnext line", "password='******\nnext line"),
            ("token=a token=b", "token=****** token=******"),
            (r"password=\\s3 done", "password=****** done"),
            (r"password=\", "password=******"),
        ] {
            assert_eq!(text(given), shown);
        }
    }

    #[test]
    fn what_is_secret_in_json_is_masked_and_nothing_else() {
        let mut given = serde_json::json!({
            "name": "test", "rootPassword": "s3", "proxyroPassword": null, "probe": {"user": "u", "password": {"a": 1}},
            "parameters": [{"name": "observer_sys_password", "value": "s3"}, {"name": "work_thread_num", "value": "8"}],
            "sshCredentialProperty": {"passphrase": "s3"}, "text": "set x_password = 's3'",
        });
        json(&mut given);
        let shown = serde_json::json!({
            "name": "test", "rootPassword": MASK, "proxyroPassword": null, "probe": {"user": "u", "password": MASK},
            "parameters": [{"name": "observer_sys_password", "value": MASK}, {"name": "work_thread_num", "value": "8"}],
            "sshCredentialProperty": MASK, "text": format!("set x_password = '{MASK}'"),
        });
        assert_eq!(given, shown);
    }

    #[test]
    fn other_texts_stay() {
        for same in [
            "",
            "the password of proxy 3 is missing",
            "correct the password the agent keeps for root@proxysys",
            "login was refused: wrong password: check it",
            "password=\nnext line",
            "item 'password' is unknown",
        ] {
            assert_eq!(text(same), same);
        }
    }
}
