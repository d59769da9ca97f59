//! A systemd of a machine's own, in namespaces of its own: it is the first process there, and has its own units and control
//! groups. The network is that of the real machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tokio::time::{Instant, sleep};

use crate::process::Process;

const BOOT: &str = include_str!("boot.sh");
const SYSTEMD: &str = "/usr/lib/systemd/systemd";
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// The systemd. Everything on the machine ends with it.
#[derive(Debug)]
pub struct Init {
    // Ends before its control groups are removed.
    unshare: Option<Process>,
    groups: PathBuf,
    pid: i32,
}

/// Whether there is a systemd, and namespaces with control groups can be made here.
pub fn can_be_had() -> bool {
    let promised = std::env::var_os("OBFLEET_TEST_TOOLS").is_some_and(|value| value == "1");
    if !Path::new(SYSTEMD).exists() {
        assert!(!promised, "OBFLEET_TEST_TOOLS=1, but there is no {SYSTEMD}");
        eprintln!("left out: there is no {SYSTEMD}");
        return false;
    }
    let script = "mount -t tmpfs none /run && mkdir /run/groups && mount -t cgroup2 none /run/groups";
    let mut probe = Command::new("unshare");
    probe.args(["--mount", "--pid", "--cgroup", "--fork", "sh", "-c", script]);
    let can = groups_of_this_process().is_ok() && probe.status().is_ok_and(|status| status.success());
    if !can {
        eprintln!("left out: only root, with control groups of version 2, can start a systemd of its own");
    }
    can
}

impl Init {
    /// Starts one on the machine whose own files are in `dir`, and returns when it has.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        let above = groups_of_this_process()?;
        // Removed by its own rules, not by the guard.
        let groups = tempfile::Builder::new().prefix("obfleet-lab-").tempdir_in(above);
        let groups = groups.context("no control group can be made")?.keep();
        // It and all it starts are below this group, which it takes for the root.
        let script = "echo $$ >\"$1/cgroup.procs\" && exec unshare --mount --pid --cgroup --ipc --uts --fork --kill-child \
                      sh -c \"$2\" \"$0\"";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(dir).arg(&groups).arg(BOOT);
        let unshare = Process::start(&mut command, dir.join("boot.log"))?;
        let mut init = Self {
            unshare: Some(unshare),
            groups,
            pid: 0,
        };
        let deadline = Instant::now() + PATIENCE;
        while !init.is_running() {
            let unshare = init.unshare.as_mut().context("it was ended")?;
            if unshare.ended().is_some() || Instant::now() > deadline {
                bail!("no systemd: {}", unshare.last_words());
            }
            sleep(LOOK).await;
        }
        Ok(init)
    }

    fn is_running(&mut self) -> bool {
        let Some(unshare) = &self.unshare else { return false };
        let children = format!("/proc/{0}/task/{0}/children", unshare.pid());
        let children = fs::read_to_string(children).unwrap_or_default();
        let Some(pid) = children.split_whitespace().next().and_then(|pid| pid.parse().ok()) else {
            return false;
        };
        self.pid = pid;
        let is_systemd = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("systemd"));
        is_systemd
            && self
                .run("systemctl", &["is-system-running"])
                // Degraded by a unit that nothing here needs it is as good.
                .is_ok_and(|output| matches!(output.stdout.as_slice(), b"running\n" | b"degraded\n"))
    }

    /// A command that will run on the machine, as root and outside all units.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.pid.to_string());
        command.args([
            "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--wd=/", "--", program,
        ]);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a program on the machine to its end.
    pub fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.command(program).args(arguments).output()?)
    }

    /// Has systemd do something. → what it said
    ///
    /// # Errors
    /// When it does not.
    pub fn systemctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.run("systemctl", arguments)?;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.success(),
            "systemctl {}: {}: {complaint}",
            arguments.join(" "),
            output.status
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        self.unshare = None;
        let deadline = std::time::Instant::now() + PATIENCE;
        // The last of its processes may be on their way.
        while remove_tree(&self.groups).is_err() && std::time::Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
    }
}

/// Removes a control group and those below it, in which nothing runs.
fn remove_tree(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// The directory of the control group, of version 2, that this process is in.
fn groups_of_this_process() -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut mounted = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (_, at, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(at))
    });
    let mount = mounted.next().context("no control groups of version 2")?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    Ok(mount.join(own.context("this process is in no control group of version 2")?))
}
