//! A server of a test's own, and how to ask it.

use std::time::Duration;

use obfleet_server::{Options, Running, Server};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::fake_agent::FakeAgent;

pub const PASSWORD: &str = "Correct-Horse-1";
/// Long enough for a loaded machine; nothing waits this long unless it is broken.
const DEADLINE: Duration = Duration::from_secs(60);

pub struct Api {
    pub running: Running,
    pub http: Client,
    pub dir: TempDir,
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Reply {
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Self {
            status,
            headers,
            text: response.text().await.unwrap(),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{} {}", self.status, self.text))
    }

    /// `data` of a successful answer.
    pub fn data(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()["data"].clone()
    }

    /// Status, whole error code and field of a refusal.
    pub fn refusal(&self) -> (u16, String, String) {
        let json = self.json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        assert_eq!(json["successful"], false, "{json}");
        assert_eq!(json["status"], self.status.as_u16(), "{json}");
        let error = &json["error"];
        (
            self.status.as_u16(),
            text(&error["debugMessage"]),
            text(&error["subErrors"][0]["field"]),
        )
    }
}

impl Api {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("password"), PASSWORD).unwrap();
        let mut options = Options::new("127.0.0.1:0".parse().unwrap(), dir.path().join("state"));
        options.admin_password_file = Some(dir.path().join("password"));
        change(&mut options);
        let running = Server::start(options).await.unwrap();
        Self {
            running,
            http: client(),
            dir,
        }
    }

    /// A request without a login.
    pub fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        let scheme = if self.running.url.starts_with("https") {
            "https"
        } else {
            "http"
        };
        self.http
            .request(method, format!("{scheme}://{}{path}", self.running.address))
    }

    /// A request of the administrator's.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).basic_auth("admin", Some(PASSWORD))
    }

    pub async fn get(&self, path: &str) -> Reply {
        Reply::of(self.request(Method::GET, path)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        Reply::of(self.request(Method::DELETE, path)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Reply {
        Reply::of(self.request(Method::PATCH, path).json(&body)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        Reply::of(self.request(Method::POST, path).json(&body)).await
    }

    /// A POST without body and content type.
    pub async fn post_nothing(&self, path: &str) -> Reply {
        Reply::of(self.request(Method::POST, path)).await
    }

    /// The task, once it has come to rest.
    pub async fn rest(&self, task: i64) -> Value {
        self.until(&format!("/api/v2/tasks/instances/{task}"), |task| {
            task["status"] != "RUNNING"
        })
        .await
    }

    /// What the path answers, once it satisfies `done`.
    pub async fn until(&self, path: &str, done: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let data = self.get(path).await.data();
            if done(&data) {
                return data;
            }
            assert!(Instant::now() < deadline, "{path} never came to it: {data}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// An RS_LIST cluster without proxies. → its id
    pub async fn cluster(&self, name: &str) -> i64 {
        let body = json!({
            "name": name, "address": "db.example", "port": 2883, "workMode": "RS_LIST",
            "obLinks": [{"clusterName": "ob", "username": "proxyro", "rootServers": ["127.0.0.1:2881"]}],
        });
        let task = self.post("/api/v2/obproxy/clusters", body).await.data();
        self.rest(task["id"].as_i64().unwrap()).await;
        task["obproxyClusterId"].as_i64().unwrap()
    }

    /// Installs a proxy on each agent's host. → the tasks as answered
    pub async fn add(&self, cluster: i64, agents: &[&FakeAgent]) -> Vec<Value> {
        let hosts: Vec<i64> = agents.iter().map(|agent| agent.host_id).collect();
        let body = json!({"hostIds": hosts, "sqlPort": 2883, "exporterPort": 2884, "version": OLD});
        let reply = self
            .post(&format!("/api/v2/obproxy/clusters/{cluster}/obproxies/batchAdd"), body)
            .await;
        reply.data()["contents"].as_array().unwrap().clone()
    }

    /// A cluster with a running proxy on each agent's host. → its id and theirs
    pub async fn fleet(&self, agents: &[&FakeAgent]) -> (i64, Vec<i64>) {
        self.fleet_called("test", agents).await
    }

    /// The same with another name for the cluster.
    pub async fn fleet_called(&self, name: &str, agents: &[&FakeAgent]) -> (i64, Vec<i64>) {
        self.upload(OLD).await.data();
        let cluster = self.cluster(name).await;
        for task in self.add(cluster, agents).await {
            let done = self.rest(task["id"].as_i64().unwrap()).await;
            assert_eq!(done["status"], "SUCCESSFUL", "{done}");
        }
        let detail = self.get(&format!("/api/v2/obproxy/clusters/{cluster}")).await.data();
        let ids = detail["obproxies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|proxy| proxy["id"].as_i64().unwrap())
            .collect();
        (cluster, ids)
    }

    /// Uploads a package made for the purpose.
    pub async fn upload(&self, file_name: &str) -> Reply {
        let file = package(self.dir.path(), file_name);
        self.upload_bytes(file_name, std::fs::read(file).unwrap()).await
    }

    pub async fn upload_bytes(&self, file_name: &str, bytes: Vec<u8>) -> Reply {
        let part = reqwest::multipart::Part::bytes(bytes).file_name(file_name.to_owned());
        let form = reqwest::multipart::Form::new().part("file", part);
        Reply::of(self.request(Method::POST, "/api/v2/software-packages").multipart(form)).await
    }
}

pub const OLD: &str = "obproxy-ce-4.2.1.0-11.el7.x86_64.rpm";
pub const NEW: &str = "obproxy-ce-4.3.1.0-1.el7.x86_64.rpm";

/// The content of a package with this file name around a file with this content.
pub fn package_of(dir: &std::path::Path, file_name: &str, binary: &str) -> Vec<u8> {
    std::fs::read(build(dir, file_name, binary)).unwrap()
}

/// A real RPM with this file name around a file that is no proxy.
pub fn package(dir: &std::path::Path, file_name: &str) -> std::path::PathBuf {
    build(dir, file_name, "#!/bin/false\n")
}

fn build(dir: &std::path::Path, file_name: &str, content: &str) -> std::path::PathBuf {
    let name: obfleet_wire::version::PackageName = file_name.parse().unwrap();
    let spec = obfleet_package::build::BuildSpec {
        name: name.name,
        version: name.version.version,
        release: format!("{}.{}", name.version.build, name.os),
        arch: name.arch,
    };
    let binary = dir.join("binary");
    std::fs::write(&binary, content).unwrap();
    obfleet_package::build::build_obproxy_rpm(&spec, &binary, dir).unwrap()
}

pub fn client() -> Client {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().build().unwrap()
}
