//! Every step fails, also when it is tried again: before it did anything, with part of it done, with all of it done, with
//! its calls arriving when everything is over. The rollback leaves the world as it was; after one failure the same flow is
//! begun again and goes through.

use anyhow::{Result, ensure};
use obfleet_engine::TaskStatus;

use crate::{
    baseline::{Baseline, same, told},
    flow::Flow,
    matrix::{all, named},
    trouble::{Consequence, Moment, Place, Trouble},
    world::{WIDE, World},
};

/// One step at a time: what a failure leaves unbegun beside it stays so.
const NARROW: usize = 1;

pub async fn failing(flow: Flow) {
    let baseline = Baseline::of(flow).await.unwrap();
    let mut cases = Vec::new();
    for step in &baseline.steps {
        let mut kinds = vec![(Moment::Begin, NARROW, 1), (Moment::Begin, WIDE, 1)];
        for moment in baseline.failures(step) {
            kinds.push((moment, WIDE, 1));
            let is_met_again = !matches!(moment, Moment::Late(_)) && !baseline.is_met_once(step, moment);
            if is_met_again && !flow.undoes_itself() {
                kinds.push((moment, WIDE, 2));
            }
        }
        for (moment, slots, times) in kinds {
            let name = named(step, (moment, slots, times));
            cases.push((name, case(&baseline, step.clone(), moment, slots, times)));
        }
    }
    all("failing", flow, cases).await;
}

async fn case(baseline: &Baseline, place: Place, moment: Moment, slots: usize, times: u32) -> Result<()> {
    let mut world = World::of(&baseline.template, slots).await?;
    world.troubles.add(Trouble {
        place,
        moment,
        consequence: Consequence::Fails,
        times,
    });
    baseline.roll_back(&mut world, times).await?;
    if times > 1 {
        world.end().await;
        return Ok(());
    }
    let again = baseline.flow.start(&world).await?;
    let view = world.rest(again).await?;
    ensure!(view.status == TaskStatus::Successful, "begun again: {}", told(&view));
    world.is_sound().await?;
    same("begun again", &baseline.after, &world.lines().await?)?;
    world.end().await;
    Ok(())
}
