//! A real server in a process of its own, watched from outside.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A running `obfleet server`, killed when dropped.
pub struct ServerProcess {
    child: Child,
    address: SocketAddr,
    /// From its launch to its first answer.
    pub start: Duration,
}

impl ServerProcess {
    /// Starts it on a free port and waits for its first answer. `log` says what it writes to the file of that name.
    pub fn start(obfleet: &Path, state_dir: &Path, log: &str, log_file: &Path) -> Result<Self> {
        Self::start_with(obfleet, state_dir, log, log_file, &[])
    }

    /// The same with more arguments.
    pub fn start_with(obfleet: &Path, state_dir: &Path, log: &str, log_file: &Path, more: &[&OsStr]) -> Result<Self> {
        let begun = Instant::now();
        let mut child = Command::new(obfleet)
            .args([
                "server",
                "--requests-per-minute",
                "0",
                "--listen",
                "127.0.0.1:0",
                "--state-dir",
            ])
            .arg(state_dir)
            .args(more)
            .env("OBFLEET_LOG", log)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(log_file)?)
            .spawn()
            .with_context(|| format!("cannot start {}", obfleet.display()))?;
        let output = child.stdout.take();
        let mut server = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            start: Duration::ZERO,
        };
        let mut lines = BufReader::new(output.context("the server's output is not ours")?).lines();
        let ready = lines.find_map(|line| {
            let line = line.ok()?;
            line.strip_prefix("ready on http://").map(str::to_owned)
        });
        let Some(ready) = ready else {
            bail!("the server ended: {}", fs::read_to_string(log_file)?);
        };
        server.address = ready.parse()?;
        server.ask()?;
        server.start = begun.elapsed();
        Ok(server)
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// One request that needs no login.
    fn ask(&self) -> Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(b"GET /api/v2/time HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "the server answered {answer:?}");
        Ok(())
    }

    /// Processor time it has used so far.
    pub fn cpu(&self) -> Result<Duration> {
        let mut nanos = 0_u64;
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // A thread that is gone meanwhile has been idle for seconds.
            let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else {
                continue;
            };
            nanos += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Memory it has in use, in MiB.
    pub fn rss_mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: f64 = line
            .and_then(|line| line.split_whitespace().next())
            .context("the kernel tells no memory of it")?
            .parse()?;
        Ok(kib / 1024.0)
    }

    /// Asks it to end and waits until it has.
    pub fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // One that has ended is no error.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
