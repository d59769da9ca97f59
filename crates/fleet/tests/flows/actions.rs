//! The real actions, with troubles at their beginning and end.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use obfleet_engine::{Action, ActionError, Attempt, Output, Spec, Store, SubtaskId, TaskId};
use obfleet_fleet::{
    flows::{self, crew::Crew},
    inventory::InventoryChange,
};
use tokio::time::{sleep, timeout};

use crate::{
    trouble::{ATTEMPT, Consequence, Moment, Place, REASON, Troubles, Under},
    world::DEADLINE,
};

type Inner = Arc<dyn Action<InventoryChange>>;
type Tasks = Arc<dyn Store<InventoryChange>>;

/// Every action of every flow, in trouble where `troubles` say so.
pub fn troubled(crew: &Arc<Crew>, troubles: &Arc<Troubles>, tasks: &Tasks) -> Vec<Inner> {
    let troubled = |inner| Troubled {
        inner,
        troubles: Arc::clone(troubles),
        tasks: Arc::clone(tasks),
    };
    let actions = flows::actions(crew).into_iter();
    actions.map(|inner| Arc::new(troubled(inner)) as Inner).collect()
}

struct Troubled {
    inner: Inner,
    troubles: Arc<Troubles>,
    tasks: Tasks,
}

impl Troubled {
    fn place(&self, attempt: &Attempt, undo: bool) -> Place {
        Place {
            class: self.inner.spec().class_name.to_owned(),
            index: attempt.parallel_idx(),
            undo,
        }
    }

    async fn meet(&self, place: &Place, moment: Moment, attempt: &Attempt) -> Result<(), ActionError> {
        match self.troubles.strike(place, moment) {
            None => return Ok(()),
            Some(Consequence::Crash) => self.troubles.die().await,
            Some(Consequence::Fails) => {}
            Some(Consequence::FailsWhenAlone) => {
                let key = attempt.key();
                let alone = timeout(DEADLINE, self.alone(key.task, key.subtask));
                alone.await.expect("the other steps come to rest");
            }
        }
        Err(ActionError::new(REASON))
    }

    /// Returns when nothing else of the task is READY or under way.
    async fn alone(&self, task: TaskId, subtask: SubtaskId) {
        loop {
            let state = self.tasks.load(task).await.unwrap().unwrap();
            let mut others = state.subtasks.iter().filter(|row| row.id != subtask);
            if !others.any(|row| row.status.is_active()) {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
}

#[async_trait]
impl Action<InventoryChange> for Troubled {
    fn spec(&self) -> Spec {
        Spec {
            backoff_ms: 1,
            ..self.inner.spec()
        }
    }

    async fn run(&self, attempt: &Attempt) -> Result<Output<InventoryChange>, ActionError> {
        let place = self.place(attempt, false);
        self.meet(&place, Moment::Begin, attempt).await?;
        let output = ATTEMPT
            .scope(Under::new(place.clone()), self.inner.run(attempt))
            .await?;
        self.meet(&place, Moment::End, attempt).await?;
        Ok(output)
    }

    async fn undo(&self, attempt: &Attempt) -> Result<Output<InventoryChange>, ActionError> {
        let place = self.place(attempt, true);
        self.meet(&place, Moment::Begin, attempt).await?;
        let output = ATTEMPT
            .scope(Under::new(place.clone()), self.inner.undo(attempt))
            .await?;
        self.meet(&place, Moment::End, attempt).await?;
        Ok(output)
    }
}
