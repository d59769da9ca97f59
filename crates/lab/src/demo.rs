//! The main job, shown: a fleet under traffic is upgraded through the endpoint, or finds its way back from a bad package.

mod stage;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use self::stage::{Stage, client_user};
use crate::{
    api,
    backend::BackendChoice,
    ledger::Ledger,
    packages::{Fault, NEW},
    report::Findings,
    traffic::Traffic,
};

const UPGRADE_PATIENCE: Duration = Duration::from_secs(600);
const PROGRESS: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(100);

/// What to show.
#[derive(Debug)]
pub struct Options {
    /// The obfleet executable.
    pub exe: PathBuf,
    /// One JSON line at the beginning and one at the end on standard output, instead of a table.
    pub json: bool,
    /// What is wrong with the new package.
    pub fault: Option<Fault>,
    /// Tell how to use the fleet at the end; it runs for as long as the [`Demo`] is kept.
    pub keep: bool,
    /// Whether to upgrade, or only to set everything up.
    pub upgrade: bool,
    /// What the proxies serve.
    pub backend: BackendChoice,
    /// Where the proxies come from.
    pub scenario: Scenario,
}

/// Where the proxies of a demo come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// The fleet installs them.
    Upgrade,
    /// Somebody else starts them, as OceanBase Deployer does, and the fleet takes them over while clients are at work.
    Takeover,
}

impl Scenario {
    /// Reads `upgrade` or `takeover`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "upgrade" => Ok(Self::Upgrade),
            "takeover" => Ok(Self::Takeover),
            _ => Err("there are upgrade and takeover".to_owned()),
        }
    }
}

/// A demo. The fleet and its clients are there as long as this is.
pub struct Demo {
    options: Options,
    findings: Findings,
    /// When the upgrade was submitted.
    submitted: Option<Instant>,
    is_reported: bool,
    // The clients end before what they ask.
    traffic: Option<Traffic>,
    ledger: Option<Arc<Ledger>>,
    stage: Option<Stage>,
}

fn say(text: &str) {
    eprintln!("{text}");
}

impl Demo {
    /// One that has not begun.
    pub fn new(options: Options) -> Self {
        Self {
            findings: Findings::new(options.fault),
            options,
            submitted: None,
            is_reported: false,
            traffic: None,
            ledger: None,
            stage: None,
        }
    }

    /// Shows it; progress goes to standard error. → whether all went well
    pub async fn show(&mut self) -> anyhow::Result<bool> {
        let stage = self.stage.insert(Stage::set(&self.options).await?);
        self.findings
            .fleet_is_there(stage.proxies.len(), stage.fleet.server()?.start_ms);
        if self.options.json {
            println!("{}", stage.opening(&self.options)?);
        }
        if self.options.upgrade && self.options.scenario == Scenario::Upgrade {
            self.findings.reply_ms_p99 = stage.time_replies().await?;
        }
        let ledger = Arc::clone(self.ledger.insert(Arc::new(Ledger::create(&stage.backend).await?)));
        let addresses: Vec<_> = stage.proxies.iter().map(|proxy| proxy.address).collect();
        let traffic = Traffic::start(&addresses, &client_user(&stage.backend), &ledger);
        self.traffic.insert(traffic).warm_up().await?;
        say("clients are at work");

        if self.options.scenario == Scenario::Takeover {
            self.findings.taken_over = Some(0);
            if let Some(stage) = &mut self.stage {
                self.findings.taken_over = Some(stage.take_over().await?);
            }
        }
        if self.options.upgrade {
            self.upgrade().await?;
            self.report()?;
        }
        if self.options.keep {
            self.tell_how_to_use_it()?;
        }
        Ok(match self.options.upgrade {
            true => self.findings.report().ok,
            false => self.findings.is_taken_over(),
        })
    }

    /// Ends a demo that does not come to its end by itself: what is known is reported, and it is not well.
    pub fn break_off(&mut self) -> anyhow::Result<()> {
        if !self.options.upgrade || self.is_reported {
            return Ok(());
        }
        self.findings.broken_off = true;
        if let Some(submitted) = self.submitted {
            self.findings.seconds = submitted.elapsed().as_secs_f64();
        }
        if let Some(traffic) = &self.traffic {
            self.findings.counts = traffic.per_proxy();
        }
        self.report()
    }

    /// Takes everything away, also from a server of somebody else's.
    pub async fn end(mut self) {
        self.traffic = None;
        if let (Some(stage), Some(ledger)) = (&self.stage, &self.ledger)
            && stage.backend.is_foreign
            && let Err(error) = ledger.remove(&stage.backend).await
        {
            say(&format!(
                "the clients' database is left behind in the backend: {error:#}"
            ));
        }
    }

    async fn upgrade(&mut self) -> anyhow::Result<()> {
        let (stage, traffic) = self.running()?;
        let api = stage.fleet.api()?;
        stage.all_running().await?;
        traffic.restart_begins();
        let body = json!({"shortRpmName": NEW.short_rpm_name()});
        let submitted = Instant::now();
        let task = api.post(&stage.upgrade_path(), &body).await;
        self.submitted = Some(submitted);
        let (stage, traffic) = self.running()?;
        let task = watch(stage, api::id(&task?)?, traffic).await?;
        let seconds = submitted.elapsed().as_secs_f64();
        let rolled_back = free(stage, &task, self.options.fault).await?;
        let versions = stage.versions().await;
        let server_rss_mb = stage.fleet.server()?.process.resident_mb()?;
        let counts = traffic.per_proxy();
        let wrong_rows = match &self.ledger {
            Some(ledger) => ledger.check(&stage.backend).await?,
            None => Vec::new(),
        };
        for wrong in &wrong_rows {
            say(&format!(
                "the backend's rows are not what was told to the clients: {wrong}"
            ));
        }
        self.findings.seconds = seconds;
        self.findings.rolled_back = rolled_back;
        self.findings.versions = versions;
        self.findings.server_rss_mb = server_rss_mb;
        self.findings.counts = counts;
        self.findings.rows_are_right = wrong_rows.is_empty();
        Ok(())
    }

    fn running(&self) -> anyhow::Result<(&Stage, &Traffic)> {
        self.stage
            .as_ref()
            .zip(self.traffic.as_ref())
            .context("the demo has not begun")
    }

    fn report(&mut self) -> anyhow::Result<()> {
        self.is_reported = true;
        if self.options.json {
            say(&self.findings.table());
            println!("{}", serde_json::to_string(&self.findings.report())?);
        } else {
            println!("{}", self.findings.table());
        }
        Ok(())
    }

    fn tell_how_to_use_it(&self) -> anyhow::Result<()> {
        let (stage, _) = self.running()?;
        let api = stage.fleet.api()?;
        let lead = if self.options.json {
            String::new()
        } else {
            format!("{}\n", stage.opening(&self.options)?)
        };
        say(&format!(
            "{lead}running at {}, user {}, password {}; Ctrl-C ends it",
            api.url,
            api::USER,
            api.password
        ));
        Ok(())
    }
}

/// Tells how the task goes, every second, until it comes to rest.
async fn watch(stage: &Stage, id: i64, traffic: &Traffic) -> anyhow::Result<Value> {
    let started = Instant::now();
    let mut next = started;
    loop {
        let task = stage.fleet.api()?.task(id).await?;
        let at_rest = task["status"] != "RUNNING";
        if at_rest || Instant::now() >= next {
            next = Instant::now() + PROGRESS;
            let counts = traffic.total();
            say(&format!(
                "{:>4} s  {:<44} [{}]  connects {}  refused {}  broken {}",
                started.elapsed().as_secs(),
                at_work(&task),
                stage.versions().await.join(" "),
                counts.connects,
                counts.refused,
                counts.broken_transactions,
            ));
        }
        if at_rest {
            return Ok(task);
        }
        if started.elapsed() > UPGRADE_PATIENCE {
            bail!("the upgrade did not end within {} s", UPGRADE_PATIENCE.as_secs());
        }
        sleep(LOOK).await;
    }
}

/// Gives a failed upgrade back, which frees its proxies. → whether it was rolled back
async fn free(stage: &Stage, task: &Value, fault: Option<Fault>) -> anyhow::Result<bool> {
    let api = stage.fleet.api()?;
    if task["status"] != "FAILED" {
        return Ok(false);
    }
    let why = api.why(task).await;
    if fault.is_none() {
        say(&format!("the upgrade failed:{why}"));
    }
    let id = api::id(task)?;
    api.post_nothing(&format!("/api/v2/tasks/instances/{id}/rollback"))
        .await?;
    let task = api.rest(id, UPGRADE_PATIENCE).await?;
    if task["status"] != "SUCCESSFUL" || task["operation"] != "ROLLBACK" {
        bail!("the rollback ended {}{}", task["status"], api.why(&task).await);
    }
    say("the failed upgrade is rolled back, the proxies are free");
    Ok(true)
}

/// The steps that run, with the number of their branch.
fn at_work(task: &Value) -> String {
    let steps = task["subtasks"].as_array().into_iter().flatten();
    let names: Vec<String> = steps
        .filter(|step| step["status"] == "RUNNING" || step["status"] == "FAILED")
        .map(|step| {
            let name = step["name"].as_str().unwrap_or_default();
            match step["parallelIdx"].as_i64() {
                Some(branch) if branch >= 0 => format!("{name} ({})", branch + 1),
                _ => name.to_owned(),
            }
        })
        .collect();
    match names.as_slice() {
        [] => task["status"].as_str().unwrap_or_default().to_owned(),
        [one] => one.clone(),
        [first, others @ ..] => format!("{first} and {} more", others.len()),
    }
}
