//! A COMMIT is made, and its answer never arrives: a relay before the database cuts the connection in between.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use obfleet_engine::core::{Change, fsck};
use obfleet_engine::{
    Action, ActionError, Attempt, Engine, Options, Output, Registry, Spec, Store as _, Submission, TaskStatus,
    TemplateBuilder,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::on_every_server;
use crate::support::{Kind, Place, notes};

const DEADLINE: Duration = Duration::from_secs(60);

/// Statement and length of the packet that ends a transaction.
const COMMIT: &[u8] = b"\x07\x00\x00\x00\x03COMMIT";

/// Of so many answers to a COMMIT one is lost.
const ONE_OF: u64 = 3;

#[derive(Default)]
struct Faults {
    on: AtomicBool,
    commits: AtomicU64,
    lost: AtomicU64,
}

/// Relays connections to `server`, for as long as the runtime lives.
async fn relay(server: SocketAddr, faults: Arc<Faults>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let faults = Arc::clone(&faults);
            tokio::spawn(async move {
                // However it ends, both connections are closed.
                let _: std::io::Result<()> = relay_one(client, server, &faults).await;
            });
        }
    });
    address
}

async fn relay_one(mut client: TcpStream, server: SocketAddr, faults: &Faults) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            count = client.read(&mut asked) => {
                let asked = &asked[..count?];
                if asked.is_empty() {
                    return Ok(());
                }
                server.write_all(asked).await?;
                if asked == COMMIT && faults.on.load(Ordering::Relaxed) {
                    let number = faults.commits.fetch_add(1, Ordering::Relaxed) + 1;
                    if number.is_multiple_of(ONE_OF) {
                        // It has answered, so it has happened.
                        server.readable().await?;
                        faults.lost.fetch_add(1, Ordering::Relaxed);
                        return Ok(());
                    }
                }
            }
            count = server.read(&mut answered) => {
                let answered = &answered[..count?];
                if answered.is_empty() {
                    return Ok(());
                }
                client.write_all(answered).await?;
            }
        }
    }
}

/// Notes its own id, which can be noted only once.
struct NotesItself;

#[async_trait]
impl Action<String> for NotesItself {
    fn spec(&self) -> Spec {
        Spec::new("notes", "Notes", 30)
    }

    async fn run(&self, attempt: &Attempt) -> Result<Output<String>, ActionError> {
        Ok(Output::changes(vec![format!("{:04}", attempt.key().subtask.0)]))
    }
}

on_every_server!(a_step_whose_commit_was_not_answered_is_there_once);

async fn a_step_whose_commit_was_not_answered_is_there_once(kind: Kind) {
    const STEPS: usize = 12;
    let place = Place::new(kind).await;
    let faults = Arc::new(Faults::default());
    let (database, store) = place
        .open_through(relay(place.server(), Arc::clone(&faults)).await)
        .await;
    let store = Arc::new(store);
    let registry = Registry::new([Arc::new(NotesItself) as Arc<dyn Action<String>>]).unwrap();
    let engine = Engine::start(store.clone(), registry, Options::new("server"))
        .await
        .unwrap();
    faults.on.store(true, Ordering::Relaxed);
    let mut template = TemplateBuilder::new();
    let mut last = template.node("notes", None);
    for _ in 1..STEPS {
        last = template.then(&[last], "notes", None);
    }
    let new = Submission::new("Notes", "admin", template.build().unwrap());
    let task = engine.submit(new).await.unwrap().id;
    let view = engine.wait(task, DEADLINE).await.unwrap();
    faults.on.store(false, Ordering::Relaxed);
    assert_eq!(view.status, TaskStatus::Successful, "{view:?}");
    engine.shutdown().await;

    let lost = faults.lost.load(Ordering::Relaxed);
    assert!(lost >= STEPS as u64 / ONE_OF, "only {lost} answers were lost");
    assert_eq!(notes(&database).await.len(), STEPS);
    let state = store.load(task).await.unwrap().unwrap();
    assert!(state.subtasks.iter().all(|subtask| subtask.run_time == 1), "{state:?}");
    let events = store.events(task, 0, u32::MAX).await.unwrap();
    assert_eq!(fsck(&state, &events), Ok(()));
    let succeeded = events
        .iter()
        .filter(|event| matches!(event.change, Change::SubSucceeded { .. }));
    assert_eq!(succeeded.count(), STEPS);
}
