//! Real databases in processes of their own: under the state of servers in tests, and behind a fleet's proxies where more
//! than a built-in database is wanted.
//!
//! A database ends with its value, and with the process that started it however that ends. Tests of one executable share
//! one by [`shared`], each with a schema of its own. Both give the user `root` with an empty password over TCP, which is
//! what a stand-in proxy logs in with. Neither is part of obfleet: a program that is missing is an error that says who
//! installs it.

mod keeper;
pub mod shared;

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::geteuid;
use obfleet_mysqlwire::Client;
use obfleet_standin::ports::PortLease;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Names the `seekdb` executable, in the folder it was unpacked to.
pub const SEEKDB_VARIABLE: &str = "OBFLEET_SEEKDB";

/// Longest a database may take from its launch to its first login.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// Longest one login may take.
const LOGIN_DEADLINE: Duration = Duration::from_secs(5);
const LOGIN_INTERVAL: Duration = Duration::from_millis(50);

/// A MariaDB server, ended when dropped.
#[derive(Debug)]
pub struct MariaDb {
    server: Server,
}

impl MariaDb {
    /// Makes a database in the empty folder `dir` and waits until it takes logins.
    pub async fn start(dir: &Path) -> Result<Self> {
        Self::start_in(Home::of_caller(dir)?).await
    }

    async fn start_in(home: Home) -> Result<Self> {
        let (installer, program) = (installed("mariadb-install-db")?, installed("mariadbd")?);
        let data = home.dir().join("data");
        let mut common = vec!["--no-defaults".to_owned(), format!("--datadir={}", data.display())];
        if geteuid().is_root() {
            // Without this it refuses to run as root; others may not name a user.
            common.push("--user=root".into());
        }
        let mut install = Command::new(installer);
        install.args(&common).arg("--auth-root-authentication-method=normal");
        let installed = tokio::task::spawn_blocking(move || install.output()).await??;
        ensure!(
            installed.status.success(),
            "mariadb-install-db failed: {}",
            String::from_utf8_lossy(&installed.stderr)
        );

        let port = PortLease::take()?;
        let mut command = Command::new(program);
        command.args(&common).args([
            format!("--port={}", port.port()),
            "--bind-address=127.0.0.1".into(),
            "--skip-name-resolve".into(),
            // Relative to the data folder: the path of a socket must be short.
            "--socket=sql.sock".into(),
            "--innodb-buffer-pool-size=32M".into(),
        ]);
        let server = Server::launch(command, port, home).await?;
        Ok(Self { server })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

/// An OceanBase kernel in its single-process form, ended when dropped.
///
/// It listens on all addresses: there is no setting against that.
#[derive(Debug)]
pub struct SeekDb {
    server: Server,
}

impl SeekDb {
    /// Makes a database in the empty folder `dir`, about 1.2 GB large, and waits until it takes logins.
    pub async fn start(dir: &Path) -> Result<Self> {
        Self::start_in(Home::of_caller(dir)?).await
    }

    async fn start_in(home: Home) -> Result<Self> {
        let program = seekdb()?;
        let base = home.dir().join("base");
        fs::create_dir(&base)?;
        let port = PortLease::take()?;
        let mut command = Command::new(&program);
        command
            .env("LD_LIBRARY_PATH", library_path(&program)?)
            .args(["--nodaemon", "--port"])
            .arg(port.port().to_string())
            .arg("--base-dir")
            .arg(&base);
        for parameter in [
            "datafile_size=1G",
            "datafile_maxsize=4G",
            "log_disk_size=2G",
            "memory_limit=2G",
        ] {
            command.args(["--parameter", parameter]);
        }
        let server = Server::launch(command, port, home).await?;
        Ok(Self { server })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

/// Where a database keeps its files.
enum Home {
    /// The caller's own business. Absolute: the programs change their working folder.
    OfCaller(PathBuf),
    /// One of its own, for a database that lives as long as this process. Until a keeper removes it, it goes with the value.
    Doomed(TempDir),
}

impl Home {
    fn of_caller(dir: &Path) -> Result<Self> {
        Ok(Self::OfCaller(dir.canonicalize()?))
    }

    fn doomed() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("obfleet-testdb-").tempdir()?;
        Ok(Self::Doomed(dir))
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

/// A database's process and its port.
#[derive(Debug)]
struct Server {
    /// The keeper, with the database below it.
    process: Child,
    port: PortLease,
}

impl Server {
    /// Starts `command`, its output going to a file at home, and waits until a login answers.
    async fn launch(command: Command, port: PortLease, home: Home) -> Result<Self> {
        let program = command.get_program().display().to_string();
        let log = home.dir().join("output.log");
        let output = File::create(&log)?;
        let process = keeper::kept(&command, home.to_remove())
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        home.left_to_keeper();
        let mut server = Self { process, port };
        server.until_login().await.with_context(|| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            format!("{program} did not come up; it said: {said}")
        })?;
        Ok(server)
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.port()).into()
    }

    async fn until_login(&mut self) -> Result<()> {
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

impl Drop for Server {
    fn drop(&mut self) {
        // The keeper reads the end of its input; what the database held is thrown away, so nothing is lost with it.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// A program of the search path, or of the folder where Debian keeps servers.
fn installed(program: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("the program {program} is missing: `cargo xtask test` installs it"))
}

fn seekdb() -> Result<PathBuf> {
    env::var_os(SEEKDB_VARIABLE)
        .map(PathBuf::from)
        .filter(|program| program.is_file())
        .with_context(|| {
            format!("the program seekdb is missing: `cargo xtask test` installs it and names it in {SEEKDB_VARIABLE}")
        })
}

/// The kernel's own libraries: beside it, and in the folder of libraries its package brings.
fn library_path(program: &Path) -> Result<impl AsRef<OsStr>> {
    let folder = program.parent().context("the program seekdb is in no folder")?;
    Ok(env::join_paths([folder, &folder.with_extension("libs")])?)
}
