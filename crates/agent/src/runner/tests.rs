use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Semaphore;

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// Counts performances; each waits for a permit, or for a higher epoch when it may be superseded.
struct Counting {
    begun: AtomicU32,
    gate: Semaphore,
    heeds: bool,
}

#[async_trait]
impl Perform for Counting {
    async fn perform(&self, _: Operation, job: &Job) -> Result<Outcome, String> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        job.say("begun");
        tokio::select! {
            () = job.superseded(), if self.heeds => Err("superseded".to_owned()),
            permit = self.gate.acquire() => {
                permit.unwrap().forget();
                Ok(Outcome::Done)
            }
        }
    }
}

struct Stage {
    dir: tempfile::TempDir,
    work: Arc<Counting>,
    runner: Arc<Runner>,
}

impl Stage {
    fn new(heeds: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let work = Arc::new(Counting {
            begun: AtomicU32::new(0),
            gate: Semaphore::new(0),
            heeds,
        });
        let runner = Self::runner(dir.path(), &work);
        Self { dir, work, runner }
    }

    fn runner(dir: &std::path::Path, work: &Arc<Counting>) -> Arc<Runner> {
        let work: Arc<dyn Perform> = Arc::clone(work) as _;
        Runner::new(Journal::open(dir, Timestamp::now()).unwrap(), work)
    }

    /// The agent is killed and started again.
    fn restart(&mut self) {
        self.runner = Self::runner(self.dir.path(), &self.work);
    }

    fn begun(&self) -> u32 {
        self.work.begun.load(Ordering::SeqCst)
    }

    async fn end(&self, key: &AttemptKey) -> OperationState {
        let ended = async {
            let mut from = 0;
            loop {
                let report = self.runner.report(key, from, LONG).await.unwrap();
                if !matches!(report.state, OperationState::Running) {
                    return report.state;
                }
                from = report.next;
            }
        };
        timeout(LONG, ended).await.unwrap()
    }
}

fn request(operation: &str, run: i64, epoch: i64) -> OperationRequest {
    OperationRequest {
        key: format!("inst.1.5.7.{operation}.{run}").parse().unwrap(),
        epoch,
        operation: Operation::Inspect { proxy_id: 1 },
    }
}

fn is_done(state: &OperationState) -> bool {
    matches!(state, OperationState::Done { outcome: Outcome::Done })
}

#[tokio::test]
async fn a_key_is_performed_once_even_over_a_restart() {
    let mut stage = Stage::new(false);
    let first = request("EXECUTE", 1, 1);
    stage.runner.start(first.clone()).unwrap();
    stage.runner.start(first.clone()).unwrap();
    stage.work.gate.add_permits(1);
    assert!(is_done(&stage.end(&first.key).await));
    stage.restart();
    let again = stage.runner.start(first.clone()).unwrap();
    assert!(is_done(&again.state));
    assert_eq!(again.lines, ["begun"]);
    assert_eq!(stage.begun(), 1);
}

#[tokio::test]
async fn an_interrupted_key_is_performed_again_by_its_next_request() {
    let mut stage = Stage::new(false);
    let first = request("EXECUTE", 1, 1);
    stage.runner.start(first.clone()).unwrap();
    stage.runner.report(&first.key, 0, LONG).await.unwrap();
    stage.restart();
    let unknown = stage.runner.report(&first.key, 0, Duration::ZERO).await;
    assert!(matches!(unknown, Err(AgentError::Unknown { .. })));
    stage.work.gate.add_permits(2);
    stage.runner.start(first.clone()).unwrap();
    assert!(is_done(&stage.end(&first.key).await));
    let report = stage.runner.report(&first.key, 1, Duration::ZERO).await.unwrap();
    assert_eq!((report.lines.len(), report.next), (1, 2), "line numbers go on");
}

#[tokio::test]
async fn a_lower_epoch_is_refused_and_a_higher_one_supersedes() {
    let stage = Stage::new(true);
    let old = request("EXECUTE", 1, 1);
    stage.runner.start(old.clone()).unwrap();
    stage.runner.report(&old.key, 0, LONG).await.unwrap();
    let new = request("RETRY", 2, 2);
    stage.work.gate.add_permits(1);
    // Whether the permit or the new epoch comes first, the old attempt ends before the new one begins.
    stage.runner.start(new.clone()).unwrap();
    stage.work.gate.add_permits(1);
    assert!(is_done(&stage.end(&new.key).await));
    assert!(!matches!(stage.end(&old.key).await, OperationState::Running));
    let refused = stage.runner.start(request("EXECUTE", 9, 1)).unwrap_err();
    assert_eq!(refused, AgentError::Fenced { epoch: 1, highest: 2 });
    assert_eq!(stage.begun(), 2);
}

#[tokio::test]
async fn what_an_attempt_began_goes_on_when_its_next_server_begins_with_an_earlier_operation() {
    let stage = Stage::new(true);
    // The server is lost while the second operation of its attempt is at work; the next server makes the attempt again.
    let [earlier, later] = ["EXECUTE-setParameters", "EXECUTE-refreshConfig"].map(|name| request(name, 1, 1));
    stage.runner.start(later.clone()).unwrap();
    stage.runner.report(&later.key, 0, LONG).await.unwrap();
    let [earlier, again] = [earlier, later].map(|request| OperationRequest { epoch: 2, ..request });
    stage.runner.start(earlier.clone()).unwrap();
    stage.runner.start(again.clone()).unwrap();
    stage.work.gate.add_permits(2);
    for key in [&earlier.key, &again.key] {
        let end = stage.end(key).await;
        assert!(is_done(&end), "{key}: {end:?}");
    }
    assert_eq!(stage.begun(), 2);
}

fn fence(attempt: &str, run: i64, epoch: i64) -> Fence {
    Fence {
        installation: "inst".into(),
        era: 1,
        task: 5,
        subtask: 7,
        attempt: attempt.into(),
        run,
        epoch,
    }
}

#[tokio::test]
async fn a_fence_waits_out_what_does_not_heed_it() {
    let stage = Stage::new(false);
    let old = request("EXECUTE", 1, 1);
    stage.runner.start(old.clone()).unwrap();
    stage.runner.report(&old.key, 0, LONG).await.unwrap();
    let waiting = tokio::spawn({
        let runner = Arc::clone(&stage.runner);
        async move { runner.fence(&fence("ROLLBACK", 1, 2)).await }
    });
    let refused = async {
        while stage.runner.start(request("EXECUTE", 1, 1)).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, refused).await.unwrap();
    assert!(!waiting.is_finished());
    stage.work.gate.add_permits(1);
    timeout(LONG, waiting).await.unwrap().unwrap().unwrap();
    assert!(is_done(&stage.end(&old.key).await));
    // A replaced server asks for the stored result under its own epoch.
    assert!(is_done(&stage.runner.start(request("EXECUTE", 1, 2)).unwrap().state));
}

#[tokio::test]
async fn a_fence_breaks_off_what_heeds_it_and_holds_over_a_restart() {
    let mut stage = Stage::new(true);
    let old = request("EXECUTE", 1, 1);
    stage.runner.start(old.clone()).unwrap();
    stage.runner.report(&old.key, 0, LONG).await.unwrap();
    timeout(LONG, stage.runner.fence(&fence("RETRY", 2, 2)))
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(stage.end(&old.key).await, OperationState::Failed { .. }));
    stage.restart();
    let fenced = AgentError::Fenced { epoch: 1, highest: 2 };
    assert_eq!(stage.runner.start(old).unwrap_err(), fenced);
    assert_eq!(stage.runner.fence(&fence("EXECUTE", 1, 1)).await.unwrap_err(), fenced);
    assert_eq!(stage.begun(), 1);
}

#[tokio::test]
async fn a_fence_leaves_the_attempts_own_work_alone() {
    let stage = Stage::new(true);
    let own = request("ROLLBACK-inspect", 1, 2);
    stage.runner.start(own.clone()).unwrap();
    stage.runner.report(&own.key, 0, LONG).await.unwrap();
    // The server was replaced, and begins the same attempt from its beginning.
    timeout(LONG, stage.runner.fence(&fence("ROLLBACK", 1, 3)))
        .await
        .unwrap()
        .unwrap();
    stage.runner.start(request("ROLLBACK-inspect", 1, 3)).unwrap();
    stage.work.gate.add_permits(1);
    assert!(is_done(&stage.end(&own.key).await));
    assert_eq!(stage.begun(), 1);
}

#[tokio::test]
async fn an_undo_that_failed_is_tried_again_under_its_name() {
    let mut stage = Stage::new(true);
    let first = request("ROLLBACK-inspect", 1, 2);
    stage.runner.start(first.clone()).unwrap();
    stage.runner.report(&first.key, 0, LONG).await.unwrap();
    // It fails because something else takes over.
    stage.runner.fence(&fence("ROLLBACK", 9, 3)).await.unwrap();
    assert!(matches!(stage.end(&first.key).await, OperationState::Failed { .. }));
    stage.restart();
    let again = request("ROLLBACK-inspect", 1, 4);
    stage.runner.start(again.clone()).unwrap();
    stage.work.gate.add_permits(1);
    assert!(is_done(&stage.end(&again.key).await));
    assert_eq!(stage.begun(), 2);
    let report = stage.runner.start(again).unwrap();
    assert_eq!(report.lines, ["begun"], "what the first try said is not said again");
}

#[tokio::test]
async fn the_same_key_under_a_higher_epoch_goes_on() {
    let stage = Stage::new(true);
    let old = request("EXECUTE", 1, 1);
    stage.runner.start(old.clone()).unwrap();
    stage.runner.report(&old.key, 0, LONG).await.unwrap();
    stage.runner.start(request("EXECUTE", 1, 2)).unwrap();
    stage.work.gate.add_permits(1);
    assert!(is_done(&stage.end(&old.key).await));
    assert_eq!(stage.begun(), 1);
}

#[tokio::test]
async fn operations_of_one_subtask_take_turns() {
    let stage = Stage::new(false);
    let (one, two) = (request("EXECUTE-1", 1, 1), request("EXECUTE-2", 1, 1));
    stage.runner.start(one.clone()).unwrap();
    stage.runner.report(&one.key, 0, LONG).await.unwrap();
    stage.runner.start(two.clone()).unwrap();
    assert_eq!(stage.begun(), 1);
    stage.work.gate.add_permits(2);
    assert!(is_done(&stage.end(&one.key).await) && is_done(&stage.end(&two.key).await));
    assert_eq!(stage.begun(), 2);
}
