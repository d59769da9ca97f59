//! OceanBase clusters: registered, looked at, changed, probed, forgotten.

use std::net::TcpListener;

use obfleet_testdb::shared;
use serde_json::{Value, json};

use crate::{shape::differences, support::Api};

const PATH: &str = "/api/v2/ob/clusters";

fn assert_shape(data: &Value, fixture: &str) {
    assert_eq!(differences(data, fixture), [""; 0], "{fixture}: {data}");
}

fn server(ip: &str, port: u16) -> Value {
    json!({"ip": ip, "sqlPort": port})
}

#[tokio::test]
async fn a_cluster_is_registered_changed_and_forgotten() {
    let api = Api::start().await;
    let body = json!({
        "name": "north", "obClusterId": 7, "proxyroPassword": "hush", "account": {"user": "root@sys", "password": "hush"},
        "rootServers": [server("10.0.0.1", 2881), {"address": "::1", "rpcPort": 3882, "sqlPort": 3881}],
    });
    let made = api.post(PATH, body).await.data();
    assert_shape(&made, "ob-cluster");
    assert!(!made.to_string().contains("hush"), "{made}");
    assert_eq!(
        (&made["type"], &made["hasProxyroPassword"]),
        (&json!("PRIMARY"), &json!(true))
    );
    assert_eq!(
        (&made["accountUser"], &made["creatorName"]),
        (&json!("root@sys"), &json!("admin"))
    );
    let servers = [
        json!({"ip": "10.0.0.1", "rpcPort": 2882, "sqlPort": 2881}),
        json!({"ip": "::1", "rpcPort": 3882, "sqlPort": 3881}),
    ];
    assert_eq!(made["rootServers"], json!(servers));
    let path = format!("{PATH}/{}", made["id"]);
    assert_eq!(api.get(&path).await.data(), made);

    let standby =
        json!({"name": "north", "obClusterId": 8, "type": "STANDBY", "rootServers": [server("10.0.1.1", 2881)]});
    api.post(PATH, standby).await.data();
    let count = async |query: &str| {
        let page = api.get(&format!("{PATH}?{query}")).await.data();
        assert_shape(&page, "ob-cluster-page");
        page["page"]["totalElements"].as_u64().unwrap()
    };
    assert_eq!(count("page=1&size=1").await, 2);
    assert_eq!(count("keyword=10.0.1.1").await, 1);
    assert_eq!(count("keyword=NORTH&type=PRIMARY").await, 1);

    let changed = api.patch(&path, json!({"account": {"user": "probe@sys"}})).await.data();
    assert_shape(&changed, "ob-cluster-updated");
    assert_eq!(
        (&changed["accountUser"], &changed["taskId"]),
        (&json!("probe@sys"), &Value::Null)
    );
    let changed = api
        .patch(&path, json!({"rootServers": [server("10.0.0.9", 2881)]}))
        .await
        .data();
    assert_shape(&changed, "ob-cluster-updated");
    let task = api.rest(changed["taskId"].as_i64().unwrap()).await;
    assert_eq!(
        (&task["status"], &task["name"]),
        (&json!("SUCCESSFUL"), &json!("Update ob cluster"))
    );
    let now = api.get(&path).await.data();
    assert_eq!(
        now["rootServers"],
        json!([{"ip": "10.0.0.9", "rpcPort": 2882, "sqlPort": 2881}])
    );

    assert_eq!(api.delete(&path).await.status, 200);
    assert_eq!(api.get(&path).await.refusal(), (404, "COM10002".into(), "id".into()));
    assert_eq!(api.delete(&path).await.refusal().0, 404);
    assert_eq!(api.patch(&path, json!({})).await.refusal().0, 404);
    assert_eq!(api.post_nothing(&format!("{path}/probe")).await.refusal().0, 404);
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_the_field() {
    let api = Api::start().await;
    let with = |member: &str, value: Value| {
        let mut body = json!({"name": "south", "rootServers": [server("10.0.0.1", 2881)]});
        body[member] = value;
        body
    };
    api.post(PATH, with("name", json!("north"))).await.data();
    for (member, value, status, code, field) in [
        ("name", json!("a#b"), 400, "COM10001", "name"),
        ("name", json!("MetaDataBase"), 400, "COM10001", "name"),
        ("name", json!("north"), 409, "COM10006", "name"),
        ("obClusterId", json!(0), 400, "COM10001", "obClusterId"),
        ("rootServers", json!([]), 400, "COM10001", "rootServers"),
        (
            "rootServers",
            json!([server("db.example", 2881)]),
            400,
            "COM10001",
            "rootServers[0].ip",
        ),
        (
            "rootServers",
            json!([server("10.0.0.1", 0)]),
            400,
            "COM10001",
            "rootServers",
        ),
        ("type", json!("OTHER"), 400, "COM10001", "type"),
        ("password", json!("x"), 400, "COM10001", "password"),
    ] {
        let reply = api.post(PATH, with(member, value.clone())).await;
        let expected = (status, code.to_owned(), field.to_owned());
        assert_eq!(reply.refusal(), expected, "{member} {value}: {}", reply.text);
    }
    let mut twin = with("name", json!("north"));
    twin["obClusterId"] = json!(1);
    assert_eq!(
        api.post(PATH, twin).await.refusal(),
        (400, "COM10001".into(), "obClusterId".into())
    );

    let id = api.post(
        PATH,
        json!({"name": "east", "obClusterId": 1, "rootServers": [server("10.0.0.1", 2881)]}),
    );
    id.await.data();
    let second = json!({"name": "east", "obClusterId": 2, "rootServers": [server("10.0.0.2", 2881)]});
    assert_eq!(
        api.post(PATH, second).await.refusal(),
        (409, "COM10001".into(), "type".into())
    );
    assert_eq!(api.get(&format!("{PATH}/x")).await.refusal().0, 400);
}

/// An address nobody listens at, for as long as this is held.
fn nobody() -> (TcpListener, u16) {
    // Bound and not listened to would do; a port that was just given back may be anybody's.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn port_of(url: &str) -> u16 {
    let (_, rest) = url.split_once('@').unwrap();
    rest.split(['/', ':']).nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_probe_tells_each_server_and_what_they_say_of_the_cluster() {
    let api = Api::start().await;
    let maria = port_of(&shared::mariadb().await.unwrap());
    let kernel = port_of(&shared::seekdb().await.unwrap());
    // It takes connections and never greets.
    let (_silent, mute) = nobody();
    let servers = [
        server("127.0.0.1", maria),
        server("127.0.0.1", kernel),
        server("127.0.0.1", mute),
        server("127.0.0.1", 1),
    ];
    let made = api
        .post(PATH, json!({"name": "north", "rootServers": servers}))
        .await
        .data();
    let path = format!("{PATH}/{}/probe", made["id"]);

    let seen = async |body: Value| {
        let probe = api.post(&path, body).await.data();
        assert_shape(&probe, "ob-probe");
        assert_eq!(probe["refreshed"], false);
        let of = |name: &str| {
            probe["servers"]
                .as_array()
                .unwrap()
                .iter()
                .map(|server| server[name].clone())
                .collect::<Vec<_>>()
        };
        (
            of("reachable"),
            of("loggedIn"),
            of("error"),
            of("version"),
            probe["cluster"].clone(),
        )
    };
    let yes = |pattern: &str| pattern.chars().map(|c| json!(c == 'y')).collect::<Vec<_>>();

    let (reachable, logged_in, errors, versions, cluster) = seen(json!({})).await;
    assert_eq!((reachable, logged_in, cluster), (yes("yynn"), yes("nnnn"), Value::Null));
    assert!(versions[0].as_str().unwrap().contains("MariaDB"), "{versions:?}");
    assert!(versions[1].is_string() && versions[2].is_null(), "{versions:?}");
    assert!(
        errors[2].as_str().unwrap().contains("deadline") && errors[3].as_str().unwrap().contains("refused"),
        "{errors:?}"
    );

    let (reachable, logged_in, errors, versions, cluster) = seen(json!({"account": {"user": "root"}})).await;
    assert_eq!((reachable, logged_in), (yes("yynn"), yes("yynn")), "{errors:?}");
    assert!(versions[1].as_str().unwrap().contains("OceanBase"), "{versions:?}");
    // The kernel alone has no cluster either, and neither list of servers.
    assert_eq!(cluster, Value::Null);

    let wrong = json!({"account": {"user": "root", "password": "Wr0ng-hush"}});
    let (reachable, logged_in, errors, ..) = seen(wrong).await;
    assert_eq!((reachable, logged_in), (yes("yynn"), yes("nnnn")));
    let errors = json!(errors).to_string();
    assert!(errors.contains("login refused") && !errors.contains("hush"), "{errors}");
}
