//! The REST API, as a client uses it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Client, Method, RequestBuilder, multipart};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// Login name of the administrator.
pub const USER: &str = "admin";
const TIMEOUT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(50);

/// A client with the administrator's login.
#[derive(Debug, Clone)]
pub struct Api {
    http: Client,
    /// `http://host:port`.
    pub url: String,
    /// The administrator's password.
    pub password: String,
}

impl Api {
    /// A client for the server at `url`.
    pub fn new(url: String, password: String) -> anyhow::Result<Self> {
        // Somebody else in this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        Ok(Self { http, url, password })
    }

    /// Whether the server answers, asked without a login.
    pub async fn answers(&self) -> bool {
        self.succeeds("/api/v2/time").await
    }

    /// Whether requests should be sent to the server, by what it says itself.
    pub async fn is_ready(&self) -> bool {
        self.succeeds("/readyz").await
    }

    async fn succeeds(&self, path: &str) -> bool {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .basic_auth(USER, Some(&self.password))
    }

    /// `data` of the answer to a GET.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        data(self.request(Method::GET, path), path).await
    }

    /// The whole answer to a GET without a login.
    pub async fn open(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await?;
        Ok(answer.json().await?)
    }

    /// The answer to a GET that is in no envelope.
    pub async fn get_text(&self, path: &str) -> anyhow::Result<String> {
        let answer = self.request(Method::GET, path).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// `data` of the answer to a POST with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        data(self.request(Method::POST, path).json(body), path).await
    }

    /// `data` of the answer to a PUT with a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        data(self.request(Method::PUT, path).json(body), path).await
    }

    /// `data` of the answer to a PATCH with a JSON body.
    pub async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        data(self.request(Method::PATCH, path).json(body), path).await
    }

    /// `data` of the answer to a POST without a body.
    pub async fn post_nothing(&self, path: &str) -> anyhow::Result<Value> {
        data(self.request(Method::POST, path), path).await
    }

    /// `data` of the answer to a DELETE.
    pub async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        data(self.request(Method::DELETE, path), path).await
    }

    /// Status and whole envelope of the answer to a POST, whatever they are.
    pub async fn try_post(&self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        let answer = self.request(Method::POST, path).json(body).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    /// Uploads a package.
    pub async fn upload(&self, file_name: &str, bytes: Vec<u8>) -> anyhow::Result<Value> {
        let part = multipart::Part::bytes(bytes).file_name(file_name.to_owned());
        let form = multipart::Form::new().part("file", part);
        let path = "/api/v2/software-packages";
        data(self.request(Method::POST, path).multipart(form), path).await
    }

    /// A task in the wrapped shape.
    pub async fn task(&self, id: i64) -> anyhow::Result<Value> {
        self.get(&format!("/api/v2/tasks/instances/{id}")).await
    }

    /// The task, once it runs no more.
    pub async fn rest(&self, id: i64, patience: Duration) -> anyhow::Result<Value> {
        let path = format!("/api/v2/tasks/instances/{id}");
        self.until(&path, patience, |task| task["status"] != "RUNNING").await
    }

    /// The task's end, which must be a success.
    pub async fn success(&self, id: i64, patience: Duration) -> anyhow::Result<()> {
        let task = self.rest(id, patience).await?;
        if task["status"] != "SUCCESSFUL" {
            bail!(
                "task {id} ({}) ended {}{}",
                task["name"],
                task["status"],
                self.why(&task).await
            );
        }
        Ok(())
    }

    /// The logs of a task's failed steps.
    pub async fn why(&self, task: &Value) -> String {
        let mut text = String::new();
        for step in task["subtasks"].as_array().into_iter().flatten() {
            if step["status"] != "FAILED" {
                continue;
            }
            let path = format!("/api/v2/tasks/instances/{}/subtasks/{}/log", task["id"], step["id"]);
            let log = self.get(&path).await.unwrap_or_default();
            text += &format!("\n{}:\n{}", step["name"], log["log"].as_str().unwrap_or_default());
        }
        text
    }

    /// What a GET gives, once it satisfies `done`.
    pub async fn until(&self, path: &str, patience: Duration, done: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let deadline = Instant::now() + patience;
        loop {
            let data = self.get(path).await?;
            if done(&data) {
                return Ok(data);
            }
            if Instant::now() > deadline {
                bail!("{path} did not come to it within {} s: {data}", patience.as_secs());
            }
            sleep(PAUSE).await;
        }
    }
}

/// The id in an answer.
pub fn id(data: &Value) -> anyhow::Result<i64> {
    data["id"].as_i64().with_context(|| format!("no id in {data}"))
}

/// The members of a list answer.
pub fn contents(data: &Value) -> &[Value] {
    data["contents"].as_array().map_or(&[], Vec::as_slice)
}

async fn data(request: RequestBuilder, path: &str) -> anyhow::Result<Value> {
    let answer = request
        .send()
        .await
        .with_context(|| format!("{path} was not answered"))?;
    let status = answer.status();
    let mut envelope: Value = answer
        .json()
        .await
        .with_context(|| format!("{path} answered no JSON"))?;
    if !status.is_success() {
        bail!("{path} answered {status}: {}", envelope["error"]);
    }
    Ok(envelope["data"].take())
}
