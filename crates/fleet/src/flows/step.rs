//! A step of a flow: a row of the flow's table, and the engine's [`Action`] made of it.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use obfleet_engine::{Action, ActionError, Attempt, Output, Spec, SubtaskOperation};

use crate::{flows::crew::Crew, inventory::InventoryChange};

/// What a step leaves behind.
pub type StepResult = Result<Output<InventoryChange>, ActionError>;

/// What a step does, in either direction.
type Work = for<'a> fn(&'a Crew, &'a Attempt) -> BoxFuture<'a, StepResult>;

/// One kind of node: its class, name and time, what it does and how that is undone.
#[derive(Clone)]
pub struct Step {
    spec: Spec,
    run: Work,
    undo: Option<Work>,
    changes_host: bool,
}

impl Step {
    /// A step that leaves nothing to undo. `timeout_s` is per attempt, in seconds.
    pub fn new(class_name: &'static str, name: &'static str, timeout_s: u32, run: Work) -> Self {
        Self {
            spec: Spec::new(class_name, name, timeout_s),
            run,
            undo: None,
            changes_host: false,
        }
    }

    /// It changes something on its host: before it is tried again or undone, earlier attempts are fenced off there.
    /// Steps that only look are not, so that they can be undone while the host is away.
    #[must_use]
    pub fn on_host(mut self) -> Self {
        self.changes_host = true;
        self
    }

    /// How it is undone, from whatever state it is in.
    #[must_use]
    pub fn undone_by(mut self, undo: Work) -> Self {
        self.undo = Some(undo);
        self
    }

    /// The action.
    pub fn with(self, crew: Arc<Crew>) -> impl Action<InventoryChange> {
        StepAction { step: self, crew }
    }
}

struct StepAction {
    step: Step,
    crew: Arc<Crew>,
}

#[async_trait]
impl Action<InventoryChange> for StepAction {
    fn spec(&self) -> Spec {
        self.step.spec.clone()
    }

    async fn run(&self, attempt: &Attempt) -> StepResult {
        if self.step.changes_host && attempt.key().operation != SubtaskOperation::Execute {
            self.crew.fence(attempt).await?;
        }
        (self.step.run)(&self.crew, attempt).await
    }

    async fn undo(&self, attempt: &Attempt) -> StepResult {
        if self.step.changes_host {
            self.crew.fence(attempt).await?;
        }
        match self.step.undo {
            Some(undo) => undo(&self.crew, attempt).await,
            None => Ok(Output::nothing()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::{
            Mutex, PoisonError,
            atomic::{AtomicU32, Ordering::Relaxed},
        },
        time::Duration,
    };

    use futures::FutureExt as _;
    use obfleet_engine::{
        AttemptFacts, AttemptKey, AttemptSink, CheckpointError, Context, SubtaskId, TaskId, attempt::Attempt,
    };
    use obfleet_wire::{
        agent::{
            AgentMetrics, AgentStatus, DrainPolicy, Examination, ExamineRequest, Fence, FoundProxy, Operation,
            OperationRequest, Outcome, ProxyParameters,
        },
        time::Timestamp,
    };
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        flows::keys,
        host_agent::{HostAgent, HostAgentError, LogLine},
        inventory::{Host, Installation},
        package_files::PackageFiles,
        secrets::Sealer,
        testing,
    };

    /// An agent that writes down what it is asked.
    #[derive(Default)]
    struct Notes {
        asked: Mutex<Vec<String>>,
        fence_is_higher: bool,
        /// How often it does not answer before it does.
        away: AtomicU32,
    }

    impl Notes {
        fn note(&self, what: String) {
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        }

        fn asked(&self) -> Vec<String> {
            self.asked.lock().unwrap().clone()
        }

        fn is_back(&self, host: &Host) -> HostAgentError {
            let (host, reason) = (host.facts.name.clone(), "connection refused".into());
            match self.away.fetch_update(Relaxed, Relaxed, |times| times.checked_sub(1)) {
                Ok(_) => HostAgentError::Unreachable { host, reason },
                Err(_) => HostAgentError::Failed(format!("{host} is back")),
            }
        }
    }

    #[async_trait]
    impl HostAgent for Notes {
        async fn status(&self, host: &Host) -> Result<AgentStatus, HostAgentError> {
            Err(self.is_back(host))
        }

        async fn metrics(&self, host: &Host, _: Timestamp, _: bool) -> Result<AgentMetrics, HostAgentError> {
            Err(HostAgentError::Failed(format!("{} is not asked", host.id)))
        }

        async fn parameters(&self, host: &Host, _: i64, _: Duration) -> Result<ProxyParameters, HostAgentError> {
            Err(self.is_back(host))
        }

        async fn obproxies(&self, host: &Host) -> Result<Vec<FoundProxy>, HostAgentError> {
            Err(HostAgentError::Failed(format!("{} is not asked", host.id)))
        }

        async fn examine(&self, host: &Host, _: &ExamineRequest) -> Result<Examination, HostAgentError> {
            Err(self.is_back(host))
        }

        async fn put_package(&self, _: &Host, _: &str, _: &Path) -> Result<u64, HostAgentError> {
            Ok(0)
        }

        async fn perform(
            &self,
            host: &Host,
            request: OperationRequest,
            _: LogLine<'_>,
        ) -> Result<Outcome, HostAgentError> {
            self.note(format!("{} {} {}", host.id, request.key, request.epoch));
            Ok(Outcome::Done)
        }

        async fn fence(&self, host: &Host, fence: Fence) -> Result<(), HostAgentError> {
            if self.fence_is_higher {
                return Err(HostAgentError::Fenced {
                    host: host.facts.name.clone(),
                    reason: "a higher epoch".into(),
                });
            }
            self.note(format!(
                "{} fence {}.{} {}",
                host.id, fence.attempt, fence.run, fence.epoch
            ));
            Ok(())
        }
    }

    struct Nowhere;

    #[async_trait]
    impl AttemptSink for Nowhere {
        async fn checkpoint(&self, _: String, _: String) -> Result<(), CheckpointError> {
            Ok(())
        }

        fn log(&self, _: &str) {}
    }

    fn attempt(operation: SubtaskOperation, run_time: u32, epoch: i64) -> Attempt {
        let facts = AttemptFacts {
            key: AttemptKey {
                task: TaskId(5),
                subtask: SubtaskId(7),
                operation,
                run_time,
            },
            epoch,
            context: Context::new().with(keys::PROXY_ID, "10").with(keys::HOST_ID, "100"),
            parallel_idx: None,
            items: std::collections::BTreeMap::new(),
            checkpoint: std::collections::BTreeMap::new(),
        };
        Attempt::new(facts, CancellationToken::new(), Arc::new(Nowhere))
    }

    fn action(step: Step, agents: &Arc<Notes>) -> impl Action<InventoryChange> + use<> {
        step.with(Arc::new(Crew {
            inventory: Arc::new(testing::fleet_of(1, "4.2.1.0-11")),
            parameters: Arc::new(testing::fleet_of(1, "4.2.1.0-11")),
            agents: Arc::clone(agents) as _,
            bootstrap: Arc::new(testing::NoMachines),
            packages: PackageFiles::alone("/nowhere".into()),
            sealer: Sealer::new(&[0; 32]).unwrap(),
            installation: Installation {
                id: "inst".into(),
                era: 1,
            },
            drain: DrainPolicy {
                window_ms: 1,
                closes_per_second: 1,
            },
        }))
    }

    fn inspecting() -> Step {
        async fn inspect(crew: &Crew, attempt: &Attempt) -> StepResult {
            crew.perform(attempt, Operation::Inspect { proxy_id: 10 }).await?;
            Ok(Output::nothing())
        }
        Step::new("class", "name", 1, |crew, attempt| inspect(crew, attempt).boxed())
            .undone_by(|crew, attempt| inspect(crew, attempt).boxed())
    }

    #[tokio::test]
    async fn undo_and_retry_begin_with_a_fence() {
        let agents = Arc::new(Notes::default());
        let action = action(inspecting().on_host(), &agents);
        action.run(&attempt(SubtaskOperation::Execute, 1, 1)).await.unwrap();
        action.run(&attempt(SubtaskOperation::Retry, 2, 2)).await.unwrap();
        action.undo(&attempt(SubtaskOperation::Rollback, 2, 3)).await.unwrap();
        assert_eq!(
            agents.asked(),
            [
                "100 inst.1.5.7.EXECUTE-inspect.1 1",
                "100 fence RETRY.2 2",
                "100 inst.1.5.7.RETRY-inspect.2 2",
                "100 fence ROLLBACK.2 3",
                "100 inst.1.5.7.ROLLBACK-inspect.2 3",
            ]
        );
    }

    #[tokio::test]
    async fn what_is_fenced_off_touches_nothing() {
        let agents = Arc::new(Notes {
            fence_is_higher: true,
            ..Notes::default()
        });
        let action = action(inspecting().on_host(), &agents);
        assert!(action.run(&attempt(SubtaskOperation::Retry, 2, 2)).await.is_err());
        assert!(action.undo(&attempt(SubtaskOperation::Rollback, 1, 2)).await.is_err());
        assert_eq!(agents.asked(), [""; 0]);
    }

    #[tokio::test]
    async fn a_step_that_only_looks_needs_no_fence() {
        let agents = Arc::new(Notes {
            fence_is_higher: true,
            ..Notes::default()
        });
        let action = action(inspecting(), &agents);
        action.undo(&attempt(SubtaskOperation::Rollback, 1, 2)).await.unwrap();
        assert_eq!(agents.asked().len(), 1);
    }

    #[tokio::test]
    async fn an_agent_that_starts_again_is_waited_for_by_who_only_looks() {
        async fn look(crew: &Crew, attempt: &Attempt) -> StepResult {
            crew.check_agent(attempt, &[]).await?;
            Ok(Output::nothing())
        }
        async fn examine(crew: &Crew, attempt: &Attempt) -> StepResult {
            let (host, passwords) = (crew.host(attempt).await?, Vec::new());
            let request = ExamineRequest {
                sql_port: 2883,
                passwords,
            };
            crew.examination(attempt, &host, &request).await?;
            Ok(Output::nothing())
        }
        async fn read(crew: &Crew, attempt: &Attempt) -> StepResult {
            crew.configuration(attempt).await?;
            Ok(Output::nothing())
        }
        for step in [
            Step::new("class", "name", 1, |crew, attempt| look(crew, attempt).boxed()),
            Step::new("class", "name", 1, |crew, attempt| examine(crew, attempt).boxed()),
            Step::new("class", "name", 1, |crew, attempt| read(crew, attempt).boxed()),
        ] {
            let agents = Arc::new(Notes {
                away: AtomicU32::new(2),
                ..Notes::default()
            });
            let answer = action(step, &agents)
                .run(&attempt(SubtaskOperation::Execute, 1, 1))
                .await;
            let told = answer.unwrap_err().to_string();
            assert!(told.contains("is back"), "{told}");
        }
    }
}
