//! All that is known of a task in one zip, for whoever has to find out what went wrong:
//! `POST /api/v2/tasks/instances/{id}/downloadDiagnosis`.
//!
//! It is made while it is sent, piece by piece and no faster than the client reads, so that its size costs no memory.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use obfleet_engine::{Engine, EngineError, SubtaskId, TaskId, TaskView, store::LogChunk};
use obfleet_fleet::inventory::InventoryChange;
use obfleet_wire::time::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use zip::{
    CompressionMethod, ZipWriter,
    result::ZipError,
    write::{SimpleFileOptions, StreamWriter},
};

use super::tasks::{show, task_id};
use crate::{
    app::{App, AppState},
    event_view::shown,
    http::{ApiError, ApiResult, PathIds},
    masking,
};

/// Events read at once.
const EVENTS: u32 = 100;
/// Chunks of a log read at once; each has 64 KiB at most.
const CHUNKS: u32 = 16;
/// Compressed bytes from which on they are sent.
const PIECE: usize = 64 * 1024;

/// The task, its events, the log of each attempt, and what server tells it.
pub async fn download(State(app): AppState, path: PathIds) -> ApiResult<Response> {
    let id = task_id(&path)?;
    let task = app.fleet.engine().task(id).await?;
    let json = serde_json::to_value(show(&app, &task).await?).map_err(ApiError::internal)?;
    let (sender, mut receiver) = mpsc::channel(1);
    tokio::spawn(make(app, task, json, sender));
    let body = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
    let headers = [
        (CONTENT_TYPE, "application/zip".to_owned()),
        (
            CONTENT_DISPOSITION,
            format!("attachment; filename=\"obfleet-task-{id}-diagnosis.zip\""),
        ),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Why there is no whole archive.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("the client has gone")]
    Gone,
    #[error("the task cannot be read")]
    Engine(#[from] EngineError),
    #[error("the archive cannot be written")]
    Zip(#[from] ZipError),
    #[error("the archive cannot be written")]
    Write(#[from] io::Error),
    #[error("the task cannot be shown")]
    Json(#[from] serde_json::Error),
}

async fn make(app: Arc<App>, task: TaskView, json: Value, to: mpsc::Sender<io::Result<Bytes>>) {
    match write(&app, &task, &json, to.clone()).await {
        Ok(()) | Err(Cut::Gone) => {}
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(task = %task.id, %error, cause, "a diagnosis ends early");
            // The transfer breaks off, so that nobody takes half an archive for a whole one.
            drop(to.send(Err(io::Error::other(error))).await);
        }
    }
}

async fn write(app: &App, task: &TaskView, json: &Value, to: mpsc::Sender<io::Result<Bytes>>) -> Result<(), Cut> {
    let mut archive = Archive::new(to);
    archive.begin("about.json")?;
    let about = json!({
        "product": "obfleet",
        "version": env!("CARGO_PKG_VERSION"),
        "store": app.store,
        "taskInstanceId": task.id.0,
        "time": Timestamp::now(),
    });
    archive.line(&about).await?;
    archive.begin("task.json")?;
    archive.line(json).await?;
    events(&mut archive, app.fleet.engine(), task.id).await?;
    for subtask in &task.subtasks {
        logs(&mut archive, app.fleet.engine(), subtask.id).await?;
    }
    archive.end().await
}

async fn events(archive: &mut Archive, engine: &Engine<InventoryChange>, task: TaskId) -> Result<(), Cut> {
    archive.begin("events.jsonl")?;
    let mut after = 0;
    loop {
        let events = engine.events(task, after, EVENTS).await?;
        let Some(last) = events.last() else { return Ok(()) };
        after = last.seq;
        for event in &events {
            // Through a value, so that members are in the order of the API's answers.
            archive.line(&serde_json::to_value(shown(event))?).await?;
        }
    }
}

/// Attempts are told apart by their epoch; retries of the engine's own have the run time of the attempt before.
async fn logs(archive: &mut Archive, engine: &Engine<InventoryChange>, subtask: SubtaskId) -> Result<(), Cut> {
    let mut last: Option<(i64, i64)> = None;
    loop {
        let chunks = engine.log_chunks(subtask, last, CHUNKS).await?;
        if chunks.is_empty() {
            return Ok(());
        }
        for chunk in chunks {
            if last.is_none_or(|(epoch, _)| epoch != chunk.epoch) {
                archive.begin(&log_name(&chunk))?;
            }
            last = Some((chunk.epoch, chunk.seq));
            archive.text(&masking::text(&chunk.text)).await?;
        }
    }
}

/// In order of attempts when sorted by name.
fn log_name(chunk: &LogChunk) -> String {
    let LogChunk {
        subtask,
        epoch,
        operation,
        run_time,
        ..
    } = chunk;
    format!("logs/{subtask}/{epoch:04}-{operation}-{run_time}.log")
}

/// A zip on its way to the client.
struct Archive {
    // Boxed: it is large, and it is carried over awaits.
    zip: Box<ZipWriter<StreamWriter<Spool>>>,
    ready: Spool,
    to: mpsc::Sender<io::Result<Bytes>>,
}

/// Compressed bytes that wait to be sent.
#[derive(Clone, Default)]
struct Spool(Arc<Mutex<Vec<u8>>>);

impl Spool {
    fn take(&self, least: usize) -> Option<Vec<u8>> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (bytes.len() >= least).then(|| std::mem::take(&mut *bytes))
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Archive {
    fn new(to: mpsc::Sender<io::Result<Bytes>>) -> Self {
        let ready = Spool::default();
        Self {
            zip: Box::new(ZipWriter::new_stream(ready.clone())),
            ready,
            to,
        }
    }

    /// Begins a file; what is added from now on is in it.
    fn begin(&mut self, name: &str) -> Result<(), Cut> {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        Ok(self.zip.start_file(name, options)?)
    }

    async fn line(&mut self, value: &impl Serialize) -> Result<(), Cut> {
        self.text(&serde_json::to_string(value)?).await
    }

    /// Adds a text and a newline.
    async fn text(&mut self, text: &str) -> Result<(), Cut> {
        self.zip.write_all(text.as_bytes())?;
        self.zip.write_all(b"\n")?;
        pass(&self.ready, &self.to, PIECE).await
    }

    async fn end(self) -> Result<(), Cut> {
        (*self.zip).finish()?;
        pass(&self.ready, &self.to, 1).await
    }
}

/// Hands over what is ready, if it is that much; waits for the client to have read what came before.
async fn pass(ready: &Spool, to: &mpsc::Sender<io::Result<Bytes>>, least: usize) -> Result<(), Cut> {
    match ready.take(least) {
        Some(piece) => to.send(Ok(piece.into())).await.map_err(|_| Cut::Gone),
        None => Ok(()),
    }
}
