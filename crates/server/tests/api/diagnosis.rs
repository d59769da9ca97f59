//! A task in one file.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read as _},
    time::Duration,
};

use obfleet_engine::{Store as _, SubtaskId, SubtaskOperation, TaskId, store::LogChunk};
use obfleet_server::location;
use obfleet_store::Database;
use rand::{Rng as _, distr::Alphanumeric};
use reqwest::Method;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
};
use zip::ZipArchive;

use crate::{
    fake_agent::FakeAgent,
    support::{Api, OLD, PASSWORD},
    tasks::hanging,
};

const DEADLINE: Duration = Duration::from_secs(60);

/// The files of a task's diagnosis.
async fn files(api: &Api, task: &str) -> BTreeMap<String, String> {
    let request = api.request(Method::POST, &format!("{task}/downloadDiagnosis"));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/zip");
    let id = task.rsplit_once('/').unwrap().1;
    assert_eq!(
        response.headers()["content-disposition"],
        format!("attachment; filename=\"obfleet-task-{id}-diagnosis.zip\"")
    );
    let mut zip = ZipArchive::new(Cursor::new(response.bytes().await.unwrap())).unwrap();
    let count = zip.len();
    let read = |at| {
        let mut file = zip.by_index(at).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        (file.name().unwrap().into_owned(), text)
    };
    (0..count).map(read).collect()
}

#[tokio::test]
async fn it_holds_what_the_api_shows() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (task, subtask) = hanging(&api, &agent).await;
    api.post_nothing(&format!("{subtask}/cancel")).await;
    api.until(&task, |task| task["status"] == "FAILED").await;
    agent.busy(false);
    api.post_nothing(&format!("{subtask}/retry")).await.data();
    let done = api.until(&task, |task| task["status"] != "RUNNING").await;

    let mut files = files(&api, &task).await;
    let mut json = |name: &str| -> Value { serde_json::from_str(&files.remove(name).unwrap()).unwrap() };
    assert_eq!(json("task.json"), done);
    let about = json("about.json");
    assert_eq!(
        (&about["product"], &about["taskInstanceId"]),
        (&"obfleet".into(), &done["id"])
    );
    assert!(about["store"].as_str().unwrap().ends_with(".db"), "{about}");
    assert!(about["version"].is_string() && about["time"].is_string(), "{about}");

    let events = files.remove("events.jsonl").unwrap();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown = api.get(&format!("{task}/events?size=1000")).await.data();
    assert_eq!(Value::from(events), shown["contents"]);

    let mut attempts = 0;
    for step in done["subtasks"].as_array().unwrap() {
        let prefix = format!("logs/{}/", step["id"]);
        let logs = files.iter().filter(|(name, _)| name.starts_with(&prefix));
        let logs: Vec<_> = logs.map(|(_, text)| text.as_str()).collect();
        let shown = api.get(&format!("{task}/subtasks/{}/log", step["id"])).await.data();
        assert_eq!(logs.concat().trim_end(), shown["log"].as_str().unwrap().trim_end());
        assert!(
            logs.iter().all(|log| log.starts_with("############{")),
            "one attempt a file"
        );
        attempts += logs.len();
    }
    assert_eq!(files.len(), attempts, "{:?}", files.keys());
    let id = subtask.rsplit_once('/').unwrap().1;
    let of_one: Vec<_> = files
        .keys()
        .filter_map(|name| name.strip_prefix(&format!("logs/{id}/")))
        .collect();
    assert!(
        of_one.len() == 2 && of_one[0].ends_with("-EXECUTE-1.log") && of_one[1].ends_with("-RETRY-2.log"),
        "{of_one:?}"
    );

    let missing = api.post_nothing("/api/v2/tasks/instances/99/downloadDiagnosis").await;
    assert_eq!(missing.refusal(), (404, "TSK10001".to_owned(), String::new()));
}

#[tokio::test]
async fn what_a_failure_quotes_is_masked() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    agent.refuse_with("error 1064: near 'observer_sys_password = 's3cret-word''");
    api.upload(OLD).await.data();
    let cluster = api.cluster("test").await;
    let task = api.add(cluster, &[&agent]).await.remove(0)["id"].as_i64().unwrap();
    assert_eq!(api.rest(task).await["status"], "FAILED");
    let path = format!("/api/v2/tasks/instances/{task}");
    let (shown, events) = (api.get(&path).await.text, api.get(&format!("{path}/events")).await.text);
    let mut texts = files(&api, &path).await;
    texts.extend([("the task".to_owned(), shown), ("its events".to_owned(), events)]);
    for (name, text) in &texts {
        assert!(!text.contains("s3cret-word"), "{name}: {text}");
    }
    for name in ["task.json", "events.jsonl", "the task", "its events"] {
        assert!(
            texts[name].contains("observer_sys_password = '******"),
            "{name}: {}",
            texts[name]
        );
    }
}

/// More than the sockets between hold, and hard to compress.
async fn large_log(api: &Api, task: TaskId, subtask: SubtaskId) {
    let store = Database::at(&location(None, &api.dir.path().join("state")))
        .await
        .unwrap()
        .tasks();
    for seq in 0..112 {
        let random = rand::rng().sample_iter(Alphanumeric).take(64 * 1024);
        let chunk = LogChunk {
            task,
            subtask,
            epoch: 1,
            operation: SubtaskOperation::Execute,
            run_time: 1,
            seq: 1000 + seq,
            at: 0,
            text: random.map(char::from).collect(),
        };
        store.append_logs(&[chunk]).await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_that_never_reads_does_not_hold_the_server() {
    let api = Api::start_with(|options| options.drain_timeout = Duration::from_millis(200)).await;
    let cluster = api.cluster("test").await;
    let page = api
        .get(&format!("/api/v2/tasks/instances?clusterId={cluster}"))
        .await
        .data();
    let (task, subtask) = (&page["contents"][0]["id"], &page["contents"][0]["subtasks"][0]["id"]);
    let (task, subtask) = (TaskId(task.as_i64().unwrap()), SubtaskId(subtask.as_i64().unwrap()));
    large_log(&api, task, subtask).await;

    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut reader = socket.connect(api.running.address).await.unwrap();
    let request = api.request(
        Method::POST,
        &format!("/api/v2/tasks/instances/{task}/downloadDiagnosis"),
    );
    let request = request.build().unwrap();
    let login = request.headers()["authorization"].to_str().unwrap();
    assert!(!login.contains(PASSWORD));
    let path = request.url().path();
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: {login}\r\ncontent-length: 0\r\n\r\n");
    reader.write_all(head.as_bytes()).await.unwrap();
    let begun = tokio::time::timeout(DEADLINE, reader.peek(&mut [0; 1])).await;
    assert_eq!(begun.expect("the answer begins").unwrap(), 1);

    let stopped = tokio::time::timeout(DEADLINE, api.running.stop()).await;
    stopped.expect("the server stops in time").unwrap();
    let mut got = Vec::new();
    // Ended or reset, as the server's system likes.
    let _ = tokio::time::timeout(DEADLINE, reader.read_to_end(&mut got))
        .await
        .expect("the connection is cut");
    assert!(got.starts_with(b"HTTP/1.1 200"), "{}", got.len());
    assert!(!got.ends_with(b"0\r\n\r\n"), "it was still to be sent");
}
