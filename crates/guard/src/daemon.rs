//! The guard's process: detached, deaf to the signals of proxies, the only one of its directory.

use std::{
    fs::{OpenOptions, TryLockError},
    io::{self, Write as _},
    os::fd::AsFd as _,
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    control, recover,
    restart::{Observer, Restart},
    run,
    state::Phase,
};

/// Set in the second of the two processes that a start takes.
const DETACHED: &str = "OBFLEET_GUARD_DETACHED";

/// A guard that is just dying holds the lock for moments.
const LOCK_DEADLINE: Duration = Duration::from_secs(2);

/// What `obfleet guard <dir>` runs: comes back at once in the process that was started, which leaves the guard behind
/// as a process of its own. Its pid is all that may be written to standard output: the starter reads it there.
pub fn main(dir: &Path) -> ExitCode {
    main_observed(dir, |_| {})
}

/// Like [`main`], telling `observer` each phase once it is on disk and before its effect.
pub fn main_observed(dir: &Path, observer: impl FnMut(&Phase) + 'static) -> ExitCode {
    let outcome = if std::env::var_os(DETACHED).is_some() {
        guard(dir, Box::new(observer))
    } else {
        detach()
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is guard.log.
            eprintln!("guard of {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

/// Starts this very command again, not to be waited for: its parent ends, so it is nobody's child and leaves no zombie.
/// Its own standard output is the log too, so that who reads the pid is not kept reading.
fn detach() -> io::Result<()> {
    let mut arguments = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let guard = command
        .args(arguments)
        .env(DETACHED, "1")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(io::stderr().as_fd().try_clone_to_owned()?)
        .spawn()?;
    writeln!(io::stdout(), "{}", guard.id())
}

fn guard(dir: &Path, observer: Observer) -> io::Result<()> {
    // Fails only for the leader of a process group, which nobody's group signals reach either.
    let _ = nix::unistd::setsid();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Handled and dropped: a proxy signals its parent, and a terminal that closes everybody.
        let deaf = [
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
            SignalKind::hangup(),
        ];
        let _streams = deaf.map(signal);
        at_work(dir, observer).await
    })
}

async fn at_work(dir: &Path, observer: Observer) -> io::Result<()> {
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join("lock"))?;
    let end = Instant::now() + LOCK_DEADLINE;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(TryLockError::WouldBlock) => return Err(io::Error::other("another guard is at work")),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    // An earlier guard was here if there is one in the state.
    let interrupted = crate::State::load(dir)?;
    if interrupted.phase.is_final() {
        return Ok(());
    }
    let mut restart = Restart::open(dir.to_owned(), observer)?;
    let listener = control::listen(dir)?;
    let orders = restart.orders.clone();
    let answering = control::serve(listener, |command| orders.answer(command));
    let work = async {
        if interrupted.guard.is_some() {
            recover::recover(&mut restart).await
        } else {
            run::run(&mut restart).await
        }
    };
    tokio::select! {
        outcome = work => outcome,
        () = answering => Ok(()),
    }
}
