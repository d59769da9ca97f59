//! Stopping, starting and restarting proxies, and the routes that name proxies in the body.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    contract::assert_shape,
    fake_agent::FakeAgent,
    support::{Api, NEW, Reply},
};

struct Fleet {
    api: Api,
    cluster: i64,
    proxies: Vec<i64>,
    _agents: [FakeAgent; 2],
}

async fn fleet() -> Fleet {
    let api = Api::start().await;
    let agents = [FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await];
    let (cluster, proxies) = api.fleet(&[&agents[0], &agents[1]]).await;
    Fleet {
        api,
        cluster,
        proxies,
        _agents: agents,
    }
}

impl Fleet {
    fn path(&self, rest: &str) -> String {
        format!("/api/v2/obproxy/clusters/{}{rest}", self.cluster)
    }

    async fn order(&self, order: &str, body: Value) -> Reply {
        self.api.post(&self.path(&format!("/servers/{order}")), body).await
    }

    /// The task that an order starts, once it is done; checks how it is answered.
    async fn done(&self, reply: &Reply, name: &str) -> Value {
        let started = assert_shape(reply, "task-started");
        assert_eq!(
            (&started["name"], &started["prohibitRollback"]),
            (&json!(name), &json!(false))
        );
        let task = self.api.rest(started["id"].as_i64().unwrap()).await;
        assert_eq!(task["status"], "SUCCESSFUL", "{task}");
        task
    }

    async fn servers(&self) -> Vec<Value> {
        let detail = assert_shape(&self.api.get(&self.path("")).await, "cluster");
        detail["obproxies"].as_array().unwrap().clone()
    }

    async fn statuses(&self) -> Vec<Value> {
        let servers = self.servers().await;
        assert!(
            servers.iter().all(|server| server["operateStatus"] == "NORMAL"),
            "{servers:?}"
        );
        servers.into_iter().map(|server| server["status"].clone()).collect()
    }
}

/// The steps' names of the first proxy's branch and of what lies outside of branches, in order.
fn names(task: &Value) -> Vec<&str> {
    let mut steps: Vec<_> = task["subtasks"].as_array().unwrap().iter().collect();
    steps.sort_by_key(|step| step["seriesId"].as_i64());
    let steps = steps.into_iter().filter(|step| step["parallelIdx"].as_i64() <= Some(0));
    let names = steps.map(|step| step["name"].as_str().unwrap());
    names
        .filter(|name| !matches!(*name, "Start node" | "Wait node" | "Finish node"))
        .collect()
}

#[tokio::test]
async fn what_is_stopped_stays_so_until_it_is_started() {
    let fleet = fleet().await;
    let [first, second] = fleet.proxies[..] else { panic!() };
    let stop = fleet.order("stop", json!({"obproxyServerIds": [first]})).await;
    let task = fleet.done(&stop, "Stop obproxy").await;
    assert!(names(&task).contains(&"Stop obproxy"), "{:?}", names(&task));
    assert_eq!(fleet.statuses().await, ["STOPPED", "RUNNING"]);

    let again = fleet.order("stop", json!({"obproxyServerIds": [first, second]})).await;
    assert_eq!(again.refusal(), (400, "ODP21104".into(), "obproxyServerIds".into()));
    let start = fleet.order("start", json!({"obproxyServerIds": [first]})).await;
    let task = fleet.done(&start, "Start obproxy").await;
    for step in [
        "Start obproxy process",
        "Wait obproxy accessible",
        "Update obproxy cluster lock status",
    ] {
        assert!(names(&task).contains(&step), "{step} is not among {:?}", names(&task));
    }
    assert_eq!(fleet.statuses().await, ["RUNNING", "RUNNING"]);
    let again = fleet.order("start", json!({"obproxyServerIds": [second]})).await;
    assert_eq!(again.refusal(), (400, "ODP21104".into(), "obproxyServerIds".into()));
}

#[tokio::test]
async fn restarts_are_hot_where_they_can_be_unless_forced() {
    let fleet = fleet().await;
    let [first, second] = fleet.proxies[..] else { panic!() };
    let hot = "Wait hot restart obproxy finish";
    let reply = fleet
        .api
        .post_nothing(&fleet.path(&format!("/obproxies/{first},{second}/restart")))
        .await;
    let task = fleet.done(&reply, "Restart obproxy").await;
    assert!(names(&task).contains(&hot), "{:?}", names(&task));
    let body = |hot: bool| json!({"obproxyServerIds": [first, second], "hotRestart": hot});
    let task = fleet
        .done(&fleet.order("restart", body(true)).await, "Restart obproxy")
        .await;
    assert!(names(&task).contains(&hot));
    let task = fleet
        .done(&fleet.order("restart", body(false)).await, "Restart obproxy")
        .await;
    assert!(!names(&task).contains(&hot));
    assert_eq!(fleet.statuses().await, ["RUNNING", "RUNNING"]);

    let stop = fleet.order("stop", json!({"obproxyServerIds": [second]})).await;
    fleet.done(&stop, "Stop obproxy").await;
    let refused = fleet.order("restart", body(true)).await;
    assert_eq!(refused.refusal(), (400, "ODP21017".into(), "obproxyServerIds".into()));
    let one = json!({"obproxyServerIds": [second], "hotRestart": false});
    fleet.done(&fleet.order("restart", one).await, "Restart obproxy").await;
    assert_eq!(
        fleet.statuses().await,
        ["RUNNING", "RUNNING"],
        "a forced restart also brings up what is down"
    );
}

#[tokio::test]
async fn upgrading_and_deleting_by_the_body() {
    let fleet = fleet().await;
    let [first, second] = fleet.proxies[..] else { panic!() };
    fleet.api.upload(NEW).await.data();
    let short = NEW.strip_suffix(".el7.x86_64.rpm").unwrap();
    let body = |system: &str| {
        json!({
            "obproxyServerIds": [first], "shortRpmName": short, "packageOperatingSystem": system,
        })
    };
    let none = fleet.order("upgrade", body("el8")).await;
    assert_eq!(none.status, 404, "{}", none.text);
    fleet
        .done(&fleet.order("upgrade", body("el7")).await, "Upgrade obproxy")
        .await;
    let versions: Vec<_> = fleet
        .servers()
        .await
        .iter()
        .map(|server| server["version"].clone())
        .collect();
    assert_eq!(versions, ["4.3.1.0-1", "4.2.1.0-11"]);

    let other = json!({"obproxyServerIds": [first], "skipHostOperationServerIds": [second]});
    let refused = fleet.order("delete", other).await;
    assert_eq!(
        refused.refusal(),
        (400, "COM10001".into(), "skipHostOperationServerIds".into())
    );
    let gone = json!({"obproxyServerIds": [first, second], "skipHostOperationServerIds": [second]});
    fleet
        .done(&fleet.order("delete", gone).await, "Delete obproxy server")
        .await;
    assert_eq!(fleet.servers().await, [Value::Null; 0]);
}

#[tokio::test]
async fn bad_orders_change_nothing() {
    let fleet = fleet().await;
    let [first, _] = fleet.proxies[..] else { panic!() };
    for order in ["stop", "start", "restart", "upgrade", "delete"] {
        let body = |ids: Value| match order {
            "restart" => json!({"obproxyServerIds": ids, "hotRestart": false}),
            "upgrade" => json!({"obproxyServerIds": ids, "shortRpmName": "obproxy-ce-4.3.1.0-1"}),
            _ => json!({"obproxyServerIds": ids}),
        };
        let field = "obproxyServerIds".to_owned();
        let refused = async |ids: Value| fleet.order(order, body(ids)).await.refusal();
        assert_eq!(
            refused(json!([])).await,
            (400, "COM10001".into(), field.clone()),
            "{order}"
        );
        let missing = refused(json!([first, 777])).await;
        assert_eq!((missing.0, missing.1.as_str()), (404, "ODP21002"), "{order}");
        let mut unknown = body(json!([first]));
        unknown["colour"] = json!(1);
        assert_eq!(
            fleet.order(order, unknown).await.refusal(),
            (400, "COM10001".into(), "colour".into()),
            "{order}"
        );
        let path = format!("/api/v2/obproxy/clusters/777/servers/{order}");
        let elsewhere = fleet.api.post(&path, body(json!([first]))).await.refusal();
        assert_eq!((elsewhere.0, elsewhere.1.as_str()), (404, "ODP21001"), "{order}");
        let nobody = Reply::of(fleet.api.bare(Method::POST, &path).json(&json!({}))).await;
        assert_eq!(nobody.status, 401, "{order}");
    }
    assert_eq!(fleet.statuses().await, ["RUNNING", "RUNNING"]);
}

#[tokio::test]
async fn an_order_given_twice_under_one_key_is_one_task_and_another_has_to_wait() {
    let fleet = fleet().await;
    let [first, second] = fleet.proxies[..] else { panic!() };
    fleet._agents[0].busy(true);
    let order = async |key: &str, ids: Value| {
        let request = fleet.api.request(Method::POST, &fleet.path("/servers/stop"));
        Reply::of(
            request
                .header("Idempotency-Key", key)
                .json(&json!({"obproxyServerIds": ids})),
        )
        .await
    };
    let task = order("a", json!([first])).await.data()["id"].clone();
    assert_eq!(order("a", json!([first])).await.data()["id"], task);
    assert_eq!(order("a", json!([second])).await.status, 409);
    let held = order("b", json!([first, second])).await;
    assert_eq!(
        (held.refusal().0, held.refusal().1.as_str()),
        (409, "COM10005"),
        "{}",
        held.text
    );
    assert_eq!(held.json()["error"]["target"]["taskId"], task);
    let during = fleet.servers().await;
    assert_eq!(
        (&during[0]["status"], &during[0]["operateStatus"]),
        (&json!("STOPPING"), &json!("OPERATING"))
    );
    fleet._agents[0].busy(false);
    assert_eq!(fleet.api.rest(task.as_i64().unwrap()).await["status"], "SUCCESSFUL");
}
