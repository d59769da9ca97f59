//! The command line.

pub mod client;
pub mod fleet;
pub mod hosts;
pub mod ob;
pub mod parameters;
pub mod take_over;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand};
use obfleet_lab::{backend::BackendChoice, demo::Scenario, packages::Fault};

use self::client::ClientCommand;
use crate::audit::Noted;

/// A drain may take twice its window, and has to end within the 1800 s that OCP gives to each step of an upgrade.
const LONGEST_WINDOW_S: u64 = 780;
/// Longer than any step: a server that waits so long is only in the way.
const LONGEST_STOP_S: u64 = 3600;

/// Ten years: renewal goes by itself, so nobody needs more.
const LONGEST_CERTIFICATE_DAYS: u64 = 3650;

/// Manages fleets of OBProxy, with OCP's REST API.
#[derive(Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Serve the REST API and run tasks
    Server(ServerArgs),
    /// Look after the schema of a server's database
    Migrate {
        #[command(flatten)]
        state: StateArgs,
        #[command(subcommand)]
        order: Order,
    },
    /// Check a server's database, also while servers run; fails if anything is wrong
    Fsck {
        #[command(flatten)]
        state: StateArgs,
        /// One JSON line for each thing that is wrong, and one at the end
        #[arg(long)]
        json: bool,
    },
    /// What was changed and by whom, as a server's database has it, also while servers run
    Audit {
        #[command(subcommand)]
        order: AuditOrder,
    },
    /// Forget the authority that agents are enrolled with: the next server that starts makes another one, and every agent
    /// has to be enrolled again
    ForgetAuthority {
        #[command(flatten)]
        state: StateArgs,
    },
    /// Own the proxies of this host
    Agent(AgentArgs),
    #[command(flatten)]
    Client(ClientCommand),
    /// Upgrade a small fleet on loopback under live traffic, and report what the clients saw
    Demo(DemoArgs),
    /// End what a demo leaves behind when it is killed; started by the demo
    #[command(hide = true)]
    Reap {
        /// The demo's directory
        dir: PathBuf,
    },
    /// Run one restart to its end; started by the agent
    #[command(hide = true)]
    Guard {
        /// The restart's directory
        dir: PathBuf,
    },
}

#[derive(Args)]
#[command(
    after_help = "OBFLEET_LOG in the environment tells how much is logged: error, warn, info or debug [default: info]"
)]
pub struct ServerArgs {
    /// Where to listen; agents on other hosts have to reach it
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Speak HTTPS with this certificate (PEM, those between it and its authority behind it); it is read again when it
    /// changes, and at SIGHUP
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Speak HTTPS with a certificate of the server's own, from an authority that it makes once and keeps in the state
    /// directory's tls/authority.pem: give that to clients as their --ca
    #[arg(long, conflicts_with = "tls_cert")]
    pub tls_generate: bool,
    /// Answer plain HTTP here with the way to HTTPS (308), where that is spoken
    #[arg(long, value_name = "IP:PORT")]
    pub redirect_http: Option<SocketAddr>,
    /// Listen beyond this machine without TLS all the same: everybody on the way can read passwords
    #[arg(long)]
    pub insecure_http: bool,
    #[command(flatten)]
    pub state: StateArgs,
    /// Holds the password of the user admin, read at every start; without it the first start makes one and prints it
    #[arg(long, value_name = "FILE")]
    pub admin_password_file: Option<PathBuf>,
    /// Where clients and agents reach this server, if not at the address it listens on
    #[arg(long, value_name = "http://HOST:PORT")]
    pub public_url: Option<String>,
    /// Where the other servers on the same --database reach this server, if not at its public URL
    #[arg(long, value_name = "http://HOST:PORT")]
    pub peer_url: Option<String>,
    /// Directory with public keys of OpenPGP; only packages signed by one of them are taken then
    #[arg(long, value_name = "DIR")]
    pub package_keys: Option<PathBuf>,
    /// Requests that each user may make of this server in a minute; 0 for any number
    #[arg(long, value_name = "REQUESTS", default_value_t = 60_000)]
    pub requests_per_minute: u32,
    /// Connections to this server that each address may have open at a time; 0 for any number
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 1_000)]
    pub connections_per_address: u32,
    /// Seconds a transaction on a proxy process to be replaced may take; a longer one is cut
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=LONGEST_WINDOW_S))]
    pub drain_window: u64,
    /// Seconds that running steps get to end when the server is told to stop; what is left goes on at its next start
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=LONGEST_STOP_S))]
    pub drain_timeout: u64,
    /// Days to keep the history of tasks that are over; for ever unless given
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=36500))]
    pub keep_tasks_days: Option<u64>,
    /// Days to keep the records of what was changed and by whom; for ever unless given
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=36500))]
    pub keep_audit_days: Option<u64>,
    /// Days to keep what is measured of proxies
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=365))]
    pub keep_metrics_days: u64,
    /// Days that an agent's certificate is good; it is renewed when two thirds of them are over
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=LONGEST_CERTIFICATE_DAYS))]
    pub agent_certificate_days: u64,
}

/// Where the state of a server is.
#[derive(Args)]
pub struct StateArgs {
    /// Keeps the database, keys and packages; the server's first start makes it
    #[arg(long, value_name = "DIR", default_value = "obfleet-server")]
    pub state_dir: PathBuf,
    /// The database, if not a file in the state directory: one of OceanBase's, MySQL's or MariaDB's, which must exist. With
    /// a password in it, it has to come from OBFLEET_DATABASE in the environment, where others cannot see it
    #[arg(long, value_name = "mysql://USER@HOST:PORT/NAME")]
    pub database: Option<String>,
    /// Holds the password for the database
    #[arg(long, value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum AuditOrder {
    /// Go along all records; fails if one was altered, taken out, put in, or is missing at the end
    Verify {
        #[command(flatten)]
        state: StateArgs,
        /// Exported records instead of a database's
        file: Option<PathBuf>,
        /// A record as it was noted elsewhere, say from the server's log: fails unless it is among them
        #[arg(long, value_name = "SEQ:HASH")]
        noted: Option<Noted>,
    },
    /// Write all records to the standard output, the oldest first, a line of JSON each
    Export {
        #[command(flatten)]
        state: StateArgs,
    },
}

#[derive(Clone, Copy, Subcommand)]
pub enum Order {
    /// Tell how far each migration is; fails unless all are complete
    Status,
    /// Do what is missing, as a server does when it starts
    Up,
    /// The same, but take a table or row that exists already for made: after restoring parts of a backup
    Repair,
}

#[derive(Args)]
pub struct AgentArgs {
    /// The server, http://host:port
    #[arg(long)]
    pub server: String,
    /// Enrolment token, needed at the first start; better given in the environment, where others cannot see it
    #[arg(long, env = "OBFLEET_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Keeps identity, journal and registry
    #[arg(long, default_value = "obfleet-agent")]
    pub state_dir: PathBuf,
    /// Where packages and proxies live
    #[arg(long, default_value = "/opt/obfleet")]
    pub root: PathBuf,
    /// This host's address as the server sees it
    #[arg(long)]
    pub address: IpAddr,
    /// Where to listen for the server; the address and port 2889 by default
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// The address proxies listen on; a single one may keep root@proxysys, who must come from this host, out
    #[arg(long, default_value = "0.0.0.0")]
    pub bind: IpAddr,
    /// How often proxies are measured
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub measure_every: u64,
}

#[derive(Args)]
pub struct DemoArgs {
    /// One JSON line at the beginning and one at the end
    #[arg(long)]
    pub json: bool,
    /// Make the new package bad, and watch the way back
    #[arg(long, value_parser = Fault::parse, value_name = "exit|hang|wrong-version|no-login", conflicts_with = "no_upgrade")]
    pub fault: Option<Fault>,
    /// Leave the fleet running at the end, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Set everything up, but leave the upgrade to you
    #[arg(long)]
    pub no_upgrade: bool,
    /// Whether the fleet installs its proxies, or takes over what runs already
    #[arg(long, default_value = "upgrade", value_parser = Scenario::parse, value_name = "upgrade|takeover")]
    pub scenario: Scenario,
    /// What the proxies serve: a built-in server, a database started for the occasion, or any server of the MySQL
    /// protocol, as an account (root unless told) whose password is empty
    #[arg(long, default_value = "builtin", value_parser = BackendChoice::parse,
          value_name = "builtin|mariadb|seekdb|HOST:PORT|mysql://USER@HOST:PORT")]
    pub backend: BackendChoice,
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, time::Duration};

    use clap::CommandFactory as _;
    use obfleet_obproxy::drain;
    use obfleet_wire::agent::DrainPolicy;

    use super::*;

    /// A section for each command, with what it says of itself.
    fn describe(command: &mut clap::Command, path: &str, to: &mut String) {
        let help = command.clone().bin_name(path).render_long_help();
        let lines: Vec<String> = help
            .to_string()
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect();
        write!(to, "\n## {path}\n\n```text\n{}\n```\n", lines.join("\n").trim()).unwrap();
        for below in command.get_subcommands_mut().filter(|command| !command.is_hide_set()) {
            if below.get_name() != "help" {
                let path = format!("{path} {}", below.get_name());
                describe(below, &path, to);
            }
        }
    }

    #[test]
    fn the_reference_says_what_the_commands_say() {
        let mut command = Cli::command();
        // Not built: so what commands have in common is told once, at the one above them.
        let mut reference =
            "# Commands\n\nWhat each command says of itself with `--help`. A test compares this page with it; \
                             `OBFLEET_WRITE_REFERENCE=1 cargo test -p obfleet reference` writes it.\n"
                .to_owned();
        describe(&mut command, "obfleet", &mut reference);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
        if std::env::var_os("OBFLEET_WRITE_REFERENCE").is_some() {
            std::fs::write(path, &reference).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        for (line, (written, said)) in (1..).zip(written.lines().zip(reference.lines())) {
            assert_eq!(written, said, "docs/cli.md, line {line}");
        }
        assert_eq!(written.len(), reference.len(), "docs/cli.md has another length");
    }

    #[test]
    fn the_longest_drain_fits_into_a_step() {
        const STEP: Duration = Duration::from_secs(1800);
        const VERDICT: Duration = Duration::from_secs(180);
        let policy = DrainPolicy {
            window_ms: LONGEST_WINDOW_S * 1000,
            closes_per_second: 1,
        };
        assert!(drain::longest(policy) + VERDICT < STEP);
    }
}
