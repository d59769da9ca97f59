//! A server's database as it is given on the command line, and looking after its schema.

use std::{fs, process::ExitCode};

use anyhow::Context as _;
use obfleet_store::{
    Address,
    schema::{self, Progress},
};

use crate::cli::{Order, StateArgs};

/// The address that was given, with the password from the file.
pub fn address(args: &StateArgs) -> anyhow::Result<Option<Address>> {
    let Some(url) = &args.database else {
        return Ok(None);
    };
    // Parsed here: clap would show what it cannot parse, password and all.
    let address: Address = url.parse().context("correct --database or OBFLEET_DATABASE")?;
    let Some(file) = &args.database_password_file else {
        return Ok(Some(address));
    };
    let password = fs::read_to_string(file).with_context(|| {
        let file = file.display();
        format!("{file} cannot be read; give --database-password-file a file that this user may read")
    })?;
    Ok(Some(address.with_password(password.trim_end_matches(['\r', '\n']))))
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
