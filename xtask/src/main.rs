//! `cargo xtask demo` and `cargo xtask test`: all set-up, then the main job or every test.

mod setup;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

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
    Test,
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
        Task::Test => {
            let tools = setup::test_tools(&target(&root))?;
            let mut tests = cargo(&root);
            tests.args(["test", "--workspace", "--no-fail-fast"]);
            // With this set a test whose tool is missing fails instead of skipping itself.
            tests.env("OBFLEET_TEST_TOOLS", "1").env("OBFLEET_SEEKDB", tools.seekdb);
            succeed(&mut tests)
        }
    }
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
