//! A task's history, in pages and live, and how long it is kept.

use std::time::Duration;

use futures::StreamExt as _;
use reqwest::{Method, Response};
use serde_json::Value;

use crate::{
    fake_agent::FakeAgent,
    support::{Api, Reply},
    tasks::hanging,
};

const DEADLINE: Duration = Duration::from_secs(60);

async fn listen(api: &Api, path: &str, last: Option<i64>) -> Response {
    let request = api.request(Method::GET, path).header("accept", "text/event-stream");
    let request = match last {
        Some(last) => request.header("last-event-id", last.to_string()),
        None => request,
    };
    request.send().await.unwrap()
}

/// The ids of a stream's events, until it ends or `enough` is there.
async fn ids(response: Response, enough: usize) -> Vec<i64> {
    let mut body = response.bytes_stream();
    let mut text = String::new();
    let read = async {
        while let Some(Ok(chunk)) = body.next().await {
            text.push_str(std::str::from_utf8(&chunk).unwrap());
            if text.matches("\n\n").count() >= enough {
                break;
            }
        }
    };
    tokio::time::timeout(DEADLINE, read)
        .await
        .expect("the stream goes on in time");
    let ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
    ids.map(|id| id.parse().unwrap()).collect()
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended() {
    let api = Api::start().await;
    api.cluster("test").await;
    let path = "/api/v2/tasks/instances/1/events";
    let all = api.get(path).await.data();
    let all = all["contents"].as_array().unwrap().clone();
    assert_eq!(
        (&all[0]["kind"], &all[0]["actor"]),
        (&"TASK_CREATED".into(), &"admin".into())
    );
    assert_eq!(all.last().unwrap()["kind"], "TASK_DONE");
    let (mut after, mut paged): (i64, Vec<Value>) = (0, Vec::new());
    loop {
        let page = api.get(&format!("{path}?after={after}&size=2")).await.data();
        if page["contents"].as_array().unwrap().is_empty() {
            break;
        }
        paged.extend(page["contents"].as_array().unwrap().clone());
        after = page["lastSeq"].as_i64().unwrap();
    }
    assert_eq!(paged, all);
    assert_eq!(api.get("/api/v2/tasks/instances/99/events").await.refusal().0, 404);
    for wrong in ["after=x", "after=-1", "size=1001"] {
        assert_eq!(
            api.get(&format!("{path}?{wrong}")).await.refusal().1,
            "COM10001",
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn a_stream_goes_on_from_the_last_event_seen_until_the_task_is_over() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (task, _) = hanging(&api, &agent).await;
    let path = format!("{task}/events");
    let live = listen(&api, &path, None).await;
    assert_eq!(live.headers()["content-type"], "text/event-stream");
    let seen = ids(live, 3).await;
    let rest = listen(&api, &path, seen.last().copied()).await;
    agent.busy(false);
    let later = ids(rest, usize::MAX).await;
    let all: Vec<i64> = seen.into_iter().chain(later).collect();
    let last = *all.last().unwrap();
    assert_eq!(all, (1..=last).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(
        listen(&api, &path, Some(last)).await.status(),
        204,
        "there is nothing to come back for"
    );
}

#[tokio::test]
async fn a_stream_ends_with_the_server() {
    let api = Api::start_with(|options| options.drain_timeout = Duration::from_millis(500)).await;
    let agent = FakeAgent::start(&api, "a").await;
    let (task, _) = hanging(&api, &agent).await;
    let live = listen(&api, &format!("{task}/events"), None).await;
    let reading = tokio::spawn(ids(live, usize::MAX));
    api.running.stop().await.unwrap();
    assert!(!reading.await.unwrap().is_empty());
}

#[tokio::test]
async fn a_quiet_stream_shows_that_it_lives() {
    let api = Api::start_with(|options| {
        options.listeners.heartbeat = Duration::from_millis(10);
        options.drain_timeout = Duration::ZERO;
    })
    .await;
    let agent = FakeAgent::start(&api, "a").await;
    let (task, _) = hanging(&api, &agent).await;
    let mut body = listen(&api, &format!("{task}/events"), None).await.bytes_stream();
    let mut text = String::new();
    let beats = async {
        while text.matches("\n\n:\n\n").count() < 1 {
            text.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
        }
    };
    tokio::time::timeout(DEADLINE, beats).await.expect("a heartbeat comes");
    api.running.stop().await.unwrap();
}

#[tokio::test]
async fn there_is_a_limit_to_listeners() {
    let api = Api::start_with(|options| {
        options.listeners.most = 1;
        options.drain_timeout = Duration::ZERO;
    })
    .await;
    let agent = FakeAgent::start(&api, "a").await;
    let (task, _) = hanging(&api, &agent).await;
    let path = format!("{task}/events");
    let first = listen(&api, &path, None).await;
    let second = Reply::of(api.request(Method::GET, &path).header("accept", "text/event-stream")).await;
    assert_eq!(second.refusal().0, 503);
    assert_eq!(second.headers["retry-after"], "5");
    drop(first);
    let place = async {
        while listen(&api, &path, None).await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, place)
        .await
        .expect("the place is free again");
}

#[tokio::test]
async fn old_history_goes_and_what_still_holds_something_stays() {
    let api = Api::start_with(|options| options.keep_tasks = Some(Duration::ZERO)).await;
    let old = "/api/v2/tasks/instances/1";
    let agent = FakeAgent::start(&api, "a").await;
    let (task, _) = hanging(&api, &agent).await;
    api.post_nothing(&format!("{task}/cancel")).await.data();
    api.until(&task, |task| task["status"] == "FAILED").await;
    let (running, dir) = (api.running, api.dir);
    running.stop().await.unwrap();

    let mut options = obfleet_server::Options::new("127.0.0.1:0".parse().unwrap(), dir.path().join("state"));
    options.keep_tasks = Some(Duration::ZERO);
    let api = Api {
        running: obfleet_server::Server::start(options).await.unwrap(),
        http: api.http,
        dir,
    };
    let gone = async {
        while api.get(old).await.status != 404 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, gone)
        .await
        .expect("what is over is deleted in time");
    assert_eq!(api.get(&task).await.data()["status"], "FAILED");
}
