//! What stands in the way of a hot restart, seen on processes that somebody else started.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Instant,
};

use obfleet_agent::client::CallError;
use obfleet_wire::agent::{Operation, Outcome, RestartMethod};

use crate::{
    authority::Authority,
    host::{Caller, DRAIN, Host, LONG, NEW},
};

/// A proxy that was installed by the agent and stopped, so that it can be started in other ways.
struct Installed {
    host: Host,
    caller: Caller,
    home: PathBuf,
    _authority: Authority,
}

impl Installed {
    async fn new() -> Self {
        let authority = Authority::start().await;
        let host = Host::started(&authority);
        let mut caller = Caller::new(host.endpoint(&authority.client()), 1);
        caller.create_upgradable(host.spec(7)).await;
        let stop = Operation::StopProxy {
            proxy_id: 7,
            drain: DRAIN,
        };
        caller.call(stop).await.unwrap();
        let home = fs::read_dir(host.root().join("proxies"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        Self {
            home: home.path(),
            host,
            caller,
            _authority: authority,
        }
    }

    /// Starts it by this command in its home, waits until it answers, and asks for the preflight.
    async fn obstacles(&mut self, mut command: Command) -> String {
        let child = command
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _proxy = Started(child, self.home.clone());
        let give_up = Instant::now() + LONG;
        while let Err(e) = self.caller.call(Operation::Inspect { proxy_id: 7 }).await {
            assert!(Instant::now() < give_up, "{e}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let preflight = Operation::Preflight {
            proxy_id: 7,
            version: NEW.parse().unwrap(),
            method: RestartMethod::Hot,
        };
        match self.caller.call(preflight).await {
            Ok(Outcome::Preflight(_)) => String::new(),
            Err(CallError::Failed { message }) => message,
            other => panic!("{other:?}"),
        }
    }
}

/// A child of the test, ended with whatever it started in the home.
struct Started(Child, PathBuf);

impl Drop for Started {
    fn drop(&mut self) {
        for process in obfleet_obproxy::process::of_home(&self.1).unwrap_or_default() {
            crate::host::end(process.id.pid);
        }
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_pid_1_of_its_namespace_is_refused() {
    let mut proxy = Installed::new().await;
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork"]);
    if !unshare.arg("true").status().is_ok_and(|status| status.success()) {
        return eprintln!("skipped: no new pid namespace can be made here");
    }
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "./bin/obproxy", "-N"]);
    let obstacles = proxy.obstacles(command).await;
    assert!(obstacles.contains("as PID 1 of a container"), "{obstacles}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_would_signal_its_manager_or_run_another_file_is_refused() {
    let mut proxy = Installed::new().await;
    let mut command = Command::new("./bin/obproxy");
    command.arg("-N");
    let obstacles = proxy.obstacles(command).await;
    let parent = format!("its parent, process {}", std::process::id());
    assert!(obstacles.contains(&parent), "{obstacles}");

    let link = proxy.host.root().join("by-another-name");
    symlink(proxy.home.join("bin/obproxy"), &link).unwrap();
    let obstacles = proxy.obstacles(Command::new(&link)).await;
    let reason = format!("started as '{}'", link.display());
    assert!(obstacles.contains(&reason), "{obstacles}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_too_long_to_be_handed_on_is_refused() {
    let mut proxy = Installed::new().await;
    let home = proxy
        .home
        .canonicalize()
        .unwrap()
        .into_os_string()
        .into_string()
        .unwrap();
    let root = |length: usize| format!("{home}{}", "/.".repeat(length.saturating_sub(home.len()).div_ceil(2)));
    let mut command = Command::new("./bin/obproxy");
    command.env("OBPROXY_ROOT", root(116));
    let obstacles = proxy.obstacles(command).await;
    assert!(obstacles.contains("OBPROXY_ROOT has 11"), "{obstacles}");
    let mut command = Command::new("./bin/obproxy");
    command.env("OBPROXY_ROOT", root(110));
    assert_eq!(proxy.obstacles(command).await, "");
}
