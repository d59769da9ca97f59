//! One executable with the roles a host needs, as `obfleet` has them: for the tests of this crate.
//!
//! `node agent <server url> <token or -> <state> <root> <address> <listen> <bind>`, `node guard <dir>`; a copy with a
//! trailer is a stand-in proxy.

use std::{env, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use obfleet_agent::Options;

fn main() -> ExitCode {
    match role() {
        Ok(code) => code,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn role() -> anyhow::Result<ExitCode> {
    if let Some(trailer) = obfleet_standin::is_standin(Path::new("/proc/self/exe"))? {
        obfleet_standin::main(trailer);
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["guard", dir] => Ok(obfleet_guard::main(Path::new(dir))),
        ["agent", server_url, token, state_dir, root, address, listen, bind] => {
            let options = Options {
                server_url: server_url.to_owned(),
                token: (token != "-").then(|| token.parse()).transpose()?,
                state_dir: state_dir.into(),
                root: root.into(),
                address: address.to_owned(),
                listen: listen.parse()?,
                bind: bind.parse()?,
                exe: env::current_exe()?,
                measure_every: Duration::from_millis(500),
            };
            let runtime = tokio::runtime::Runtime::new()?;
            runtime
                .block_on(obfleet_agent::run(options))
                .context("the agent ended")?;
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("expected 'agent …' or 'guard <dir>'"),
    }
}
