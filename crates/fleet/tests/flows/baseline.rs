//! A flow as it goes when nothing is wrong, and as it is rolled back when its last step fails: what every case is
//! compared with.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use obfleet_engine::{Outcome, TaskOperation, TaskStatus, TaskView, barrier};

use crate::{
    flow::Flow,
    trouble::{Consequence, Moment, Place, Trouble},
    world::{Effects, Template, WIDE, World},
};

pub struct Baseline {
    pub flow: Flow,
    /// Where it begins.
    pub template: Template,
    pub before: Vec<String>,
    pub after: Vec<String>,
    /// What it does to the hosts, and what it does with a rollback.
    pub done: Effects,
    pub undone: Effects,
    /// Its steps, in the order of the task.
    pub steps: Vec<Place>,
    /// What each step, run or undone, asks agents for.
    calls: BTreeMap<Place, Vec<&'static str>>,
}

impl Baseline {
    pub async fn of(flow: Flow) -> Result<Self> {
        let mut world = World::found().await?;
        flow.prepare(&mut world).await.context("preparing")?;
        let before = world.lines().await?;
        let template = world.put_away().await?;

        let mut world = World::of(&template, WIDE).await?;
        let task = flow.start(&world).await?;
        let view = world.rest(task).await?;
        ensure!(view.status == TaskStatus::Successful, "undisturbed: {view:?}");
        let mut calls = world.troubles.calls();
        let (after, done) = (world.lines().await?, world.effects());
        ensure!(after != before || !done.is_empty(), "the flow does nothing");
        world.is_sound().await?;
        world.end().await;

        let mut baseline = Self {
            flow,
            template,
            before,
            after,
            done,
            undone: Effects::new(),
            steps: steps(&view),
            calls: BTreeMap::new(),
        };
        let mut world = World::of(&baseline.template, WIDE).await?;
        world.troubles.add(baseline.last_fails()?);
        baseline
            .roll_back(&mut world, 1)
            .await
            .context("rolling back undisturbed")?;
        calls.extend(world.troubles.calls().into_iter().filter(|(place, _)| place.undo));
        baseline.undone = world.effects();
        baseline.calls = calls;
        world.end().await;
        Ok(baseline)
    }

    /// What makes the flow fail as late as can be, so that every step has something to undo.
    pub fn last_fails(&self) -> Result<Trouble> {
        Ok(Trouble {
            place: self.steps.last().context("a flow without steps")?.clone(),
            moment: Moment::Begin,
            consequence: Consequence::FailsWhenAlone,
            times: 1,
        })
    }

    /// Starts the flow, which fails `times`, and rolls it back unless it does that by itself; the world is then what it was
    /// before.
    pub async fn roll_back(&self, world: &mut World, times: u32) -> Result<()> {
        let task = self.flow.start(world).await?;
        for time in 1..=times {
            let view = world.rest(task).await?;
            ensure!(view.status == TaskStatus::Failed, "it did not fail: {}", told(&view));
            if time < times {
                world.fleet.engine().retry(task, "admin").await?;
            }
        }
        if !self.flow.undoes_itself() {
            world.fleet.engine().rollback(task, "admin").await?;
        }
        self.is_rolled_back(&world.rest(task).await?)?;
        world.hosts.late_calls_arrive();
        world.is_sound().await?;
        same("after the rollback", &self.before, &world.lines().await?)
    }

    /// The task has gone back to its beginning.
    pub fn is_rolled_back(&self, view: &TaskView) -> Result<()> {
        let status = match self.flow.undoes_itself() {
            true => TaskStatus::Failed,
            false => TaskStatus::Successful,
        };
        let end = (view.status, view.operation, view.outcome);
        let wanted = (status, TaskOperation::Rollback, Some(Outcome::RolledBack));
        ensure!(end == wanted, "{}", told(view));
        Ok(())
    }

    fn calls(&self, place: &Place) -> &[&'static str] {
        self.calls.get(place).map_or(&[], Vec::as_slice)
    }

    /// A step's calls of one of these kinds, by number.
    fn numbers(&self, place: &Place, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = usize> {
        let calls = (1..).zip(self.calls(place));
        calls.filter(move |(_, call)| wanted(call)).map(|(number, _)| number)
    }

    /// Those that are done in part, or late; a package that did not arrive whole is not there, nor is anything read in part.
    fn operations(&self, place: &Place) -> impl Iterator<Item = usize> {
        self.numbers(place, |call| {
            !matches!(call, "status" | "parameters" | "examine" | "put_package")
        })
    }

    /// Whether a later attempt may make the call by another number, or not at all: it may have fewer calls before it reads a
    /// configuration, and an agent that answers is not put on its machine again.
    pub fn is_met_once(&self, place: &Place, moment: Moment) -> bool {
        let call = |number: usize| self.calls(place).get(number - 1).copied();
        matches!(moment, Moment::After(number) if matches!(call(number), Some("parameters" | "install")))
    }

    /// Moments at which an attempt can fail with something of it done, or to be done.
    pub fn failures(&self, place: &Place) -> Vec<Moment> {
        let mut moments: Vec<_> = self
            .numbers(place, |call| call != "status")
            .map(Moment::After)
            .collect();
        moments.extend(self.operations(place).map(Moment::Halfway));
        moments.extend(self.operations(place).map(Moment::Late));
        if moments.is_empty() {
            moments.push(Moment::End);
        }
        moments
    }

    /// Moments at which the server can die with something of the attempt done, or to be done.
    pub fn deaths(&self, place: &Place) -> Vec<Moment> {
        let mut moments: Vec<_> = self.operations(place).map(Moment::Late).collect();
        moments.push(Moment::End);
        moments
    }
}

fn steps(view: &TaskView) -> Vec<Place> {
    let steps = view.subtasks.iter();
    let steps = steps.filter(|subtask| barrier::spec(&subtask.class_name).is_none());
    steps
        .map(|subtask| Place {
            class: subtask.class_name.clone(),
            index: u32::try_from(subtask.parallel_idx).ok(),
            undo: false,
        })
        .collect()
}

/// Where a task stands, and what is wrong with it.
pub fn told(view: &TaskView) -> String {
    let steps = view.subtasks.iter().filter_map(|subtask| {
        let failure = subtask.failure.as_ref()?;
        Some(format!(
            "; {} [{}] {}",
            subtask.name, subtask.parallel_idx, failure.message
        ))
    });
    let steps: String = steps.collect();
    format!(
        "the task is {} {} {:?}{steps}",
        view.status, view.operation, view.outcome
    )
}

/// Compares two lists of things.
pub fn same<T: PartialEq + std::fmt::Debug>(when: &str, wanted: &[T], is: &[T]) -> Result<()> {
    let missing: Vec<_> = wanted.iter().filter(|line| !is.contains(line)).collect();
    let extra: Vec<_> = is.iter().filter(|line| !wanted.contains(line)).collect();
    ensure!(
        missing.is_empty() && extra.is_empty() && wanted.len() == is.len(),
        "{when}: missing {missing:#?}, and there is {extra:#?}"
    );
    Ok(())
}

/// Compares what was done to the hosts.
pub fn same_effects(wanted: &Effects, is: &Effects) -> Result<()> {
    let list = |effects: &Effects| {
        effects
            .iter()
            .map(|(what, n)| format!("{what} ×{n}"))
            .collect::<Vec<_>>()
    };
    same("what was done to the hosts", &list(wanted), &list(is))
}
