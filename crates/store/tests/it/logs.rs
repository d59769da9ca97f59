//! A process is killed before, during and after it writes its attempts' logs. Their last lines may be missing then; what is
//! there is the beginning, in whole lines, and the logs of later attempts follow, complete.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::poll;
use nix::sys::signal::{Signal, raise};
use obfleet_engine::store::LogChunk;
use obfleet_engine::testing::StoreLayer;
use obfleet_engine::{
    Action, ActionError, Attempt, Engine, Options, Output, Registry, Spec, Store as _, StoreError, Submission,
    SubtaskStatus, TaskState, TaskStatus, TemplateBuilder,
};
use obfleet_store::{Database, TaskStore};

use crate::on_every_database;
use crate::support::{Kind, Notes, Place, location_of};

/// Environment of the child: the database, the task, and when to die.
const DATABASE: &str = "OBFLEET_LOGS_DATABASE";
const TOKEN: &str = "OBFLEET_LOGS_TOKEN";
const MOMENT: &str = "OBFLEET_LOGS_MOMENT";

const STEPS: usize = 4;
const LINES: usize = 300;

/// Of the writes of logs the one to die at: there is one for each step at least.
const FATAL: usize = 2;

const DEADLINE: Duration = Duration::from_secs(60);

/// Of every number of bytes.
fn line(number: usize) -> String {
    format!("{number} {}", "é汉😀a".repeat(number % 9))
}

struct Chatty;

#[async_trait]
impl Action<String> for Chatty {
    fn spec(&self) -> Spec {
        Spec::new("chatty", "Chatty", 60)
    }

    async fn run(&self, attempt: &Attempt) -> Result<Output<String>, ActionError> {
        for number in 0..LINES {
            attempt.log(line(number));
            tokio::task::yield_now().await;
        }
        Ok(Output::nothing())
    }
}

/// Kills its process around one write of logs.
struct Deadly {
    store: TaskStore<String>,
    writes: AtomicUsize,
    moment: String,
}

#[async_trait]
impl StoreLayer for Deadly {
    type Change = String;
    type Below = TaskStore<String>;

    async fn below(&self) -> Result<&Self::Below, StoreError> {
        Ok(&self.store)
    }

    async fn on_append_logs(&self, below: &Self::Below, chunks: &[LogChunk]) -> Result<(), StoreError> {
        let mut write = below.append_logs(chunks);
        if self.writes.fetch_add(1, Ordering::SeqCst) == FATAL {
            match self.moment.as_str() {
                "before" => raise(Signal::SIGKILL).unwrap(),
                "during" => {
                    assert!(poll!(&mut write).is_pending());
                    raise(Signal::SIGKILL).unwrap();
                }
                "after" => {
                    write.await?;
                    raise(Signal::SIGKILL).unwrap();
                    return Ok(());
                }
                _ => {}
            }
        }
        write.await
    }
}

#[test]
#[ignore = "the child of the tests here"]
fn child() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let database = Database::at(&location_of(&variable(DATABASE))).await.unwrap();
        let store = Deadly {
            store: database.task_store(Notes),
            writes: AtomicUsize::new(0),
            moment: variable(MOMENT),
        };
        let registry = Registry::new([Arc::new(Chatty) as Arc<dyn Action<String>>]).unwrap();
        let engine = Engine::start(Arc::new(store), registry, Options::new("server"));
        let engine = engine.await.unwrap();
        let mut template = TemplateBuilder::new();
        let mut last = template.node("chatty", None);
        for _ in 1..STEPS {
            last = template.then(&[last], "chatty", None);
        }
        let new = Submission {
            client_token: Some(variable(TOKEN)),
            ..Submission::new("Chatty", "admin", template.build().unwrap())
        };
        let task = engine.submit(new).await.unwrap().id;
        engine.wait(task, DEADLINE).await.unwrap();
        engine.shutdown().await;
    });
}

/// Whether the child was killed (rather than ending well).
fn run_child(place: &Place, token: &str, moment: &str) -> bool {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "logs::child", "--ignored"])
        .env(DATABASE, place.address())
        .env(TOKEN, token)
        .env(MOMENT, moment)
        .output()
        .unwrap();
    let killed = output.status.signal() == Some(Signal::SIGKILL as i32);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(killed || output.status.success(), "{said}");
    killed
}

/// What each step's attempts have said, every log being as it has to be: a header and the first lines, without a gap.
async fn logs(store: &TaskStore<String>, state: &TaskState) -> Vec<Vec<usize>> {
    let mut lengths = Vec::new();
    for row in &state.subtasks {
        let chunks = store.log_chunks(row.id, None, u32::MAX).await.unwrap();
        let attempts: Vec<_> = chunks.chunk_by(|a, b| a.epoch == b.epoch).collect();
        for attempt in &attempts {
            assert!((0..).zip(*attempt).all(|(seq, chunk)| chunk.seq == seq), "a gap");
            assert!(attempt[0].text.contains("{EXECUTE}"), "{}", attempt[0].text);
            let all = (0..LINES).map(line).chain(["done".to_owned()]);
            assert!(attempt[1..].iter().zip(all).all(|(chunk, line)| chunk.text == line));
        }
        lengths.push(attempts.iter().map(|attempt| attempt.len()).collect());
    }
    lengths
}

on_every_database!(a_kill_leaves_the_beginning_in_whole_lines);

async fn a_kill_leaves_the_beginning_in_whole_lines(kind: Kind) {
    let place = Place::new(kind).await;
    let (_, store) = place.open().await;
    for moment in ["before", "during", "after"] {
        assert!(run_child(&place, moment, moment));
        let task = store.find_by_token(moment).await.unwrap().unwrap();
        let found = store.load(task).await.unwrap().unwrap();
        let before = logs(&store, &found).await;
        assert!(!run_child(&place, moment, "never"));
        let over = store.load(task).await.unwrap().unwrap();
        assert_eq!(over.task.status, TaskStatus::Successful);
        let after = logs(&store, &over).await;
        for (row, (before, after)) in found.subtasks.iter().zip(before.into_iter().zip(after)) {
            let expected = match row.status {
                SubtaskStatus::Successful => before,
                _ => before.into_iter().chain([LINES + 2]).collect(),
            };
            assert_eq!(after, expected, "{moment}: {row:?}");
        }
    }
}
