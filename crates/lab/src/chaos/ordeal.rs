//! One upgrade of the whole fleet under load, struck at some points, from its submission until everything is judged:
//!
//! - it comes to rest by itself, and what had succeeded before a kill did not run again;
//! - kills of server and agents cost nothing: to a sound package the upgrade succeeds, nobody is refused, no transaction
//!   breaks, and each proxy is restarted once;
//! - after a guard's death it may also fail, and then `retry` or `rollback` leads out;
//! - from a bad package every proxy is back by itself, and `rollback` frees them;
//! - at the end each proxy serves, from one process, as the release it should be, and no guard is left.

use std::{fmt, path::Path};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::{
    account::ran_again,
    load::{Harm, Load},
    point::{self, Moment, Point, Step},
    strike::{Hit, Restart, strike},
};
use crate::{
    api,
    packages::{Fault, NEW, OLD, Release},
    testbed::{PATIENCE, Testbed},
};

/// Two proxies: one is restarted before the other, and what is true of two is true of more.
const HOSTS: u8 = 2;
/// Longer than any transaction of the load, also on a slow machine.
const DRAIN_WINDOW_S: u64 = 10;

/// A fleet for ordeals, one after another.
#[derive(Debug)]
pub struct Arena {
    bed: Testbed,
    uploaded: Vec<Option<Fault>>,
}

/// What an ordeal was like.
#[derive(Debug)]
pub struct Told {
    /// Where each kill met the task.
    pub hits: Vec<String>,
    /// Points whose moment did not come.
    pub missed: Vec<Point>,
    /// How the task went on from its first rest, and what came of it.
    pub way: &'static str,
    /// What the clients met with.
    pub harm: Harm,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}; {:?}", self.hits.join("; "), self.way, self.harm)?;
        for point in &self.missed {
            write!(f, "; {point} did not come")?;
        }
        Ok(())
    }
}

/// The package that has this fault; each is a release of its own, so that all can be uploaded.
fn release(fault: Option<Fault>) -> Release {
    Release {
        build: match fault {
            None => NEW.build,
            Some(Fault::Exit) => "2",
            Some(Fault::Hang) => "3",
            Some(Fault::WrongVersion) => "4",
            Some(Fault::NoLogin) => "5",
        },
        ..NEW
    }
}

impl Arena {
    /// Starts a fleet of the executable.
    pub async fn start(exe: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            bed: Testbed::start(exe, HOSTS, DRAIN_WINDOW_S).await?,
            uploaded: Vec::new(),
        })
    }

    /// The steps of an upgrade, learnt from one that nobody disturbs.
    pub async fn steps(&mut self) -> anyhow::Result<Vec<Step>> {
        self.have(None).await?;
        let task = self.bed.upgrade(NEW).await?;
        self.bed.api()?.success(api::id(&task)?, PATIENCE).await?;
        self.bed.at_rest_as(NEW).await?;
        self.bed.start_over().await?;
        Ok(point::steps(&task))
    }

    async fn have(&mut self, fault: Option<Fault>) -> anyhow::Result<()> {
        if !self.uploaded.contains(&fault) {
            self.bed.upload(release(fault), fault).await?;
            self.uploaded.push(fault);
        }
        Ok(())
    }

    /// One upgrade with these kills, in the order in which they come; all to the same package. Afterwards the fleet is as
    /// it was before; after an error it is of no further use.
    pub async fn ordeal(&mut self, points: &[Point]) -> anyhow::Result<Told> {
        let fault = points.first().and_then(|point| point.fault);
        ensure!(
            points.iter().all(|point| point.fault == fault),
            "points of several packages"
        );
        self.have(fault).await?;
        let bed = &mut self.bed;
        bed.at_rest_as(OLD).await?;
        let load = Load::start(bed.proxies.iter().map(|proxy| proxy.address));
        let task = api::id(&bed.upgrade(release(fault)).await?)?;
        let mut ordeal = Ordeal {
            bed,
            task,
            hits: Vec::new(),
            missed: Vec::new(),
        };
        let judged = match fault {
            None => ordeal.forward(points, &load).await,
            Some(_) => ordeal.backward(points, &load).await,
        };
        let (way, now) = match judged {
            Ok(judged) => judged,
            Err(error) => bail!("{error:#}\n{}", ordeal.evidence(&load).await),
        };
        let told = Told {
            hits: ordeal.hits.into_iter().map(|hit| hit.met).collect(),
            missed: ordeal.missed,
            way,
            harm: load.harm(),
        };
        drop(load);
        if now != OLD {
            self.bed.start_over().await?;
        }
        Ok(told)
    }
}

struct Ordeal<'a> {
    bed: &'a mut Testbed,
    task: i64,
    hits: Vec<Hit>,
    missed: Vec<Point>,
}

impl Ordeal<'_> {
    /// To a sound package. → how it went, and what every proxy runs
    async fn forward(&mut self, points: &[Point], load: &Load) -> anyhow::Result<(&'static str, Release)> {
        self.strike(points).await?;
        let task = self.rest().await?;
        self.nothing_ran_again(&task)?;
        let (way, now) = if task["status"] == "SUCCESSFUL" {
            ("upgraded", NEW)
        } else if !self.a_guard_died() {
            bail!("the upgrade failed");
        } else if self.leads_back() {
            self.order("rollback", "ROLLBACK").await?;
            ("failed, rolled back", OLD)
        } else {
            let task = self.order("retry", "RETRY").await?;
            self.nothing_ran_again(&task)?;
            ("failed, retried", NEW)
        };
        self.bed.at_rest_as(now).await?;
        self.unharmed(load)?;
        if !self.a_guard_died() {
            self.restarted_once()?;
        }
        Ok((way, now))
    }

    /// To a bad package.
    async fn backward(&mut self, points: &[Point], load: &Load) -> anyhow::Result<(&'static str, Release)> {
        let undo = |point: &&Point| point.moment == Moment::Undo;
        let (during_rollback, before): (Vec<_>, Vec<_>) = points.iter().partition(undo);
        self.strike(before).await?;
        let task = self.rest().await?;
        self.nothing_ran_again(&task)?;
        ensure!(
            task["status"] == "FAILED",
            "the upgrade to a bad package ended {}",
            task["status"]
        );
        for proxy in &self.bed.proxies {
            proxy.serves_as(OLD.version).await.context("back by itself")?;
        }
        self.post("rollback").await?;
        self.strike(during_rollback).await?;
        self.expect("ROLLBACK").await?;
        self.bed.at_rest_as(OLD).await?;
        self.unharmed(load)?;
        Ok(("went back, rolled back", OLD))
    }

    async fn strike(&mut self, points: impl IntoIterator<Item = &Point>) -> anyhow::Result<()> {
        for point in points {
            match strike(self.bed, self.task, *point).await? {
                Some(hit) => self.hits.push(hit),
                None => self.missed.push(*point),
            }
        }
        Ok(())
    }

    async fn rest(&self) -> anyhow::Result<Value> {
        self.bed.api()?.rest(self.task, PATIENCE).await
    }

    async fn post(&self, order: &str) -> anyhow::Result<()> {
        let path = format!("/api/v2/tasks/instances/{}/{order}", self.task);
        self.bed.api()?.post_nothing(&path).await?;
        Ok(())
    }

    /// Gives the task an order, which must end well.
    async fn order(&self, order: &str, operation: &str) -> anyhow::Result<Value> {
        self.post(order).await?;
        self.expect(operation).await
    }

    async fn expect(&self, operation: &str) -> anyhow::Result<Value> {
        let task = self.rest().await?;
        let (status, was) = (&task["status"], &task["operation"]);
        ensure!(
            status == "SUCCESSFUL" && was == operation,
            "{operation} ended as {was} {status}"
        );
        Ok(task)
    }

    fn a_guard_died(&self) -> bool {
        self.hits.iter().any(|hit| hit.point.victim.is_guard())
    }

    /// Both ways out are taken: back where the second proxy was struck, on where it was the first.
    fn leads_back(&self) -> bool {
        let last = self.hits.last();
        let step = last.and_then(|hit| point::in_order(&hit.before).get(hit.point.step - 1).copied());
        step.is_some_and(|step| step["parallelIdx"] == i64::from(HOSTS) - 1)
    }

    fn nothing_ran_again(&self, now: &Value) -> anyhow::Result<()> {
        for hit in &self.hits {
            let again = ran_again(&hit.before, now);
            ensure!(again.is_empty(), "{}: ran again: {}", hit.point, again.join(", "));
        }
        Ok(())
    }

    fn unharmed(&self, load: &Load) -> anyhow::Result<()> {
        let harm = load.harm();
        ensure!(harm.answered > 0, "no client was served: {harm:?}");
        ensure!(
            self.a_guard_died() || (harm.refused == 0 && harm.broken == 0),
            "clients were harmed: {harm:?}"
        );
        Ok(())
    }

    fn restarted_once(&self) -> anyhow::Result<()> {
        for host in 0..self.bed.fleet.hosts.len() {
            let restarts = Restart::all_of(self.bed, self.task, host)?;
            ensure!(restarts.len() == 1, "restarts on host {host}: {restarts:?}");
        }
        Ok(())
    }

    /// What a person would want to see of a failure.
    async fn evidence(&self, load: &Load) -> String {
        let mut text = format!("{:?}", load.harm());
        for hit in &self.hits {
            text += &format!("\nhit {}", hit.met);
        }
        if let Ok(api) = self.bed.api() {
            let task = api.task(self.task).await.unwrap_or_default();
            text += &format!("\ntask {} {}", task["operation"], task["status"]);
            for (index, step) in point::in_order(&task).into_iter().enumerate() {
                let [name, branch, operation, status, run] =
                    ["name", "parallelIdx", "operation", "status", "runTime"].map(|member| &step[member]);
                text += &format!("\n{:>3} {name} {branch} {operation} {status} {run}", index + 1);
            }
            text += &api.why(&task).await;
        }
        for host in 0..self.bed.fleet.hosts.len() {
            for restart in Restart::all_of(self.bed, self.task, host).unwrap_or_default() {
                text += &format!("\nhost {host}, {restart:?}\n{}", restart.log());
            }
            text += &format!("\nagent {host}:\n{}", self.bed.fleet.hosts[host].last_words());
        }
        text
    }
}
