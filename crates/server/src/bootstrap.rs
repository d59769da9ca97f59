//! The fleet's way to machines without an agent: SSH, with this server's executable as the agent's.
//!
//! A server has its own executable for machines of its own architecture; for others, and where that one does not run, an
//! operator puts files into the state directory, `agents/obfleet-<architecture>`.

use std::{
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use obfleet_bootstrap::{
    Agent, Machine, MachineError, Mark, RemoteError,
    script::ScriptError,
    ssh::{Address, ConnectError, Login, Secret, Ssh},
};
use obfleet_fleet::{
    bootstrap::{self, Access, Bootstrap, BootstrapError, Inspection, LoginSecret},
    host_agent::LogLine,
    inventory::{HostPlace, Inventory},
};
use obfleet_wire::agent::HostFacts;
use sha2::{Digest as _, Sha256};

use crate::{api::agents::new_token, pki::Authority};

/// How long an agent that was started may take to enrol.
const TOKEN_VALID: Duration = Duration::from_secs(15 * 60);
/// This very executable, also when its file was replaced meanwhile.
const OWN: &str = "/proc/self/exe";

/// Machines, reached from this server.
pub struct Machines {
    /// Keeps the enrolment tokens.
    pub inventory: Arc<dyn Inventory>,
    /// Whose certificate the tokens name.
    pub authority: Authority,
    /// Where agents find this server.
    pub server_url: String,
    /// Executables for agents, by architecture.
    pub executables: PathBuf,
}

impl Machines {
    /// Logs in.
    async fn login(&self, access: &Access) -> Result<Ssh, BootstrapError> {
        let address = Address {
            host: access.address.clone(),
            port: access.ssh_port,
            fingerprint: access.settings.host_key.clone(),
        };
        let login = Login {
            user: access.user.clone(),
            secret: match &access.secret {
                LoginSecret::Password(password) => Secret::Password(password.clone()),
                LoginSecret::Key { text, passphrase } => Secret::Key {
                    text: text.clone(),
                    passphrase: passphrase.clone(),
                },
            },
        };
        Ssh::connect(&address, &login).await.map_err(|error| match error {
            ConnectError::Unreachable { at, reason } => BootstrapError::Unreachable { at, reason },
            ConnectError::OtherHostKey { at, known, found } => BootstrapError::HostKey { at, known, found },
            ConnectError::Refused { at, user, reason } => BootstrapError::Login { at, user, reason },
            ConnectError::Key(reason) => BootstrapError::Key(reason),
        })
    }

    /// The executable of an agent for machines of this architecture, and its bytes.
    fn executable(&self, architecture: &str) -> Option<(PathBuf, u64)> {
        let placed = self.executables.join(format!("obfleet-{architecture}"));
        let own = (architecture == std::env::consts::ARCH).then(|| PathBuf::from(OWN));
        [Some(placed), own].into_iter().flatten().find_map(|file| {
            let bytes = file.metadata().ok().filter(|found| found.is_file())?.len();
            Some((file, bytes))
        })
    }
}

async fn machine<'a>(ssh: &'a Ssh, access: &Access) -> Result<Machine<'a>, BootstrapError> {
    let name = format!("{}-{}", access.installation, access.host_id);
    let opened = Machine::open(ssh, &name, access.settings.root.as_deref()).await;
    opened.map_err(|error| failed(access, &error))
}

/// What was not done, where, why, and what next.
fn failed(access: &Access, error: &MachineError) -> BootstrapError {
    let address = &access.address;
    BootstrapError::Failed(match error {
        MachineError::Home(_) => format!("on {address} {error}: give an installPath"),
        MachineError::Remote(RemoteError::File { source, .. }) => format!("{error} ({source})"),
        MachineError::Remote(_) | MachineError::Script(ScriptError::Remote(_)) => {
            format!("{error}; see whether {address} is well, then retry")
        }
        _ => format!("on {address}: {error}; put that right, then retry"),
    })
}

fn mark(access: &Access, host_id: i64) -> Mark {
    Mark {
        installation: access.installation.clone(),
        host_id,
    }
}

/// Hexadecimal SHA-256.
async fn digest(file: &Path) -> io::Result<String> {
    let path = file.to_owned();
    let read = move || {
        let mut hash = Sha256::new();
        let mut file = File::open(path)?;
        let mut chunk = vec![0; 1 << 16];
        loop {
            match io::Read::read(&mut file, &mut chunk)? {
                0 => return Ok(hex::encode(hash.finalize())),
                read => hash.update(&chunk[..read]),
            }
        }
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

#[async_trait]
impl Bootstrap for Machines {
    async fn inspect(&self, access: &Access) -> Result<Inspection, BootstrapError> {
        let ssh = self.login(access).await?;
        let host_key = ssh.fingerprint().to_owned();
        let machine = machine(&ssh, access).await?;
        let seen = machine.inspect(access.settings.agent_port).await;
        let seen = seen.map_err(|error| failed(access, &error))?;
        let (user, root) = (machine.user.clone(), machine.root.clone());
        ssh.close().await;
        Ok(Inspection {
            host_key,
            user,
            root,
            systemd: seen.systemd,
            ahead_ms: seen.ahead_ms,
            exact_to_ms: seen.exact_to_ms,
            missing: seen.missing,
            free_bytes: seen.free_bytes,
            writable: seen.writable,
            occupied: seen.occupied,
            mark: seen.mark.map(|mark| bootstrap::Mark {
                installation: mark.installation,
                host_id: mark.host_id,
            }),
            port_taken: seen.port_taken,
            server_url: self.server_url.clone(),
            executable: self.executable(&seen.architecture).map(|(_, bytes)| bytes),
            facts: HostFacts {
                host_uid: String::new(),
                name: seen.name,
                architecture: seen.architecture,
                kernel: seen.kernel,
                release: seen.release,
            },
        })
    }

    async fn install(&self, access: &Access, log: LogLine<'_>) -> Result<(), BootstrapError> {
        let settings = &access.settings;
        let address = |text: &str| {
            let wrong =
                |_| BootstrapError::Failed(format!("'{text}' is no IP address: roll back, and add the host again"));
            text.parse::<IpAddr>().map_err(wrong)
        };
        let listen = SocketAddr::new(address(&access.address)?, settings.agent_port);
        let bind = address(&settings.bind)?;
        let ssh = self.login(access).await?;
        let machine = machine(&ssh, access).await?;
        let seen = machine.inspect(settings.agent_port).await;
        let seen = seen.map_err(|error| failed(access, &error))?;
        let unreadable =
            |reason: String| BootstrapError::Failed(format!("the agent's executable cannot be read: {reason}"));
        let (file, bytes) = self
            .executable(&seen.architecture)
            .ok_or_else(|| unreadable(format!("there is none for {}", seen.architecture)))?;
        let sha256 = digest(&file).await.map_err(|error| unreadable(error.to_string()))?;
        log(&format!(
            "{}: executable of {bytes} bytes, sha256 {sha256}",
            access.address
        ));
        let (token, kept) = new_token(&self.authority, HostPlace::default(), Some(access.host_id), TOKEN_VALID);
        let inserted = self.inventory.insert_token(&kept).await;
        inserted.map_err(|error| BootstrapError::Failed(error.to_string()))?;
        let agent = Agent {
            mark: &mark(access, access.host_id),
            executable: &file,
            sha256: &sha256,
            server_url: &self.server_url,
            listen,
            bind,
            token: &token.to_string(),
        };
        let installed = machine.install(&agent, &token.id, seen.systemd, log).await;
        installed.map_err(|error| failed(access, &error))?;
        ssh.close().await;
        Ok(())
    }

    async fn remove(&self, access: &Access, host_id: i64, log: LogLine<'_>) -> Result<(), BootstrapError> {
        let ssh = self.login(access).await?;
        let machine = machine(&ssh, access).await?;
        let port = access.settings.agent_port;
        let work = async {
            let seen = machine.inspect(port).await?;
            machine.remove(&mark(access, host_id), port, seen.systemd).await
        };
        let removed = work.await.map_err(|error| failed(access, &error))?;
        let (address, root) = (&access.address, &machine.root);
        log(&match removed {
            true => format!("{address}: the agent in {root} is stopped and removed"),
            false => format!("{address}: there is no agent of host {host_id} in {root}"),
        });
        ssh.close().await;
        Ok(())
    }

    async fn complaints(&self, access: &Access) -> Result<String, BootstrapError> {
        let ssh = self.login(access).await?;
        let machine = machine(&ssh, access).await?;
        let port = access.settings.agent_port;
        let work = async {
            let seen = machine.inspect(port).await?;
            machine.complaints(port, seen.systemd).await
        };
        let said = work.await.map_err(|error| failed(access, &error))?;
        ssh.close().await;
        Ok(said)
    }
}
