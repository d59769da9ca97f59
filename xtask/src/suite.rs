//! Builds all test programs and runs them, as many at a time as the machine has processors.
//!
//! `cargo test` runs one program after the other, and most of ours wait: for processes, databases and clocks. So those that
//! compute run beside those that wait. What a program says is shown when it has ended, in one piece.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Write},
    num::NonZero,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// Test programs that keep a processor busy, those that take longest first: `crate/target`.
const COMPUTING: [&str; 3] = ["fleet/flows", "server/api", "engine/core"];

/// Those of the others that take longest, in that order. What is not named comes after them.
const LONG: [&str; 10] = [
    "store/it",
    "obfleet/demo",
    "agent/node",
    "obfleet/chaos",
    "obfleet/takeover",
    "obfleet/ssh",
    "guard/process",
    "obfleet/strangers",
    "obfleet/parameters",
    "obfleet/fleet",
];

/// What cargo tells of something it built, as far as it matters here ("artifact messages" of its book).
#[derive(Deserialize)]
struct Artifact {
    manifest_path: PathBuf,
    target: Target,
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// A line of cargo's. It tells of more than what was built.
#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact(Artifact),
    #[serde(other)]
    Other,
}

/// Something with tests.
struct Program {
    /// `crate/target`.
    name: String,
    command: Command,
}

/// Builds every test of the workspace and runs it. `cargo` makes a command in the workspace; `tell` has the tests find their
/// tools; what each program says is also left in `logs`.
///
/// # Errors
/// What cannot be built or started; at the end, the names of the programs that failed.
pub fn run(cargo: impl Fn() -> Command, tell: impl Fn(&mut Command), logs: &Path) -> Result<()> {
    let mut programs = build(cargo())?;
    let mut examples = cargo();
    examples.args(["test", "--workspace", "--no-fail-fast", "--doc"]);
    programs.push(Program {
        name: "documentation".to_owned(),
        command: examples,
    });
    for program in &mut programs {
        tell(&mut program.command);
    }
    fs::create_dir_all(logs)?;
    let number = programs.len();
    let waiting = Mutex::new(Waiting::of(programs));
    let lanes = thread::available_parallelism().map_or(1, NonZero::get);
    let failed: Vec<String> = thread::scope(|scope| {
        let lane = |number: usize| lane(&waiting, number.is_multiple_of(2), logs, &mut io::stdout());
        let lanes: Vec<_> = (0..lanes).map(|number| scope.spawn(move || lane(number))).collect();
        let ends = lanes.into_iter().map(|lane| lane.join());
        let ends = ends.map(|failed| failed.unwrap_or_else(|_| vec!["the suite itself".to_owned()]));
        ends.flatten().collect()
    });
    if !failed.is_empty() {
        bail!(
            "{} of {number} test programs failed: {}",
            failed.len(),
            failed.join(", ")
        );
    }
    println!("all {number} test programs passed");
    Ok(())
}

/// Builds all test programs.
fn build(mut cargo: Command) -> Result<Vec<Program>> {
    cargo.args([
        "test",
        "--workspace",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    let mut building = cargo.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let messages = building.stdout.take().context("cargo tells nothing")?;
    let mut programs = Vec::new();
    for line in BufReader::new(messages).lines() {
        if let Message::CompilerArtifact(artifact) = serde_json::from_str(&line?)? {
            programs.extend(program(&artifact));
        }
    }
    let built = building.wait()?;
    if !built.success() {
        bail!("the tests cannot be built: cargo ended with {built}");
    }
    Ok(programs)
}

/// What was built, if it has tests. It runs as cargo would run it: in its package's directory.
fn program(artifact: &Artifact) -> Option<Program> {
    let executable = artifact.executable.as_ref().filter(|_| artifact.profile.test)?;
    let package = artifact.manifest_path.parent()?;
    let mut command = Command::new(executable);
    command.current_dir(package).env("CARGO_MANIFEST_DIR", package);
    Some(Program {
        name: format!("{}/{}", package.file_name()?.display(), artifact.target.name),
        command,
    })
}

/// Programs that have not been started, in the order in which they are.
struct Waiting {
    computing: VecDeque<Program>,
    others: VecDeque<Program>,
}

impl Waiting {
    fn of(programs: Vec<Program>) -> Self {
        let place = |program: &Program, names: &[&str]| names.iter().position(|name| *name == program.name);
        let (mut computing, mut others): (Vec<_>, Vec<_>) = programs
            .into_iter()
            .partition(|program| place(program, &COMPUTING).is_some());
        computing.sort_by_key(|program| place(program, &COMPUTING));
        others.sort_by_key(|program| place(program, &LONG).unwrap_or(LONG.len()));
        Self {
            computing: computing.into(),
            others: others.into(),
        }
    }

    /// The next one: of the wanted kind as long as there are any.
    fn next(&mut self, computes: bool) -> Option<Program> {
        let (wanted, rest) = match computes {
            true => (&mut self.computing, &mut self.others),
            false => (&mut self.others, &mut self.computing),
        };
        wanted.pop_front().or_else(|| rest.pop_front())
    }
}

/// Runs one program after the other until none is left, and shows what they said; the names of those that failed.
fn lane(waiting: &Mutex<Waiting>, computes: bool, logs: &Path, out: &mut impl Write) -> Vec<String> {
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next(computes);
    let mut failed = Vec::new();
    while let Some(program) = next() {
        let name = program.name.clone();
        match passes(program, logs, out) {
            Ok(true) => {}
            Ok(false) => failed.push(name),
            Err(error) => failed.push(format!("{name} ({error:#})")),
        }
    }
    failed
}

/// Whether all tests of a program pass; shows what it said.
fn passes(mut program: Program, logs: &Path, out: &mut impl Write) -> Result<bool> {
    let said = logs.join(program.name.replace('/', "-")).with_extension("log");
    let output = File::create(&said)?;
    program.command.stdin(Stdio::null());
    program.command.stdout(output.try_clone()?).stderr(output);
    let begun = Instant::now();
    let status = program.command.status().context("it cannot be started")?;
    let verdict = match status.success() {
        true => "passed".to_owned(),
        false => format!("FAILED, {status}"),
    };
    let mut shown = format!("\n=== {}\n", program.name).into_bytes();
    File::open(&said)?.read_to_end(&mut shown)?;
    writeln!(
        shown,
        "=== {}: {verdict}, {} s",
        program.name,
        begun.elapsed().as_secs()
    )?;
    // In one piece, or the other lanes' would come between.
    out.write_all(&shown)?;
    out.flush()?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_compute_run_beside_those_that_wait() {
        let programs = [
            "obfleet/backends",
            "engine/core",
            "obfleet/demo",
            "fleet/flows",
            "store/it",
        ];
        let programs = programs.map(|name| Program {
            name: name.to_owned(),
            command: Command::new("true"),
        });
        let mut waiting = Waiting::of(programs.into());
        let mut next = |computes| waiting.next(computes).map(|program| program.name);
        assert_eq!(next(true).as_deref(), Some("fleet/flows"));
        assert_eq!(next(false).as_deref(), Some("store/it"));
        assert_eq!(next(true).as_deref(), Some("engine/core"));
        assert_eq!(next(true).as_deref(), Some("obfleet/demo"));
        assert_eq!(next(false).as_deref(), Some("obfleet/backends"));
        assert_eq!(next(false), None);
    }

    #[test]
    fn a_program_that_fails_is_named() {
        let logs = tempfile::tempdir().unwrap();
        let shell = |name: &str, script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            Program {
                name: name.to_owned(),
                command,
            }
        };
        let waiting = Mutex::new(Waiting::of(vec![
            shell("a/good", "echo fine"),
            shell("a/bad", "echo wrong >&2; exit 3"),
            Program {
                name: "a/missing".to_owned(),
                command: Command::new(logs.path().join("nothing")),
            },
        ]));
        let mut out = Vec::new();
        let failed = lane(&waiting, true, logs.path(), &mut out);
        assert_eq!(failed.len(), 2);
        assert_eq!(failed[0], "a/bad");
        assert!(failed[1].starts_with("a/missing (it cannot be started"), "{failed:?}");
        let shown = String::from_utf8(out).unwrap();
        assert!(shown.starts_with("\n=== a/good\nfine\n=== a/good: passed, "), "{shown}");
        assert!(
            shown.contains("\n=== a/bad\nwrong\n=== a/bad: FAILED, exit status: 3"),
            "{shown}"
        );
        assert_eq!(fs::read_to_string(logs.path().join("a-bad.log")).unwrap(), "wrong\n");
    }
}
