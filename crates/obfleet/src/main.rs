//! One executable, several roles: `server`, `agent`, `demo`, the commands that ask a server ([`client`]), and the hidden
//! `guard` an agent runs; `migrate`, `fsck`,
//! `audit` and `forget-authority` look after a server's database, `reap`, hidden as well, cleans up after a killed demo. A copy with a
//! trailer is a stand-in proxy. Arguments and wiring only; the work is in the other crates.

mod audit;
mod authority;
mod cli;
mod client;
mod database;
mod descriptors;
mod fsck;
mod log;
mod memory;
mod runtime;
mod stop;

use std::{fmt, net::SocketAddr, path::Path, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser as _;
use obfleet_lab::{
    demo::{self, Demo},
    reaper,
};
use obfleet_server::{Server, TlsFiles, tls::Reload};
use obfleet_wire::agent::DrainPolicy;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{AgentArgs, Cli, Command, DemoArgs, ServerArgs};

fn main() -> ExitCode {
    // Before any thread and any runtime: a stand-in turns itself into a daemon.
    match obfleet_standin::is_standin(Path::new("/proc/self/exe")) {
        Ok(Some(trailer)) => obfleet_standin::main(trailer),
        Ok(None) => {}
        Err(error) => return failed(format_args!("cannot read this executable: {error}")),
    }
    let command = Cli::parse().command;
    if let Command::Guard { dir } = &command {
        return obfleet_guard::main(dir);
    }
    memory::give_back();
    log::on_stderr(matches!(command, Command::Demo(_) | Command::Client(_)));
    match run(command) {
        Ok(code) => code,
        Err(error) => failed(format_args!("{}", obfleet_agent::describe(error.as_ref()))),
    }
}

fn failed(reason: fmt::Arguments<'_>) -> ExitCode {
    eprintln!("obfleet: {reason}");
    ExitCode::FAILURE
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Server(args) => runtime::of_server()?.block_on(server(args)).map(|()| ExitCode::SUCCESS),
        Command::Migrate { state, order } => runtime::usual()?.block_on(database::migrate(&state, order)),
        Command::Fsck { state, json } => runtime::usual()?.block_on(fsck::fsck(&state, json)),
        Command::Audit { order } => runtime::usual()?.block_on(audit::audit(&order)),
        Command::ForgetAuthority { state } => runtime::usual()?.block_on(authority::forget(&state)),
        Command::Agent(args) => runtime::usual()?.block_on(agent(args)).map(|()| ExitCode::SUCCESS),
        Command::Client(command) => runtime::usual()?
            .block_on(client::run(command))
            .map(|()| ExitCode::SUCCESS),
        Command::Demo(args) => runtime::usual()?.block_on(demonstrate(args)),
        // Has been run without a runtime.
        Command::Guard { dir } => Ok(obfleet_guard::main(&dir)),
        Command::Reap { dir } => reaper::reap(&dir)
            .map(|()| ExitCode::SUCCESS)
            .with_context(|| dir.display().to_string()),
    }
}

/// How often the files of the API's certificate are looked at.
const CERTIFICATE_EVERY: Duration = Duration::from_secs(5);

async fn server(args: ServerArgs) -> anyhow::Result<()> {
    let mut options = obfleet_server::Options::new(args.listen, &args.state.state_dir);
    options.database = database::address(&args.state)?;
    options.admin_password_file = args.admin_password_file;
    options.tls = args.tls_cert.zip(args.tls_key).map(|(certificate, key)| TlsFiles {
        certificate,
        key,
        look_every: CERTIFICATE_EVERY,
    });
    options.own_certificate = args.tls_generate;
    options.redirect_http = args.redirect_http;
    options.insecure_http = args.insecure_http;
    options.requests_per_minute = args.requests_per_minute;
    options.connections_per_address = args.connections_per_address;
    options.package_keys = args.package_keys;
    options.public_url = args.public_url;
    options.peer_url = args.peer_url;
    options.drain = DrainPolicy {
        window_ms: args.drain_window * 1000,
        ..options.drain
    };
    options.agents_valid = Duration::from_secs(args.agent_certificate_days * 24 * 60 * 60);
    options.drain_timeout = Duration::from_secs(args.drain_timeout);
    options.keep_tasks = args.keep_tasks_days.map(|days| Duration::from_secs(days * 86_400));
    options.keep_audit = args.keep_audit_days.map(|days| Duration::from_secs(days * 86_400));
    options.keep_metrics = Duration::from_secs(args.keep_metrics_days * 86_400);
    descriptors::make_room();
    let told_to_stop = stop::of_server()?;
    // Before the server says that it is ready: a signal that nobody waits for would end it.
    let hangup = signal(SignalKind::hangup())?;
    let running = Server::start(options).await?;
    tokio::spawn(reload(hangup, running.reload()));
    if let Some(password) = &running.admin_password {
        println!("user admin, password {password} (shown this once)");
    }
    if args.tls_generate {
        let authority = obfleet_server::tls::own::authority(&args.state.state_dir);
        println!("clients trust this server with --ca {}", authority.display());
    }
    println!("ready on {}", running.url);
    Ok(running.run_until(told_to_stop).await?)
}

/// Reads the certificate again at each SIGHUP.
async fn reload(mut hangup: Signal, certificate: Reload) {
    while hangup.recv().await.is_some() {
        certificate.now();
    }
}

async fn agent(args: AgentArgs) -> anyhow::Result<()> {
    let options = obfleet_agent::Options {
        server_url: args.server,
        token: args.token.map(|token| token.parse()).transpose()?,
        state_dir: args.state_dir,
        root: args.root,
        address: args.address.to_string(),
        listen: args.listen.unwrap_or(SocketAddr::new(args.address, AGENT_PORT)),
        bind: args.bind,
        exe: std::env::current_exe().context("this executable cannot be found")?,
        measure_every: Duration::from_secs(args.measure_every),
    };
    Ok(obfleet_agent::run(options).await?)
}

/// Where agents listen unless told otherwise.
const AGENT_PORT: u16 = 2889;

async fn demonstrate(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let options = demo::Options {
        exe: std::env::current_exe().context("this executable cannot be found")?,
        json: args.json,
        fault: args.fault,
        keep: args.keep,
        upgrade: !args.no_upgrade,
        backend: args.backend,
        scenario: args.scenario,
    };
    // Both end the demo, not only this process: what it started goes with its values.
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut demo = Demo::new(options);
    let shown = tokio::select! {
        shown = demo.show() => shown,
        _ = term.recv() => Err(anyhow::anyhow!("told to end")),
        _ = int.recv() => Err(anyhow::anyhow!("interrupted")),
    };
    let good = match shown {
        Ok(good) => {
            if args.keep {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
            }
            good
        }
        Err(error) => {
            eprintln!("obfleet: {}", obfleet_agent::describe(error.as_ref()));
            demo.break_off()?;
            false
        }
    };
    demo.end().await;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
