//! A server, and a machine to be made a host.

use std::{ffi::OsString, path::Path, process::Command, time::Duration};

use obfleet_lab::{
    api::Api,
    fleet::Fleet,
    machine::{self, Machine, PASSPHRASE, PASSWORD},
};
use serde_json::{Value, json};

pub const EXE: &str = env!("CARGO_BIN_EXE_obfleet");
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Machine and server.
pub struct Lab {
    // Ends before the directory it works in.
    pub machine: Machine,
    pub fleet: Fleet,
}

impl Lab {
    pub async fn start() -> Self {
        let fleet = Fleet::start(Path::new(EXE), 0).await.unwrap();
        let (dir, root) = (fleet.root().join("sshd"), fleet.root().join("machine"));
        let machine = Machine::start(dir, root).await.unwrap();
        Self { machine, fleet }
    }

    pub async fn start_with_systemd() -> Self {
        let fleet = Fleet::start(Path::new(EXE), 0).await.unwrap();
        let machine = Machine::start_with_systemd(fleet.root().join("machine")).await.unwrap();
        machine::lighten(&fleet.server().unwrap().state_dir, Path::new(EXE)).unwrap();
        Self { machine, fleet }
    }

    pub async fn password(&self, password: &str) -> i64 {
        credential(self.fleet.api().unwrap(), "root", password).await
    }

    /// Adds the machine as a host. → the task, at rest
    pub async fn add(&self, body: &Value) -> Value {
        add(self.fleet.api().unwrap(), body).await
    }

    pub async fn is_added(&self, body: &Value) -> i64 {
        let id = is_added(self.fleet.api().unwrap(), body).await;
        self.is_up(id).await;
        id
    }

    pub async fn is_up(&self, id: i64) {
        let api = self.fleet.api().unwrap();
        let host = api.get(&format!("/api/v2/compute/hosts/{id}")).await.unwrap();
        assert_eq!(
            (&host["status"], &host["hostAgentStatus"]),
            (&json!("AVAILABLE"), &json!("AVAILABLE")),
            "{host}"
        );
        assert_eq!(host["sshPort"], self.machine.ssh_port());
    }

    /// Runs a command that asks the server. → what it showed
    pub fn obfleet(&self, arguments: Vec<OsString>) -> String {
        let output = Command::new(EXE)
            .args(arguments)
            .env("OBFLEET_URL", &self.fleet.api().unwrap().url)
            .env("OBFLEET_USER", "admin")
            .env("OBFLEET_PASSWORD", &self.fleet.setting().password)
            .env_remove("OBFLEET_CONTEXT")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }

    /// The task failed at this step, whose log says this.
    pub async fn failed(&self, task: &Value, step: &str, says: &[&str]) {
        let api = self.fleet.api().unwrap();
        assert_eq!(task["status"], "FAILED", "{task}");
        let why = api.why(task).await;
        for text in [step].iter().chain(says) {
            assert!(why.contains(text), "'{text}' is not in: {why}");
        }
        for secret in [PASSWORD, PASSPHRASE, "PRIVATE KEY"] {
            assert!(!why.contains(secret), "{why}");
        }
    }

    pub async fn order(&self, task: &Value, order: &str) -> Value {
        let api = self.fleet.api().unwrap();
        let id = task["id"].as_i64().unwrap();
        api.post_nothing(&format!("/api/v2/tasks/instances/{id}/{order}"))
            .await
            .unwrap();
        api.rest(id, PATIENCE).await.unwrap()
    }

    /// Rolls the task back; nothing is left of the host.
    pub async fn rolled_back(&self, task: &Value) {
        let back = self.order(task, "rollback").await;
        let api = self.fleet.api().unwrap();
        assert_eq!(back["status"], "SUCCESSFUL", "{}", api.why(&back).await);
        let hosts = api.get("/api/v2/compute/hosts").await.unwrap();
        assert_eq!(hosts["contents"], json!([]), "{hosts}");
    }

    pub async fn delete(&self, host: i64) {
        let api = self.fleet.api().unwrap();
        api.delete(&format!("/api/v2/compute/hosts/{host}")).await.unwrap();
    }

    /// The host is gone, and with it what was on the machine.
    pub async fn is_cleared(&self) {
        let api = self.fleet.api().unwrap();
        let is_empty = |hosts: &Value| hosts["contents"] == json!([]);
        api.until("/api/v2/compute/hosts", PATIENCE, is_empty).await.unwrap();
        assert!(self.machine.agents().is_empty());
    }
}

/// A user and a password, to log in with. → the credential's id
pub async fn credential(api: &Api, user: &str, password: &str) -> i64 {
    let property = json!({"type": "PASSWORD", "username": user, "passphrase": password});
    let body = json!({"targetType": "HOST", "name": format!("{user} {password}"), "sshCredentialProperty": property});
    let made = api.post("/api/v2/profiles/me/credentials", &body).await.unwrap();
    made["id"].as_i64().unwrap()
}

/// Adds a machine as a host. → the task, at rest
pub async fn add(api: &Api, body: &Value) -> Value {
    let made = api.post("/api/v2/compute/hosts/batchCreate", body).await.unwrap();
    let task = &made["contents"][0];
    assert_eq!(
        (&task["name"], &task["hostId"]),
        (&json!("Prepare host"), &made["hostIds"][0]),
        "{made}"
    );
    api.rest(task["id"].as_i64().unwrap(), PATIENCE).await.unwrap()
}

/// The same. → the host's id
pub async fn is_added(api: &Api, body: &Value) -> i64 {
    let task = add(api, body).await;
    assert_eq!(task["status"], "SUCCESSFUL", "{}", api.why(&task).await);
    task["hostId"].as_i64().unwrap()
}
