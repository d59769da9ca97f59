//! Users, roles, and how far a role goes.

use obfleet_server::{
    auth::{
        LOCK_RULE,
        access::{Access, Reach},
    },
    router,
};
use obfleet_store::Database;
use obfleet_wire::time::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    contract::assert_shape,
    fake_agent::FakeAgent,
    signing::{Draft, Key},
    support::{Api, PASSWORD, Reply},
};

const USERS: &str = "/api/v2/iam/users";
const ROLES: &str = "/api/v2/iam/roles";
const CLUSTERS: &str = "/api/v2/obproxy/clusters";
const ME: &str = "/api/v2/profiles/me";
const CHANGE: &str = "/api/v2/profiles/me/changePassword";

/// A user with a password that need not be changed. → its id
async fn user(api: &Api, name: &str, roles: Value) -> i64 {
    let body = json!({"name": name, "password": PASSWORD, "needChangePassword": false, "roles": roles});
    api.post(USERS, body).await.data()["id"].as_i64().unwrap()
}

async fn ask(api: &Api, user: &str, method: Method, path: &str) -> Reply {
    let request = api.bare(method.clone(), path).basic_auth(user, Some(PASSWORD));
    Reply::of(if method == Method::GET {
        request
    } else {
        request.json(&json!({}))
    })
    .await
}

async fn get(api: &Api, user: &str, path: &str) -> Reply {
    ask(api, user, Method::GET, path).await
}

fn code(reply: &Reply) -> (u16, String) {
    let (status, code, _) = reply.refusal();
    (status, code)
}

#[tokio::test]
async fn users_are_made_listed_changed_and_deleted() {
    let api = Api::start().await;
    let body = json!({
        "name": "anna.b", "password": PASSWORD, "description": "nights",
        "roles": [{"name": "OBPROXY_VIEWER"}, {"name": "TASK_MANAGER"}],
    });
    let made = assert_shape(&api.post(USERS, body.clone()).await, "user");
    assert_eq!(
        (&made["enabled"], &made["needChangePassword"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(made["roles"][0], json!({"clusterIds": null, "name": "OBPROXY_VIEWER"}));
    assert_eq!(
        api.post(USERS, body).await.refusal(),
        (409, "COM10006".into(), "name".into())
    );
    let list = assert_shape(&api.get(&format!("{USERS}?sort=id")).await, "user-page");
    assert_eq!(list["contents"][0]["name"], "admin");
    assert_eq!(list["contents"][1], made);
    assert!(!list.to_string().contains("argon2"));
    let found = api.get(&format!("{USERS}?keyword=NIGHT")).await.data();
    assert_eq!(found["page"]["totalElements"], 1);

    let path = format!("{USERS}/{}", made["id"]);
    let changed = api
        .patch(&path, json!({"description": "days", "roles": []}))
        .await
        .data();
    assert_eq!(
        (&changed["description"], &changed["roles"]),
        (&json!("days"), &json!([]))
    );
    assert_eq!(api.get(&path).await.data(), changed);
    assert_eq!(api.delete(&path).await.json().get("data"), None);
    for reply in [
        api.get(&path).await,
        api.delete(&path).await,
        api.patch(&path, json!({})).await,
        api.post(&format!("{path}/unlock"), json!({})).await,
        api.post(&format!("{path}/resetPassword"), json!({"password": PASSWORD}))
            .await,
    ] {
        assert_eq!(reply.refusal(), (404, "COM10002".into(), "userId".into()));
    }
}

#[tokio::test]
async fn what_cannot_be_is_named() {
    let api = Api::start().await;
    let cluster = api.cluster("test").await;
    let valid = json!({"name": "anna", "password": PASSWORD, "roles": [{"name": "TASK_VIEWER"}]});
    for (member, value, code, field) in [
        ("name", json!("1x"), "IAM10008", "name"),
        ("name", json!("Admin"), "IAM11005", "name"),
        ("password", json!("too easy"), "IAM10009", "password"),
        ("description", json!("a\nb"), "COM10001", "description"),
        ("roles", json!([{"name": "NO_ROLE"}]), "COM10001", "roles[0].name"),
        (
            "roles",
            json!([{"name": "TASK_VIEWER"}, {"name": "TASK_VIEWER"}]),
            "COM10001",
            "roles[1].name",
        ),
        (
            "roles",
            json!([{"name": "TASK_VIEWER", "clusterIds": []}]),
            "COM10001",
            "roles[0].clusterIds",
        ),
        (
            "roles",
            json!([{"name": "TASK_VIEWER", "clusterIds": [cluster, 4711]}]),
            "COM10001",
            "roles[0].clusterIds",
        ),
        ("role", json!([]), "COM10001", "role"),
    ] {
        let mut body = valid.clone();
        body[member] = value;
        let reply = api.post(USERS, body).await;
        assert_eq!(reply.refusal(), (400, code.into(), field.into()), "{}", reply.text);
        assert!(!reply.text.contains("too easy"));
    }
    let valid = json!({"name": "NIGHT", "rights": ["task:view"]});
    for (member, value, code, field) in [
        ("name", json!("N"), "IAM10016", "name"),
        ("rights", json!([]), "COM10001", "rights"),
        ("rights", json!(["task:view", "task:eat"]), "IAM11002", "rights[1]"),
        ("rights", json!(["user:manage"]), "IAM11002", "rights[0]"),
    ] {
        let mut body = valid.clone();
        body[member] = value;
        let reply = api.post(ROLES, body).await;
        assert_eq!(reply.refusal(), (400, code.into(), field.into()), "{}", reply.text);
    }
    assert_eq!(api.get(USERS).await.data()["page"]["totalElements"], 1);
}

#[tokio::test]
async fn a_change_counts_for_the_next_request() {
    let api = Api::start().await;
    let id = user(&api, "anna", json!([{"name": "OBPROXY_VIEWER"}])).await;
    let path = format!("{USERS}/{id}");
    assert_eq!(get(&api, "anna", CLUSTERS).await.status, 200);
    let made = Reply::of(
        api.bare(Method::POST, "/api/v2/iam/accessKeys")
            .basic_auth("anna", Some(PASSWORD)),
    )
    .await;
    let key = Key::of(&made.data());
    let signed = Draft::new(&api, Method::GET, CLUSTERS);
    assert_eq!(signed.send(&api, &key).await.status, 200);

    api.patch(&path, json!({"roles": [{"name": "TASK_VIEWER"}]}))
        .await
        .data();
    assert_eq!(code(&get(&api, "anna", CLUSTERS).await), (403, "IAM11000".into()));
    assert_eq!(code(&signed.send(&api, &key).await), (403, "IAM11000".into()));
    assert_eq!(get(&api, "anna", "/api/v2/tasks/instances").await.status, 200);

    api.patch(&path, json!({"enabled": false})).await.data();
    assert_eq!(code(&get(&api, "anna", ME).await), (401, "IAM10001".into()));
    assert_eq!(code(&signed.send(&api, &key).await), (401, "IAM10001".into()));
    let wrong = Reply::of(api.bare(Method::GET, ME).basic_auth("anna", Some("Wrong-Horse-1"))).await;
    assert_eq!(wrong.refusal().1, "IAM10004", "only who has the password is told");
    api.patch(&path, json!({"enabled": true})).await.data();
    assert_eq!(get(&api, "anna", ME).await.status, 200);

    api.post(&format!("{path}/resetPassword"), json!({"password": "Other-Horse-2"}))
        .await
        .json();
    assert_eq!(get(&api, "anna", ME).await.status, 401, "the old one is nobody's");
    let other =
        async |path: &str| Reply::of(api.bare(Method::GET, path).basic_auth("anna", Some("Other-Horse-2"))).await;
    assert_eq!(code(&other("/api/v2/tasks/instances").await), (403, "IAM10020".into()));
    let me = assert_shape(&other(ME).await, "profile");
    assert_eq!((&me["needChangePassword"], &me["name"]), (&json!(true), &json!("anna")));
    assert_eq!(me["rights"], json!([{"clusterIds": null, "name": "task:view"}]));

    let change = async |current: &str, new: &str| {
        let body = json!({"currentPassword": current, "newPassword": new});
        Reply::of(
            api.bare(Method::POST, CHANGE)
                .basic_auth("anna", Some("Other-Horse-2"))
                .json(&body),
        )
        .await
    };
    assert_eq!(
        change("Wrong-Horse-3", "Third-Horse-3").await.refusal(),
        (400, "IAM10011".into(), "currentPassword".into())
    );
    assert_eq!(
        change("Other-Horse-2", "Other-Horse-2").await.refusal(),
        (400, "IAM10021".into(), "newPassword".into())
    );
    assert_eq!(
        change("Other-Horse-2", "weak").await.refusal(),
        (400, "IAM10009".into(), "newPassword".into())
    );
    assert_eq!(change("Other-Horse-2", PASSWORD).await.status, 200);
    assert_eq!(other(ME).await.status, 401);
    assert_eq!(get(&api, "anna", "/api/v2/tasks/instances").await.status, 200);

    api.delete(&path).await.json();
    assert_eq!(get(&api, "anna", ME).await.status, 401);
    assert_eq!(signed.send(&api, &key).await.status, 401, "keys go with their user");
}

#[tokio::test]
async fn there_is_always_an_administrator() {
    let api = Api::start().await;
    let path = format!("{USERS}/100");
    let id = user(&api, "second", json!([{"name": "ADMIN"}])).await;
    for (reply, expected, field) in [
        (api.delete(&path).await, "IAM11004", ""),
        (api.patch(&path, json!({"enabled": false})).await, "IAM11007", "enabled"),
        (api.patch(&path, json!({"roles": []})).await, "IAM11006", "roles"),
    ] {
        assert_eq!(reply.refusal(), (400, expected.into(), field.into()));
    }
    // Also by another administrator; and nobody shuts themselves out.
    assert_eq!(
        code(&ask(&api, "second", Method::DELETE, &path).await),
        (400, "IAM11004".into())
    );
    let own = format!("{USERS}/{id}");
    assert_eq!(
        code(&ask(&api, "second", Method::DELETE, &own).await),
        (400, "IAM11008".into())
    );
    let disable = api.bare(Method::PATCH, &own).basic_auth("second", Some(PASSWORD));
    let disable = Reply::of(disable.json(&json!({"enabled": false}))).await;
    assert_eq!(code(&disable), (400, "IAM11008".into()));
    assert_eq!(api.patch(&path, json!({"description": "the first"})).await.status, 200);
    assert_eq!(api.get(ME).await.data()["name"], "admin");
}

#[tokio::test]
async fn custom_roles_are_what_they_are_defined_to_be() {
    let api = Api::start().await;
    let body = json!({"name": "NIGHT_SHIFT", "rights": ["task:manage", "task:view", "task:view"]});
    let made = assert_shape(&api.post(ROLES, body.clone()).await, "role");
    assert_eq!(
        (&made["type"], &made["rights"]),
        (&json!("CUSTOM"), &json!(["task:view", "task:manage"]))
    );
    assert_eq!(
        api.post(ROLES, body).await.refusal(),
        (409, "COM10006".into(), "name".into())
    );
    for taken in ["ADMIN", "Host_Viewer"] {
        let reply = api.post(ROLES, json!({"name": taken, "rights": ["task:view"]})).await;
        assert_eq!(reply.refusal().1, "COM10006", "{taken}");
    }
    let list = assert_shape(&api.get(&format!("{ROLES}?size=100")).await, "role-page");
    let names: Vec<&str> = list["contents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|role| role["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"OBPROXY_MANAGER") && names.last() == Some(&"NIGHT_SHIFT"),
        "{names:?}"
    );

    user(&api, "anna", json!([{"name": "NIGHT_SHIFT"}])).await;
    assert_eq!(get(&api, "anna", "/api/v2/tasks/instances").await.status, 200);
    assert_eq!(get(&api, "anna", CLUSTERS).await.status, 403);
    let path = format!("{ROLES}/NIGHT_SHIFT");
    api.patch(&path, json!({"rights": ["obproxy:view"]})).await.data();
    assert_eq!(get(&api, "anna", "/api/v2/tasks/instances").await.status, 403);
    assert_eq!(get(&api, "anna", CLUSTERS).await.status, 200);
    assert_eq!(code(&api.delete(&path).await), (409, "CMP07000".into()));
    let anna = api.get(&format!("{USERS}?keyword=anna")).await.data()["contents"][0]["id"].clone();
    api.patch(&format!("{USERS}/{anna}"), json!({"roles": []})).await.data();
    assert_eq!(api.delete(&path).await.status, 200);
    assert_eq!(
        api.get(&path).await.refusal(),
        (404, "COM10002".into(), "roleName".into())
    );
    for (reply, expected) in [
        (
            api.patch(&format!("{ROLES}/ADMIN"), json!({"rights": ["task:view"]}))
                .await,
            "IAM11009",
        ),
        (api.delete(&format!("{ROLES}/ADMIN")).await, "IAM11003"),
    ] {
        assert_eq!(code(&reply), (400, expected.into()));
    }
}

#[tokio::test]
async fn a_role_for_one_cluster_ends_there() {
    let api = Api::start().await;
    let (own, other) = (api.cluster("own").await, api.cluster("other").await);
    let everything = json!([
        {"name": "ADMIN", "clusterIds": [own]},
    ]);
    user(&api, "anna", everything).await;
    let tasks = api.get("/api/v2/tasks/instances?size=100").await.data();
    let task_of = |cluster: i64| {
        let tasks = tasks["contents"].as_array().unwrap();
        let task = tasks.iter().find(|task| task["cluster"]["id"] == cluster);
        task.unwrap_or_else(|| panic!("{cluster}: {tasks:?}"))["id"].to_string()
    };
    let (own_task, other_task) = (task_of(own), task_of(other));

    // What is not refused for its scope fails or is done, as it is for everybody.
    let mut asked = 0;
    for route in router::routes().declared() {
        let Access::Needs(_, reach) = route.access else {
            continue;
        };
        let fill = |name: &str, id: &str| {
            let path = route.path.replace(&format!("{{{name}}}"), id);
            let parts = path
                .split('/')
                .map(|part| if part.starts_with('{') { "999999" } else { part });
            parts.collect::<Vec<_>>().join("/")
        };
        let (within, without) = match reach {
            Reach::Cluster(name) => (Some(fill(name, &own.to_string())), Some(fill(name, &other.to_string()))),
            Reach::Task(name) => (Some(fill(name, &own_task)), Some(fill(name, &other_task))),
            Reach::Filtered | Reach::Shared => (Some(fill("", "")), None),
            Reach::Whole => (None, Some(fill("", ""))),
        };
        if let Some(path) = without {
            let reply = ask(&api, "anna", route.method.clone(), &path).await;
            assert_eq!(
                code(&reply),
                (403, "IAM10017".into()),
                "{} {path}: {}",
                route.method,
                reply.text
            );
            asked += 1;
        }
        // Deleting the cluster would leave nothing to ask for.
        let ends_it = route.method == Method::DELETE && route.path.ends_with("/clusters/{id}");
        if let Some(path) = within.filter(|_| !ends_it) {
            let reply = ask(&api, "anna", route.method.clone(), &path).await;
            assert_ne!(reply.status, 403, "{} {path}: {}", route.method, reply.text);
        }
    }
    assert!(asked > 40, "{asked}");

    let ids = |page: Value| -> Vec<String> {
        let contents = page["contents"].as_array().unwrap().iter();
        contents.map(|one| one["id"].to_string()).collect()
    };
    assert_eq!(ids(get(&api, "anna", CLUSTERS).await.data()), [own.to_string()]);
    let seen = get(&api, "anna", "/api/v2/tasks/instances?size=100").await.data();
    assert!(
        ids(seen.clone()).contains(&own_task) && !ids(seen.clone()).contains(&other_task),
        "{seen}"
    );
    let narrowed = format!("/api/v2/tasks/instances?clusterId={other}");
    assert_eq!(get(&api, "anna", &narrowed).await.data()["page"]["totalElements"], 0);
    let balance =
        async |name: &str| get(&api, "anna", &format!("/api/v2/obproxy/loadBalanceInfo?appName={name}")).await;
    assert_eq!(code(&balance("other").await), (403, "IAM10017".into()));
    assert_eq!(balance("own").await.status, 200);

    // A task that has no cluster is not theirs, and one that is not there is told as such.
    let missing = get(&api, "anna", "/api/v2/tasks/instances/4711").await;
    assert_eq!(code(&missing), (404, "TSK10001".into()));
    let none = user(&api, "none", json!([])).await;
    assert_eq!(get(&api, "none", CLUSTERS).await.status, 403);
    assert!(none > 1000 - 1);
}

#[tokio::test]
async fn an_administrator_unlocks_a_name() {
    let api = Api::start().await;
    let id = user(&api, "anna", json!([])).await;
    let database = Database::open(&api.dir.path().join("state/obfleet.db")).await.unwrap();
    for _ in 0..LOCK_RULE.failures {
        let users = database.users();
        users.login_failed("anna", LOCK_RULE, Timestamp::now()).await.unwrap();
    }
    database.close().await;
    let locked = get(&api, "anna", ME).await;
    assert_eq!(code(&locked), (401, "IAM10003".into()), "{}", locked.text);
    let path = format!("{USERS}/{id}");
    assert!(api.get(&path).await.data()["lockedUntil"].is_string());
    assert!(api.get(&format!("{USERS}?keyword=anna")).await.data()["contents"][0]["lockedUntil"].is_string());
    assert_eq!(api.post_nothing(&format!("{path}/unlock")).await.status, 200);
    assert_eq!(api.get(&path).await.data()["lockedUntil"], Value::Null);
    assert_eq!(get(&api, "anna", ME).await.status, 200);
}

#[tokio::test]
async fn nobody_gets_at_another_clusters_proxy_by_the_id_of_their_own() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (other, proxies) = api.fleet(&[&agent]).await;
    let (own, proxy) = (api.cluster("own").await, proxies[0]);
    user(&api, "anna", json!([{"name": "ADMIN", "clusterIds": [own]}])).await;
    let send = async |method: Method, path: &str, body: Value| {
        let request = api.bare(method.clone(), path).basic_auth("anna", Some(PASSWORD));
        Reply::of(if method == Method::GET {
            request
        } else {
            request.json(&body)
        })
        .await
    };
    let mut asked = 0;
    for route in router::routes().declared() {
        let part = ["{obproxyIds}", "{obproxyId}"]
            .into_iter()
            .find(|part| route.path.contains(part));
        let (Access::Needs(_, Reach::Cluster(name)), Some(part)) = (route.access, part) else {
            continue;
        };
        let path = route.path.replace(&format!("{{{name}}}"), &own.to_string());
        let path = path.replace(part, &proxy.to_string()).replace("{name}", "obproxy.log");
        let reply = send(route.method.clone(), &path, json!({})).await;
        assert!(
            [400, 404].contains(&reply.status.as_u16()),
            "{} {path}: {}",
            route.method,
            reply.text
        );
        assert!(
            reply.refusal().1.starts_with("ODP2"),
            "{} {path}: {}",
            route.method,
            reply.text
        );
        asked += 1;
    }
    assert!(asked >= 6, "{asked}");
    let chosen = json!({"obproxyServerIds": [proxy]});
    let mut restart = chosen.clone();
    restart["hotRestart"] = json!(true);
    let mut upgrade = chosen.clone();
    upgrade["shortRpmName"] = json!("obproxy-ce-4.2.1.0-11");
    let mut update = chosen.clone();
    update["parameters"] = json!([{"name": "syslog_level", "value": "INFO"}]);
    for (method, path, body) in [
        (Method::POST, "servers/stop", &chosen),
        (Method::POST, "servers/start", &chosen),
        (Method::POST, "servers/delete", &chosen),
        (Method::POST, "servers/restart", &restart),
        (Method::POST, "servers/upgrade", &upgrade),
        (Method::PUT, "parameters", &update),
        (Method::POST, "parameters/drift/repair", &chosen),
        (Method::POST, "parameters/drift/accept", &chosen),
    ] {
        let reply = send(method.clone(), &format!("{CLUSTERS}/{own}/{path}"), body.clone()).await;
        assert!(
            [400, 404].contains(&reply.status.as_u16()),
            "{method} {path}: {}",
            reply.text
        );
        let started = api
            .get(&format!("/api/v2/tasks/instances?clusterId={own}&size=100"))
            .await
            .data();
        assert_eq!(started["page"]["totalElements"], 1, "{method} {path}: {started}");
    }
    let untouched = api.get(&format!("{CLUSTERS}/{other}")).await.data();
    assert_eq!(untouched["obproxies"][0]["operateStatus"], "NORMAL", "{untouched}");
}
