//! `obfleet forget-authority`: the way out when somebody else may have the authority's private key.

use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use obfleet_server::state_dir::AUTHORITY;
use obfleet_store::{Database, Location};

use crate::{cli::StateArgs, database};

/// Has the database forget the authority, so that the next server that starts makes another one.
pub async fn forget(args: &StateArgs) -> anyhow::Result<ExitCode> {
    let location = obfleet_server::location(database::address(args)?.as_ref(), &args.state_dir);
    if let Location::File(path) = &location {
        ensure!(path.exists(), "there is no database {location}; correct --state-dir");
    }
    let old = args.state_dir.join(AUTHORITY);
    ensure!(
        !old.exists(),
        "{} would be taken over by the next start; remove it, here and on every other server, then do this again",
        old.display()
    );
    let database = Database::at(&location).await?;
    let forgotten = database.authorities().forget().await;
    database.close().await;
    if !forgotten.context("the authority is not forgotten")? {
        bail!("the database {location} has no authority; start a server on it, which makes one");
    }
    println!("{location}: the authority is forgotten. Restart every server, then enrol every agent again");
    Ok(ExitCode::SUCCESS)
}
