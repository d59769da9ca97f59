//! What a server still knows after it was stopped.

use std::{fs, time::Duration};

use obfleet_server::{Options, Server, ServerError, founding::FoundingError, pki::Authority, state_dir::StateDirError};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    fake_agent::FakeAgent,
    support::{Api, NEW, PASSWORD, Reply},
};

#[tokio::test]
async fn fleet_users_and_authority_outlive_the_process() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (cluster, proxies) = api.fleet(&[&agent]).await;
    let before = api.get("/api/v2/tasks/instances").await.data();

    let Api { running, dir, http } = api;
    running.stop().await.unwrap();
    let options = Options::new("127.0.0.1:0".parse().unwrap(), dir.path().join("state"));
    let running = Server::start(options).await.unwrap();
    assert_eq!(running.admin_password, None, "{PASSWORD} is still the one");
    let api = Api { running, http, dir };

    assert_eq!(api.get("/api/v2/tasks/instances").await.data(), before);
    // The agent's certificate is of the same authority, or this would not end.
    api.upload(NEW).await.data();
    let path = format!("/api/v2/obproxy/clusters/{cluster}");
    let task = api
        .post_nothing(&format!("{path}/obproxies/{}/upgrade", proxies[0]))
        .await
        .data();
    assert_eq!(api.rest(task["id"].as_i64().unwrap()).await["status"], "SUCCESSFUL");
    let detail = api.get(&path).await.data();
    assert_eq!(detail["versions"], json!([{"count": 1, "version": "4.3.1.0-1"}]));
}

#[tokio::test]
async fn a_step_that_outlasts_the_drain_is_handed_over() {
    let api = Api::start_with(|options| options.drain_timeout = Duration::ZERO).await;
    let agent = FakeAgent::start(&api, "a").await;
    let (cluster, proxies) = api.fleet(&[&agent]).await;
    agent.busy(true);
    let remove = format!("/api/v2/obproxy/clusters/{cluster}/obproxies/{}", proxies[0]);
    let task = api.delete(&remove).await.data()["id"].as_i64().unwrap();
    let at_agent = |step: &Value| step["name"] == "Stop and uninstall obproxy" && step["status"] == "RUNNING";
    let at_work = |task: &Value| task["subtasks"].as_array().unwrap().iter().any(at_agent);
    let path = format!("/api/v2/tasks/instances/{task}");
    let before = api.until(&path, at_work).await;

    let Api { running, dir, http } = api;
    running.stop().await.unwrap();
    agent.busy(false);
    let options = Options::new("127.0.0.1:0".parse().unwrap(), dir.path().join("state"));
    let running = Server::start(options).await.unwrap();
    let api = Api { running, http, dir };
    let after = api.rest(task).await;
    assert_eq!(after["status"], "SUCCESSFUL", "{after}");
    for (then, now) in before["subtasks"]
        .as_array()
        .unwrap()
        .iter()
        .zip(after["subtasks"].as_array().unwrap())
    {
        assert_eq!(now["runTime"], 1, "{now}");
        if then["status"] == "SUCCESSFUL" {
            assert_eq!(then["finishTime"], now["finishTime"], "it ran again: {now}");
        }
    }
    let metrics = Reply::of(api.bare(Method::GET, "/metrics")).await.text;
    assert!(metrics.contains("obfleet_orphans_taken_over_total 0\n"), "{metrics}");
    let events = api.get(&format!("{path}/events?size=1000")).await.data();
    let given_back = |event: &&Value| event["kind"] == "SUB_RELEASED";
    assert_eq!(
        events["contents"].as_array().unwrap().iter().filter(given_back).count(),
        1
    );
}

#[tokio::test]
async fn a_key_that_is_not_the_databases_is_refused() {
    let api = Api::start().await;
    api.cluster("test").await;
    let Api { running, dir, .. } = api;
    running.stop().await.unwrap();
    let state = dir.path().join("state");
    let start = || Server::start(Options::new("127.0.0.1:0".parse().unwrap(), &state));
    let key = fs::read_to_string(state.join("key")).unwrap();

    fs::write(state.join("key"), "07".repeat(32)).unwrap();
    let Err(refused) = start().await else {
        panic!("started with another key")
    };
    assert!(
        matches!(
            &refused,
            ServerError::Founding(FoundingError::StateDir(StateDirError::WrongKey { .. }))
        ),
        "{refused:?}"
    );
    assert!(!refused.to_string().contains("0707"), "{refused}");

    fs::remove_file(state.join("key")).unwrap();
    for _ in 0..2 {
        let Err(refused) = start().await else {
            panic!("started without the key")
        };
        assert!(
            matches!(
                &refused,
                ServerError::Founding(FoundingError::StateDir(StateDirError::KeyMissing { .. }))
            ),
            "{refused:?}"
        );
    }
    assert!(!state.join("key").exists(), "another key was made");

    fs::write(state.join("key"), key).unwrap();
    start().await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn an_authority_in_a_file_moves_to_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let file = state.join("ca.pem");
    let start = || Server::start(Options::new("127.0.0.1:0".parse().unwrap(), &state));
    let made = Authority::generate().unwrap();
    fs::create_dir(&state).unwrap();
    fs::write(&file, made.key_pem + &made.certificate_pem).unwrap();
    // Once from the file, once from both, once from the database.
    for with_file in [true, true, false] {
        if !with_file {
            fs::remove_file(&file).unwrap();
        }
        let running = start().await.unwrap();
        assert_eq!(running.authority().certificate_pem(), made.certificate_pem);
        running.stop().await.unwrap();
    }
    assert!(!file.exists());

    let foreign = Authority::generate().unwrap();
    fs::write(&file, foreign.key_pem + &foreign.certificate_pem).unwrap();
    let Err(refused) = start().await else {
        panic!("started with another authority")
    };
    assert!(
        matches!(&refused, ServerError::Founding(FoundingError::ForeignAuthority { path, .. }) if *path == file),
        "{refused:?}"
    );
    fs::write(&file, "no authority").unwrap();
    let Err(refused) = start().await else {
        panic!("started with a damaged authority")
    };
    assert!(
        matches!(
            &refused,
            ServerError::Founding(FoundingError::StateDir(StateDirError::Damaged { .. }))
        ),
        "{refused:?}"
    );
}
