//! What a command shows: a table for people, or the JSON it was made from.

use serde_json::{Value, json};

use crate::cli::client::Output;

/// An answer, both ways.
pub struct Shown {
    json: Value,
    table: String,
}

impl Shown {
    /// That something was done.
    pub fn done(what: &str) -> Self {
        Self {
            json: json!({"done": what}),
            table: what.to_owned(),
        }
    }

    /// What it is for people, in words.
    pub fn text_of(json: Value, text: String) -> Self {
        Self { json, table: text }
    }

    /// Several, one below the other; a list where it is JSON.
    pub fn all(several: Vec<Self>) -> Self {
        let (json, tables): (Vec<_>, Vec<_>) = several.into_iter().map(|one| (one.json, one.table)).unzip();
        Self {
            json: Value::Array(json),
            table: tables.join("\n"),
        }
    }

    /// Rows below titles.
    pub fn table(json: Value, titles: &[&str], rows: Vec<Vec<String>>) -> Self {
        let titles = titles.iter().map(|title| (*title).to_owned()).collect();
        let lines: Vec<Vec<String>> = std::iter::once(titles).chain(rows).collect();
        let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |line: &Vec<String>| {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
        };
        Self {
            json,
            table: lines.iter().map(line).collect::<Vec<_>>().join("\n"),
        }
    }

    /// As it is wanted.
    pub fn text(&self, output: Output) -> String {
        match output {
            Output::Table => self.table.clone(),
            Output::Json => format!("{:#}", self.json),
            Output::Yaml => {
                let mut yaml = String::new();
                block(&self.json, 0, &mut yaml);
                yaml.trim_start().trim_end().to_owned()
            }
        }
    }
}

/// A value after what it belongs to: on the same line, or below and further in.
fn block(value: &Value, depth: usize, to: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                to.push_str(&format!("\n{indent}-"));
                nested(item, depth, to);
            }
        }
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                to.push_str(&format!("\n{indent}{}:", scalar(name)));
                nested(member, depth, to);
            }
        }
        // What JSON has for it is YAML as well.
        Value::String(text) => to.push_str(&format!(" {}", scalar(text))),
        other => to.push_str(&format!(" {other}")),
    }
}

fn nested(value: &Value, depth: usize, to: &mut String) {
    block(value, depth + 1, to);
}

/// Bare where nobody could take it for anything else, or in JSON's quotes.
fn scalar(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/');
    let is_word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let bare = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(is_plain)
        && !is_word.contains(&text.to_ascii_lowercase().as_str());
    match bare {
        true => text.to_owned(),
        false => Value::from(text).to_string(),
    }
}

/// A value as a cell; control characters, which could change what a terminal shows, as escapes.
pub fn text(value: &Value) -> String {
    let plain = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    };
    let escaped = plain.chars().map(|c| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    });
    escaped.collect()
}

/// Ids with commas between them; all where there are none.
pub fn clusters(ids: &Value) -> String {
    match ids.as_array() {
        None => "all".to_owned(),
        Some(ids) => ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = vec![
            vec!["7".to_owned(), "anna".to_owned()],
            vec!["1000".to_owned(), String::new()],
        ];
        let shown = Shown::table(json!([]), &["ID", "NAME"], rows);
        assert_eq!(shown.text(Output::Table), "ID     NAME\n7      anna\n1000");
        let value = json!([{"name": "anna", "on": null, "roles": [{"clusterIds": [1, 2], "name": "no"}], "text": "a: b\n"}, []]);
        let expected = "-\n  name: anna\n  \"on\": null\n  roles:\n    -\n      clusterIds:\n        - 1\n        - 2\n      name: \"no\"\n  \
                        text: \"a: b\\n\"\n- []";
        assert_eq!(Shown::table(value, &[], Vec::new()).text(Output::Yaml), expected);
        assert_eq!(text(&json!("a\u{1b}[2Jb\n")), "a\\u{1b}[2Jb\\n");
        assert_eq!(
            (clusters(&json!([1, 2])), clusters(&Value::Null)),
            ("1,2".to_owned(), "all".to_owned())
        );
    }
}
