//! Before anything changes: who runs, what it is, and everything put aside that the way back needs.

use obfleet_obproxy::{binary, process};
use obfleet_wire::agent::{ProxyFacts, RestartMethod};

use crate::{
    judge::{self, Held},
    knobs,
    restart::Restart,
    state::Before,
};

/// Looks, copies, writes down, and only then sets the knobs. The error says why not; what serves is untouched then.
pub(crate) async fn prepare(restart: &mut Restart) -> Result<Held, String> {
    let plan = &restart.plan;
    let home = plan.home.display();
    let running = process::of_home(&plan.home).map_err(|error| format!("{home}: {error}"))?;
    let process = match &running[..] {
        [process] => process.clone(),
        [] => return Err(format!("no proxy runs in {home}")),
        more => {
            return Err(format!(
                "{} processes run in {home}: another restart is under way",
                more.len()
            ));
        }
    };
    let mut held = judge::log_in_within(restart, judge::CALL_DEADLINE)
        .await
        .map_err(|error| format!("{}: {error}", plan.address))?;
    if held.id() != process.id {
        return Err(format!(
            "process {} answers at {}, {} runs in {home}",
            held.id().pid,
            plan.address,
            process.id.pid
        ));
    }
    let facts = ProxyFacts {
        pid: process.id.pid,
        version: held.keeper.binary_info().await.map_err(|error| error.to_string())?,
        binary_sha256: binary::sha256(&process.exe_path()).map_err(|error| error.to_string())?,
    };
    restart.log.line(format_args!(
        "process {} runs {}; going {} to {}",
        facts.pid,
        facts.version,
        match plan.method {
            RestartMethod::Hot => "hot",
            RestartMethod::Cold => "cold",
        },
        plan.version
    ));
    restart
        .files
        .stage(&plan.binary, &plan.binary_sha256)
        .map_err(|error| error.to_string())?;
    restart.files.keep(&process).map_err(|error| error.to_string())?;
    let hot = plan.method == RestartMethod::Hot;
    let knobs = if hot {
        knobs::read(&mut held.keeper).await.map_err(|error| error.to_string())?
    } else {
        Vec::new()
    };
    let before = Before {
        process: process.id,
        facts,
        knobs,
    };
    restart
        .record(|state| state.before = Some(before))
        .map_err(|error| error.to_string())?;
    if hot {
        knobs::set(&mut held.keeper, restart.plan.drain)
            .await
            .map_err(|error| format!("settings: {error}"))?;
    }
    Ok(held)
}
