//! The process' course: the tick of the hot restart task, signals, the child, the drain, and how it all ends.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::time::{Instant, interval_at, sleep};

use crate::faults::seconds;
use crate::hot_restart::{LocalCommand, TickStep};
use crate::inherited::{RPC_FD, RPC_IPV6_FD, SQL_FD, SQL_IPV6_FD, fd_text, set_inheritable};
use crate::listen::{Gate, Listeners};
use crate::log::Level;
use crate::metrics::Exporter;
use crate::moment::Moment;
use crate::proxy::Proxy;
use crate::store::Store;

/// The end of a child is looked for this often.
const REAP_INTERVAL: Duration = Duration::from_millis(100);
/// The first look whether a drain is over, and the time between two looks.
const FIRST_DRAIN_CHECK: Duration = Duration::from_millis(300);
const DRAIN_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// From the decision to leave a drain until the process is gone.
const LEAVE_DELAY: Duration = Duration::from_millis(500);
/// From SIGTERM until the sockets are closed, and from there until the process is gone.
const QUICK_CLOSE_DELAY: Duration = Duration::from_millis(300);
const QUICK_END_DELAY: Duration = Duration::from_millis(500);
/// Signals the real proxy uses for chores that have no meaning here: they must not end the process.
const CHORE_SIGNALS: [i32; 5] = [40, 41, 42, 43, 49];

/// How a process that served ends.
enum Ending {
    /// After a drain: the parent, if there is one, is told by SIGUSR2.
    Drained,
    /// By SIGTERM, SIGINT or command: at once.
    Quick,
    /// The real proxy would kill every process of its user here.
    KillEverything,
}

/// Opens the gate and runs until the process has to end; returns its exit code. `parent` is the one at the process' start.
pub async fn run(proxy: Arc<Proxy>, listeners: Listeners, exporter: Option<Exporter>, parent: Pid) -> io::Result<i32> {
    let signals = Signals::install()?;
    proxy.gate.send_replace(Gate::Open);
    if proxy.is_inherited {
        set_pdeathsig(Signal::SIGHUP)?;
        // Whoever adopted this process after its parent's death is not told.
        if !proxy.build.faults.never_signal && getppid() == parent {
            signal_parent(Signal::SIGUSR1);
        }
    }
    proxy.log.reboot(&proxy.build, true);
    proxy.log.write(
        Level::Info,
        "obproxy start up successful and can provide normal service",
    );
    let mut lifecycle = Lifecycle {
        proxy,
        listeners,
        exporter,
        child: None,
    };
    let ending = lifecycle.serve(signals).await;
    lifecycle.end(ending).await;
    // A normal end has code 1, as the real proxy's has.
    Ok(1)
}

/// Signals this process' parent, unless that is init.
fn signal_parent(what: Signal) {
    let parent = getppid();
    if parent.as_raw() > 1 {
        // A parent that ended this instant needs no signal.
        let _ = kill(parent, what);
    }
}

struct Signals {
    usr1: SignalStream,
    usr2: SignalStream,
    term: SignalStream,
    int: SignalStream,
    hup: SignalStream,
    _chores: Vec<SignalStream>,
}

impl Signals {
    fn install() -> io::Result<Self> {
        let chores = CHORE_SIGNALS.iter().map(|number| signal(SignalKind::from_raw(*number)));
        Ok(Self {
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            _chores: chores.collect::<io::Result<_>>()?,
        })
    }
}

struct Lifecycle {
    proxy: Arc<Proxy>,
    listeners: Listeners,
    exporter: Option<Exporter>,
    child: Option<Child>,
}

impl Lifecycle {
    async fn serve(&mut self, mut signals: Signals) -> Ending {
        let faults = self.proxy.build.faults.clone();
        let (started_at, terms_ignored_for) = (Instant::now(), seconds(faults.ignore_term_s).unwrap_or_default());
        // Drawn once: a later `alter` of the interval acts on the next process only.
        let interval = self.proxy.config().duration("proxy_hot_upgrade_check_interval");
        let period = interval
            .mul_f64(rand::random_range(0.5..=1.0))
            .max(Duration::from_millis(1));
        let mut tick = interval_at(started_at + period, period);
        let mut reap = interval_at(started_at + REAP_INTERVAL, REAP_INTERVAL);
        let mut drain_check = started_at;
        let crash = async {
            match seconds(faults.crash_after_s) {
                Some(delay) => sleep(delay).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(crash);
        loop {
            let draining = self.proxy.is_draining();
            tokio::select! {
                _ = tick.tick() => {
                    if let Some(ending) = self.tick().await {
                        return ending;
                    }
                }
                _ = reap.tick() => self.reap(),
                () = tokio::time::sleep_until(drain_check), if draining => {
                    if self.drain_is_over() {
                        return Ending::Drained;
                    }
                    drain_check += DRAIN_CHECK_INTERVAL;
                }
                _ = signals.usr1.recv() => {
                    self.begin_drain().await;
                    drain_check = Instant::now() + FIRST_DRAIN_CHECK;
                }
                _ = signals.usr2.recv() => self.proxy.restart().machine.child_says_goodbye(),
                _ = signals.hup.recv() => self.proxy.restart().received_sig = Signal::SIGHUP as i32,
                _ = signals.term.recv() => {
                    self.proxy.log.write(Level::Info, "receive signal(sig=15)");
                    if started_at.elapsed() >= terms_ignored_for {
                        return Ending::Quick;
                    }
                }
                _ = signals.int.recv() => {
                    self.proxy.log.write(Level::Info, "receive signal(sig=2)");
                    if started_at.elapsed() >= terms_ignored_for {
                        return Ending::Quick;
                    }
                }
                () = &mut crash => std::process::abort(),
            }
        }
    }

    async fn tick(&mut self) -> Option<Ending> {
        let command = self.take_command();
        match command {
            LocalCommand::Offline => self.proxy.set_offline(true),
            LocalCommand::Online => self.proxy.set_offline(false),
            _ => {}
        }
        let step = self.proxy.restart().machine.tick(command, Moment::now());
        match step {
            TickStep::Wait => {}
            TickStep::IgnoreCommand => self
                .proxy
                .log
                .write(Level::Wdiag, "proxy_local_cmd ignored in this state"),
            TickStep::Restart => self.restart().await,
            TickStep::Exit => return Some(Ending::Quick),
            TickStep::ReopenStore => self.reopen_store().await,
            TickStep::Resume => self.resume().await,
            TickStep::KillAndResume(pid) => {
                self.proxy.log.write(
                    Level::Wdiag,
                    format_args!("child not ready in time, kill it(sub_pid={pid})"),
                );
                self.kill_child();
                self.resume().await;
            }
            TickStep::KillEverything => return Some(Ending::KillEverything),
        }
        None
    }

    /// Reads `proxy_local_cmd` and sets it back to 0.
    fn take_command(&self) -> LocalCommand {
        let mut config = self.proxy.config();
        let command = LocalCommand::from_number(config.int("proxy_local_cmd"));
        if command != LocalCommand::None
            && let Some(item) = obfleet_obproxy::config_items::find("proxy_local_cmd")
        {
            config.alter(item, "0".to_owned());
        }
        command
    }

    async fn restart(&mut self) {
        let root = match self.proxy.home.inheritable_root() {
            Ok(root) => root.map(str::to_owned),
            Err(error) => {
                return self
                    .proxy
                    .log
                    .write(Level::Ediag, format_args!("fail to fork new proxy: {error}"));
            }
        };
        if let Some(exporter) = self.exporter.take() {
            exporter.close().await;
        }
        self.close_store().await;
        self.write_legacy_config();
        self.proxy.gate.send_replace(Gate::Paused);
        let timeout = self.proxy.config().duration("hot_upgrade_rollback_timeout");
        let spawned = self.spawn(root.as_deref());
        let pid = match &spawned {
            Ok(child) => i32::try_from(child.id()).ok(),
            Err(error) => {
                self.proxy
                    .log
                    .write(Level::Ediag, format_args!("fail to exec new proxy: {error}"));
                None
            }
        };
        self.proxy.log.write(
            Level::Info,
            format_args!("start local restart(sub_pid={})", pid.unwrap_or(-1)),
        );
        self.child = spawned.ok();
        self.proxy.restart().machine.forked(pid, Moment::now(), timeout);
    }

    /// Executes the file this process was started from, as its name was typed then, with the sockets and nothing else.
    fn spawn(&self, root: Option<&str>) -> io::Result<Child> {
        let program = self.proxy.argv.first().map_or("obproxy", String::as_str);
        // execve looks a bare name up in the working directory, not along PATH.
        let path = if program.contains('/') {
            program.to_owned()
        } else {
            format!("./{program}")
        };
        let mut command = Command::new(path);
        command.arg0(program).env_clear();
        if self.proxy.config().text("proxy_service_mode") == "server" {
            command.arg("-u1");
        }
        let listeners = &self.listeners;
        command.env(SQL_FD, fd_text(listeners.sql.as_deref()));
        command.env(SQL_IPV6_FD, fd_text(listeners.sql_ipv6.as_deref()));
        if listeners.rpc.is_some() {
            command.env(RPC_FD, fd_text(listeners.rpc.as_deref()));
        }
        if listeners.rpc_ipv6.is_some() {
            command.env(RPC_IPV6_FD, fd_text(listeners.rpc_ipv6.as_deref()));
        }
        if let Some(root) = root {
            command.env("OBPROXY_ROOT", root);
        }
        listeners
            .all()
            .try_for_each(|listener| set_inheritable(listener, true))?;
        let spawned = command.spawn();
        listeners
            .all()
            .try_for_each(|listener| set_inheritable(listener, false))?;
        spawned
    }

    /// Older versions look for this file after a way back; a plain start never writes it.
    fn write_legacy_config(&self) {
        let lines: Vec<String> = self
            .proxy
            .config()
            .shown()
            .map(|(item, value)| format!("{}={value}\n", item.name))
            .collect();
        if let Err(error) = std::fs::write(self.proxy.home.legacy_config(), lines.concat()) {
            self.proxy
                .log
                .write(Level::Wdiag, format_args!("fail to dump config: {error}"));
        }
    }

    fn reap(&mut self) {
        if let Some(child) = &mut self.child
            && let Ok(Some(status)) = child.try_wait()
        {
            let pid = child.id();
            self.proxy
                .log
                .write(Level::Info, format_args!("child ended(sub_pid={pid}, {status})"));
            if let Ok(pid) = i32::try_from(pid) {
                self.proxy.restart().machine.child_ended(pid);
            }
            self.child = None;
        }
    }

    fn kill_child(&mut self) {
        if let Some(child) = &mut self.child {
            // An error means it is gone already.
            let _ = child.kill();
        }
    }

    /// Serves again after a child that came to nothing. The file on disk stays as it is.
    async fn resume(&mut self) {
        self.proxy.restart().received_sig = -1;
        self.reopen_store().await;
        if self.exporter.is_none() {
            self.exporter = Exporter::start(&self.proxy).ok();
        }
        self.proxy.gate.send_replace(Gate::Open);
        self.proxy.log.write(Level::Wdiag, "rollback succeed, accept again");
    }

    async fn begin_drain(&mut self) {
        let timeout = self.proxy.exit_timeout();
        {
            let mut view = self.proxy.restart();
            view.received_sig = Signal::SIGUSR1 as i32;
            view.machine.drain_requested(Moment::now(), timeout);
        }
        self.proxy.gate.send_replace(Gate::Paused);
        self.close_store().await;
        self.proxy
            .log
            .write(Level::Info, "receive signal(sig=10), graceful exit");
    }

    fn drain_is_over(&self) -> bool {
        let faults = &self.proxy.build.faults;
        if faults.orderly_close {
            for session in self.proxy.sessions.list() {
                let is_ordinary = session.identity().is_some_and(|identity| identity.tenant != "proxysys");
                if is_ordinary && session.activity().is_between_transactions() {
                    session.closing.cancel();
                }
            }
        }
        let drained = self
            .proxy
            .restart()
            .machine
            .drained(self.proxy.sessions.count(), Moment::now());
        drained && !faults.drain_never_ends
    }

    async fn close_store(&self) {
        if let Some(store) = self.proxy.store.lock().await.take()
            && let Err(error) = store.close().await
        {
            self.proxy
                .log
                .write(Level::Wdiag, format_args!("fail to close config store: {error}"));
        }
    }

    async fn reopen_store(&self) {
        let mut slot = self.proxy.store.lock().await;
        if slot.is_none() {
            match Store::open(&self.proxy.home.config_store()).await {
                Ok(store) => *slot = Some(store),
                Err(error) => self
                    .proxy
                    .log
                    .write(Level::Ediag, format_args!("fail to open config store: {error}")),
            }
        }
    }

    async fn end(&mut self, ending: Ending) {
        match ending {
            Ending::Drained => {
                sleep(LEAVE_DELAY).await;
                signal_parent(Signal::SIGUSR2);
            }
            Ending::Quick => {
                let delay = self.proxy.config().duration("delay_exit_time");
                self.proxy.gate.send_replace(Gate::Paused);
                sleep(QUICK_CLOSE_DELAY).await;
                self.proxy.gate.send_replace(Gate::Closed);
                self.listeners = Listeners::default();
                sleep(QUICK_END_DELAY + delay).await;
            }
            Ending::KillEverything => {
                self.proxy
                    .log
                    .write(Level::Ediag, "KILL_ALL: end of this process and its child");
                self.kill_child();
            }
        }
        self.proxy.log.write(Level::Info, "graceful exit finished");
    }
}
