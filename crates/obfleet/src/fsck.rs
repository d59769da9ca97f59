//! `obfleet fsck`: what a check of the database finds, for people and for programs.

use std::process::ExitCode;

use obfleet_store::fsck::{self, Finding};
use serde_json::json;

use crate::{cli::StateArgs, database};

/// Checks, and shows what is wrong as it is found: one line of JSON each, or two of text.
pub async fn fsck(args: &StateArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    let location = obfleet_server::location(database::address(args)?.as_ref(), &args.state_dir);
    let show = |finding: Finding| {
        let Finding {
            object,
            reason,
            next_step,
        } = finding;
        if as_json {
            println!("{}", json!({"object": object, "reason": reason, "nextStep": next_step}));
        } else {
            println!("{object}: {reason}\n    {next_step}");
        }
    };
    let checked = fsck::check(&location, show).await?;
    let (tasks, findings) = (checked.tasks, checked.findings);
    if as_json {
        let database = location.to_string();
        println!(
            "{}",
            json!({"database": database, "tasks": tasks, "findings": findings})
        );
    } else {
        println!("{location}: tasks checked: {tasks}, things wrong: {findings}");
    }
    Ok(if findings == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
