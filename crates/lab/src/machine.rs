//! A machine that has no agent yet: a real sshd on loopback, in a mount namespace with accounts of its own; with a systemd
//! of its own if need be.

pub mod init;

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use obfleet_standin::ports::PortLease;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use self::init::Init;
use crate::process::Process;

/// Where Debian has it; it wants to be started by its whole path.
const SSHD: &str = "/usr/sbin/sshd";
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);

/// Of root and of others, in the namespace alone.
pub const PASSWORD: &str = "Lab-Secret-1";
const HASH: &str = "$6$obfleet$RPMTAtQIY9CUBoBrXJHnHvZ9VJYIpMJgLckKYpigoY8d0eFfP5JZJdUMK9j2vs0Th7DmWvJREkMhCwe6eXciL/";
/// Who may use sudo without a password, where there is a systemd.
pub const DEPLOYER: &str = "deploy";
/// Who may not.
pub const GUEST: &str = "guest";
/// By which files are known to be theirs.
pub const GUEST_ID: u32 = 4712;
/// Where the agents of root's live on a machine with a systemd, as it is seen there.
const OPT: &str = "/opt";
/// User ids and names of those who are not root.
const PEOPLE: [(u32, &str); 2] = [(4711, DEPLOYER), (GUEST_ID, GUEST)];

/// Of the key that is let in.
pub const PASSPHRASE: &str = "open sesame";
/// The key the machine shows.
pub const HOST_KEY: &str = "host_key";
/// Another one.
pub const OTHER_HOST_KEY: &str = "other_host_key";

/// A machine. Its sshd ends with this; an agent on it is ended by whoever ends what runs below its root.
#[derive(Debug)]
pub struct Machine {
    // Both end before the ports are given back.
    sshd: Option<Process>,
    init: Option<Init>,
    dir: PathBuf,
    root: PathBuf,
    port: PortLease,
    agent_port: PortLease,
}

/// Whether there is an sshd, and namespaces can be made here; an sshd that takes logins runs as root.
pub fn can_be_had() -> bool {
    if !Path::new(SSHD).exists() {
        let promised = std::env::var_os("OBFLEET_TEST_TOOLS").is_some_and(|value| value == "1");
        assert!(!promised, "OBFLEET_TEST_TOOLS=1, but there is no {SSHD}");
        eprintln!("left out: there is no {SSHD}");
        return false;
    }
    let probe = Command::new("unshare").args(["--mount", "true"]).status();
    let can = probe.is_ok_and(|status| status.success());
    if !can {
        eprintln!("left out: only root can run an sshd with accounts of its own");
    }
    can
}

impl Machine {
    /// Starts one whose own files are in `dir`, and whose agent will live in `root`.
    pub async fn start(dir: PathBuf, root: PathBuf) -> anyhow::Result<Self> {
        let home = dir.join("home");
        Self::prepare(dir, root, &home)?.with_sshd().await
    }

    /// Starts one with a systemd, whose own files are in `dir`. Nothing else of the real machine can be written to there.
    pub async fn start_with_systemd(dir: PathBuf) -> anyhow::Result<Self> {
        let mut machine = Self::prepare(dir, Path::new(OPT).join("obfleet"), Path::new("/home"))?;
        fs::create_dir(machine.dir.join("opt"))?;
        for (uid, name) in PEOPLE {
            let home = machine.dir.join("home").join(name);
            fs::create_dir(&home)?;
            std::os::unix::fs::chown(&home, Some(uid), Some(uid))?;
        }
        let sudoers = machine.dir.join("sudoers");
        fs::write(
            &sudoers,
            format!("root ALL=(ALL) ALL\n{DEPLOYER} ALL=(ALL) NOPASSWD: ALL\n"),
        )?;
        fs::set_permissions(&sudoers, fs::Permissions::from_mode(0o440))?;
        machine.init = Some(Init::start(&machine.dir).await?);
        machine.with_sshd().await
    }

    /// Keys and accounts; root's home is `home`, as it is seen there.
    fn prepare(dir: PathBuf, root: PathBuf, home: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir.join("home"))?;
        keygen(&dir.join("key"), PASSPHRASE)?;
        fs::copy(dir.join("key.pub"), dir.join("authorized_keys"))?;
        keygen(&dir.join(HOST_KEY), "")?;
        keygen(&dir.join(OTHER_HOST_KEY), "")?;
        let mut accounts = format!(
            "root:x:0:0:root:{}:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nmessagebus:x:101:65534::/:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n",
            home.display()
        );
        let mut shadow = format!("root:{HASH}:19000:0:99999:7:::\nsshd:*:19000::::::\n");
        for (uid, name) in PEOPLE {
            accounts += &format!("{name}:x:{uid}:{uid}::/home/{name}:/bin/sh\n");
            shadow += &format!("{name}:{HASH}:19000:0:99999:7:::\n");
        }
        fs::write(dir.join("passwd"), accounts)?;
        fs::write(dir.join("shadow"), shadow)?;
        Ok(Self {
            sshd: None,
            init: None,
            dir,
            root,
            port: PortLease::take()?,
            agent_port: PortLease::take()?,
        })
    }

    async fn with_sshd(mut self) -> anyhow::Result<Self> {
        self.let_in(HOST_KEY).await?;
        Ok(self)
    }

    /// Its systemd, if it has one.
    pub fn init(&self) -> Option<&Init> {
        self.init.as_ref()
    }

    /// Where a place of a machine with a systemd is found by others, if that is among its own files.
    pub fn outside(&self, place: &Path) -> Option<PathBuf> {
        [("/opt", "opt"), ("/home", "home")]
            .into_iter()
            .find_map(|(there, here)| {
                let rest = place.strip_prefix(there).ok()?;
                Some(self.dir.join(here).join(rest))
            })
    }

    /// Its own files: `key`, which is let in, and the keys it may show.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where its agent lives, once there is one.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where its sshd listens.
    pub fn ssh_port(&self) -> u16 {
        self.port.port()
    }

    /// Where its agent will.
    pub fn agent_port(&self) -> u16 {
        self.agent_port.port()
    }

    /// Lets in those who log in, and shows them this key; also when it did before.
    pub async fn let_in(&mut self, host_key: &str) -> anyhow::Result<()> {
        self.keep_out();
        let config = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {dir}/{host_key}\nPidFile none\nUsePAM no\nStrictModes no\n\
             AuthorizedKeysFile {dir}/authorized_keys\nPermitRootLogin yes\nPasswordAuthentication yes\n\
             KbdInteractiveAuthentication no\n{}",
            self.port.port(),
            without_penalties()?,
            dir = self.dir.display()
        );
        fs::write(self.dir.join("sshd_config"), config)?;
        // It ends with this thread, however that ends.
        let sshd = "exec setpriv --pdeathsig KILL /usr/sbin/sshd -D -e -f \"$0/sshd_config\"";
        let mut command = match &self.init {
            Some(init) => {
                let mut command = init.command("sh");
                command.args(["-c", sshd]);
                command
            }
            None => {
                // Without /run there is no systemd there that an agent could be given to.
                let script = "mount -t tmpfs none /run && mkdir -m 755 /run/sshd && mount --bind \"$0/passwd\" /etc/passwd \
                              && mount --bind \"$0/shadow\" /etc/shadow && ";
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", &format!("{script}{sshd}")]);
                command
            }
        };
        command.arg(&self.dir);
        let mut sshd = Process::start(&mut command, self.dir.join("log"))?;
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port.port())).is_err() {
            ensure!(
                sshd.ended().is_none() && Instant::now() < deadline,
                "no sshd: {}",
                sshd.last_words()
            );
            sleep(LOOK).await;
        }
        self.sshd = Some(sshd);
        Ok(())
    }

    /// Nobody can log in any more.
    pub fn keep_out(&mut self) {
        self.sshd = None;
    }

    /// What makes it a host, with this credential. On one with a systemd the agent lives where agents do unless told.
    pub fn addition(&self, credential: i64) -> Value {
        let mut body = json!({
            "hostBasicDataList": [{"innerIpAddress": "127.0.0.1"}],
            "sshPort": self.port.port(),
            "kind": "DEDICATED_PHYSICAL_MACHINE",
            "idcId": 1,
            "typeId": 1,
            "credentialId": credential,
            "mgragentPort": self.agent_port.port(),
        });
        if self.init.is_none() {
            body["installPath"] = json!(self.root);
        }
        body
    }

    /// Command lines of its agents.
    pub fn agents(&self) -> Vec<String> {
        let (exe, port) = (self.root.join("agent/obfleet"), self.agent_port());
        let line = |entry: fs::DirEntry| {
            let line = fs::read_to_string(entry.path().join("cmdline"))
                .ok()?
                .replace('\0', " ");
            let is_own = line.starts_with(&format!("{} agent", exe.display()))
                && line.contains(&format!(" --listen 127.0.0.1:{port} "));
            is_own.then_some(line)
        };
        let processes = fs::read_dir("/proc").into_iter().flatten();
        processes.filter_map(|entry| line(entry.ok()?)).collect()
    }
}

/// The executable that a server sends to machines like this one.
pub fn executable(state_dir: &Path) -> PathBuf {
    let name = format!("obfleet-{}", std::env::consts::ARCH);
    state_dir.join("agents").join(name)
}

/// Has a server send `exe` without what only debuggers read, which is most of a development build.
pub fn lighten(state_dir: &Path, exe: &Path) -> anyhow::Result<()> {
    let light = executable(state_dir);
    fs::create_dir_all(light.parent().context("no folder for executables")?)?;
    // Without binutils it is sent as it is.
    let stripped = Command::new("strip").arg("-o").arg(&light).arg(exe).status();
    if !stripped.is_ok_and(|status| status.success()) {
        fs::copy(exe, light)?;
    }
    Ok(())
}

/// What has an sshd not lock out those who fail. Releases that do not know it do not need it.
fn without_penalties() -> anyhow::Result<&'static str> {
    let mut test = Command::new(SSHD);
    test.args(["-T", "-o", "PerSourcePenalties=no", "-f", "/dev/null"]);
    let output = test.output().with_context(|| format!("cannot start {SSHD}"))?;
    let unknown = String::from_utf8_lossy(&output.stderr).contains("Bad configuration option");
    Ok(if unknown { "" } else { "PerSourcePenalties no\n" })
}

fn keygen(file: &Path, passphrase: &str) -> anyhow::Result<()> {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", passphrase, "-f"]).arg(file);
    ensure!(keygen.status()?.success(), "ssh-keygen made no {}", file.display());
    Ok(())
}
