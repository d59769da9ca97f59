//! Several servers on one database, each in a process of its own ([`crate::worker`]).

use std::env::current_exe;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::Setting;
use super::engine::bare_mean;
use crate::figure::Reading;
use crate::place::{Place, StoreKind};
use crate::worker;
use crate::workload::CHAIN_COMMITS;

/// Chains submitted at once, the same number to each server.
const BURST: usize = 200;
/// Chains of each server before that: its statements are prepared then, its connections made.
const WARM: usize = 10;
/// Attempts under way when a server is killed.
const HELD: u32 = 8;
/// Deaths of one measurement.
const DEATHS: u32 = 5;
/// Time between renewals of a lease: how long a lease still lasts depends on when in it a server dies.
const RENEWAL: Duration = Duration::from_secs(1);
/// Longest wait for anything a worker tells.
const DEADLINE: Duration = Duration::from_secs(120);

/// Tasks per second when many chains are submitted at once: for one server, and for two and four that share a database.
pub async fn burst(setting: &Setting) -> Result<Vec<Reading>> {
    let mut readings = Vec::new();
    for (name, servers) in [
        ("tasks_per_s_1_servers", 1),
        ("tasks_per_s_2_servers", 2),
        ("tasks_per_s_4_servers", 4),
    ] {
        if servers > 1 && setting.store == StoreKind::Sqlite {
            break;
        }
        let place = setting.place().await?;
        let mut crew = Crew::new(&place);
        for _ in 0..servers {
            crew.hire().await?;
        }
        crew.chains(WARM).await?;
        let bare_per_s = 1000.0 / (CHAIN_COMMITS as f64 * bare_mean(&place).await?);
        let took = crew.chains(BURST / servers).await?;
        crew.dismiss().await?;
        let per_s = BURST as f64 / took.as_secs_f64();
        readings.push(Reading::new(name, per_s, "1/s").floor(bare_per_s));
    }
    Ok(readings)
}

/// From the death of a server to the moment when all that was under way on it goes on elsewhere. Deaths are spread over the
/// time between two renewals of its lease.
pub async fn failover(place: &Place) -> Result<Vec<Reading>> {
    let mut took = Vec::new();
    for death in 0..DEATHS {
        let mut crew = Crew::new(place);
        crew.hire().await?;
        crew.order(0, &worker::hold(HELD)).await?;
        crew.until(worker::HELD, HELD as usize).await?;
        crew.hire().await?;
        sleep(RENEWAL * death / DEATHS).await;
        let killed = Instant::now();
        crew.kill(0).await?;
        crew.until(worker::RESUMED, HELD as usize).await?;
        took.push(killed.elapsed().as_secs_f64());
        crew.until(worker::ENDED, 1).await?;
        crew.dismiss().await?;
    }
    let median = crate::sample::median(took).context("no server died")?;
    Ok(vec![Reading::new("failover_s", median, "s")])
}

/// Workers on one database.
struct Crew<'p> {
    place: &'p Place,
    workers: Vec<Worker>,
    /// Cloned for each worker.
    teller: mpsc::UnboundedSender<String>,
    told: mpsc::UnboundedReceiver<String>,
}

/// Killed when dropped.
struct Worker {
    process: Child,
    orders: ChildStdin,
}

impl<'p> Crew<'p> {
    fn new(place: &'p Place) -> Self {
        let (teller, told) = mpsc::unbounded_channel();
        Self {
            place,
            workers: Vec::new(),
            teller,
            told,
        }
    }

    /// Starts one more worker and waits until it takes orders.
    async fn hire(&mut self) -> Result<()> {
        let mut process = Command::new(current_exe()?)
            .arg(worker::MODE)
            .arg(format!("server-{}", self.workers.len()))
            .arg(self.place.address())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = process.stdin.take().context("the worker's input is not ours")?;
        let output = process.stdout.take().context("the worker's output is not ours")?;
        let teller = self.teller.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                // Nobody listens any more once the measurement is over.
                drop(teller.send(line));
            }
        });
        self.workers.push(Worker { process, orders });
        self.until(worker::READY, 1).await
    }

    async fn order(&mut self, worker: usize, order: &str) -> Result<()> {
        let line = format!("{order}\n");
        self.workers[worker].orders.write_all(line.as_bytes()).await?;
        Ok(())
    }

    /// Waits until workers have told this so many times.
    async fn until(&mut self, what: &str, times: usize) -> Result<()> {
        for time in 0..times {
            let told = timeout(DEADLINE, self.told.recv()).await;
            match told.with_context(|| format!("no more than {time} workers have told {what:?}"))? {
                Some(told) if told == what => {}
                told => bail!("a worker told {told:?} instead of {what:?}"),
            }
        }
        Ok(())
    }

    /// Has each worker submit so many chains at once; how long it took until all of them were over.
    async fn chains(&mut self, of_each: usize) -> Result<Duration> {
        let begun = Instant::now();
        for worker in 0..self.workers.len() {
            self.order(worker, &worker::chains(of_each)).await?;
        }
        self.until(worker::ENDED, of_each * self.workers.len()).await?;
        Ok(begun.elapsed())
    }

    /// As `kill -9` does.
    async fn kill(&mut self, worker: usize) -> Result<()> {
        Ok(self.workers.remove(worker).process.kill().await?)
    }

    /// Ends those that are left.
    async fn dismiss(self) -> Result<()> {
        for Worker { mut process, orders } in self.workers {
            drop(orders);
            let status = timeout(DEADLINE, process.wait()).await??;
            anyhow::ensure!(status.success(), "a worker ended with {status}");
        }
        Ok(())
    }
}
