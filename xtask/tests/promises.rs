//! `docs/engine.md` names the tests that prove what it promises: every one of them exists.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Guarantees in the table.
const GUARANTEES: usize = 15;

/// A test as the page names it: `crate/target path`.
#[derive(Debug, PartialEq)]
struct Named<'a> {
    krate: &'a str,
    target: &'a str,
    path: Vec<&'a str>,
}

impl<'a> Named<'a> {
    /// `None` if the text is something else than the name of a test.
    fn parse(text: &'a str) -> Option<Self> {
        let (place, path) = text.split_once(' ')?;
        let (krate, target) = place.split_once('/')?;
        let is_word = |word: &str| {
            let mut letters = word.bytes();
            !word.is_empty() && letters.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        let path: Vec<_> = path.split("::").collect();
        let sound = [krate, target].into_iter().chain(path.iter().copied()).all(is_word);
        sound.then_some(Self { krate, target, path })
    }

    /// What is missing of it in the crates below `crates`.
    fn missing(&self, crates: &Path) -> Result<(), String> {
        let of_crate = crates.join(self.krate);
        let (dir, root) = match self.target {
            "lib" => (of_crate.join("src"), of_crate.join("src/lib.rs")),
            target => {
                let dir = of_crate.join("tests").join(target);
                let root = if dir.is_dir() {
                    dir.join("main.rs")
                } else {
                    of_crate.join("tests").join(format!("{target}.rs"))
                };
                (dir, root)
            }
        };
        let (file, rest) = within(&dir, root, &self.path);
        let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let found = match rest {
            [name] | ["tests", name] => declares_test(&text, name),
            // Made by a macro: called with the group's name here, and defined somewhere in the target.
            [group, name] => {
                let called = text.contains(&format!("({group})")) || text.contains(&format!(" {group}: "));
                called && sources(&dir).iter().any(|source| declares_test(source, name))
            }
            _ => false,
        };
        let told = || format!("{} has no test {}", file.display(), rest.join("::"));
        if found { Ok(()) } else { Err(told()) }
    }
}

/// The file that the modules at the beginning of `path` lead to, and what is left of it.
fn within<'p, 'a>(dir: &Path, root: PathBuf, path: &'p [&'a str]) -> (PathBuf, &'p [&'a str]) {
    let (mut dir, mut file, mut rest) = (dir.to_owned(), root, path);
    while let [module, after @ ..] = rest {
        let next = dir.join(format!("{module}.rs"));
        if after.is_empty() || !next.is_file() {
            break;
        }
        (dir, file, rest) = (dir.join(module), next, after);
    }
    (file, rest)
}

/// Whether the text has a function of this name under a test's attribute.
fn declares_test(text: &str, name: &str) -> bool {
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, after)) = line.split_once("fn ") {
            let declared = after.strip_prefix(name).is_some_and(|rest| rest.starts_with('('));
            if declared && is_test {
                return true;
            }
            is_test = false;
        }
    }
    false
}

fn sources(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// What stands between single backticks.
fn spans(page: &str) -> impl Iterator<Item = &str> {
    page.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|span| !span.is_empty())
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn every_test_the_page_names_exists() {
    let page = fs::read_to_string(workspace().join("docs/engine.md")).unwrap();
    let crates = workspace().join("crates");
    let missing: Vec<_> = spans(&page)
        .filter_map(Named::parse)
        .filter_map(|named| named.missing(&crates).err())
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");

    let suite = crates.join("engine/src/testing");
    let suite: String = [suite.clone(), suite.join("conformance")]
        .iter()
        .flat_map(|dir| sources(dir))
        .collect();
    for part in spans(&page).filter_map(|span| span.strip_prefix("conformance::")) {
        assert!(suite.contains(&format!("fn {part}<")), "the suite has no part {part}");
    }

    let guarantees: Vec<_> = page.lines().filter(|line| line.starts_with("| G")).collect();
    assert_eq!(guarantees.len(), GUARANTEES);
    for row in guarantees {
        assert!(
            spans(row).any(|span| Named::parse(span).is_some()),
            "no test is named: {row}"
        );
    }
}

#[test]
fn a_test_that_is_not_there_is_missed() {
    let crates = workspace().join("crates");
    let missing = |text: &str| Named::parse(text).unwrap().missing(&crates).is_err();
    for there in [
        "engine/core small_scope::diamond",
        "engine/core against_model::core_and_model_agree",
        "store/it conformance::conforms::mariadb",
        "store/lib tasks::group::tests::a_group_is_all_or_nothing",
        "fleet/flows upgrade_hot::steps_fail",
        "agent/lib runner::tests::a_key_is_performed_once_even_over_a_restart",
        "obfleet/chaos every_point",
    ] {
        assert!(!missing(there), "{there}");
    }
    for not_there in [
        "engine/core small_scope::explore",
        "engine/core rules::diamond",
        "store/it conformance::conforms::postgres",
        "store/it conformance::agrees::mariadb",
        "fleet/flows downgrade::steps_fail",
        "obfleet/chaos every_poin",
        "nowhere/it x",
    ] {
        assert!(missing(not_there), "{not_there}");
    }
    for something_else in ["core/decide.rs", "obfleet migrate status", "--database", "rev"] {
        assert_eq!(Named::parse(something_else), None);
    }
}
