//! A task's history: `/api/v2/tasks/instances/{id}/events`, as pages or, for `Accept: text/event-stream`, live.
//!
//! A stream is read from the store by `seq`, after each notice of this server's engine and now and then without one: so
//! it shows what any server on the database commits, in order and without gaps. Nothing is read ahead of the client: a
//! slow one costs a page of events and a connection, and there is a limit to those.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header::ACCEPT},
    response::{
        IntoResponse as _, Response,
        sse::{Event as Frame, KeepAlive, Sse},
    },
};
use futures::{Stream, stream::unfold};
use obfleet_engine::{
    Engine, Notice, Outcome, TaskId, TaskView,
    core::{Change, Event},
};
use obfleet_fleet::inventory::InventoryChange;
use obfleet_wire::task::TaskEvents;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use super::tasks::task_id;
use crate::{
    app::{App, AppState},
    event_view::shown,
    http::{ApiError, ApiResult, Data, Fault, ListQuery, PathIds, Wanted},
};

/// Events of a page when the client does not say, and those a stream reads at once.
const PAGE: u32 = 100;
/// Events of a page at most.
const MAX_PAGE: u32 = 1000;
/// Time between two looks for what other servers commit.
const LOOK: Duration = Duration::from_secs(1);
/// When a client may come back that found no place.
const COME_BACK: Duration = Duration::from_secs(5);
const STREAM: &str = "text/event-stream";

/// How clients that listen to events are served.
#[derive(Debug, Clone)]
pub struct ListenerOptions {
    /// How many at a time.
    pub most: usize,
    /// Time after which a quiet stream shows that it lives.
    pub heartbeat: Duration,
}

impl Default for ListenerOptions {
    /// 256 listeners; a heartbeat every 15 s, which proxies between take for life.
    fn default() -> Self {
        Self {
            most: 256,
            heartbeat: Duration::from_secs(15),
        }
    }
}

/// The places for listeners.
#[derive(Debug)]
pub struct Listeners {
    options: ListenerOptions,
    places: Arc<Semaphore>,
}

impl Listeners {
    /// All places free.
    pub fn new(options: ListenerOptions) -> Self {
        Self {
            places: Arc::new(Semaphore::new(options.most)),
            options,
        }
    }

    fn place(&self) -> ApiResult<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| ApiError::fault(Fault::TooManyListeners(self.options.most)).retry_after(COME_BACK))
    }
}

/// Events with `seq` above `after`: a page of them, or from there on for as long as the client listens.
pub async fn events(State(app): AppState, path: PathIds, query: ListQuery, headers: HeaderMap) -> ApiResult<Response> {
    let id = task_id(&path)?;
    let after = number(&query, "after", i64::MAX)?.unwrap_or(0);
    let task = app.fleet.engine().task(id).await?;
    let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    if accepts.is_some_and(|value| value.contains(STREAM)) {
        let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
        return stream(&app, &task, last.and_then(|text| text.parse().ok()).unwrap_or(after)).await;
    }
    let size = number(&query, "size", MAX_PAGE.into())?.filter(|size| *size > 0);
    let size = size.map_or(PAGE, |size| u32::try_from(size).unwrap_or(MAX_PAGE));
    let events = app.fleet.engine().events(id, after, size).await?;
    let page = TaskEvents {
        last_seq: events.last().map_or(after, |event| event.seq),
        contents: events.iter().map(shown).collect(),
    };
    Ok(Data(page).into_response())
}

fn number(query: &ListQuery, name: &str, most: i64) -> ApiResult<Option<i64>> {
    let wrong = |text: &str| ApiError::value(name, text, Wanted::UpTo(most.unsigned_abs()));
    let parse = |text: &str| {
        let number = text.parse().ok().filter(|number| (0..=most).contains(number));
        number.ok_or_else(|| wrong(text))
    };
    query.text(name).map(parse).transpose()
}

/// What a stream goes on with.
struct Reader {
    engine: Engine<InventoryChange>,
    task: TaskId,
    after: i64,
    read: VecDeque<Event>,
    notices: broadcast::Receiver<Notice>,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

async fn stream(app: &App, task: &TaskView, after: i64) -> ApiResult<Response> {
    let engine = app.fleet.engine().clone();
    // Before the first look, so that nothing falls between the two.
    let notices = engine.subscribe();
    let over = task.outcome.is_some_and(Outcome::is_final);
    if over && engine.events(task.id, after, 1).await?.is_empty() {
        // Tells an EventSource not to come back.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let place = app.listeners.place()?;
    let reader = Reader {
        engine,
        task: task.id,
        after,
        read: VecDeque::new(),
        notices,
        stop: app.stop.clone(),
        _place: place,
    };
    let heartbeat = KeepAlive::new().interval(app.listeners.options.heartbeat);
    Ok(Sse::new(frames(reader)).keep_alive(heartbeat).into_response())
}

/// Ends with the server, when the database fails (the client comes back), and after a task's last event.
fn frames(reader: Reader) -> impl Stream<Item = Result<Frame, Infallible>> {
    unfold(Some(reader), async |reader| {
        let mut reader = reader?;
        let event = reader.next().await?;
        let last = matches!(event.change, Change::TaskDone { .. } | Change::TaskAbandoned { .. });
        let frame = Frame::default().id(event.seq.to_string()).event(event.change.kind());
        let frame = frame.json_data(shown(&event)).ok()?;
        Some((Ok(frame), (!last).then_some(reader)))
    })
}

impl Reader {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.read.pop_front() {
                self.after = event.seq;
                return Some(event);
            }
            if self.stop.is_cancelled() {
                return None;
            }
            let read = self.engine.events(self.task, self.after, PAGE).await;
            self.read = read
                .inspect_err(|error| tracing::warn!(task = %self.task, %error, "a stream of events ends"))
                .ok()?
                .into();
            if self.read.is_empty() {
                self.wait().await;
            }
        }
    }

    /// Until there may be more.
    async fn wait(&mut self) {
        let noticed = async {
            loop {
                match self.notices.recv().await {
                    Ok(notice) if notice.task != self.task => {}
                    // Also a lost one is a reason to look.
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            () = noticed => {}
            () = tokio::time::sleep(LOOK) => {}
            () = self.stop.cancelled() => {}
        }
    }
}
