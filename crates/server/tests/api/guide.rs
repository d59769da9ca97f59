//! `docs/api.md`: every example is run as it stands, in order and in one shell, against a server with a small fleet, and what
//! the page shows of the answers is compared with what came.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use tokio::process::Command;

use crate::{
    fake_agent::FakeAgent,
    support::{Api, NEW, PASSWORD, package},
};

/// Stands in what is shown for what differs each time.
const ANYTHING: char = '…';
const PATIENCE: Duration = Duration::from_secs(600);
/// Uploaded by the page itself.
const UPLOADED: &str = "obproxy-ce-4.3.2.0-7.el7.x86_64.rpm";

/// A fenced block.
#[derive(Debug, Clone)]
struct Block {
    line: usize,
    kind: String,
    text: String,
}

/// What is run, and what the page shows of what it prints.
#[derive(Debug)]
struct Example {
    run: Block,
    shown: Option<Block>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (line, text) in (1..).zip(page.lines()) {
        match text.strip_prefix("```") {
            Some("") if open => open = false,
            Some(kind) => {
                assert!(!open, "line {line}: the block above has no end");
                open = true;
                let (kind, text) = (kind.to_owned(), String::new());
                blocks.push(Block { line, kind, text });
            }
            None if open => writeln!(blocks.last_mut().unwrap().text, "{text}").unwrap(),
            None => {}
        }
    }
    blocks
}

/// The examples of a page; the first of them sets up what a test has of its own.
fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for block in blocks(page) {
        match block.kind.as_str() {
            "sh setup" => assert_eq!(block.text, "export URL=http://127.0.0.1:8080 AUTH=admin:password\n"),
            "sh" => examples.push(Example {
                run: block,
                shown: None,
            }),
            "json" | "text" => {
                let example = examples.last_mut().filter(|example| example.shown.is_none());
                let example = example.unwrap_or_else(|| panic!("line {}: the answer to what?", block.line));
                example.shown = Some(block);
            }
            "text example" => {}
            other => panic!("line {}: a block of an unknown kind, {other:?}", block.line),
        }
    }
    examples
}

/// Whether a text is as shown: pieces of it, with anything between them.
fn is_text(shown: &str, given: &str) -> bool {
    let mut pieces = shown.split(ANYTHING);
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = given.strip_prefix(first) else {
        return false;
    };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, between)) = pieces.split_last() else {
        return rest.is_empty();
    };
    for piece in between {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// What of the answer is not as shown: members that are not shown may be there, numbers that are ids or times are any.
fn differs(path: &str, shown: &Value, given: &Value) -> Option<String> {
    let not = || Some(format!("{path}: {shown} is shown, {given} came"));
    match (shown, given) {
        (Value::Object(shown), Value::Object(given)) => shown.iter().find_map(|(name, shown)| match given.get(name) {
            None => Some(format!("{path}.{name} is not there")),
            Some(given) => differs(&format!("{path}.{name}"), shown, given),
        }),
        // Of steps the first is shown, and there are many, in no order.
        (Value::Array(shown), Value::Array(given)) if path.ends_with(".subtasks") => shown.iter().find_map(|shown| {
            let found = given.iter().any(|given| differs("", shown, given).is_none());
            (!found).then(|| format!("{path}: {shown} is not among them"))
        }),
        (Value::Array(shown), Value::Array(given)) if shown.len() == given.len() => {
            let pairs = shown.iter().zip(given).enumerate();
            pairs
                .into_iter()
                .find_map(|(n, (shown, given))| differs(&format!("{path}[{n}]"), shown, given))
        }
        (Value::Number(_), Value::Number(_)) => {
            let name = path.rsplit('.').next().unwrap_or_default();
            let any = name == "id" || name == "duration" || name.ends_with("Id");
            if any || shown == given { None } else { not() }
        }
        (Value::String(shown), Value::String(given)) if is_text(shown, given) => None,
        _ if shown == given => None,
        _ => not(),
    }
}

/// What of the output is not as the page shows it.
fn unlike(shown: &Block, output: &str) -> Option<String> {
    if shown.kind == "text" {
        let lines = (shown.text.lines().count(), output.lines().count());
        if lines.0 != lines.1 {
            return Some(format!("{} lines are shown, {} came", lines.0, lines.1));
        }
        let mut pairs = shown.text.lines().zip(output.lines());
        return pairs
            .find_map(|(shown, line)| (!is_text(shown, line)).then(|| format!("{shown} is shown, {line} came")));
    }
    let values = |text: &str| {
        let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        values.collect::<Result<Vec<_>, _>>()
    };
    match (values(&shown.text), values(output)) {
        (Ok(shown), Ok(given)) => differs("", &shown.into(), &given.into()),
        (Err(error), _) => Some(format!("what is shown is no JSON: {error}")),
        (_, Err(error)) => Some(format!("what came is no JSON: {error}")),
    }
}

/// The page as one script, each example's output in a file of its own.
fn script(examples: &[Example], dir: &Path) -> String {
    let mut script = "set -u\n".to_owned();
    for (n, example) in examples.iter().enumerate() {
        let output = dir.join(format!("output-{n}"));
        writeln!(script, "{{\n{}}} > '{}' 2>&1", example.run.text, output.display()).unwrap();
    }
    script
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md")
}

#[tokio::test]
async fn the_page_does_what_it_says() {
    let api = Api::start().await;
    let agents = [
        FakeAgent::start(&api, "a").await,
        FakeAgent::start(&api, "b").await,
        FakeAgent::start(&api, "c").await,
    ];
    api.fleet_called("shop", &[&agents[0], &agents[1]]).await;
    api.upload(NEW).await.data();
    let desk = tempfile::tempdir().unwrap();
    package(desk.path(), UPLOADED);
    let page = std::fs::read_to_string(page()).unwrap();
    let examples = examples(&page);
    let outputs = tempfile::tempdir().unwrap();
    let mut shell = Command::new("bash");
    shell
        .args(["-c", &script(&examples, outputs.path())])
        .current_dir(desk.path());
    shell
        .env("URL", &api.running.url)
        .env("AUTH", format!("admin:{PASSWORD}"));
    shell.env("no_proxy", "*").stdin(Stdio::null()).kill_on_drop(true);
    let run = tokio::time::timeout(PATIENCE, shell.output())
        .await
        .expect("the page comes to no end")
        .unwrap();
    let mut wrong = String::new();
    for (n, example) in examples.iter().enumerate() {
        let output = std::fs::read_to_string(outputs.path().join(format!("output-{n}"))).unwrap_or_default();
        let unlike = match &example.shown {
            Some(shown) => unlike(shown, &output),
            None => (!output.is_empty()).then(|| "nothing is shown".to_owned()),
        };
        if let Some(why) = unlike {
            writeln!(
                wrong,
                "docs/api.md, line {}: {why}\n{}--- it printed:\n{output}",
                example.run.line, example.run.text
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{run:?}");
    assert!(examples.len() > 25, "examples were lost: {}", examples.len());
}

#[test]
fn what_is_not_as_shown_is_seen() {
    let block = |kind: &str, text: &str| Block {
        line: 1,
        kind: kind.to_owned(),
        text: text.to_owned(),
    };
    let shown = block("json", "{\"id\": 1, \"name\": \"a…c\", \"rows\": [1, 2]}");
    assert_eq!(
        unlike(&shown, "{\"id\": 7, \"more\": 1, \"name\": \"abbc\", \"rows\": [1, 2]}"),
        None
    );
    for other in [
        "{\"id\": 7, \"name\": \"abbc\", \"rows\": [1, 3]}",
        "{\"id\": 7, \"name\": \"abbc\", \"rows\": [1]}",
        "{\"id\": 7, \"name\": \"abb\", \"rows\": [1, 2]}",
        "{\"id\": \"7\", \"name\": \"abbc\", \"rows\": [1, 2]}",
        "{\"name\": \"abbc\", \"rows\": [1, 2]}",
        "nothing",
        "",
    ] {
        assert!(unlike(&shown, other).is_some(), "{other}");
    }
    assert!(unlike(&block("text", "a\n"), "b\n").is_some());
    assert!(unlike(&block("text", "a\n"), "a\nb\n").is_some());
    assert!(is_text("a…b…c", "a--b-b--c") && !is_text("a…b", "a--c") && !is_text("ab", "abc"));
}
