//! What is refused, with which status and code, in which language.

use reqwest::Method;
use serde_json::json;

use crate::{
    fake_agent::FakeAgent,
    shape::differences,
    support::{Api, NEW, OLD, Reply},
};

fn refusal(status: u16, code: &str, field: &str) -> (u16, String, String) {
    (status, code.to_owned(), field.to_owned())
}

#[tokio::test]
async fn all_fields_that_are_wrong_are_named_at_once() {
    let api = Api::start().await;
    let body = json!({
        "port": "x", "workMode": "NONE", "colour": 1, "obproxyInstallParam": {"hostIds": [1, "x"], "sqlPort": 70000},
    });
    let reply = api.post("/api/v2/obproxy/clusters", body).await;
    assert_eq!(reply.status, 400, "{}", reply.text);
    let error = reply.json()["error"].clone();
    let told = error["subErrors"].as_array().unwrap();
    let mut fields: Vec<_> = told.iter().map(|one| one["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    let expected = [
        "colour",
        "name",
        "obproxyInstallParam.hostIds[1]",
        "obproxyInstallParam.sqlPort",
        "port",
        "workMode",
    ];
    assert_eq!(fields, expected);
    assert_eq!(
        told[0]["message"], error["message"],
        "the first one is what a person is told"
    );
    for one in told {
        let (field, message) = (one["field"].as_str().unwrap(), one["message"].as_str().unwrap());
        assert!(message.contains(field), "{one}");
    }
}

#[tokio::test]
async fn what_is_missing_or_malformed() {
    let api = Api::start().await;
    let cluster = api.cluster("test").await;
    let clusters = "/api/v2/obproxy/clusters";
    let path = format!("{clusters}/{cluster}");

    for wrong in ["x", "0", "-1", "1.5", "99999999999999999999"] {
        assert_eq!(
            api.get(&format!("{clusters}/{wrong}")).await.refusal(),
            refusal(400, "COM10001", "id"),
            "{wrong}"
        );
    }
    for wrong in ["1,x", "1,,2", ",", "%2C", "1%2Cx"] {
        let reply = api.delete(&format!("{path}/obproxies/{wrong}")).await;
        assert_eq!(reply.refusal(), refusal(400, "COM10001", "obproxyIds"), "{wrong}");
    }
    assert_eq!(
        api.get(&format!("{clusters}/%FF")).await.refusal(),
        refusal(400, "COM10001", "path")
    );
    assert_eq!(
        api.get(&format!("{clusters}/777")).await.refusal(),
        refusal(404, "ODP21001", "id")
    );
    assert_eq!(
        api.delete(&format!("{path}/obproxies/777")).await.refusal(),
        refusal(404, "ODP21002", "obproxyIds")
    );
    assert_eq!(api.get("/api/v2/tasks/instances/777").await.refusal().0, 404);
    assert_eq!(api.get("/api/v2/tasks/777").await.refusal().1, "TSK10001");

    let post = async |body| api.post(clusters, body).await.refusal();
    assert_eq!(
        post(json!({"name": "a", "colour": 1})).await,
        refusal(400, "COM10001", "colour")
    );
    assert_eq!(post(json!({})).await, refusal(400, "COM10001", "name"));
    assert_eq!(post(json!({"name": 7})).await, refusal(400, "COM10001", "name"));
    assert_eq!(post(json!([])).await.0, 400);
    assert_eq!(post(json!({"name": "test"})).await.0, 409, "the name is taken");

    let upgrade = format!("{path}/obproxies/1/upgrade");
    assert_eq!(
        api.post(&upgrade, json!({"shortRpmNam": "x"})).await.refusal(),
        refusal(400, "COM10001", "shortRpmNam")
    );

    assert_eq!(
        api.get("/api/v2/obproxy/nothing").await.refusal(),
        refusal(400, "COM10003", "")
    );
    assert_eq!(api.get("/").await.refusal(), refusal(400, "COM10003", ""));
    assert_eq!(
        Reply::of(api.request(Method::PUT, clusters)).await.refusal(),
        refusal(400, "COM10008", "")
    );
    assert_eq!(
        Reply::of(api.request(Method::PATCH, "/api/v2/time")).await.refusal(),
        refusal(400, "COM10008", "")
    );
    for query in ["page=0", "size=2001", "sort=colour", "page=x"] {
        assert_eq!(
            api.get(&format!("{clusters}?{query}")).await.refusal().1,
            "COM10001",
            "{query}"
        );
    }
    for query in ["status=DONE", "clusterId=x", "type=ANY", "sort=colour,asc"] {
        assert_eq!(
            api.get(&format!("/api/v2/tasks/instances?{query}")).await.refusal().1,
            "COM10001",
            "{query}"
        );
    }
}

#[tokio::test]
async fn bodies_of_the_wrong_kind() {
    let api = Api::start().await;
    let clusters = "/api/v2/obproxy/clusters";
    let send = async |content_type: &'static str, body: String| {
        let request = api
            .request(Method::POST, clusters)
            .header("content-type", content_type)
            .body(body);
        Reply::of(request).await.refusal()
    };
    assert_eq!(
        send("application/json", "{\"name\":".into()).await,
        refusal(400, "COM10003", "")
    );
    assert_eq!(
        send("application/json", String::new()).await,
        refusal(400, "COM10003", "")
    );
    assert_eq!(send("text/plain", "{}".into()).await, refusal(415, "COM10003", ""));
    assert_eq!(
        send("application/json", format!("\"{}\"", "x".repeat(2 << 20))).await,
        refusal(413, "COM10003", "")
    );
    assert_eq!(api.post_nothing(clusters).await.refusal(), refusal(415, "COM10003", ""));
}

#[tokio::test]
async fn a_task_in_the_way_is_named() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (cluster, proxies) = api.fleet(&[&agent]).await;
    api.upload(NEW).await.data();
    agent.busy(true);
    let path = format!("/api/v2/obproxy/clusters/{cluster}/obproxies/{}", proxies[0]);
    let task = api
        .post(
            &format!("{path}/upgrade"),
            json!({"shortRpmName": "obproxy-ce-4.3.1.0-1"}),
        )
        .await
        .data();
    for reply in [
        api.post_nothing(&format!("{path}/upgrade")).await,
        api.delete(&path).await,
    ] {
        let refused = reply.refusal();
        let body = reply.json();
        assert_eq!((refused.0, refused.1.as_str()), (409, "COM10005"), "{body}");
        assert_eq!(
            body["error"]["target"],
            json!({"taskId": task["id"], "taskName": "Upgrade obproxy"})
        );
        assert!(
            body["error"]["message"]
                .as_str()
                .unwrap()
                .contains(&task["id"].to_string()),
            "{body}"
        );
        assert_eq!(differences(&body, "envelope"), [""; 0]);
    }
}

#[tokio::test]
async fn an_upgrade_needs_a_package_that_is_there_and_higher() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (cluster, proxies) = api.fleet(&[&agent]).await;
    let path = format!("/api/v2/obproxy/clusters/{cluster}/obproxies/{}/upgrade", proxies[0]);
    let ask = async |name: &str| api.post(&path, json!({"shortRpmName": name})).await.refusal();
    assert_eq!(ask("obproxy-ce-9.9.9.9-1").await.0, 404);
    assert_eq!(ask("obproxy-ce-4.2.1.0-11").await.0, 400);
    assert_eq!(ask("nonsense").await, refusal(404, "PKG10014", "shortRpmName"));
    assert!(
        api.post_nothing(&path).await.status.is_client_error(),
        "no package is higher than {OLD}"
    );
}

#[tokio::test]
async fn refusals_speak_chinese_when_asked() {
    let api = Api::start().await;
    let ask = async |path: &str, language: &str| {
        let request = api.request(Method::GET, path).header("accept-language", language);
        Reply::of(request).await.json()["error"]["message"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
    for path in [
        "/api/v2/obproxy/clusters/777",
        "/api/v2/obproxy/clusters/x",
        "/api/v2/nothing",
        "/api/v2/tasks/777",
    ] {
        let (zh, en) = (ask(path, "zh-CN").await, ask(path, "en-US").await);
        assert!(chinese(&zh) && !chinese(&en), "{zh} / {en}");
    }
    assert!(ask("/api/v2/obproxy/clusters/777", "zh-CN").await.contains("777"));
}

#[tokio::test]
async fn reasons_speak_the_readers_language_too() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (cluster, proxies) = api.fleet(&[&agent]).await;
    let clusters = "/api/v2/obproxy/clusters".to_owned();
    let proxy = proxies[0];
    let add = format!("{clusters}/{cluster}/obproxies/batchAdd");
    let install =
        |host: i64, sql: u16| json!({"hostIds": [host], "sqlPort": sql, "exporterPort": 2999, "version": OLD});
    let upgrade = format!("{clusters}/{cluster}/obproxies/{proxy}/upgrade");
    for (path, body, english, chinese) in [
        (
            &clusters,
            json!({"name": "1x"}),
            "name: it must begin with",
            "name：应以字母开头",
        ),
        (
            &clusters,
            json!({"name": "test"}),
            "There is a proxy cluster named test already",
            "名为 test 的 OBProxy 集群已经存在",
        ),
        (
            &clusters,
            json!({"name": "b", "workMode": "RS_LIST"}),
            "obLinks: workMode RS_LIST takes exactly one, 0 were given",
            "obLinks：workMode 为 RS_LIST 时只能有一个，当前有 0 个",
        ),
        (
            &add,
            install(agent.host_id, 80),
            "sqlPort: 80 is not from 1025",
            "sqlPort：80 不在 1025",
        ),
        (
            &add,
            install(agent.host_id, 2883),
            "proxy server",
            "上已有 使用端口 2883 的 OBProxy 服务器",
        ),
        (
            &upgrade,
            json!({"shortRpmName": "obproxy-ce-4.2.1.0-11"}),
            "shortRpmName: obproxy-ce-4.2.1.0-11 is not higher than 4.2.1.0-11",
            "shortRpmName：obproxy-ce-4.2.1.0-11 不高于 OBProxy 服务器",
        ),
    ] {
        for (language, part) in [("en-US", english), ("zh-CN", chinese)] {
            let request = api.request(Method::POST, path).header("accept-language", language);
            let reply = Reply::of(request.json(&body)).await.json();
            let message = reply["error"]["message"].as_str().unwrap();
            assert!(message.contains(part), "{message}");
        }
    }
}
