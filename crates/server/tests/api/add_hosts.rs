//! What is asked when hosts are added over SSH: the answer, and what is refused. Machines that answer are in
//! `obfleet/tests/ssh.rs`.

use serde_json::{Value, json};

use crate::{
    contract::assert_shape,
    fake_agent::FakeAgent,
    support::{Api, Reply},
};

const CREATE: &str = "/api/v2/compute/hosts/batchCreate";
const CREDENTIALS: &str = "/api/v2/profiles/me/credentials";

async fn credential(api: &Api) -> i64 {
    let body = json!({
        "targetType": "HOST", "name": "deploy",
        "sshCredentialProperty": {"type": "PASSWORD", "username": "deploy", "passphrase": "Ssh-Passw0rd"},
    });
    api.post(CREDENTIALS, body).await.data()["id"].as_i64().unwrap()
}

fn body(credential: i64, addresses: &[&str]) -> Value {
    let hosts: Vec<_> = addresses
        .iter()
        .map(|address| json!({"innerIpAddress": address}))
        .collect();
    json!({
        "hostBasicDataList": hosts, "sshPort": 22, "typeId": 1, "idcId": 1, "kind": "DEDICATED_PHYSICAL_MACHINE",
        "credentialId": credential,
    })
}

fn changed(mut body: Value, pointer: &str, value: Value) -> Value {
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    body.pointer_mut(parent).unwrap()[member] = value;
    body
}

#[tokio::test]
async fn each_host_is_a_task_and_a_new_host_that_nobody_can_use_yet() {
    let api = Api::start().await;
    let mut asked = body(credential(&api).await, &["127.0.0.2", "127.0.0.3"]);
    // A port that nobody has.
    asked["sshPort"] = json!(1);
    asked["publishPorts"] = json!(["8080:8080", "8090:8090"]);
    asked["hostBasicDataList"][0]["serialNumber"] = json!("s1");
    let created = assert_shape(&api.post(CREATE, asked.clone()).await, "hosts-created");
    let tasks = created["contents"].as_array().unwrap();
    assert_eq!(created["id"], tasks[0]["id"]);
    for (task, host) in tasks.iter().zip(created["hostIds"].as_array().unwrap()) {
        assert_eq!((&task["name"], &task["hostId"]), (&json!("Prepare host"), host));
        let steps = task["subtasks"].as_array().unwrap();
        let by_name = |name: &str| {
            let found = steps.iter().find(|step| step["name"] == name);
            found.unwrap_or_else(|| panic!("no {name} in {task}"))
        };
        let mut above: Option<&Value> = None;
        for (name, timeout) in [
            ("Pre check for create host", 1800),
            ("Uninstall legacy ocp agent", 600),
            ("Install ocp agent", 5400),
            ("Update host status", 1800),
        ] {
            let step = by_name(name);
            let upstreams: Vec<_> = above.iter().map(|step| step["id"].clone()).collect();
            assert_eq!(
                (&step["timeout"], &step["upstreams"]),
                (&json!(timeout), &json!(upstreams))
            );
            above = Some(step);
        }
        let shown = assert_shape(&api.get(&format!("/api/v2/compute/hosts/{host}")).await, "host");
        assert_eq!(
            (&shown["status"], &shown["hostAgentStatus"]),
            (&json!("NEW"), &json!("OFFLINE"))
        );
        assert_eq!(shown["publishPorts"], "8080:8080,8090:8090");
        let failed = api.rest(task["id"].as_i64().unwrap()).await;
        assert_eq!(failed["status"], "FAILED", "nobody is there: {failed}");
    }
    let twice = api.post(CREATE, asked).await.refusal();
    assert_eq!(
        twice,
        (409, "CMP07001".into(), "hostBasicDataList[0].innerIpAddress".into())
    );
}

#[tokio::test]
async fn what_is_no_host_is_refused_by_its_field() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let there = api
        .get(&format!("/api/v2/compute/hosts/{}", agent.host_id))
        .await
        .data();
    let there = there["innerIpAddress"].as_str().unwrap();
    let id = credential(&api).await;
    let good = || body(id, &["10.0.0.1"]);
    let list = "/hostBasicDataList";
    for (body, refusal) in [
        (
            changed(good(), "/credentialId", json!(777)),
            (404, "CRD08001", "credentialId"),
        ),
        (changed(good(), list, json!([])), (400, "COM10001", "hostBasicDataList")),
        (body(id, &["10.0.0.1"; 201]), (400, "COM10001", "hostBasicDataList")),
        (
            body(id, &["10.0.0.1", "10.0.0.1"]),
            (409, "CMP07001", "hostBasicDataList[1].innerIpAddress"),
        ),
        (
            body(id, &["10.0.0.1", "ten"]),
            (400, "COM10001", "hostBasicDataList[1].innerIpAddress"),
        ),
        (
            body(id, &[there]),
            (409, "CMP07001", "hostBasicDataList[0].innerIpAddress"),
        ),
        (
            changed(body(id, &["10.0.0.1", "10.0.0.2"]), "/alias", json!("x")),
            (400, "COM10001", "alias"),
        ),
        (changed(good(), "/sshPort", json!(0)), (400, "COM10001", "sshPort")),
        (
            changed(good(), "/mgragentPort", json!(0)),
            (400, "COM10001", "mgragentPort"),
        ),
        (changed(good(), "/idcId", json!(777)), (404, "COM10002", "idcId")),
        (
            changed(good(), "/installPath", json!("/a/../b")),
            (400, "CMP07028", "installPath"),
        ),
        (
            changed(good(), "/bindAddress", json!("everywhere")),
            (400, "COM10001", "bindAddress"),
        ),
        (
            changed(
                good(),
                "/hostBasicDataList",
                json!([{"innerIpAddress": "10.0.0.1", "sshHostKey": "MD5:aa"}]),
            ),
            (400, "COM10001", "hostBasicDataList[0].sshHostKey"),
        ),
    ] {
        let (status, code, field) = refusal;
        let reply: Reply = api.post(CREATE, body).await;
        assert_eq!(reply.refusal(), (status, code.into(), field.into()), "{}", reply.text);
    }
    let hosts = api.get("/api/v2/compute/hosts").await.data();
    assert_eq!(hosts["page"]["totalElements"], 1, "nothing was made");
}
