//! A step whose effect is counted, and what must be true once every task of such steps is at rest, whatever happened to those
//! who ran them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use obfleet_engine::core::{Change, fsck};
use obfleet_engine::testing::check_invariants;
use obfleet_engine::{
    Action, ActionError, Attempt, Lock, Output, Registry, Spec, Store as _, Submission, TaskFilter, TaskStatus,
    TemplateBuilder,
};
use obfleet_store::fsck::check;
use obfleet_store::sql;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::support::{Place, notes};

/// Longest that a step takes, ms: long enough to be hit.
const STEP_MS: u64 = 400;

/// What the steps work on, and who refuses whoever comes with a lower epoch than another has come with: an agent in small.
#[derive(Default)]
struct Effects {
    epochs: BTreeMap<i64, i64>,
    /// Keys of what has its effect.
    effects: BTreeSet<String>,
    refused: usize,
    /// Subtasks and epochs that came a second time: a claim that two had, or one that was run twice.
    again: Vec<(i64, i64)>,
}

impl Effects {
    /// The effect of a step, once for each key, unless the epoch is too low.
    fn act(&mut self, subtask: i64, epoch: i64, key: &str) -> bool {
        let highest = self.epochs.entry(subtask).or_default();
        match epoch.cmp(highest) {
            Ordering::Less => {
                self.refused += 1;
                return false;
            }
            Ordering::Equal => self.again.push((subtask, epoch)),
            Ordering::Greater => *highest = epoch,
        }
        self.effects.insert(key.to_owned());
        true
    }
}

/// The resource, served to the steps of any process.
pub struct Resource {
    effects: Arc<Mutex<Effects>>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Resource {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What was counted.
#[derive(Debug)]
#[expect(dead_code, reason = "shown whole")]
pub struct Tally {
    pub tasks: usize,
    pub steps: usize,
    /// How often a step was taken from a process that had lost its lease.
    pub taken_over: usize,
    /// Attempts that came to the resource too late.
    pub refused: usize,
}

impl Resource {
    pub async fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let effects = Arc::default();
        let serving = tokio::spawn(serve(listener, Arc::clone(&effects)));
        Self {
            effects,
            address,
            serving,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Checks every task of the place by its rows and events: all have succeeded, each step once, with its effect.
    pub async fn verify(&self, place: &Place) -> Tally {
        let (database, store) = place.reopen().await;
        let filter = TaskFilter {
            size: u32::MAX,
            ..TaskFilter::default()
        };
        let states = store.list(&filter).await.unwrap().items;
        let (mut steps, mut taken_over) = (0, 0);
        for state in &states {
            let id = state.task.id;
            let events = store.events(id, 0, u32::MAX).await.unwrap();
            let status = state.task.status;
            assert_eq!(status, TaskStatus::Successful, "task {id}: {events:#?}");
            assert_eq!(check_invariants(state), Ok(()), "task {id}");
            assert!(events.iter().map(|event| event.seq).eq(1..=state.task.rev), "task {id}");
            assert_eq!(fsck(state, &events), Ok(()), "task {id}");
            let mut succeeded = Vec::new();
            for event in &events {
                match event.change {
                    Change::SubSucceeded { subtask, .. } => succeeded.push(subtask),
                    Change::SubOrphaned { .. } => taken_over += 1,
                    _ => {}
                }
            }
            let all: BTreeSet<_> = state.subtasks.iter().map(|row| row.id).collect();
            assert_eq!(succeeded.len(), all.len(), "task {id}");
            assert_eq!(BTreeSet::from_iter(succeeded), all, "task {id}");
            steps += all.len();
        }
        let locks = sql::query("SELECT COUNT(*) AS number FROM resource_lock").fetch_one(database.readers());
        assert_eq!(locks.await.unwrap().get::<i64>("number").unwrap(), 0, "locks are left");
        assert_eq!(notes(&database).await.len(), steps, "each step's result counts once");
        database.close().await;
        let location = place.location();
        let checked = check(&location, |finding| panic!("{finding:?}")).await.unwrap();
        assert_eq!(checked.tasks, states.len() as u64);

        let effects = self.effects.lock().unwrap();
        assert_eq!(effects.effects.len(), steps, "each step has its effect");
        assert_eq!(effects.again, [], "a claim is one attempt's");
        Tally {
            tasks: states.len(),
            steps,
            taken_over,
            refused: effects.refused,
        }
    }
}

async fn serve(listener: TcpListener, effects: Arc<Mutex<Effects>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let effects = Arc::clone(&effects);
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            if stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                let words: Vec<_> = line.split_whitespace().collect();
                let (subtask, epoch) = (words[0].parse().unwrap(), words[1].parse().unwrap());
                let done = effects.lock().unwrap().act(subtask, epoch, words[2]);
                // Whoever asked may be dead by now.
                drop(stream.write_all(if done { b"done\n" } else { b"fenced\n" }).await);
            }
        });
    }
}

struct Touch {
    resource: SocketAddr,
}

#[async_trait]
impl Action<String> for Touch {
    fn spec(&self) -> Spec {
        Spec::new("touch", "Touch", 300)
    }

    async fn run(&self, attempt: &Attempt) -> Result<Output<String>, ActionError> {
        let key = attempt.key();
        attempt.checkpoint("begun", "yes").await?;
        sleep(Duration::from_millis(rand::random_range(0..STEP_MS))).await;
        let failed = |error: std::io::Error| ActionError::new(error.to_string());
        let mut stream = BufReader::new(TcpStream::connect(self.resource).await.map_err(failed)?);
        let request = format!("{} {} {key}\n", key.subtask, attempt.epoch());
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await.map_err(failed)?;
        match answer.trim() {
            "done" => Ok(Output::changes(vec![key.subtask.to_string()])),
            other => Err(ActionError::new(format!("the resource says {other:?}"))),
        }
    }
}

/// The one action there is.
pub fn registry(resource: SocketAddr) -> Registry<String> {
    Registry::new([Arc::new(Touch { resource }) as Arc<dyn Action<String>>]).unwrap()
}

/// One, two at a time, one.
pub fn submission(name: &str, number: usize) -> Submission<String> {
    let mut template = TemplateBuilder::new();
    let first = template.node("touch", None);
    let middle = [
        template.then(&[first], "touch", None),
        template.then(&[first], "touch", None),
    ];
    template.then(&middle, "touch", None);
    Submission {
        client_token: Some(format!("{name}-{number}")),
        locks: vec![Lock::exclusive(name, i64::try_from(number).unwrap())],
        ..Submission::new("Touch", "admin", template.build().unwrap())
    }
}
