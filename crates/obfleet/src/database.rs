//! A server's database as it is given on the command line, and looking after its schema.

use std::{env, fs, process::ExitCode};

use anyhow::{Context as _, bail, ensure};
use obfleet_store::{
    Address,
    schema::{self, Progress},
};

use crate::cli::{Order, StateArgs};

/// Holds an address where `--database` is not given. It is not read by clap, which would not tell where an address came from.
const VARIABLE: &str = "OBFLEET_DATABASE";

/// The address that was given, with the password from the file.
pub fn address(args: &StateArgs) -> anyhow::Result<Option<Address>> {
    let given = match &args.database {
        Some(url) => Some(on_command_line(url)?),
        None => in_environment()?,
    };
    match (given, &args.database_password_file) {
        (given, None) => Ok(given),
        (None, Some(_)) => {
            bail!("--database-password-file is of no use without --database or {VARIABLE}: give one of them")
        }
        (Some(address), Some(file)) => {
            let password = fs::read_to_string(file).with_context(|| {
                let file = file.display();
                format!("{file} cannot be read; give --database-password-file a file that this user may read")
            })?;
            Ok(Some(address.with_password(password.trim_end_matches(['\r', '\n']))))
        }
    }
}

/// Without a password: for as long as the process runs everybody on the machine can read its arguments.
fn on_command_line(url: &str) -> anyhow::Result<Address> {
    // Parsed here: clap would show what it cannot parse, password and all.
    let address: Address = url.parse().context("correct --database")?;
    ensure!(
        !address.has_password(),
        "the password in --database can be seen by everybody on this machine; leave it out there, and put it into a file \
         for --database-password-file, or the whole address into {VARIABLE}"
    );
    Ok(address)
}

fn in_environment() -> anyhow::Result<Option<Address>> {
    let Some(url) = env::var_os(VARIABLE) else {
        return Ok(None);
    };
    let address = url.to_string_lossy().parse();
    Ok(Some(address.with_context(|| format!("correct {VARIABLE}"))?))
}

/// Does what was asked for, and shows how far the schema is.
pub async fn migrate(args: &StateArgs, order: Order) -> anyhow::Result<ExitCode> {
    let location = obfleet_server::location(address(args)?.as_ref(), &args.state_dir);
    match order {
        Order::Status => {}
        Order::Up => schema::up(&location).await?,
        Order::Repair => schema::repair(&location).await?,
    }
    println!("{location}");
    let steps = schema::status(&location).await?;
    for step in &steps {
        println!("{:<6} {:>3}  {}", step.part, step.version, step.progress);
    }
    let complete = steps.iter().all(|step| step.progress == Progress::Complete);
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
