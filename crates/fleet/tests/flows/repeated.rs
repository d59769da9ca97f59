//! Every step run twice and undone twice: its effect is there, or is yet to come, but its end was not recorded, because
//! the connection broke or the server died. The end is the same as if nothing had happened, and nothing was done twice.

use anyhow::{Result, ensure};
use obfleet_engine::TaskStatus;

use crate::{
    baseline::{Baseline, same, same_effects, told},
    flow::Flow,
    matrix::{all, named},
    trouble::{Consequence, Moment, Place, Trouble},
    world::{WIDE, World},
};

pub async fn repeated(flow: Flow) {
    let baseline = Baseline::of(flow).await.unwrap();
    let mut cases = Vec::new();
    for step in baseline.steps.iter().flat_map(|step| [step.clone(), step.undone()]) {
        let failures = baseline.failures(&step).into_iter();
        let failures = failures.map(|moment| (moment, Consequence::Fails));
        let deaths = baseline.deaths(&step).into_iter();
        let deaths = deaths.map(|moment| (moment, Consequence::Crash));
        for (moment, consequence) in failures.chain(deaths) {
            let name = named(&step, (moment, consequence));
            cases.push((name, case(&baseline, step.clone(), moment, consequence)));
        }
    }
    all("repeated", flow, cases).await;
}

async fn case(baseline: &Baseline, place: Place, moment: Moment, consequence: Consequence) -> Result<()> {
    let mut world = World::of(&baseline.template, WIDE).await?;
    let undo = place.undo;
    world.troubles.add(Trouble {
        place,
        moment,
        consequence,
        times: 1,
    });
    if undo {
        world.troubles.add(baseline.last_fails()?);
        baseline.roll_back(&mut world, 1).await?;
        same_effects(&baseline.undone, &world.effects())?;
    } else {
        run(baseline, &mut world, consequence).await?;
    }
    world.end().await;
    Ok(())
}

async fn run(baseline: &Baseline, world: &mut World, consequence: Consequence) -> Result<()> {
    let task = baseline.flow.start(world).await?;
    let mut view = world.rest(task).await?;
    if consequence == Consequence::Fails && baseline.flow.undoes_itself() {
        // It is not tried again, it goes back.
        baseline.is_rolled_back(&view)?;
        world.hosts.late_calls_arrive();
        world.is_sound().await?;
        return same("gone back", &baseline.before, &world.lines().await?);
    }
    if consequence == Consequence::Fails {
        ensure!(view.status == TaskStatus::Failed, "it did not fail: {}", told(&view));
        world.fleet.engine().retry(task, "admin").await?;
        view = world.rest(task).await?;
    }
    ensure!(view.status == TaskStatus::Successful, "{}", told(&view));
    world.hosts.late_calls_arrive();
    world.is_sound().await?;
    same("at the end", &baseline.after, &world.lines().await?)?;
    same_effects(&baseline.done, &world.effects())
}
