//! The graphs of the tasks OCP documents: names, timeouts, branches, classes and edges.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    fake_agent::FakeAgent,
    support::{Api, OLD},
};

const PACKAGE: &str = "com.alipay.ocp.service.task.business.";

/// The task's steps as the fixture writes them, in the fixture's order. Also checks ids and edges.
fn chain(task: &Value) -> Vec<Value> {
    let subtasks = task["subtasks"].as_array().unwrap();
    let names: BTreeMap<i64, &str> = subtasks
        .iter()
        .map(|step| (step["id"].as_i64().unwrap(), step["name"].as_str().unwrap()))
        .collect();
    assert_eq!(names.len(), subtasks.len(), "ids are unique");
    let ids = |step: &Value, edges: &str| -> Vec<i64> {
        step[edges]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_i64().unwrap())
            .collect()
    };
    let mut series = Vec::new();
    for step in subtasks {
        let id = step["id"].as_i64().unwrap();
        for other in subtasks {
            let below = ids(step, "downstreams").contains(&other["id"].as_i64().unwrap());
            assert_eq!(
                below,
                ids(other, "upstreams").contains(&id),
                "edges agree in both directions"
            );
        }
        let root = ids(step, "upstreams").is_empty();
        assert_eq!(step["status"], if root { "READY" } else { "PENDING" });
        assert_eq!(step["description"], step["name"]);
        assert_eq!(step["taskId"], task["id"]);
        let constant = json!(["JAVA_TASK", "EXECUTE", 1, false]);
        assert_eq!(
            json!([
                step["nodeType"],
                step["operation"],
                step["runTime"],
                step["prohibitRollback"]
            ]),
            constant
        );
        series.push(step["seriesId"].as_i64().unwrap());
    }
    series.sort_unstable();
    assert_eq!(series, (0..subtasks.len() as i64).collect::<Vec<_>>());

    let mut steps: Vec<_> = subtasks.iter().collect();
    steps.sort_by_key(|step| step["seriesId"].as_i64());
    let written = |step: &&Value| {
        let class = step["className"].as_str().unwrap().strip_prefix(PACKAGE).unwrap();
        let upstreams: Vec<_> = ids(step, "upstreams").iter().map(|id| names[id]).collect();
        json!([step["name"], step["timeout"], step["parallelIdx"], class, upstreams])
    };
    steps.iter().map(written).collect()
}

fn expected(name: &str) -> Vec<Value> {
    let path = format!("{}/tests/fixtures/chains.json", env!("CARGO_MANIFEST_DIR"));
    let chains: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    chains[name].as_array().unwrap().clone()
}

fn assert_task(task: &Value, name: &str) {
    let constant = json!([name, "EXECUTE", "RUNNING", "MANUAL", -1, false]);
    let told = [
        "name",
        "operation",
        "status",
        "type",
        "taskDefinitionId",
        "prohibitRollback",
    ]
    .map(|key| &task[key]);
    assert_eq!(json!(told), constant);
    assert_eq!(
        (&task["context"]["parallel"], &task["context"]["parallelIdx"]),
        (&json!(false), &json!(-1))
    );
    assert_eq!(task["context"]["stringMap"]["prohibit_rollback"], "false");
}

#[tokio::test]
async fn installing_and_taking_away_one_proxy() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    api.upload(OLD).await.data();
    let cluster = api.cluster("test").await;
    let task = api.add(cluster, &[&agent]).await.remove(0);
    assert_task(&task, "Install obproxy");
    assert_eq!(chain(&task), expected("install"));
    let context = &task["context"]["stringMap"];
    assert_eq!(
        (&context["package_version"], &context["service_name"]),
        (&json!("4.2.1.0-11"), &json!("test"))
    );
    api.rest(task["id"].as_i64().unwrap()).await;

    let proxy = context["obproxy_server_id"].as_str().unwrap();
    let task = api
        .delete(&format!("/api/v2/obproxy/clusters/{cluster}/obproxies/{proxy}"))
        .await
        .data();
    assert_task(&task, "Offline obproxy");
    assert_eq!(chain(&task), expected("offline"));
    let context = &task["context"];
    assert_eq!(context["listMap"]["obproxy_server_ids"], json!([proxy]));
    assert_eq!(context["listMap"]["host_ids"], json!([agent.host_id.to_string()]));
    assert_eq!(context["stringMap"]["service_type"], "OB_PROXY");
    assert_eq!(context["stringMap"]["obproxy_need_delete_cluster"], "false");
}

#[tokio::test]
async fn an_empty_cluster() {
    let api = Api::start().await;
    let body = json!({
        "name": "OBProxy001", "address": "db.example", "port": 2883, "workMode": "CONFIG_URL",
        "obproxyInstallParam": {"hostIds": []},
        "obLinks": [{"clusterName": "ob", "clusterId": 1, "username": "proxyro", "obClusterId": 1}],
    });
    let task = api.post("/api/v2/obproxy/clusters", body).await.data();
    assert_task(&task, "Install obproxy");
    assert_eq!(chain(&task), expected("create-empty"));
    api.rest(task["id"].as_i64().unwrap()).await;

    let cluster = task["obproxyClusterId"].as_i64().unwrap();
    let task = api.delete(&format!("/api/v2/obproxy/clusters/{cluster}")).await.data();
    assert_task(&task, "Offline obproxy");
    assert_eq!(chain(&task), expected("delete-empty"));
    assert_eq!(api.rest(task["id"].as_i64().unwrap()).await["status"], "SUCCESSFUL");
}
