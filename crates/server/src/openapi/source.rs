//! What only the sources say of a handler: its doc comment, and the names of what it asks the query for.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Value, json};

/// Functions of [`ListQuery`](crate::http::ListQuery) that take the name of one parameter.
const ASKED: &[&str] = &[".text(", ".texts(", ".admits(", ".mentions(", ".id(", ".number("];

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The first sentence or paragraph.
    pub summary: String,
    /// The whole comment, without the mark of an extension.
    pub description: String,
    /// Marked as an extension.
    pub extension: bool,
    /// Parameters of the query: names and schemas.
    pub query: BTreeMap<String, Value>,
    /// It answers in pages.
    pub paged: bool,
}

/// Looks a handler up, by its path as `obfleet_server::api::clusters::list`, below the crate's `src`.
///
/// # Errors
/// When the file, the function or its comment is missing.
pub fn look(handler: &str, src: &Path) -> Result<Found, String> {
    let parts: Vec<&str> = handler.split("::").skip(1).collect();
    let (function, modules) = parts.split_last().ok_or_else(|| format!("{handler}: no function"))?;
    let file = src.join(modules.join("/")).with_extension("rs");
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let start = ["pub async fn", "async fn"]
        .iter()
        .find_map(|words| text.find(&format!("\n{words} {function}(")))
        .ok_or_else(|| format!("{handler}: not in {}", file.display()))?;
    let comment = comment(&text[..=start]);
    if comment.is_empty() {
        return Err(format!("{handler}: no doc comment"));
    }
    let marks = ["*extension*: ", "*Extension*: "];
    let (extension, comment) = match marks.iter().find_map(|mark| comment.strip_prefix(mark)) {
        Some(rest) => (true, capital(rest)),
        None => (false, comment),
    };
    // What stands before a colon that begins with a route repeats the path.
    let mut found = Found {
        summary: summary(&comment),
        description: comment,
        extension,
        ..Found::default()
    };
    asked(&text, function, &mut found, &mut BTreeSet::new());
    Ok(found)
}

/// The doc comment that ends here, with its paragraphs as lines.
fn comment(before: &str) -> String {
    let lines = before.trim_end().lines().rev();
    let mut lines: Vec<&str> = lines.map_while(|line| line.trim().strip_prefix("///")).collect();
    lines.reverse();
    let paragraphs = lines.split(|line| line.trim().is_empty());
    let paragraphs: Vec<String> = paragraphs
        .map(|lines| lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "))
        .collect();
    let text = paragraphs.join("\n\n");
    // "`GET /api/v2/time`: the server's clock": the path is told already.
    match text.split_once("`: ").or_else(|| text.split_once("`, ")) {
        Some((route, rest)) if route.starts_with("`GET ") || route.starts_with("`POST ") => capital(rest),
        _ => text,
    }
}

fn summary(comment: &str) -> String {
    let first = comment.split("\n\n").next().unwrap_or_default();
    let sentence = first.split(". ").next().unwrap_or_default();
    sentence.trim_end_matches(['.', ':']).to_owned()
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What a function asks the query for, and those functions of its file that it hands the query on to.
fn asked(text: &str, function: &str, found: &mut Found, seen: &mut BTreeSet<String>) {
    if !seen.insert(function.to_owned()) {
        return;
    }
    let Some(body) = body(text, function) else {
        return;
    };
    found.paged |= ["query.page(", "query.page_of(", "query.paging("]
        .iter()
        .any(|call| body.contains(call));
    for (at, _) in body.match_indices("query") {
        let rest = &body[at + "query".len()..];
        for ask in ASKED {
            if let Some(argument) = rest.strip_prefix(ask)
                && let Some(name) = literal(argument)
            {
                found.query.insert(name.to_owned(), schema(ask));
            }
        }
    }
    for (at, _) in body.match_indices("query") {
        // name(…, &query, …): the call that encloses it.
        let before = &body[..at];
        let Some(open) = before.rfind('(') else { continue };
        let name: String = before[..open]
            .chars()
            .rev()
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect();
        let name: String = name.chars().rev().collect();
        // number(&query, "after", …)
        let rest = body[at..].strip_prefix("query, ").and_then(literal);
        match rest {
            Some(literal) if !name.is_empty() => {
                found.query.insert(literal.to_owned(), schema(""));
            }
            _ if name != function => asked(text, &name, found, seen),
            _ => {}
        }
    }
}

/// What is asked for in this way.
fn schema(ask: &str) -> Value {
    match ask {
        ".id(" => json!({"type": "integer", "format": "int64", "minimum": 1}),
        ".number(" => json!({"type": "integer", "minimum": 0}),
        _ => json!({"type": "string"}),
    }
}

fn literal(text: &str) -> Option<&str> {
    text.trim_start().strip_prefix('"')?.split('"').next()
}

/// A function's text, to the brace in the first column.
fn body<'t>(text: &'t str, function: &str) -> Option<&'t str> {
    if function.is_empty() {
        return None;
    }
    let start = ["(", "<"]
        .iter()
        .find_map(|after| text.find(&format!("fn {function}{after}")))?;
    let rest = &text[start..];
    Some(&rest[..rest.find("\n}").unwrap_or(rest.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_names_are_found() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let idcs = look("obfleet_server::api::sites::idcs", &src).unwrap();
        let names: Vec<_> = idcs.query.keys().map(String::as_str).collect();
        assert_eq!(names, ["keyword", "regionId"]);
        assert_eq!(idcs.query["regionId"]["type"], "integer");
        assert!(idcs.paged && !idcs.extension);
        assert!(idcs.summary.starts_with("Lists IDCs"), "{}", idcs.summary);
        let precheck = look("obfleet_server::api::take_over::precheck", &src).unwrap();
        assert!(precheck.extension);
        assert!(precheck.summary.starts_with("What a take over"), "{}", precheck.summary);
        assert!(look("obfleet_server::api::sites::nothing", &src).is_err());
    }
}
