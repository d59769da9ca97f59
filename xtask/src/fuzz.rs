//! Fuzzing: builds the targets of `fuzz/` as cargo-fuzz does, which need not be installed, and runs each for so long.
//!
//! It takes a nightly compiler, since only that one can instrument what it builds. None is downloaded: where there is none,
//! the long run says so and goes on.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs::{self, File},
    num::NonZero,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, bail};

use crate::{setup, succeed};

/// Seconds that each target runs when nobody says otherwise.
pub const SECONDS: u32 = 60;

/// What cargo-fuzz gives the compiler: coverage of edges and comparisons, AddressSanitizer, checks of overflow.
const FLAGS: [&str; 9] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "--cfg fuzzing",
    "-Zsanitizer=address",
    "-Cdebug-assertions",
];

/// Bounds of one input: seconds, and megabytes of memory.
const BOUNDS: [&str; 2] = ["-timeout=20", "-rss_limit_mb=2048"];

/// Lines of what a failed target said that are shown.
const SHOWN: usize = 16;

/// A compiler that can build the targets.
struct Nightly {
    /// Begins each command: nothing, or `rustup run nightly`.
    through: &'static [&'static str],
    /// The platform it builds for.
    host: String,
}

impl Nightly {
    /// The one that is in use, or else rustup's; the error is why there is none.
    fn find() -> Result<Self, String> {
        let mut reason = String::new();
        for through in [&[][..], &["rustup", "run", "nightly"]] {
            match Self::ask(through) {
                Ok(version) if is_nightly(&version) => {
                    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
                    let host = host.ok_or("the compiler does not tell its platform")?.to_owned();
                    return Ok(Self { through, host });
                }
                Ok(_) => "the compiler in use is none".clone_into(&mut reason),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    fn ask(through: &[&str]) -> Result<String, String> {
        let mut rustc = command(through, "rustc");
        let output = rustc.arg("-vV").output();
        let output = output.map_err(|error| format!("{} cannot be run: {error}", rustc.get_program().display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(said.lines().next().unwrap_or("it says nothing").trim().to_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn cargo(&self) -> Command {
        command(self.through, "cargo")
    }
}

fn is_nightly(version: &str) -> bool {
    version
        .lines()
        .any(|line| line.starts_with("release: ") && line.contains("nightly"))
}

fn command(through: &[&str], program: &str) -> Command {
    let mut words = through.iter().copied().chain([program]);
    let mut command = Command::new(words.next().unwrap_or(program));
    // Another toolchain is asked for, and must not be fetched.
    command.args(words).env("RUSTUP_AUTO_INSTALL", "0");
    if !through.is_empty() {
        command.env_remove("RUSTUP_TOOLCHAIN");
    }
    // What cargo told us of ourselves: build scripts that look at it would be run anew, and all that comes after them.
    for (name, _) in std::env::vars_os() {
        if OF_XTASK
            .iter()
            .any(|start| name.as_encoded_bytes().starts_with(start.as_bytes()))
        {
            command.env_remove(name);
        }
    }
    command
}

/// Beginnings of the names of variables that describe the package which runs.
const OF_XTASK: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_"];

/// Where the targets are, and what becomes of them.
pub struct Fuzzing {
    /// `fuzz/` of the workspace.
    source: PathBuf,
    /// `target/fuzz`: what is built, the corpus, what was found, and what each target said.
    made: PathBuf,
}

impl Fuzzing {
    /// Of this workspace, with this build directory.
    pub fn new(root: &Path, target: &Path) -> Self {
        Self {
            source: root.join("fuzz"),
            made: target.join("fuzz"),
        }
    }

    /// Runs every target for so many seconds, or says why not: a nightly compiler is not there everywhere.
    ///
    /// # Errors
    /// Targets that cannot be built, and those that found something.
    pub fn if_possible(&self, seconds: u32) -> Result<()> {
        match Nightly::find() {
            Ok(nightly) => self.all(&nightly, seconds),
            Err(reason) => {
                println!(
                    "\nFUZZING IS LEFT OUT: there is no nightly compiler here ({reason}), and none is downloaded.\n\
                     With one (rustup toolchain install nightly), `cargo xtask fuzz` makes up for it."
                );
                Ok(())
            }
        }
    }

    /// Runs one target or all; or one target with one input, to see what it does.
    ///
    /// # Errors
    /// As above, and where there is no nightly compiler.
    pub fn by_hand(&self, name: Option<&str>, input: Option<&Path>, seconds: u32) -> Result<()> {
        let nightly = Nightly::find().map_err(anyhow::Error::msg);
        let nightly = nightly.context("fuzzing takes a nightly compiler: rustup toolchain install nightly")?;
        let Some(name) = name else {
            return self.all(&nightly, seconds);
        };
        let names = self.names()?;
        if !names.iter().any(|known| known == name) {
            bail!("there is no target {name}; there are {}", names.join(", "));
        }
        self.build(&nightly, Some(name))?;
        match input {
            Some(input) => succeed(self.target(&nightly, name).args(BOUNDS).arg(input)),
            None => self.run(&nightly, vec![name.to_owned()], seconds),
        }
    }

    fn all(&self, nightly: &Nightly, seconds: u32) -> Result<()> {
        self.build(nightly, None)?;
        self.run(nightly, self.names()?, seconds)
    }

    /// The targets, sorted.
    fn names(&self) -> Result<Vec<String>> {
        let dir = self.source.join("fuzz_targets");
        let files = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
        let mut names = Vec::new();
        for file in files {
            let path = file?.path();
            if path.extension() == Some(OsStr::new("rs")) {
                names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
            }
        }
        names.sort();
        Ok(names)
    }

    fn build(&self, nightly: &Nightly, only: Option<&str>) -> Result<()> {
        // libFuzzer itself is C++.
        setup::programs(&[("c++", "g++")])?;
        println!("building the fuzz targets");
        let mut build = nightly.cargo();
        build
            .arg("build")
            .arg("--manifest-path")
            .arg(self.source.join("Cargo.toml"));
        build.args(["--quiet", "--release", "--target", &nightly.host, "--target-dir"]);
        build.arg(self.made.join("build"));
        match only {
            Some(name) => build.args(["--bin", name]),
            None => build.arg("--bins"),
        };
        build
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", FLAGS.join(" "));
        succeed(&mut build).context("the fuzz targets cannot be built")
    }

    fn target(&self, nightly: &Nightly, name: &str) -> Command {
        let mut target = Command::new(self.made.join("build").join(&nightly.host).join("release").join(name));
        // Files of a moment: in memory, where the system has such a place.
        if Path::new("/dev/shm").is_dir() {
            target.env("TMPDIR", "/dev/shm");
        }
        target
    }

    /// Runs the targets, as many at a time as there are processors.
    fn run(&self, nightly: &Nightly, names: Vec<String>, seconds: u32) -> Result<()> {
        let number = names.len();
        println!("running {number} fuzz targets for {seconds} s each");
        let waiting = Mutex::new(VecDeque::from(names));
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let lanes = thread::available_parallelism().map_or(1, NonZero::get);
        let failed: Vec<String> = thread::scope(|scope| {
            let lane = || {
                let mut failed = Vec::new();
                while let Some(name) = next() {
                    match self.run_one(nightly, &name, seconds) {
                        Ok(done) => println!("fuzz {name}: {done}"),
                        Err(error) => {
                            println!("fuzz {name}: FAILED, {error:#}");
                            failed.push(name);
                        }
                    }
                }
                failed
            };
            let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
            let ends = lanes.into_iter().map(|lane| lane.join());
            let ends = ends.map(|failed| failed.unwrap_or_else(|_| vec!["the run itself".to_owned()]));
            ends.flatten().collect()
        });
        if !failed.is_empty() {
            bail!(
                "{} of {number} fuzz targets failed: {}",
                failed.len(),
                failed.join(", ")
            );
        }
        Ok(())
    }

    /// Runs a target from its seeds, and from what earlier runs have learned and found; what came of it.
    fn run_one(&self, nightly: &Nightly, name: &str, seconds: u32) -> Result<String> {
        let place = |kind: &str| self.made.join(kind).join(name);
        let (corpus, found) = (place("corpus"), place("found"));
        for dir in [&corpus, &found] {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let log = place("said").with_extension("log");
        fs::create_dir_all(self.made.join("said"))?;
        let said = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut target = self.target(nightly, name);
        target.args(BOUNDS).arg("-print_final_stats=1");
        target.arg(format!("-max_total_time={seconds}"));
        target.arg(format!("-artifact_prefix={}/", found.display()));
        let dictionary = self.source.join("dictionaries").join(name).with_extension("dict");
        if dictionary.is_file() {
            target.arg(format!("-dict={}", dictionary.display()));
        }
        // What is new goes to the first of them.
        target.args([&corpus, &self.source.join("seeds").join(name), &found]);
        target.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let status = target.status().context("it cannot be started")?;
        let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        if status.success() {
            return Ok(summary(&said));
        }
        println!("\n=== fuzz {name}, from {}\n{}", log.display(), complaint(&said));
        match input(&said) {
            Some(input) => bail!("by {input}; run it again: cargo xtask fuzz {name} {input}"),
            None => bail!("{status}; {} tells why", log.display()),
        }
    }
}

/// The lines that tell what went wrong: those of the panic or of the sanitizer, else the last ones.
fn complaint(said: &str) -> String {
    let lines: Vec<_> = said.lines().collect();
    let is_begin = |line: &&str| line.contains(" panicked at ") || line.contains("ERROR: ");
    let begin = lines
        .iter()
        .position(is_begin)
        .unwrap_or(lines.len().saturating_sub(SHOWN));
    lines[begin..]
        .iter()
        .take(SHOWN)
        .copied()
        .collect::<Vec<_>>()
        .join("\n")
}

/// Where libFuzzer says that it has put the input that failed.
fn input(said: &str) -> Option<&str> {
    said.lines()
        .find_map(|line| Some(line.split_once("Test unit written to ")?.1.trim()))
}

/// How much was tried, from libFuzzer's statistics.
fn summary(said: &str) -> String {
    let figure = |name: &str| {
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name));
        line.and_then(|rest| rest.strip_prefix(':')).map_or("?", str::trim)
    };
    format!(
        "{} inputs tried, {} new ones kept, at most {} MB",
        figure("number_of_executed_units"),
        figure("new_units_added"),
        figure("peak_rss_mb")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nightly_compiler_is_known_by_its_release() {
        assert!(is_nightly(
            "rustc 1.97.0-nightly (x)\nrelease: 1.97.0-nightly\nhost: x86_64-unknown-linux-gnu\n"
        ));
        assert!(!is_nightly(
            "rustc 1.95.0 (x)\nrelease: 1.95.0\nhost: nightly-unknown-linux-gnu\n"
        ));
    }

    #[test]
    fn of_what_a_target_said_the_complaint_is_shown() {
        let frames = "    #1 somewhere\n".repeat(90);
        let said =
            format!("#7 NEW cov: 1\nthread '<unnamed>' (1) panicked at x.rs:1:2:\nwhy\n==1== ERROR: y\n{frames}end\n");
        let shown = complaint(&said);
        assert!(
            shown.starts_with("thread '<unnamed>' (1) panicked at x.rs:1:2:\nwhy\n"),
            "{shown}"
        );
        assert_eq!(shown.lines().count(), SHOWN);
        assert!(complaint(&format!("{frames}killed\n")).ends_with("\nkilled"));
    }

    #[test]
    fn what_was_found_is_named_and_what_was_tried_is_told() {
        let said = "artifact_prefix='/x/'; Test unit written to /x/crash-0a\nBase64: AA==\n";
        assert_eq!(input(said), Some("/x/crash-0a"));
        let said = "Done 12 runs\nstat::number_of_executed_units: 12\nstat::new_units_added:          3\nstat::peak_rss_mb:              77\n";
        assert_eq!(input(said), None);
        assert_eq!(summary(said), "12 inputs tried, 3 new ones kept, at most 77 MB");
    }
}
