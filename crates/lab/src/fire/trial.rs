//! One operation with one blow, from an empty stage until everything is judged:
//!
//! - whoever is killed, the task ends by itself, and what had succeeded did not run again;
//! - a task that was stopped, or that failed by a cause, is led out of it by retry or by rollback, also when somebody is
//!   killed on the way back;
//! - at its end the fleet is as after the same operation undisturbed, and after a rollback as it was before;
//! - then everything can be taken away, which nothing that is left behind or held may prevent.

use std::{collections::HashMap, fmt, path::Path};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

use super::{
    operation::Operation,
    picture::{self, Picture},
    point::{self, Blow, Point, Victim, Way},
    stage::Stage,
};
use crate::{
    api,
    chaos::{account::ran_again, point::in_order},
    machine::HOST_KEY,
    testbed::PATIENCE,
};

const LOOK: Duration = Duration::from_millis(2);
/// How long an agent is away before somebody loses patience.
const AWAY: Duration = Duration::from_millis(500);

/// An operation when nothing is wrong.
#[derive(Debug, Clone)]
struct Baseline {
    before: Picture,
    after: Picture,
    task: Value,
}

/// A stage, and what is known of operations there.
#[derive(Debug)]
pub struct Range {
    stage: Stage,
    baselines: HashMap<Operation, Baseline>,
}

/// What a trial was like.
#[derive(Debug)]
pub struct Told {
    /// Where the blow met the task; nothing when its moment did not come.
    pub met: Option<String>,
    /// What came of it.
    pub way: &'static str,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.met.as_deref().unwrap_or("did not come"), self.way)
    }
}

impl Range {
    /// Starts a stage of the executable.
    pub async fn start(exe: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            stage: Stage::start(exe).await?,
            baselines: HashMap::new(),
        })
    }

    /// The points of an operation, learnt from a run that nobody disturbs.
    pub async fn points(&mut self, operation: Operation) -> anyhow::Result<Vec<Point>> {
        Ok(point::all(operation, &self.baseline(operation).await?.task))
    }

    async fn baseline(&mut self, operation: Operation) -> anyhow::Result<Baseline> {
        if let Some(known) = self.baselines.get(&operation) {
            return Ok(known.clone());
        }
        let stage = &mut self.stage;
        operation.prepare(stage).await.context("preparing")?;
        let before = picture::settled(stage).await.context("before")?;
        let task = operation.start(stage).await.context("ordering it")?;
        stage.succeed(task).await?;
        let after = picture::settled(stage).await.context("after")?;
        ensure!(
            !before.difference(&after).is_empty() || before.processes != after.processes,
            "nothing was done"
        );
        has_effect(operation, &before, &after).context("undisturbed")?;
        let task = stage.fleet.api()?.task(task).await?;
        stage.clear().await.context("clearing up")?;
        let baseline = Baseline { before, after, task };
        self.baselines.insert(operation, baseline.clone());
        Ok(baseline)
    }

    /// One operation with one blow. Afterwards the stage is empty; after an error it is of no further use.
    pub async fn trial(&mut self, point: Point) -> anyhow::Result<Told> {
        let baseline = self.baseline(point.operation).await.context("undisturbed")?;
        let stage = &mut self.stage;
        point.operation.prepare(stage).await.context("preparing")?;
        let before = picture::comes_to(stage, &baseline.before).await.context("before")?;
        let mut trial = Trial {
            stage,
            operation: point.operation,
            task: 0,
            met: None,
        };
        let judged = trial.under(point.blow, &before, &baseline).await;
        let way = match judged {
            Ok(way) => way,
            Err(error) => bail!("{error:#}\n{}", trial.evidence().await),
        };
        let met = trial.met.take();
        self.stage.clear().await.context("clearing up")?;
        Ok(Told { met, way })
    }
}

/// The operation did what it is for.
fn has_effect(operation: Operation, before: &Picture, after: &Picture) -> anyhow::Result<()> {
    let effect = operation.effect();
    ensure!(
        after.statuses == effect.statuses,
        "the proxies are {:?}",
        after.statuses
    );
    if effect.same_processes && !before.processes.is_empty() {
        let (then, now) = (&before.processes, &after.processes);
        ensure!(then == now, "processes {then:?} became {now:?}");
    }
    Ok(())
}

/// Where a task failed.
fn failure_of(task: &Value) -> String {
    let failed = in_order(task).into_iter().find(|step| step["status"] == "FAILED");
    failed.map_or("it went back".to_owned(), |step| format!("failed at {}", step["name"]))
}

struct Trial<'a> {
    stage: &'a mut Stage,
    operation: Operation,
    task: i64,
    met: Option<String>,
}

impl Trial<'_> {
    async fn under(&mut self, blow: Blow, before: &Picture, baseline: &Baseline) -> anyhow::Result<&'static str> {
        if let Blow::Cause(cause, way) = blow {
            return self.spoilt(cause, way, baseline).await;
        }
        self.task = self.operation.start(self.stage).await.context("ordering it")?;
        let done = match blow {
            Blow::Kill(victim, step) => {
                let struck = self.moment(step, false).await?;
                if let Some((host, _)) = &struck {
                    self.kill(victim, *host).await?;
                }
                let task = self.rest().await?;
                ensure!(task["status"] == "SUCCESSFUL", "the task ended {}", task["status"]);
                if let Some((_, seen)) = struck {
                    let again = ran_again(&seen, &task);
                    ensure!(again.is_empty(), "ran again: {}", again.join(", "));
                }
                true
            }
            Blow::Cancel(step, way) => {
                if self.moment(step, false).await?.is_some() {
                    self.cancel().await?;
                }
                self.led_out(way).await?
            }
            Blow::Away(step, way) => {
                let struck = self.moment(step, false).await?;
                if let Some((host, _)) = &struck {
                    self.lose(*host)?;
                    sleep(AWAY).await;
                    self.cancel().await?;
                    self.bring_back(*host).await?;
                }
                self.led_out(way).await?
            }
            Blow::Full(step, way) => {
                if let Some((host, _)) = self.moment(step, false).await? {
                    let made = self.stage.fill(host).await?;
                    let task = self.rest().await?;
                    self.met = Some(failure_of(&task));
                    Stage::make_room(&made)?;
                }
                self.led_out(way).await?
            }
            Blow::Undo(victim, step) => {
                let begun = self.moment(step, false).await?.is_some();
                // It counts only when it comes on the way back.
                self.met = None;
                if begun && self.is_cancelled().await? {
                    self.post("rollback").await?;
                    if let Some((host, _)) = self.moment(step, true).await? {
                        self.kill(victim, host).await?;
                    }
                    self.expect("ROLLBACK").await?;
                    false
                } else {
                    true
                }
            }
            Blow::Cause(..) => false,
        };
        self.judge(done, before, baseline).await
    }

    /// What there has to be, once the operation is done or taken back.
    async fn judge(&self, done: bool, before: &Picture, baseline: &Baseline) -> anyhow::Result<&'static str> {
        if done {
            let after = picture::comes_to(self.stage, &baseline.after)
                .await
                .context("afterwards")?;
            has_effect(self.operation, before, &after)?;
            return Ok("done");
        }
        if self.operation.is_kept() {
            picture::settled(self.stage).await.context("taken back")?;
            return Ok("taken back but for what is kept");
        }
        picture::comes_to(self.stage, &baseline.before)
            .await
            .context("taken back")?;
        Ok("taken back")
    }

    /// With something wrong until the task has failed by it.
    async fn spoilt(&mut self, cause: usize, way: Way, baseline: &Baseline) -> anyhow::Result<&'static str> {
        let wrong = self.operation.spoil(self.stage, cause).await.context("spoiling it")?;
        self.task = self.operation.start(self.stage).await.context("ordering it")?;
        let failed = self.rest().await?;
        ensure!(failed["status"] == "FAILED", "the task ended {}", failed["status"]);
        self.met = Some(failure_of(&failed));
        wrong.mend(self.stage).await.context("mending it")?;
        match (self.operation.undoes_itself(), way) {
            (true, Way::Rollback) => {}
            (true, Way::Retry) => {
                self.task = self.operation.start(self.stage).await.context("ordering it again")?;
                self.expect("EXECUTE").await?;
            }
            (false, Way::Rollback) => self.order("rollback", "ROLLBACK").await?,
            (false, Way::Retry) => self.order("retry", "RETRY").await?,
        }
        // What there was before it went wrong: a cause may have changed which processes run.
        let mut before = baseline.before.clone();
        before.processes.clear();
        self.judge(way == Way::Retry, &before, baseline).await
    }

    /// Waits until a step has begun, or its undo. → its host, and the task as it was then; nothing when the task was at rest
    /// before
    async fn moment(&mut self, step: usize, undo: bool) -> anyhow::Result<Option<(usize, Value)>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.stage.fleet.api()?.task(self.task).await?;
            let at = *in_order(&seen).get(step - 1).context("the task has no such step")?;
            let begun = !matches!(at["status"].as_str(), Some("PENDING" | "READY"));
            let come = if undo {
                at["operation"] == "ROLLBACK" && at["status"] != "READY"
            } else {
                begun
            };
            if seen["status"] != "RUNNING" {
                return Ok(None);
            }
            if come {
                self.met = Some(format!("{} {} {}", at["name"], at["operation"], at["status"]));
                return Ok(Some((self.host_of(&seen, at), seen)));
            }
            ensure!(Instant::now() < deadline, "step {step} did not come: {seen}");
            sleep(LOOK).await;
        }
    }

    /// The host a step is about; the last where it is about none.
    fn host_of(&self, task: &Value, step: &Value) -> usize {
        let (lists, texts) = (&task["context"]["listMap"], &task["context"]["stringMap"]);
        let branch = step["parallelIdx"]
            .as_u64()
            .and_then(|index| usize::try_from(index).ok());
        let of_branch = branch
            .and_then(|branch| lists["host_ids"].get(branch))
            .or_else(|| texts.get("host_id"));
        let id = of_branch.and_then(Value::as_str).and_then(|id| id.parse::<i64>().ok());
        let hosts = &self.stage.fleet.hosts;
        let found = hosts.iter().position(|host| Some(host.id) == id);
        found.unwrap_or(hosts.len().saturating_sub(1))
    }

    /// The agent of a host is away; or the sshd of the machine, of an operation over SSH.
    fn lose(&mut self, host: usize) -> anyhow::Result<()> {
        match &mut self.stage.machine {
            Some(machine) if self.operation.is_over_ssh() => machine.keep_out(),
            _ => self.stage.fleet.lose_agent(host)?,
        }
        Ok(())
    }

    async fn bring_back(&mut self, host: usize) -> anyhow::Result<()> {
        match &mut self.stage.machine {
            Some(machine) if self.operation.is_over_ssh() => machine.let_in(HOST_KEY).await,
            _ => self.stage.fleet.bring_back_agent(host),
        }
    }

    async fn kill(&mut self, victim: Victim, host: usize) -> anyhow::Result<()> {
        if victim != Victim::Server {
            self.stage.fleet.crash_agent(host)?;
        }
        if victim != Victim::Agent {
            self.stage.fleet.crash_server().await?;
        }
        Ok(())
    }

    /// Leads the task out once it has failed, unless it did not. → whether the operation is done
    async fn led_out(&mut self, way: Way) -> anyhow::Result<bool> {
        let task = self.rest().await?;
        if task["status"] == "SUCCESSFUL" {
            self.met = None;
            return Ok(true);
        }
        if task["outcome"] == "ROLLED_BACK" {
            // It went by itself.
            return Ok(false);
        }
        // One that goes back by itself may have begun to before it was cancelled.
        let way = if task["operation"] == "ROLLBACK" {
            Way::Rollback
        } else {
            way
        };
        match way {
            Way::Retry => self.order("retry", "RETRY").await?,
            Way::Rollback => self.order("rollback", "ROLLBACK").await?,
        }
        Ok(way == Way::Retry)
    }

    /// Cancels the task. → whether it was not over before
    async fn is_cancelled(&mut self) -> anyhow::Result<bool> {
        self.cancel().await?;
        Ok(self.rest().await?["status"] == "FAILED")
    }

    async fn cancel(&self) -> anyhow::Result<()> {
        let cancelled = self.post("cancel").await;
        let task = self.stage.fleet.api()?.task(self.task).await?;
        // It may have ended in this moment.
        ensure!(
            cancelled.is_ok() || task["status"] != "RUNNING",
            "it cannot be cancelled: {cancelled:?}"
        );
        Ok(())
    }

    async fn rest(&self) -> anyhow::Result<Value> {
        self.stage.fleet.api()?.rest(self.task, PATIENCE).await
    }

    async fn post(&self, order: &str) -> anyhow::Result<()> {
        let path = format!("/api/v2/tasks/instances/{}/{order}", self.task);
        self.stage.fleet.api()?.post_nothing(&path).await?;
        Ok(())
    }

    async fn order(&self, order: &str, operation: &str) -> anyhow::Result<()> {
        self.post(order).await?;
        self.expect(operation).await
    }

    /// The task ends as it should.
    async fn expect(&self, operation: &str) -> anyhow::Result<()> {
        let task = self.rest().await?;
        let (is, was) = (&task["status"], &task["operation"]);
        let back_by_itself = operation == "ROLLBACK" && self.operation.undoes_itself();
        let status = if back_by_itself { "FAILED" } else { "SUCCESSFUL" };
        ensure!(is == status && was == operation, "{operation} ended as {was} {is}");
        Ok(())
    }

    /// What a person would want to see of a failure.
    async fn evidence(&self) -> String {
        let mut text = format!("met {:?}", self.met);
        if let Ok(api) = self.stage.fleet.api() {
            let task = api.task(self.task).await.unwrap_or_default();
            text += &format!("\ntask {} {} {}", task["name"], task["operation"], task["status"]);
            for (index, step) in in_order(&task).into_iter().enumerate() {
                let [name, branch, operation, status, run] =
                    ["name", "parallelIdx", "operation", "status", "runTime"].map(|member| &step[member]);
                text += &format!("\n{:>3} {name} {branch} {operation} {status} {run}", index + 1);
            }
            text += &api.why(&task).await;
            let events = format!("/api/v2/tasks/instances/{}/events?size=1000", self.task);
            for event in api::contents(&api.get(&events).await.unwrap_or_default()) {
                text += &format!("\n{event}");
            }
        }
        for (index, host) in self.stage.fleet.hosts.iter().enumerate() {
            text += &format!("\nagent {index}:\n{}", host.last_words());
        }
        text
    }
}
