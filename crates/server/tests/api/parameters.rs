//! Parameters: which there are, what proxies have, changing them, and what somebody changed by SQL.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    contract::assert_shape,
    fake_agent::FakeAgent,
    support::{Api, Reply},
};

impl Api {
    async fn put(&self, path: &str, body: Value) -> Reply {
        Reply::of(self.request(Method::PUT, path).json(&body)).await
    }

    /// A change of parameters, once its task has come to rest.
    async fn edited(&self, path: &str, body: Value) -> Value {
        let task = assert_shape(&self.put(path, body).await, "task-started");
        self.rest(task["id"].as_i64().unwrap()).await
    }
}

fn named<'a>(contents: &'a Value, name: &str) -> &'a Value {
    let all = contents["contents"].as_array().unwrap();
    all.iter()
        .find(|entry| entry["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {contents}"))
}

/// Whether each of so many proxies has been read.
fn read(many: usize) -> impl Fn(&Value) -> bool {
    move |list| {
        let values = list["contents"]
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["name"] == "syslog_level");
        let values = values.map_or(&[][..], |entry| entry["values"].as_array().unwrap());
        values
            .iter()
            .map(|value| value["obproxies"].as_array().unwrap().len())
            .sum::<usize>()
            == many
    }
}

fn drifting(names: &'static [&str]) -> impl Fn(&Value) -> bool {
    move |list| {
        let found = list["contents"].as_array().unwrap().iter().map(|drift| &drift["name"]);
        found.eq(names)
    }
}

#[tokio::test]
async fn the_parameters_there_are() {
    let api = Api::start().await;
    let path = "/api/v2/obproxy/parameterInfo";
    let all = assert_shape(&api.get(path).await, "parameter-infos");
    assert_eq!(all["contents"].as_array().unwrap().len(), 299);
    assert_eq!(
        *named(&all, "proxy_info_check_interval"),
        json!({
            "id": 6, "name": "proxy_info_check_interval", "version": "4.3.1.0", "type": "TIME", "needRestart": false,
            "allowedStringValues": "[1s,1h]", "minValue": "1s", "maxValue": "1h", "defaultValue": "60s",
            "description": null, "explanation": null, "readonly": false,
        })
    );
    assert_eq!(named(&all, "listen_port")["readonly"], true);
    let one = api.get(&format!("{path}?name=Syslog_Level")).await.data();
    assert_eq!(one["contents"].as_array().unwrap().len(), 1);
    assert_eq!(
        api.get(&format!("{path}?name=nothing")).await.data(),
        json!({"contents": []})
    );

    // What proxies say of themselves.
    let agent = FakeAgent::start(&api, "a").await;
    api.fleet(&[&agent]).await;
    let seen = api
        .until(&format!("{path}?version=4.2.1.0-11"), |seen| {
            seen["contents"].as_array().unwrap().len() == 5
        })
        .await;
    let threads = named(&seen, "work_thread_num");
    assert_eq!(
        (&threads["description"], &threads["version"], &threads["needRestart"]),
        (&json!("about work_thread_num"), &json!("4.2.1.0"), &json!(true))
    );
    assert_eq!(api.get(path).await.data(), seen, "the newest that was seen");
    let other = api.get(&format!("{path}?version=9.9.9.9")).await.data();
    assert_eq!(other, all, "of that one nothing is known yet");
}

#[tokio::test]
async fn the_parameters_of_a_cluster() {
    let api = Api::start().await;
    let agents = [FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await];
    let (cluster, proxies) = api.fleet(&[&agents[0], &agents[1]]).await;
    agents[1].set_by_sql(proxies[1], "proxy_idc_name", "b");
    let path = format!("/api/v2/obproxy/clusters/{cluster}/parameters");
    api.until(&path, |list| {
        named(list, "proxy_idc_name")["values"].as_array().unwrap().len() == 2
    })
    .await;
    let list = assert_shape(&api.get(&path).await, "cluster-parameters");
    assert_eq!(
        *named(&list, "proxy_idc_name"),
        json!({
            "name": "proxy_idc_name", "description": "about proxy_idc_name", "needReboot": false, "valueString": "",
            "values": [
                {"value": "", "obproxies": ["127.0.0.1"], "obproxyIds": [proxies[0]]},
                {"value": "b", "obproxies": ["127.0.0.1"], "obproxyIds": [proxies[1]]},
            ],
            "drift": true, "pendingRestart": [],
        })
    );
    assert_eq!(named(&list, "observer_sys_password")["valueString"], "******");
    let empty = api.cluster("other").await;
    let empty = format!("/api/v2/obproxy/clusters/{empty}/parameters");
    assert_eq!(api.get(&empty).await.data(), json!({"contents": []}));
    for part in ["", "/history", "/drift"] {
        let missing = api.get(&format!("/api/v2/obproxy/clusters/777/parameters{part}")).await;
        assert_eq!(missing.refusal(), (404, "ODP21001".into(), "id".into()), "{part}");
    }
}

#[tokio::test]
async fn a_change_is_made_on_all_proxies_and_kept() {
    let api = Api::start().await;
    let agents = [FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await];
    let (cluster, proxies) = api.fleet(&[&agents[0], &agents[1]]).await;
    let path = format!("/api/v2/obproxy/clusters/{cluster}/parameters");
    api.until(&path, read(2)).await;

    let body =
        json!({"parameters": [{"name": "syslog_level", "value": "WARN"}, {"name": "work_thread_num", "value": "64"}]});
    let done = api.edited(&path, body).await;
    assert_eq!(
        (&done["status"], &done["name"]),
        (&json!("SUCCESSFUL"), &json!("Update obproxy parameters"))
    );
    for (agent, proxy) in agents.iter().zip(&proxies) {
        assert_eq!(agent.value(*proxy, "syslog_level"), "WARN");
    }
    let detail = api.get(&format!("/api/v2/obproxy/clusters/{cluster}")).await.data();
    assert_eq!(detail["parameterVersion"], 2);
    for proxy in detail["obproxies"].as_array().unwrap() {
        assert_eq!(
            (&proxy["parameterVersion"], &proxy["status"]),
            (&json!(2), &json!("RUNNING"))
        );
    }
    let list = assert_shape(&api.get(&path).await, "cluster-parameters");
    assert_eq!(named(&list, "syslog_level")["desiredValue"], "WARN");
    let threads = named(&list, "work_thread_num");
    assert_eq!(
        threads["pendingRestart"],
        json!([
            {"inForce": "128", "ip": "127.0.0.1", "obproxyId": proxies[0]},
            {"inForce": "128", "ip": "127.0.0.1", "obproxyId": proxies[1]},
        ])
    );
    agents.iter().for_each(FakeAgent::restarted);
    api.until(&path, |list| {
        named(list, "work_thread_num")["pendingRestart"] == json!([])
    })
    .await;

    // One has a value of its own, and then all have the same.
    let body = json!({"obproxyServerIds": [proxies[1]], "parameters": [{"name": "SYSLOG_LEVEL", "value": "INFO"}]});
    assert_eq!(api.edited(&path, body).await["status"], "SUCCESSFUL");
    assert_eq!(agents[0].value(proxies[0], "syslog_level"), "WARN");
    let body = json!({"parameters": [{"name": "syslog_level", "value": "ERROR"}]});
    assert_eq!(api.edited(&path, body).await["status"], "SUCCESSFUL");

    let history = format!("{path}/history?name=syslog_level&size=2");
    let page = assert_shape(&api.get(&history).await, "parameter-change-page");
    assert_eq!(
        page["page"],
        json!({"number": 1, "size": 2, "totalElements": 3, "totalPages": 2})
    );
    let told = |change: &Value| {
        let mut change = change.clone();
        for passing in ["createTime", "taskId"] {
            change.as_object_mut().unwrap().remove(passing);
        }
        change
    };
    assert_eq!(
        told(&page["contents"][0]),
        json!({
            "kind": "EDIT", "name": "syslog_level", "operator": "admin", "wholeCluster": true,
            "valueBefore": "WARN", "valueAfter": "ERROR",
            "obproxies": [{"ip": "127.0.0.1", "obproxyId": proxies[1], "valueBefore": "INFO"}],
        })
    );
    assert_eq!(
        told(&page["contents"][1]),
        json!({
            "kind": "EDIT", "name": "syslog_level", "operator": "admin", "wholeCluster": false,
            "valueBefore": "WARN", "valueAfter": "INFO",
            "obproxies": [{"ip": "127.0.0.1", "obproxyId": proxies[1], "valueBefore": "WARN"}],
        })
    );
    let all = api.get(&format!("{path}/history")).await.data();
    assert_eq!(all["page"]["totalElements"], 4);
}

#[tokio::test]
async fn a_change_that_one_proxy_refuses_is_taken_back() {
    let api = Api::start().await;
    let agents = [FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await];
    let (cluster, proxies) = api.fleet(&[&agents[0], &agents[1]]).await;
    let path = format!("/api/v2/obproxy/clusters/{cluster}/parameters");
    api.until(&path, read(2)).await;
    let body = json!({"parameters": [{"name": "syslog_level", "value": "WARN"}]});
    agents[1].refuse_with("Invalid config");
    let failed = api.edited(&path, body.clone()).await;
    assert_eq!(
        (&failed["status"], &failed["operation"], &failed["outcome"]),
        (&json!("FAILED"), &json!("ROLLBACK"), &json!("ROLLED_BACK"))
    );
    assert!(failed.to_string().contains("Invalid config"), "{failed}");
    assert_eq!(agents[0].value(proxies[0], "syslog_level"), "WDIAG");
    assert_eq!(api.get(&format!("{path}/history")).await.data()["contents"], json!([]));
    let detail = api.get(&format!("/api/v2/obproxy/clusters/{cluster}")).await.data();
    assert_eq!(
        (&detail["parameterVersion"], &detail["status"]),
        (&json!(1), &json!("RUNNING"))
    );

    // Nobody had to come for it.
    agents[1].refuse(false);
    assert_eq!(api.edited(&path, body).await["status"], "SUCCESSFUL");
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (cluster, proxies) = api.fleet(&[&agent]).await;
    let path = format!("/api/v2/obproxy/clusters/{cluster}/parameters");
    api.until(&path, read(1)).await;
    let one = |name: &str, value: &str| json!({"parameters": [{"name": name, "value": value}]});
    for (body, status, code, field) in [
        (json!({"parameters": []}), 400, "COM10001", "parameters"),
        (one("no_such_item", "1"), 400, "COM10001", "parameters[0].name"),
        (one("syslog_level", "LOUD"), 400, "COM10001", "parameters[0].value"),
        (one("work_thread_num", "129"), 400, "COM10001", "parameters[0].value"),
        (one("stack_size", "2MB"), 400, "COM10001", "parameters[0].name"),
        (one("listen_port", "2883"), 400, "ODP21105", "parameters[0].name"),
        (one("observer_sys_password", "x"), 400, "ODP21105", "parameters[0].name"),
        (
            json!({"obproxyServerIds": [], "parameters": [{"name": "syslog_level", "value": "INFO"}]}),
            400,
            "COM10001",
            "obproxyServerIds",
        ),
        (
            json!({"obproxyServerIds": [777], "parameters": [{"name": "syslog_level", "value": "INFO"}]}),
            404,
            "ODP21002",
            "obproxyServerIds",
        ),
        (json!({"values": []}), 400, "COM10001", "values"),
    ] {
        let refused = api.put(&path, body.clone()).await.refusal();
        assert_eq!(refused, (status, code.into(), field.into()), "{body}");
    }
    let message = api.put(&path, one("stack_size", "2MB")).await.text;
    assert!(
        message.contains(&format!("proxy server {} runs 4.2.1.0-11", proxies[0])),
        "{message}"
    );
    let nothing = api.post_nothing(&format!("{path}/drift/repair")).await.refusal();
    assert_eq!((nothing.0, nothing.1), (400, "ODP21107".into()));

    let body = json!({
        "name": "c2", "address": "db.example", "port": 2883, "workMode": "RS_LIST",
        "obLinks": [{"clusterName": "ob", "username": "proxyro", "rootServers": ["127.0.0.1:2881"]}],
        "parameters": [{"name": "syslog_levle", "value": "INFO"}],
    });
    let misspelt = api.post("/api/v2/obproxy/clusters", body).await.refusal();
    assert_eq!(misspelt, (400, "COM10001".into(), "parameters[0].name".into()));
    assert_eq!(api.get(&format!("{path}/history?size=0")).await.refusal().0, 400);
}

#[tokio::test]
async fn what_somebody_changed_by_sql_is_found_repaired_or_accepted() {
    let api = Api::start().await;
    let agents = [FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await];
    let (cluster, proxies) = api.fleet(&[&agents[0], &agents[1]]).await;
    let path = format!("/api/v2/obproxy/clusters/{cluster}/parameters");
    let drift = format!("{path}/drift");
    api.until(&path, read(2)).await;
    assert_eq!(api.get(&drift).await.data(), json!({"contents": []}));

    agents[0].set_by_sql(proxies[0], "syslog_level", "DEBUG");
    agents[0].set_by_sql(proxies[0], "work_thread_num", "16");
    api.until(&drift, drifting(&["syslog_level", "work_thread_num"])).await;
    let found = assert_shape(&api.get(&drift).await, "parameter-drifts");
    let level = named(&found, "syslog_level");
    assert_eq!(
        (
            &level["value"],
            &level["expectedValue"],
            &level["source"],
            &level["obproxyId"]
        ),
        (&json!("DEBUG"), &json!("WDIAG"), &json!("ORIGINAL"), &json!(proxies[0]))
    );
    assert_eq!(named(&api.get(&path).await.data(), "syslog_level")["drift"], true);

    let one = json!({"names": ["work_thread_num"], "obproxyServerIds": [proxies[0]]});
    let task = assert_shape(&api.post(&format!("{drift}/repair"), one).await, "task-started");
    assert_eq!(api.rest(task["id"].as_i64().unwrap()).await["status"], "SUCCESSFUL");
    assert_eq!(agents[0].value(proxies[0], "work_thread_num"), "128");
    assert!(drifting(&["syslog_level"])(&api.get(&drift).await.data()));

    let task = assert_shape(&api.post_nothing(&format!("{drift}/accept")).await, "task-started");
    assert_eq!(api.rest(task["id"].as_i64().unwrap()).await["status"], "SUCCESSFUL");
    assert_eq!(api.get(&drift).await.data(), json!({"contents": []}));
    assert_eq!(agents[0].value(proxies[0], "syslog_level"), "DEBUG");
    let history = api.get(&format!("{path}/history")).await.data();
    let change = &history["contents"][0];
    assert_eq!(
        (
            &change["kind"],
            &change["valueAfter"],
            &change["wholeCluster"],
            &history["page"]["totalElements"]
        ),
        (&json!("ACCEPT"), &json!("DEBUG"), &json!(false), &json!(1))
    );
    // From now on that is what it should have.
    agents[0].set_by_sql(proxies[0], "syslog_level", "WDIAG");
    let found = api.until(&drift, drifting(&["syslog_level"])).await;
    assert_eq!(found["contents"][0]["source"], "SERVER");
    let task = api.post_nothing(&format!("{drift}/repair")).await.data();
    api.rest(task["id"].as_i64().unwrap()).await;
    assert_eq!(agents[0].value(proxies[0], "syslog_level"), "DEBUG");
}

#[tokio::test]
async fn a_proxy_is_given_the_clusters_parameters_again() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (cluster, proxies) = api.fleet(&[&agent]).await;
    let path = format!("/api/v2/obproxy/clusters/{cluster}");
    api.until(&format!("{path}/parameters"), read(1)).await;
    let body = json!({"parameters": [{"name": "syslog_level", "value": "WARN"}]});
    api.edited(&format!("{path}/parameters"), body).await;
    agent.set_by_sql(proxies[0], "syslog_level", "INFO");
    let refresh = format!("{path}/obproxies/{}/refreshParameters", proxies[0]);
    agent.busy(true);
    let task = assert_shape(&api.post_nothing(&refresh).await, "task-started");
    assert_eq!(task["name"], "Refresh obproxy parameters");
    let detail = api.get(&path).await.data();
    assert_eq!(detail["obproxies"][0]["status"], "REFRESHING");
    agent.busy(false);
    assert_eq!(api.rest(task["id"].as_i64().unwrap()).await["status"], "SUCCESSFUL");
    let detail = api.get(&path).await.data();
    assert_eq!(detail["obproxies"][0]["status"], "RUNNING");
    let missing = api
        .post_nothing(&format!("{path}/obproxies/777/refreshParameters"))
        .await;
    assert_eq!(missing.refusal(), (404, "ODP21002".into(), "obproxyIds".into()));
}
