//! `cargo xtask demo`, `cargo xtask test` and `cargo xtask bench`: all set-up, then the main job, every test (`--long` for
//! those that take long), or every figure. `cargo xtask openapi` writes what is made from the code and checked in;
//! `cargo xtask fuzz` does alone what the long tests do with the targets of `fuzz/`.

mod fuzz;
mod kills;
mod setup;
mod suite;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use fuzz::Fuzzing;

/// Random cases for each property in the long run, among them damaged packages; 256 otherwise.
const LONG_CASES: &str = "10000";

/// Requests made up for each operation of the API in the long run.
const LONG_REQUESTS: &str = "60";

/// Tasks in a long run of the test of several servers under fire.
const LONG_TASKS: &str = "1000";

/// Kills and stops of a database under engines in a long run.
const LONG_OUTAGES: &str = "30";

/// Tasks of the obfleet workspace.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build obfleet and show an upgrade of three proxies under live traffic
    Demo {
        /// Passed on to `obfleet demo`, see `obfleet demo --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Install what the tests need and run them all
    Test(TestArguments),
    /// Write docs/openapi.json as the code says, or compare it
    Openapi {
        /// Write nothing; fail if it is old
        #[arg(long)]
        check: bool,
    },
    /// Build the fuzz targets with a nightly compiler and run them
    Fuzz {
        /// Only this target
        target: Option<String>,
        /// Only this input, such as one that failed
        #[arg(requires = "target")]
        input: Option<PathBuf>,
        /// Seconds that each target runs
        #[arg(long, value_name = "SECONDS", default_value_t = fuzz::SECONDS)]
        seconds: u32,
    },
    /// Build for release and measure how fast obfleet is on this machine
    Bench {
        /// Figures, and what `obfleet-bench --help` tells
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Args)]
struct TestArguments {
    /// Also kill server, agents and guards at every point of every operation, run fifty proxies, try far more random cases, and fuzz
    #[arg(long)]
    long: bool,
    /// Of all that only the kill at this point, as a failure names it
    #[arg(long, requires = "long", value_name = "server@7")]
    point: Option<String>,
    /// Minutes the kills may take, half of them for upgrades; what is left by then is told
    #[arg(long, requires = "long", value_name = "MINUTES", default_value_t = 110)]
    budget: u32,
    /// Seconds that each fuzz target runs
    #[arg(long, requires = "long", value_name = "SECONDS", default_value_t = fuzz::SECONDS)]
    fuzz_seconds: u32,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let root = workspace()?;
    match task {
        Task::Demo { arguments } => {
            succeed(cargo(&root).args(["build", "--package", "obfleet"]))?;
            succeed(
                Command::new(target(&root).join("debug/obfleet"))
                    .arg("demo")
                    .args(arguments),
            )
        }
        Task::Bench { arguments } => bench(&root, &arguments),
        Task::Openapi { check } => openapi(&root, check),
        Task::Fuzz {
            target: name,
            input,
            seconds,
        } => Fuzzing::new(&root, &target(&root)).by_hand(name.as_deref(), input.as_deref(), seconds),
        Task::Test(arguments) => match arguments.point {
            Some(point) => {
                let long = |file: &str, arguments: &[&str]| long(&root, file, arguments);
                succeed(&mut kills::one(long, arguments.budget, &point))
            }
            None => test(&root, &arguments),
        },
    }
}

fn test(root: &Path, arguments: &TestArguments) -> Result<()> {
    let tools = setup::test_tools(&target(root))?;
    let prepare = |tests: &mut Command| {
        tools.tell(tests);
        if arguments.long {
            tests
                .env("PROPTEST_CASES", LONG_CASES)
                .env("OBFLEET_SERVERS_TASKS", LONG_TASKS)
                .env("OBFLEET_SCHEMATHESIS_CASES", LONG_REQUESTS)
                .env("OBFLEET_OUTAGES", LONG_OUTAGES);
        }
    };
    let every = suite::run(|| cargo(root), prepare, &target(root).join("suite"));
    if !arguments.long {
        return every;
    }
    // The rest is run even if something failed: each tells what the other cannot.
    let mut results = vec![every, succeed(&mut long(root, "fifty", &["--nocapture"]))];
    // A development build would take the machine for itself.
    results.push(succeed(cargo(root).args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "obfleet",
    ])));
    let struck = |file: &str, arguments: &[&str]| {
        let mut long = long(root, file, arguments);
        long.env("OBFLEET_CHAOS_EXE", target(root).join("release/obfleet"));
        long
    };
    results.extend(kills::all(struck, arguments.budget));
    results.push(Fuzzing::new(root, &target(root)).if_possible(arguments.fuzz_seconds));
    results.into_iter().collect()
}

/// The test that compares the document can also write it.
fn openapi(root: &Path, check: bool) -> Result<()> {
    let mut test = cargo(root);
    let name = "openapi::what_is_checked_in_is_what_the_code_says";
    test.args(["test", "--workspace", "--test", "api", "--", "--exact", name]);
    if !check {
        test.env("OBFLEET_WRITE_OPENAPI", "1");
    }
    succeed(&mut test)
}

fn bench(root: &Path, arguments: &[String]) -> Result<()> {
    let tools = setup::test_tools(&target(root))?;
    let mut build = cargo(root);
    build.args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "obfleet",
        "--package",
        "obfleet-bench",
    ]);
    succeed(&mut build)?;
    let release = target(root).join("release");
    let mut bench = Command::new(release.join("obfleet-bench"));
    // Below the build directory: that is on a disk, where the system's temporary directory may be in memory.
    let dir = target(root).join("bench");
    std::fs::create_dir_all(&dir)?;
    bench
        .arg("--dir")
        .arg(&dir)
        .env("TMPDIR", &dir)
        .env("OBFLEET_SEEKDB", tools.seekdb);
    bench.arg("--obfleet").arg(release.join("obfleet"));
    succeed(bench.args(arguments))
}

/// Those tests of a file that take long.
fn long(root: &Path, file: &str, arguments: &[&str]) -> Command {
    let mut long = cargo(root);
    long.args(["test", "--package", "obfleet", "--test", file, "--", "--ignored"]);
    long.args(arguments);
    long
}

fn workspace() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here
        .parent()
        .context("xtask lies at the top of the file system")?
        .to_owned())
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |target| root.join(target))
}

fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    cargo
}

/// Runs a command in the foreground; its failure is ours.
fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().display());
    }
    Ok(())
}
