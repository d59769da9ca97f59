//! Every documented route of OCP about proxies, hosts, packages and tasks, called once with what its page says, in an order
//! in which a fleet can live it; and how each list is paged. A route is added by a line of the table.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use super::{assert_shape, order};
use crate::{
    fake_agent::FakeAgent,
    shape::differences,
    support::{Api, NEW, OLD, Reply},
};

/// One call. In path and body, `$name` is an id that an earlier call has kept.
struct Call {
    method: Method,
    /// Below `/api/v2`.
    path: &'static str,
    /// JSON, or nothing for a call without a body.
    body: &'static str,
    /// The fixture that `data` is held against; nothing where an answer has no data. Tasks are waited for.
    data: &'static str,
    /// Ids to keep: name, and where in `data` it is.
    keep: &'static [(&'static str, &'static str)],
}

const fn get(path: &'static str, data: &'static str) -> Call {
    call(Method::GET, path, "", data)
}

const fn post(path: &'static str, body: &'static str, data: &'static str) -> Call {
    call(Method::POST, path, body, data)
}

const fn delete(path: &'static str, data: &'static str) -> Call {
    call(Method::DELETE, path, "", data)
}

const fn call(method: Method, path: &'static str, body: &'static str, data: &'static str) -> Call {
    Call {
        method,
        path,
        body,
        data,
        keep: &[],
    }
}

impl Call {
    const fn keep(mut self, keep: &'static [(&'static str, &'static str)]) -> Self {
        self.keep = keep;
        self
    }
}

/// The setting: hosts `$hostA`, `$hostB` and `$hostC` with agents, packages of two versions.
fn calls() -> Vec<Call> {
    vec![
        // Where hosts are.
        post(
            "/compute/regions",
            r#"{"name": "north", "description": "cold"}"#,
            "region",
        )
        .keep(&[("region", "/id")]),
        get("/compute/regions", "region-page"),
        get("/compute/regions/$region", "region"),
        post(
            "/compute/idcs",
            r#"{"name": "n1", "description": "", "regionId": $region}"#,
            "idc",
        )
        .keep(&[("idc", "/id")]),
        get("/compute/idcs", "idc-page"),
        get("/compute/idcs/$idc", "idc"),
        post(
            "/compute/hostTypes",
            r#"{"name": "small", "description": "for proxies"}"#,
            "host-type",
        )
        .keep(&[("type", "/id")]),
        get("/compute/hostTypes", "host-type-page"),
        get("/compute/hostTypes/$type", "host-type"),
        post(
            "/profiles/me/credentials",
            r#"{"targetType": "HOST", "name": "ssh", "sshCredentialProperty":
                {"type": "PASSWORD", "username": "admin", "passphrase": "Ssh-Passw0rd"}}"#,
            "credential",
        ),
        get("/profiles/me/credentials", "credential-page"),
        get(
            "/compute/hosts?page=1&size=10&sort=id,desc&status=AVAILABLE,ONLINE&keyword=host",
            "host-page",
        ),
        get(
            "/compute/hosts?includedServiceType=OB_PROXY&excludedServiceType=OB_CLUSTER",
            "host-page",
        ),
        get("/compute/hosts/$hostA", "host"),
        // Packages.
        get(
            "/software-packages?type=OBPROXY_INSTALL_PACKAGE&version=4.2.1.0&operatingSystem=el7&architecture=x86_64",
            "package-page",
        )
        .keep(&[("package", "/contents/0/id")]),
        // A cluster in each work mode, and proxies for it.
        post(
            "/ob/clusters",
            r#"{"name": "ob1", "obClusterId": 1, "rootServers": [{"ip": "10.0.0.1", "sqlPort": 2881}]}"#,
            "ob-cluster",
        ),
        post(
            "/ob/clusters",
            r#"{"name": "ob2", "obClusterId": 2, "rootServers": [{"ip": "10.0.0.2", "sqlPort": 2881}]}"#,
            "ob-cluster",
        ),
        post(
            "/obproxy/clusters",
            r#"{"name": "rs_list", "address": "foo.example", "port": 2883, "workMode": "RS_LIST",
                "obLinks": [{"clusterName": "ob1", "clusterId": 1, "username": "proxyro", "obClusterId": 1}],
                "startupParameters": [], "parameters": [], "password": "Sys-Passw0rd",
                "obproxyInstallParam": {"hostIds": [], "sqlPort": 2883, "exporterPort": 2884}}"#,
            "task-started",
        ),
        post(
            "/obproxy/clusters",
            r#"{"name": "test", "address": "foo.example", "port": 2883, "workMode": "CONFIG_URL", "obLinks": [],
                "obproxyInstallParam": {"hostIds": [$hostA], "sqlPort": 2883, "exportPort": 2884,
                    "version": "obproxy-ce-4.2.1.0-11.el7.x86_64.rpm"}}"#,
            "task-started",
        )
        .keep(&[
            ("cluster", "/obproxyClusterId"),
            ("task", "/id"),
            ("subtask", "/subtasks/0/id"),
        ]),
        get("/obproxy/clusters?page=1&size=10&sort=id,asc", "cluster-page"),
        post(
            "/obproxy/clusters/$cluster/obproxies/batchAdd",
            r#"{"hostIds": [$hostB, $hostC], "sqlPort": 2883, "exporterPort": 2884, "rpcPort": 2885,
                "version": "obproxy-ce-4.2.1.0-11.el7.x86_64.rpm"}"#,
            "tasks-started",
        ),
        get("/obproxy/clusters/$cluster", "cluster").keep(&[
            ("one", "/obproxies/0/id"),
            ("two", "/obproxies/1/id"),
            ("three", "/obproxies/2/id"),
        ]),
        call(
            Method::PATCH,
            "/obproxy/clusters/$cluster",
            r#"{"address": "bar.example", "port": 3306}"#,
            "cluster",
        ),
        // Links, in the three forms that the pages have.
        post(
            "/obproxy/clusters/$cluster/obLinks/batchAdd",
            r#"[{"clusterName": "ob1", "username": "proxyro", "obClusterId": 1}]"#,
            "",
        ),
        post(
            "/obproxy/clusters/$cluster/obLinks/batchAdd",
            r#"{"clusterName": "ob2", "username": "proxyro"}"#,
            "",
        ),
        delete("/obproxy/clusters/$cluster/obLinks/ob1", ""),
        post(
            "/obproxy/clusters/$cluster/obLinks/batchAdd",
            r#"{"obLinks": [{"clusterName": "ob1", "username": "proxyro"}]}"#,
            "",
        ),
        get("/obproxy/clusters/$cluster", "cluster"),
        // Parameters.
        get(
            "/obproxy/parameterInfo?name=proxy_mem_limited&version=4.2.1.0",
            "parameter-infos",
        ),
        get("/obproxy/clusters/$cluster/parameters", "cluster-parameters"),
        // What is done to proxies: by ids in the body, and in the path.
        post(
            "/obproxy/clusters/$cluster/servers/stop",
            r#"{"obproxyServerIds": [$one]}"#,
            "task-started",
        ),
        post(
            "/obproxy/clusters/$cluster/servers/start",
            r#"{"obproxyServerIds": [$one]}"#,
            "task-started",
        ),
        post(
            "/obproxy/clusters/$cluster/servers/restart",
            r#"{"obproxyServerIds": [$one, $two], "hotRestart": true}"#,
            "task-started",
        ),
        post(
            "/obproxy/clusters/$cluster/obproxies/$one,$two/restart",
            "",
            "task-started",
        ),
        post("/obproxy/clusters/$cluster/obproxies/$one,$two/offline", "", ""),
        post("/obproxy/clusters/$cluster/obproxies/$one%2C%20$two/online", "", ""),
        post(
            "/obproxy/clusters/$cluster/servers/upgrade",
            r#"{"obproxyServerIds": [$three], "shortRpmName": "obproxy-ce-4.3.1.0-1", "packageOperatingSystem": "el7"}"#,
            "task-started",
        ),
        post("/obproxy/clusters/$cluster/obproxies/$one/upgrade", "", "task-started"),
        post(
            "/obproxy/clusters/$cluster/obproxies/$two/upgrade",
            r#"{"shortRpmName": "obproxy-ce-4.3.1.0-1"}"#,
            "task-started",
        ),
        get("/obproxy/loadBalanceInfo?appName=test", "load-balance-info"),
        // Tasks.
        get(
            "/tasks/instances?page=1&size=10&status=SUCCESSFUL,FAILED&type=MANUAL&name=obproxy",
            "task-wrapped-page",
        ),
        get(
            "/tasks/instances?cluterName=test&clusterId=$cluster",
            "task-wrapped-page",
        ),
        get("/tasks/instances/$task", "task-wrapped"),
        get("/tasks/$task", "task-wrapped"),
        get("/tasks/instances/$task/subtasks/$subtask/log", "subtask-log"),
        // Monitoring.
        get(
            "/monitor/metricGroups?type=NORMAL&scope=OBPROXY&target=OBPROXY&targetId=1",
            "metric-class-page",
        ),
        // The end.
        post(
            "/obproxy/clusters/$cluster/servers/delete",
            r#"{"obproxyServerIds": [$three], "skipHostOperationServerIds": []}"#,
            "task-started",
        ),
        delete("/obproxy/clusters/$cluster/obproxies/$one,$two", "task-started"),
        delete("/obproxy/clusters/$cluster", "task-started"),
        delete("/software-packages/$package", ""),
        delete("/compute/hosts/$hostA", ""),
        post("/compute/hosts/batchDelete", r#"{"hostIdList": [$hostB, $hostC]}"#, ""),
        delete("/compute/hostTypes/$type", ""),
        delete("/compute/idcs/$idc", ""),
        delete("/compute/regions/$region", ""),
    ]
}

/// Documented routes that need more than a line, and the tests that hold them.
const ELSEWHERE: [(&str, &str); 17] = [
    ("POST /api/v2/compute/hosts/batchCreate", "add_hosts"),
    ("POST /api/v2/obproxy/clusters/{id}/takeOver", "take_over"),
    ("GET /services", "config_server"),
    ("POST /api/v2/obproxy/password", "passwords"),
    ("POST /api/v2/software-packages", "packages"),
    ("GET /api/v2/files/sys-package/{fileName}", "packages"),
    ("POST /api/v2/tasks/instances/{taskInstanceId}/retry", "task_operations"),
    (
        "POST /api/v2/tasks/instances/{taskInstanceId}/rollback",
        "task_operations",
    ),
    (
        "POST /api/v2/tasks/instances/{taskInstanceId}/subtasks/{subtaskInstanceId}/retry",
        "task_operations",
    ),
    (
        "POST /api/v2/tasks/instances/{taskInstanceId}/subtasks/{subtaskInstanceId}/skip",
        "task_operations",
    ),
    (
        "POST /api/v2/tasks/instances/{taskInstanceId}/subtasks/{subtaskInstanceId}/cancel",
        "task_operations",
    ),
    (
        "POST /api/v2/tasks/instances/{taskInstanceId}/downloadDiagnosis",
        "diagnosis",
    ),
    ("GET /api/v2/monitor/metric", "monitor"),
    ("GET /api/v2/monitor/metricsWithLabel", "monitor"),
    ("GET /api/v2/info", "contract"),
    ("GET /api/v2/time", "contract"),
    ("GET /api/status", "contract"),
];

/// Replaces `$name` by what was kept under it.
fn filled(text: &str, kept: &BTreeMap<&str, i64>) -> String {
    // Longer names first: one may begin with another.
    let mut names: Vec<_> = kept.iter().collect();
    names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    let filled = names.into_iter().fold(text.to_owned(), |text, (name, id)| {
        text.replace(&format!("${name}"), &id.to_string())
    });
    assert!(!filled.contains('$'), "nothing is kept for {filled}");
    filled
}

#[tokio::test]
async fn every_documented_route_answers_as_its_page_says() {
    let api = Api::start().await;
    for package in [OLD, NEW] {
        api.upload(package).await.data();
    }
    let agents = [
        FakeAgent::start(&api, "a").await,
        FakeAgent::start(&api, "b").await,
        FakeAgent::start(&api, "c").await,
    ];
    let mut kept: BTreeMap<_, _> = ["hostA", "hostB", "hostC"]
        .into_iter()
        .zip(agents.iter().map(|agent| agent.host_id))
        .collect();
    for call in calls() {
        let path = format!("/api/v2{}", filled(call.path, &kept));
        let label = format!("{} {path}", call.method);
        let mut request = api.request(call.method.clone(), &path);
        if !call.body.is_empty() {
            let body: Value = serde_json::from_str(&filled(call.body, &kept)).unwrap();
            request = request.json(&body);
        }
        let reply = Reply::of(request).await;
        assert_eq!(reply.status, 200, "{label}: {}", reply.text);
        if call.data.is_empty() {
            let json = reply.json();
            assert_eq!(differences(&json, "envelope"), [""; 0], "{label}: {json}");
            assert_eq!(order::unsorted(&reply.text), [""; 0], "{label}: {json}");
            assert_eq!(json.get("data"), None, "{label}");
            // What is answered without a task may have started one.
            let over = |page: &Value| page["page"]["totalElements"] == 0;
            api.until("/api/v2/tasks/instances?status=RUNNING", over).await;
            continue;
        }
        let data = assert_shape(&reply, call.data);
        for (name, place) in call.keep {
            let id = data.pointer(place).and_then(Value::as_i64);
            kept.insert(
                name,
                id.unwrap_or_else(|| panic!("{label}: no id at {place} of {data}")),
            );
        }
        let tasks = match call.data {
            "task-started" => vec![data],
            "tasks-started" => data["contents"].as_array().unwrap().clone(),
            _ => Vec::new(),
        };
        for task in tasks {
            let done = api.rest(task["id"].as_i64().unwrap()).await;
            assert_eq!(done["status"], "SUCCESSFUL", "{label}: {done}");
            let shape = differences(&done, "task-wrapped");
            assert_eq!(shape, [""; 0], "{label}: {done}");
        }
    }
}

/// Routes as the API's own document has them, without what is in the query.
fn templates() -> Vec<(Method, Vec<String>)> {
    let split = |path: &str| path.split('/').map(str::to_owned).collect();
    let text = include_str!("../../../../../docs/openapi.json");
    let document: Value = serde_json::from_str(text).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut found = Vec::new();
    for (path, item) in paths {
        for method in item.as_object().unwrap().keys() {
            if let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) {
                found.push((method, split(path)));
            }
        }
    }
    found
}

#[test]
fn every_row_is_a_route_and_those_held_elsewhere_are_too() {
    let templates = templates();
    let known = |method: &Method, path: &str| {
        let path = path.split('?').next().unwrap_or_default();
        let parts: Vec<_> = path.split('/').collect();
        let fits = |template: &[String]| {
            let is_same = |(part, template): (&&str, &String)| {
                part == template
                    || (template.starts_with('{') && (part.starts_with('$') || part.starts_with('{') || *part == "ob1"))
            };
            parts.len() == template.len() && parts.iter().zip(template).all(is_same)
        };
        let mut fitting = templates
            .iter()
            .filter(|(known, template)| known == method && fits(template));
        fitting.next().is_some()
    };
    for call in calls() {
        assert!(
            known(&call.method, &format!("/api/v2{}", call.path)),
            "{} {}",
            call.method,
            call.path
        );
    }
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api");
    for (route, test) in ELSEWHERE {
        let (method, path) = route.split_once(' ').unwrap();
        assert!(known(&Method::from_bytes(method.as_bytes()).unwrap(), path), "{route}");
        assert!(std::path::Path::new(&format!("{dir}/{test}.rs")).is_file(), "{test}");
    }
}

/// Lists that come in pages.
const PAGED: [&str; 8] = [
    "/compute/hosts",
    "/compute/regions",
    "/compute/idcs",
    "/compute/hostTypes",
    "/profiles/me/credentials",
    "/software-packages",
    "/obproxy/clusters",
    "/tasks/instances",
];

#[tokio::test]
async fn every_list_is_paged_in_the_same_way() {
    let api = Api::start().await;
    // Three of each, with what is there from the beginning.
    let mut agents = Vec::new();
    for name in ["a", "b", "c"] {
        agents.push(FakeAgent::start(&api, name).await);
        api.cluster(name).await;
        let body = json!({"name": name, "regionId": 1});
        api.post("/api/v2/compute/idcs", body).await.data();
        for kind in ["regions", "hostTypes"] {
            api.post(&format!("/api/v2/compute/{kind}"), json!({"name": name}))
                .await
                .data();
        }
        let login = json!({"type": "PASSWORD", "username": "admin", "passphrase": "Ssh-Passw0rd"});
        let body = json!({"targetType": "HOST", "name": name, "sshCredentialProperty": login});
        api.post("/api/v2/profiles/me/credentials", body).await.data();
    }
    for package in [OLD, NEW, "obproxy-3.2.0-1.el7.x86_64.rpm"] {
        api.upload(package).await.data();
    }
    for path in PAGED {
        let page = async |query: &str| api.get(&format!("/api/v2{path}?{query}")).await;
        let whole = page("").await.data();
        let total = whole["page"]["totalElements"].as_u64().unwrap();
        let ids = |page: &Value| -> Vec<i64> {
            let entries = page["contents"].as_array().unwrap().iter();
            entries.map(|entry| entry["id"].as_i64().unwrap()).collect()
        };
        assert!(total >= 3, "{path}: {whole}");
        assert_eq!(ids(&whole).len() as u64, total, "{path}");
        let pages = total.div_ceil(2);
        assert_eq!(
            whole["page"],
            json!({"number": 1, "size": 10, "totalElements": total, "totalPages": 1}),
            "{path}"
        );
        let mut seen = Vec::new();
        for number in 1..=pages {
            let part = page(&format!("page={number}&size=2")).await.data();
            let told = json!({"number": number, "size": 2, "totalElements": total, "totalPages": pages});
            assert_eq!(part["page"], told, "{path}");
            seen.extend(ids(&part));
        }
        assert_eq!(seen, ids(&whole), "{path}: pages are parts of one list");
        let beyond = page("page=99&size=2").await.data();
        assert_eq!(beyond["contents"], json!([]), "{path}");
        assert_eq!(beyond["page"]["totalElements"], total, "{path}");
        assert_eq!(page("size=2000").await.status, 200, "{path}");
        for (query, field) in [
            ("page=0", "page"),
            ("size=0", "size"),
            ("size=2001", "size"),
            ("page=x", "page"),
        ] {
            assert_eq!(
                page(query).await.refusal(),
                (400, "COM10001".into(), field.into()),
                "{path}?{query}"
            );
        }
        let ascending = ids(&page("sort=id,asc").await.data());
        assert!(ascending.is_sorted(), "{path}: {ascending:?}");
        let mut descending = ids(&page("sort=id,desc").await.data());
        descending.reverse();
        assert_eq!(descending, ascending, "{path}");
    }
}
