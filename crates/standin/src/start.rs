//! From the command line to a serving process, in the real proxy's order: the sockets come last.

use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::{env, fs, io, process, thread};

use nix::unistd::{Pid, daemon, getppid};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::config::{Config, ConfigError};
use crate::config_server::{self, ConfigServer};
use crate::faults::seconds;
use crate::home::Home;
use crate::inherited::InheritedFds;
use crate::lifecycle;
use crate::listen::{Listeners, accept_while_open};
use crate::log::{Level, Log, REVISION};
use crate::metrics::Exporter;
use crate::options::{Action, Options, usage};
use crate::proxy::{Endpoints, Proxy};
use crate::session;
use crate::store::Store;
use crate::trailer::Trailer;

/// Why a start failed, with the number the real proxy logs. The exit code is 0 all the same.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("obproxy init failed(ret=-4147): {0}")]
    Config(String),
    #[error("obproxy init failed(ret=-4016): config store")]
    Store(#[from] sqlx::Error),
    #[error("fail to do listen(ret=-10098)")]
    Listen(#[source] io::Error),
    #[error("obproxy start failed(ret=-4016)")]
    Run(#[source] io::Error),
}

/// Runs the whole process as the OBProxy of `build`.
pub fn main(build: Trailer) -> ! {
    process::exit(run(build))
}

fn run(build: Trailer) -> i32 {
    let argv: Vec<String> = env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    eprintln!("{}", argv.join(" "));
    let options = match Options::parse(env::args_os().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n{}", usage(argv.first().map_or("obproxy", String::as_str)));
            return 0;
        }
    };
    match options.action {
        Action::Help => eprintln!("{}", usage(argv.first().map_or("obproxy", String::as_str))),
        Action::Version => eprintln!("{}", version_text(&build)),
        // Through a pipe the real proxy prints nothing: it ends without flushing.
        Action::Release if io::IsTerminal::is_terminal(&io::stdout()) => println!("{}.", build.release),
        Action::Release => {}
        Action::Run => return serve(build, argv, &options),
    }
    0
}

fn version_text(build: &Trailer) -> String {
    format!(
        "obproxy (OceanBase {} {})\nREVISION: {REVISION}\nBUILD_TIME: Jan  1 2026 00:00:00\nBUILD_FLAGS: stand-in\n",
        build.version, build.release
    )
}

fn serve(mut build: Trailer, argv: Vec<String>, options: &Options) -> i32 {
    eprint!("{}", options.echo());
    let inherited = InheritedFds::from_environment();
    let prepared = match inherited {
        Some(fds) => fds.close_others(),
        None if options.nodaemon => Ok(()),
        // Before any thread: only the forking thread lives on in the daemon.
        None => daemon(true, false).map_err(io::Error::from),
    };
    let parent = getppid();
    let opened = prepared.and_then(|()| {
        let home = Home::locate()?;
        build.faults = build.faults.clone().merged_with_file(home.root())?;
        home.lay_out()?;
        Ok((Log::open(&home)?, home))
    });
    // Without a log nobody can be told why.
    let Ok((log, home)) = opened else { return 0 };
    if let Some(code) = build.faults.exit {
        return i32::from(code);
    }
    if build.faults.hang {
        loop {
            thread::park();
        }
    }
    if let Some(delay) = seconds(build.faults.slow_start_s) {
        thread::sleep(delay);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            log.write(Level::Ediag, format_args!("obproxy init failed(ret=-4002): {error}"));
            return 0;
        }
    };
    let code = runtime.block_on(async {
        match initialise(build.clone(), argv, options, inherited, home, log).await {
            Ok((proxy, listeners, exporter)) => run_until_the_end(proxy, listeners, exporter, parent).await,
            Err((error, log)) => {
                report_failure(&log, &build, &error);
                0
            }
        }
    });
    // Not waiting for tasks: their sockets are to be cut, not finished.
    process::exit(code)
}

type Initialised = (Arc<Proxy>, Listeners, Option<Exporter>);

async fn initialise(
    build: Trailer,
    argv: Vec<String>,
    options: &Options,
    inherited: Option<InheritedFds>,
    home: Home,
    log: Log,
) -> Result<Initialised, (StartError, Log)> {
    let (config, store) = match load_config(&home, options, inherited.is_some(), &log).await {
        Ok(loaded) => loaded,
        Err(error) => return Err((error, log)),
    };
    let config_server = ConfigServer::of(&config, &home);
    if let Some(server) = &config_server {
        server.initialise(config.flag("ignore_local_config"), &log).await;
    }
    let bound = match inherited {
        Some(fds) => Listeners::inherit(fds),
        None => Listeners::bind(&config),
    };
    let listeners = match bound {
        Ok(listeners) => listeners,
        Err(error) => return Err((StartError::Listen(error), log)),
    };
    let is_inherited = inherited.is_some();
    let proxy = Proxy::new(build, argv, is_inherited, home, log, config, store).told_by(config_server);
    let proxy = Arc::new(proxy);
    proxy.set_endpoints(endpoints(&listeners));
    let exporter = Exporter::start(&proxy)
        .inspect_err(|error| {
            proxy.log.write(
                Level::Wdiag,
                format_args!("fail to init prometheus(ret=-4002): {error}"),
            );
        })
        .ok();
    Ok((proxy, listeners, exporter))
}

async fn run_until_the_end(proxy: Arc<Proxy>, listeners: Listeners, exporter: Option<Exporter>, parent: Pid) -> i32 {
    for sql in [&listeners.sql, &listeners.sql_ipv6].into_iter().flatten() {
        accept_sql(&proxy, sql);
    }
    for rpc in [&listeners.rpc, &listeners.rpc_ipv6].into_iter().flatten() {
        accept_rpc(&proxy, rpc);
    }
    tokio::spawn(config_server::keep_asking(Arc::clone(&proxy)));
    match lifecycle::run(Arc::clone(&proxy), listeners, exporter, parent).await {
        Ok(code) => code,
        Err(error) => {
            report_failure(&proxy.log, &proxy.build, &StartError::Run(error));
            0
        }
    }
}

fn report_failure(log: &Log, build: &Trailer, error: &StartError) {
    let cause = std::error::Error::source(error)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    log.write(Level::Ediag, format_args!("{error}{cause}"));
    if matches!(error, StartError::Listen(_)) {
        log.write(Level::Ediag, "obproxy start failed(ret=-4016)");
    }
    log.reboot(build, false);
}

/// Loads the stored configuration, lays environment and options over it, and stores the result.
///
/// The child of a hot restart takes the store alone.
async fn load_config(
    home: &Home,
    options: &Options,
    is_inherited: bool,
    log: &Log,
) -> Result<(Config, Store), StartError> {
    let mut store = Store::open(&home.config_store()).await?;
    store.begin_exclusive().await?;
    let mut config = Config::defaults();
    for (name, value) in store.load().await? {
        config.load(&name, value);
    }
    if !is_inherited {
        let from_environment = ["observer_sys_password", "observer_sys_password1"]
            .into_iter()
            .filter_map(|name| env::var(name).ok().map(|value| (name.to_owned(), value)));
        for (name, value) in from_environment.chain(options.config_values()) {
            match config.set_at_start(&name, value) {
                Ok(()) => {}
                Err(ConfigError::Unknown) => {
                    log.write(Level::Wdiag, format_args!("unknown config item ignored(name={name})"));
                }
                Err(_) => return Err(StartError::Config(format!("invalid value of {name}"))),
            }
        }
        if options.dump_config_sql {
            dump_config_sql(home, &config).map_err(StartError::Run)?;
        }
    }
    if config.text("rootservice_list").is_empty() && config.text("obproxy_config_server_url").is_empty() {
        return Err(StartError::Config(
            "neither rootservice_list nor obproxy_config_server_url".to_owned(),
        ));
    }
    if options.execute_config_sql {
        return Err(StartError::Config("there is no metadb".to_owned()));
    }
    store.replace_all(&config).await?;
    store.commit().await?;
    Ok((config, store))
}

fn dump_config_sql(home: &Home, config: &Config) -> io::Result<()> {
    let path: PathBuf = home.root().join("obproxy_config_update.sql");
    let statements: Vec<String> = config
        .shown()
        .map(|(item, value)| {
            format!(
                "UPDATE ob_all_proxy_app_config SET value = '{value}' WHERE name = '{}';\n",
                item.name
            )
        })
        .collect();
    fs::write(path, statements.concat())
}

fn endpoints(listeners: &Listeners) -> Endpoints {
    let fd = |listener: &Option<Arc<TcpListener>>| listener.as_ref().map_or(-1, |listener| listener.as_raw_fd());
    let sql = listeners.sql.as_ref().or(listeners.sql_ipv6.as_ref());
    Endpoints {
        sql_port: sql
            .and_then(|listener| listener.local_addr().ok())
            .map_or(0, |address| address.port()),
        sql_fd: fd(&listeners.sql),
        sql_ipv6_fd: fd(&listeners.sql_ipv6),
        rpc_fd: fd(&listeners.rpc),
        rpc_ipv6_fd: fd(&listeners.rpc_ipv6),
    }
}

fn accept_sql(proxy: &Arc<Proxy>, listener: &Arc<TcpListener>) {
    let served = Arc::clone(proxy);
    tokio::spawn(accept_while_open(
        Arc::clone(listener),
        proxy.gate.subscribe(),
        move |stream, peer: SocketAddr| {
            tokio::spawn(session::serve(Arc::clone(&served), stream, peer));
        },
    ));
}

/// The RPC port takes connections and says nothing.
fn accept_rpc(proxy: &Arc<Proxy>, listener: &Arc<TcpListener>) {
    tokio::spawn(accept_while_open(
        Arc::clone(listener),
        proxy.gate.subscribe(),
        |mut stream, _| {
            tokio::spawn(async move {
                let mut ignored = [0; 1024];
                while matches!(stream.read(&mut ignored).await, Ok(read) if read > 0) {}
            });
        },
    ));
}
