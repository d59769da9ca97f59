//! What engines asked of a database and what it answered, and whether that is a history of one register for each task: its
//! `rev`, which a commit compares and sets and a load reads, each in one moment between question and answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use obfleet_engine::store::Commit;
use obfleet_engine::testing::StoreLayer;
use obfleet_engine::{Store as _, StoreError, TaskId, TaskState};
use obfleet_store::TaskStore;
use tokio::time::Instant;

/// All that the engines of this process asked.
#[derive(Default)]
pub struct History {
    calls: Mutex<Vec<Call>>,
}

struct Call {
    task: TaskId,
    asked: Instant,
    answered: Instant,
    what: What,
}

enum What {
    Set(Set),
    /// The rev read.
    Read(i64),
}

/// From one rev to another, with the commit's nonce.
struct Set {
    from: i64,
    to: i64,
    nonce: i64,
    answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Done,
    Refused,
    /// The database was away: it may have happened, at any time after the question.
    Unknown,
}

/// A store all of whose commits and loads are written down.
pub struct Recorded {
    pub store: TaskStore<String>,
    pub history: Arc<History>,
}

impl Recorded {
    fn note(&self, task: TaskId, asked: Instant, what: What) {
        let answered = Instant::now();
        let call = Call {
            task,
            asked,
            answered,
            what,
        };
        self.history.calls.lock().unwrap().push(call);
    }
}

#[async_trait]
impl StoreLayer for Recorded {
    type Change = String;
    type Below = TaskStore<String>;

    async fn below(&self) -> Result<&Self::Below, StoreError> {
        Ok(&self.store)
    }

    async fn on_commit(&self, below: &Self::Below, commit: Commit<'_, String>) -> Result<(), StoreError> {
        let (task, from, to, nonce) = (commit.task.id, commit.expected_rev, commit.task.rev, commit.nonce);
        let asked = Instant::now();
        let answered = below.commit(commit).await;
        let answer = match answered {
            Ok(()) => Answer::Done,
            Err(StoreError::Unavailable(_)) => Answer::Unknown,
            Err(_) => Answer::Refused,
        };
        let set = Set {
            from,
            to,
            nonce,
            answer,
        };
        self.note(task, asked, What::Set(set));
        answered
    }

    async fn on_load(&self, below: &Self::Below, task: TaskId) -> Result<Option<TaskState>, StoreError> {
        let asked = Instant::now();
        let loaded = below.load(task).await;
        if let Ok(Some(state)) = &loaded {
            self.note(task, asked, What::Read(state.task.rev));
        }
        loaded
    }
}

/// When a rev was set: after the question, and before the answer if there was one.
struct Written {
    asked: Instant,
    answered: Option<Instant>,
}

impl Written {
    fn was_there_by(&self, moment: Instant) -> bool {
        self.answered.is_some_and(|answered| answered < moment)
    }
}

impl History {
    /// Checks everything against what `store` holds in the end. → how many calls were checked
    pub async fn check(&self, store: &TaskStore<String>) -> usize {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap());
        let written = written(&calls, store).await;
        let later = |task: TaskId, rev: i64| written.range((task, rev + 1)..=(task, i64::MAX));
        for (&(task, rev), set) in &written {
            for (&(_, higher), its) in later(task, rev) {
                assert!(
                    !its.was_there_by(set.asked),
                    "task {task}: {rev} was set after {higher}"
                );
            }
        }
        for call in &calls {
            let What::Read(rev) = call.what else { continue };
            let task = call.task;
            if let Some(set) = written.get(&(task, rev)) {
                assert!(
                    set.asked < call.answered,
                    "task {task}: {rev} was read before it was set"
                );
            }
            for (&(_, higher), its) in later(task, rev) {
                assert!(
                    !its.was_there_by(call.asked),
                    "task {task}: {rev} was read after {higher} was set"
                );
            }
        }
        calls.len()
    }
}

/// The revs that were set; what was answered must be what happened.
async fn written(calls: &[Call], store: &TaskStore<String>) -> BTreeMap<(TaskId, i64), Written> {
    let mut written = BTreeMap::new();
    for call in calls {
        let What::Set(set) = &call.what else { continue };
        let (task, Set { from, to, answer, .. }) = (call.task, set);
        let landed = store.landed(task, from + 1, set.nonce).await.unwrap();
        let told = match answer {
            Answer::Done => landed,
            Answer::Refused => !landed,
            Answer::Unknown => true,
        };
        assert!(
            told,
            "task {task}: from {from} to {to} was {answer:?}, and whether it is there: {landed}"
        );
        if landed {
            let its = Written {
                asked: call.asked,
                answered: (*answer == Answer::Done).then_some(call.answered),
            };
            let twice = written.insert((task, *to), its).is_some();
            assert!(!twice, "task {task}: {to} was set twice");
        }
    }
    written
}
