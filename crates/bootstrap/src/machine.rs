//! What is done on a machine, and in which words its agent is run there.
//!
//! ```text
//! <root>/agent/mark      whose agent this is: installation and host; the first thing to come and the last to go
//! <root>/agent/obfleet   the executable
//! <root>/agent/env       the enrolment token, for the owner's eyes only
//! <root>/agent/run       what keeps the agent running where systemd does not
//! <root>/agent/log       what the agent says there
//! <root>/agent/state/    the agent's own
//! ```

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::Path,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    remote::{Exit, Remote, RemoteError},
    script::{self, Answers, ScriptError, quoted, sudo_prefix},
};

/// Where an agent of root's lives unless told.
const ROOT: &str = "/opt/obfleet";
/// And one of somebody else's, in the home directory.
const HOME_ROOT: &str = "obfleet";

const COMMON: &str = include_str!("machine/common.sh");
const LOOK: &str = include_str!("machine/look.sh");
const INSPECT: &str = include_str!("machine/inspect.sh");
const PREPARE: &str = include_str!("machine/prepare.sh");
const START: &str = include_str!("machine/start.sh");
const REMOVE: &str = include_str!("machine/remove.sh");
const COMPLAINTS: &str = include_str!("machine/complaints.sh");

/// The host an agent's directory is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Id of the server's database.
    pub installation: String,
    /// The host.
    pub host_id: i64,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.installation, self.host_id)
    }
}

impl FromStr for Mark {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (installation, host_id) = text.split_once(' ').ok_or(())?;
        Ok(Self {
            installation: installation.to_owned(),
            host_id: host_id.parse().map_err(|_| ())?,
        })
    }
}

/// What was seen of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Its host name.
    pub name: String,
    /// Kernel release.
    pub kernel: String,
    /// `x86_64`.
    pub architecture: String,
    /// Distribution tag, `el7`.
    pub release: String,
    /// Whether systemd would run the agent.
    pub systemd: bool,
    /// How far its clock is ahead of this machine's, in milliseconds.
    pub ahead_ms: i64,
    /// How exactly that is known, in milliseconds.
    pub exact_to_ms: i64,
    /// Programs that are needed and missing.
    pub missing: Vec<String>,
    /// Bytes free where the agent would live.
    pub free_bytes: u64,
    /// Whether its directory can be made or written to.
    pub writable: bool,
    /// Whether its directory holds what no agent of ours put there.
    pub occupied: bool,
    /// Whose agent is there.
    pub mark: Option<Mark>,
    /// Whether somebody listens on the agent's port.
    pub port_taken: bool,
}

/// An agent that is to be there.
pub struct Agent<'a> {
    /// Whose it is.
    pub mark: &'a Mark,
    /// The executable, on this machine.
    pub executable: &'a Path,
    /// Its digest, hexadecimal.
    pub sha256: &'a str,
    /// Where the server is.
    pub server_url: &'a str,
    /// Where the server will find it.
    pub listen: SocketAddr,
    /// The address its proxies listen on.
    pub bind: IpAddr,
    /// The enrolment token.
    pub token: &'a str,
}

/// Something was not done, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The machine, or the script on it.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The connection.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The home directory is no place.
    #[error("the home directory '{0}' is no place for an agent")]
    Home(String),
    /// The upload failed there.
    #[error("the executable cannot be written there: {0}")]
    Upload(String),
    /// The answer makes no sense.
    #[error("the shell there answered without '{0}'")]
    Answer(&'static str),
}

/// A machine, as a user who is logged in on it.
pub struct Machine<'a> {
    remote: &'a dyn Remote,
    sudo: bool,
    name: String,
    /// Who does what is done there: `root`, or who logged in.
    pub user: String,
    /// Where the agent lives, or would.
    pub root: String,
}

impl<'a> Machine<'a> {
    /// Finds out as whom things are done on the machine, and where. `name` is one for all acts for the same host; `root` is
    /// the agent's directory, if that was decided.
    ///
    /// # Errors
    /// When the machine does not answer, or there is no place.
    pub async fn open(remote: &'a dyn Remote, name: &str, root: Option<&str>) -> Result<Self, MachineError> {
        let told = script::run(remote, false, name, LOOK, &[]).await?;
        let sudo = told.is("sudo");
        let is_root = sudo || told.number::<u32>("uid") == Some(0);
        let root = match (root, is_root) {
            (Some(root), _) => root.to_owned(),
            (None, true) => ROOT.to_owned(),
            (None, false) => format!("{}/{HOME_ROOT}", told.text("home").trim_end_matches('/')),
        };
        if !is_place(&root) {
            return Err(MachineError::Home(told.text("home").to_owned()));
        }
        Ok(Self {
            remote,
            sudo,
            name: name.to_owned(),
            user: match is_root {
                true => "root".to_owned(),
                false => told.text("user").to_owned(),
            },
            root,
        })
    }

    /// Looks, and changes nothing. `port` is the agent's.
    ///
    /// # Errors
    /// When the machine does not answer.
    pub async fn inspect(&self, port: u16) -> Result<Inspection, MachineError> {
        let hex = format!("{port:04X}");
        let variables = [("root", self.root.as_str()), ("port_hex", hex.as_str())];
        let before = now();
        let told = script::run(self.remote, self.sudo, &self.name, INSPECT, &variables).await?;
        let took = now().saturating_sub(before);
        let there = clock(told.text("now")).ok_or(MachineError::Answer("now"))?;
        let ahead = i128::try_from(there.as_millis()).unwrap_or(i128::MAX)
            - i128::try_from((before + took / 2).as_millis()).unwrap_or_default();
        let kib: u64 = told.number("free").ok_or(MachineError::Answer("free"))?;
        Ok(Inspection {
            name: told.text("name").to_owned(),
            kernel: told.text("kernel").to_owned(),
            architecture: told.text("architecture").to_owned(),
            release: told.text("release").to_owned(),
            systemd: told.is("systemd"),
            ahead_ms: i64::try_from(ahead).unwrap_or(i64::MAX),
            exact_to_ms: i64::try_from(took.as_millis() / 2 + 1).unwrap_or(i64::MAX),
            missing: told.text("missing").split_whitespace().map(str::to_owned).collect(),
            free_bytes: kib.saturating_mul(1024),
            writable: told.is("writable"),
            occupied: told.is("occupied"),
            mark: told.text("mark").parse().ok(),
            port_taken: told.is("port_taken"),
        })
    }

    /// Puts an agent there and starts it; one that runs there is started anew, as somebody nobody knows. `upload` is a name
    /// of this attempt's own.
    ///
    /// # Errors
    /// When the directory is somebody else's, there is no room, the executable does not run there, or the connection breaks.
    pub async fn install(
        &self,
        agent: &Agent<'_>,
        upload: &str,
        systemd: bool,
        log: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), MachineError> {
        let mark = agent.mark.to_string();
        let told = self
            .act(PREPARE, agent.listen.port(), systemd, &[("mark", &mark)])
            .await?;
        let uploaded = match told.text("has") == agent.sha256 {
            true => {
                log("the executable is there already");
                String::new()
            }
            false => {
                let to = format!("{}/agent/upload.{upload}", self.root);
                let command = format!("umask 077; cat >{}", quoted(&to));
                let command = format!("{}sh -c {}", sudo_prefix(self.sudo), quoted(&command));
                let Exit { status, stderr, .. } = self.remote.upload(&command, agent.executable).await?;
                if status != Some(0) {
                    return Err(MachineError::Upload(stderr.trim().replace('\n', "; ")));
                }
                log("the executable is sent");
                to
            }
        };
        let (run, service) = (self.run(agent), self.service(agent));
        let variables = [
            ("mark", mark.as_str()),
            ("upload", &uploaded),
            ("sha256", agent.sha256),
            ("token", agent.token),
            ("run", &run),
            ("service", &service),
        ];
        self.act(START, agent.listen.port(), systemd, &variables).await?;
        Ok(())
    }

    /// Stops the agent with this mark and removes it. → whether there was one
    ///
    /// # Errors
    /// When it does not end, or the connection breaks.
    pub async fn remove(&self, mark: &Mark, port: u16, systemd: bool) -> Result<bool, MachineError> {
        let mark = mark.to_string();
        let told = self.act(REMOVE, port, systemd, &[("mark", &mark)]).await?;
        Ok(told.is("removed"))
    }

    /// The last the agent said.
    ///
    /// # Errors
    /// When the machine does not answer.
    pub async fn complaints(&self, port: u16, systemd: bool) -> Result<String, MachineError> {
        Ok(self.act(COMPLAINTS, port, systemd, &[]).await?.text("last").to_owned())
    }

    async fn act(
        &self,
        script: &str,
        port: u16,
        systemd: bool,
        variables: &[(&str, &str)],
    ) -> Result<Answers, ScriptError> {
        let unit = unit(port);
        let mut all = vec![
            ("root", self.root.as_str()),
            ("name", &self.name),
            ("unit", &unit),
            ("systemd", if systemd { "yes" } else { "no" }),
        ];
        all.extend(variables);
        // The shell reads both before it does anything.
        let script = format!("{COMMON}\nact() {{\n{script}\n}}\nact");
        script::run(self.remote, self.sudo, &self.name, &script, &all).await
    }

    /// The agent's command line.
    fn command(&self, agent: &Agent<'_>) -> String {
        let root = &self.root;
        format!(
            "{root}/agent/obfleet agent --server {} --address {} --listen {} --bind {} --state-dir {root}/agent/state \
             --root {root}",
            agent.server_url,
            agent.listen.ip(),
            agent.listen,
            agent.bind
        )
    }

    /// What keeps the agent running without systemd. The agent is told to end when it is, and is not started again then.
    fn run(&self, agent: &Agent<'_>) -> String {
        let (root, command) = (&self.root, quote_words(&self.command(agent)));
        format!(
            "cd '{root}/agent'\n\
             . ./env\n\
             export OBFLEET_TOKEN\n\
             agent=\n\
             trap 'kill \"$agent\" 2>/dev/null; exit 0' TERM INT\n\
             while :; do\n\
             \x20   if [ \"$(wc -c <log 2>/dev/null || echo 0)\" -gt 10000000 ]; then mv -f log log.before; fi\n\
             \x20   {command} </dev/null >>log 2>&1 &\n\
             \x20   agent=$!\n\
             \x20   wait \"$agent\"\n\
             \x20   sleep 2\n\
             done\n"
        )
    }

    /// The unit for systemd.
    fn service(&self, agent: &Agent<'_>) -> String {
        format!(
            "[Unit]\n\
             Description=obfleet agent\n\
             Wants=network-online.target\n\
             After=network-online.target\n\
             \n\
             [Service]\n\
             EnvironmentFile=-{}/agent/env\n\
             ExecStart={}\n\
             # Proxies and guards are started by the agent and go on without it.\n\
             KillMode=process\n\
             Restart=always\n\
             RestartSec=2\n\
             \n\
             [Install]\n\
             WantedBy=multi-user.target\n",
            self.root,
            self.command(agent).replace('%', "%%")
        )
    }
}

/// Whether a directory can be an agent's: absolute, not the root, and of characters that nothing on the way there changes.
pub fn is_place(path: &str) -> bool {
    let part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'@' | b'+'))
    };
    path.len() <= 128 && path.strip_prefix('/').is_some_and(|path| path.split('/').all(part))
}

/// The unit of an agent: no two agents of a machine have the same port.
fn unit(port: u16) -> String {
    format!("obfleet-agent-{port}.service")
}

fn quote_words(command: &str) -> String {
    command.split(' ').map(quoted).collect::<Vec<_>>().join(" ")
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Nanoseconds, or, where `date` knows none, seconds and a letter.
fn clock(text: &str) -> Option<Duration> {
    match text.parse() {
        Ok(nanos) if text.len() > 12 => Some(Duration::from_nanos(nanos)),
        _ => {
            let seconds: String = text.chars().take_while(char::is_ascii_digit).collect();
            // In the middle of that second.
            Some(Duration::from_secs(seconds.parse().ok()?) + Duration::from_millis(500))
        }
    }
}

#[cfg(test)]
mod tests;
