//! Whether a store is as fast with many finished tasks as with few.

use std::time::Instant;

use anyhow::{Result, ensure};
use obfleet_engine::{TaskFilter, TaskId};
use tokio::task::JoinSet;

use super::Setting;
use crate::figure::Reading;
use crate::place::Place;
use crate::sample::Sample;
use crate::workload::{Workload, chain8};

const FEW: usize = 100;
const MANY: usize = 10_000;
/// Chains in flight while a store is filled.
const FILLERS: usize = 32;
/// Turns, in each of which both stores are asked.
const TURNS: usize = 10;
/// Pages, tasks and hops of a turn.
const ASKED: usize = 20;

/// List (the newest ten, as the console shows them), get and claim: medians with many tasks, divided by those with few.
pub async fn ratios(setting: &Setting) -> Result<Vec<Reading>> {
    let (mut few, mut many) = (History::fill(setting, FEW).await?, History::fill(setting, MANY).await?);
    for _ in 0..TURNS {
        few.ask().await?;
        many.ask().await?;
    }
    let ratio = |name, pick: fn(&History) -> &Sample| Reading::new(name, pick(&many).p50() / pick(&few).p50(), "");
    let readings = vec![
        ratio("list_ratio_10000", |history| &history.list),
        ratio("get_ratio_10000", |history| &history.get),
        ratio("claim_ratio_10000", |history| &history.claim),
    ];
    few.workload.stop().await;
    many.workload.stop().await;
    Ok(readings)
}

struct History {
    // Gone after the workload on it.
    workload: Workload,
    tasks: usize,
    list: Sample,
    get: Sample,
    claim: Sample,
    _place: Place,
}

impl History {
    /// A store in which so many chains have come to their end.
    async fn fill(setting: &Setting, tasks: usize) -> Result<Self> {
        let place = setting.place().await?;
        place
            .fill(async |store| {
                let workload = Workload::start(store).await?;
                let mut fillers = JoinSet::new();
                for filler in 0..FILLERS {
                    let workload = workload.clone();
                    fillers.spawn(async move {
                        for _ in (filler..tasks).step_by(FILLERS) {
                            workload.run(chain8()?).await?;
                        }
                        anyhow::Ok(())
                    });
                }
                while let Some(filler) = fillers.join_next().await {
                    filler??;
                }
                workload.stop().await;
                Ok(())
            })
            .await?;
        Ok(Self {
            workload: Workload::start(place.open().await?.store()).await?,
            tasks,
            list: Sample::default(),
            get: Sample::default(),
            claim: Sample::default(),
            _place: place,
        })
    }

    async fn ask(&mut self) -> Result<()> {
        let engine = self.workload.engine();
        for asked in 0..ASKED {
            let begun = Instant::now();
            let page = engine.list(&TaskFilter::default()).await?;
            self.list.push(begun.elapsed());
            ensure!(page.total >= self.tasks as u64, "only {} tasks are listed", page.total);
            // Spread over all of them.
            let task = 1 + asked * self.tasks / ASKED;
            let begun = Instant::now();
            engine.task(TaskId(i64::try_from(task)?)).await?;
            self.get.push(begun.elapsed());
        }
        for took in self.workload.hops(ASKED).await? {
            self.claim.push(took);
        }
        Ok(())
    }
}
