//! A database's process and its port, and the folder with its files.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use obfleet_mysqlwire::Client;
use obfleet_standin::ports::PortLease;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{keeper, programs};

/// Longest a database may take from its launch to its first login.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// Longest one login may take.
pub(crate) const LOGIN_DEADLINE: Duration = Duration::from_secs(5);
const LOGIN_INTERVAL: Duration = Duration::from_millis(50);

/// A database in a process of its own, ended when dropped.
#[derive(Debug)]
pub struct Database {
    command: Command,
    log: PathBuf,
    port: PortLease,
    /// The keeper, with the database below it.
    process: Child,
}

impl Database {
    /// Makes a MariaDB in the empty folder `dir` and waits until it takes logins.
    pub async fn mariadb(dir: &Path) -> Result<Self> {
        Self::mariadb_in(Home::of_caller(dir)?).await
    }

    /// Makes an OceanBase kernel in its single-process form in the empty folder `dir`, about 1.2 GB large, and waits until
    /// it takes logins. It listens on all addresses: there is no setting against that. When it is started again it takes
    /// its files for leftovers if the path has `.tmp` in it: use [`folder`].
    pub async fn seekdb(dir: &Path) -> Result<Self> {
        Self::seekdb_in(Home::of_caller(dir)?).await
    }

    pub(crate) async fn mariadb_in(home: Home) -> Result<Self> {
        Self::launch(programs::mariadb(home.dir()).await?, home).await
    }

    pub(crate) async fn seekdb_in(home: Home) -> Result<Self> {
        Self::launch(programs::seekdb(home.dir())?, home).await
    }

    async fn launch(mut command: Command, home: Home) -> Result<Self> {
        let port = PortLease::take()?;
        command.arg(format!("--port={}", port.port()));
        let log = home.dir().join("output.log");
        let process = spawn(&command, &log, home.to_remove())?;
        home.left_to_keeper();
        let mut database = Self {
            command,
            log,
            port,
            process,
        };
        database.until_login().await?;
        Ok(database)
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.port()).into()
    }

    /// Kills it and waits until it is gone. What it has on disk stays, unless it lies in a folder that goes with it.
    pub fn kill(&mut self) -> Result<()> {
        // The keeper reads the end of its input.
        drop(self.process.stdin.take());
        self.process.wait()?;
        Ok(())
    }

    /// Starts it again, after it was killed, on the port it had and on what it has on disk, and waits until it takes logins.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.command, &self.log, None)?;
        self.until_login().await
    }

    /// Stops it where it stands, as SIGSTOP does, very soon.
    pub fn pause(&mut self) -> Result<()> {
        self.signal("STOP")
    }

    /// Lets it go on after [`Self::pause`].
    pub fn resume(&mut self) -> Result<()> {
        self.signal("CONT")
    }

    fn signal(&mut self, signal: &str) -> Result<()> {
        let keeper = self.process.stdin.as_mut().context("the database was killed")?;
        Ok(writeln!(keeper, "{signal}")?)
    }

    /// Waits until it takes logins.
    async fn until_login(&mut self) -> Result<()> {
        self.try_until_login().await.with_context(|| {
            let program = self.command.get_program().display();
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            format!("{program} did not come up; it said: {said}")
        })
    }

    async fn try_until_login(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if let Some(status) = self.process.try_wait()? {
                bail!("it ended with {status}");
            }
            match Client::connect(self.address(), "root", "", Instant::now() + LOGIN_DEADLINE).await {
                Ok(client) => {
                    client.close().await;
                    return Ok(());
                }
                Err(error) if Instant::now() > deadline => return Err(error).context("no login in time"),
                Err(_) => sleep(LOGIN_INTERVAL).await,
            }
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Whoever drops it does not need what it held.
        drop(self.kill());
    }
}

/// Starts `command` below a keeper, its output going to the file `log`.
fn spawn(command: &Command, log: &Path, doomed: Option<&Path>) -> Result<Child> {
    let output = File::options().create(true).append(true).open(log)?;
    keeper::kept(command, doomed)
        .stdin(Stdio::piped())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))
}

/// An empty folder in which any database can be made, killed and started again.
pub fn folder() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix("obfleet-testdb-").tempdir()
}

/// Where a database keeps its files.
pub(crate) enum Home {
    /// The caller's own business. Absolute: the programs change their working folder.
    OfCaller(PathBuf),
    /// One of its own, for a database that lives as long as this process. Until a keeper removes it, it goes with the value.
    Doomed(TempDir),
}

impl Home {
    fn of_caller(dir: &Path) -> Result<Self> {
        Ok(Self::OfCaller(dir.canonicalize()?))
    }

    pub fn doomed() -> Result<Self> {
        Ok(Self::Doomed(folder()?))
    }

    fn dir(&self) -> &Path {
        match self {
            Self::OfCaller(dir) => dir,
            Self::Doomed(dir) => dir.path(),
        }
    }

    /// What a keeper is to remove.
    fn to_remove(&self) -> Option<&Path> {
        match self {
            Self::OfCaller(_) => None,
            Self::Doomed(dir) => Some(dir.path()),
        }
    }

    /// Leaves it to a keeper.
    fn left_to_keeper(self) {
        if let Self::Doomed(dir) = self {
            // Its path is known to the keeper.
            let _: PathBuf = dir.keep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);
    /// Too short for an answer of a database that is stopped.
    const IMPATIENCE: Duration = Duration::from_millis(300);

    async fn connect(database: &Database) -> Client {
        let deadline = Instant::now() + PATIENCE;
        Client::connect(database.address(), "root", "", deadline).await.unwrap()
    }

    async fn run(client: &mut Client, statements: &[&str]) {
        for statement in statements {
            client.query(statement).await.unwrap();
        }
    }

    /// What was committed before a kill is there after it, and what was not is not.
    async fn keeps_what_is_committed(mut database: Database) {
        let mut client = connect(&database).await;
        run(
            &mut client,
            &[
                "create database d",
                "create table d.t (a int primary key)",
                "insert into d.t values (1)",
                "begin",
                "insert into d.t values (2)",
            ],
        )
        .await;
        let port = database.address();
        database.kill().unwrap();
        client.query("select 1").await.unwrap_err();
        assert!(database.pause().is_err());
        database.start_again().await.unwrap();
        assert_eq!(database.address(), port);
        let kept = connect(&database).await.query("select a from d.t").await.unwrap();
        assert_eq!(kept.rows.len(), 1, "{kept:?}");
    }

    /// While it is stopped nobody gets in.
    async fn is_stopped_for_a_while(mut database: Database) {
        database.pause().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while let Ok(client) = Client::connect(database.address(), "root", "", Instant::now() + IMPATIENCE).await {
            client.close().await;
            assert!(Instant::now() < deadline, "it does not stop");
        }
        database.resume().unwrap();
        connect(&database).await.close().await;
    }

    #[tokio::test]
    async fn mariadb_is_killed_and_started_again() {
        let dir = folder().unwrap();
        keeps_what_is_committed(Database::mariadb(dir.path()).await.unwrap()).await;
    }

    #[tokio::test]
    async fn oceanbase_is_killed_and_started_again() {
        let dir = folder().unwrap();
        keeps_what_is_committed(Database::seekdb(dir.path()).await.unwrap()).await;
    }

    #[tokio::test]
    async fn mariadb_is_stopped_for_a_while() {
        let dir = folder().unwrap();
        is_stopped_for_a_while(Database::mariadb(dir.path()).await.unwrap()).await;
    }
}
