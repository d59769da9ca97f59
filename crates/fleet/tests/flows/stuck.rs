//! Every undo fails until somebody does something about it. The task says so and why, keeps its locks, and is led out
//! in both ways: rolled back again once the cause is gone, or with the step skipped.

use anyhow::{Context as _, Result, ensure};
use obfleet_engine::{Outcome, SubtaskStatus, TaskId, TaskOperation, TaskStatus};

use crate::{
    baseline::{Baseline, same, told},
    flow::Flow,
    matrix::{all, named},
    trouble::{Consequence, Moment, Place, REASON, Trouble},
    world::{WIDE, World},
};

#[derive(Clone, Copy, Debug)]
enum Way {
    Again,
    Skip,
}

pub async fn stuck(flow: Flow) {
    let baseline = Baseline::of(flow).await.unwrap();
    let mut cases = Vec::new();
    for step in &baseline.steps {
        for way in [Way::Again, Way::Skip] {
            cases.push((named(&step.undone(), way), case(&baseline, step.undone(), way)));
        }
    }
    all("stuck", flow, cases).await;
}

async fn case(baseline: &Baseline, place: Place, way: Way) -> Result<()> {
    let mut world = World::of(&baseline.template, WIDE).await?;
    world.troubles.add(baseline.last_fails()?);
    world.troubles.add(Trouble {
        place: place.clone(),
        moment: Moment::Begin,
        consequence: Consequence::Fails,
        times: u32::MAX,
    });
    let task = baseline.flow.start(&world).await?;
    let view = world.rest(task).await?;
    ensure!(view.status == TaskStatus::Failed, "it did not fail: {}", told(&view));
    let held = world.locks().await?;
    ensure!(!held.is_empty(), "it holds nothing");
    if !baseline.flow.undoes_itself() {
        world.fleet.engine().rollback(task, "admin").await?;
    }
    let subtask = is_stuck(&mut world, task, &place).await?;
    same("while stuck", &held, &world.locks().await?)?;

    world.troubles.clear();
    match way {
        Way::Again => world.fleet.engine().rollback(task, "admin").await?,
        Way::Skip => world.fleet.engine().skip(task, subtask, "admin").await?,
    };
    let view = world.rest(task).await?;
    baseline.is_rolled_back(&view)?;
    world.is_sound().await?;
    same("at the end", &[], &world.locks().await?)?;
    if matches!(way, Way::Again) {
        same("rolled back again", &baseline.before, &world.lines().await?)?;
    }
    world.end().await;
    Ok(())
}

/// The task stands still, and says where and why.
async fn is_stuck(world: &mut World, task: TaskId, place: &Place) -> Result<obfleet_engine::SubtaskId> {
    let view = world.rest(task).await?;
    let stands = (view.status, view.operation, view.outcome);
    let stuck = (TaskStatus::Failed, TaskOperation::Rollback, Some(Outcome::Stuck));
    ensure!(stands == stuck, "it is not stuck: {}", told(&view));
    let mut failed = view
        .subtasks
        .iter()
        .filter(|subtask| subtask.status == SubtaskStatus::Failed);
    let subtask = failed.next().context("no step is FAILED")?;
    ensure!(subtask.class_name == place.class, "stuck elsewhere: {}", told(&view));
    let reason = subtask.failure.as_ref().context("no reason is given")?;
    ensure!(reason.message.contains(REASON), "another reason: {}", told(&view));
    Ok(subtask.id)
}
