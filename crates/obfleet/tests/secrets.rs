//! What a fleet leaves behind, on disk, in its processes and in its answers, holds none of the passwords it was given, but
//! for the one file in which an agent keeps what it logs in to a proxy with.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use memchr::memmem;
use obfleet_lab::{
    api::{self, Api},
    packages::{NEW, OLD},
    process,
    testbed::{PATIENCE, SYS_PASSWORD, Testbed},
};
use serde_json::json;

const EXE: &str = env!("CARGO_BIN_EXE_obfleet");
const DRAIN_WINDOW_S: u64 = 5;

/// For the probe of a cluster without proxies: the stand-in lets nobody in who has a password.
const PROBE_PASSWORD: &str = "Lab-Probe-1";
/// The file the administrator's password was handed over in.
const GIVEN: &str = "server.password";

/// Passwords, and where they were found.
struct Search {
    secrets: Vec<String>,
    found: Vec<String>,
    looked_at: usize,
}

impl Search {
    fn look(&mut self, place: &str, bytes: &[u8]) {
        self.looked_at += 1;
        for secret in &self.secrets {
            if memmem::find(bytes, secret.as_bytes()).is_some() {
                self.found.push(format!("{secret} in {place}"));
            }
        }
    }

    fn files(&mut self, dir: &Path) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.files(&path),
                Ok(kind) if kind.is_file() && path.extension().is_some_and(|x| x == "secret") => {
                    assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o177, 0, "{path:?}");
                }
                Ok(kind) if kind.is_file() && entry.file_name() != GIVEN => {
                    // It may be gone by now.
                    self.look(&path.display().to_string(), &fs::read(&path).unwrap_or_default());
                }
                _ => {}
            }
        }
    }

    fn processes(&mut self, pids: &[u32]) {
        for pid in pids {
            for file in ["cmdline", "environ"] {
                let path = PathBuf::from(format!("/proc/{pid}/{file}"));
                self.look(&path.display().to_string(), &fs::read(&path).unwrap_or_default());
            }
        }
    }

    async fn answers(&mut self, api: &Api, cluster: i64) {
        let mut paths = vec![
            "/api/v2/tasks/instances?size=2000".to_owned(),
            "/api/v2/obproxy/clusters".to_owned(),
            format!("/api/v2/obproxy/clusters/{cluster}"),
            "/api/v2/compute/hosts".to_owned(),
            "/api/v2/software-packages".to_owned(),
        ];
        let tasks = api.get(&paths[0]).await.unwrap();
        for task in api::contents(&tasks) {
            let path = format!("/api/v2/tasks/instances/{}", task["id"]);
            paths.push(format!("{path}/events?size=1000"));
            for step in api.get(&path).await.unwrap()["subtasks"].as_array().unwrap() {
                paths.push(format!("{path}/subtasks/{}/log", step["id"]));
            }
            paths.push(path);
        }
        for path in paths {
            let answer = api.get(&path).await.unwrap();
            self.look(&path, answer.to_string().as_bytes());
        }
    }
}

#[tokio::test]
async fn no_password_is_left_behind_by_a_fleet_at_work() {
    let bed = Testbed::start(Path::new(EXE), 1, DRAIN_WINDOW_S).await.unwrap();
    bed.upload(NEW, None).await.unwrap();
    bed.at_rest_as(OLD).await.unwrap();
    let (api, root) = (bed.api().unwrap(), bed.fleet.root());
    let mut search = Search {
        secrets: [&*api.password, SYS_PASSWORD, PROBE_PASSWORD]
            .map(str::to_owned)
            .to_vec(),
        found: Vec::new(),
        looked_at: 0,
    };

    let body = json!({
        "name": "other", "address": "127.0.0.1", "port": 2883, "workMode": "RS_LIST", "password": SYS_PASSWORD,
        "obproxyInstallParam": {"hostIds": []}, "obLinks": [{"clusterName": "other", "rootServers": ["127.0.0.1:2881"]}],
        "probe": {"user": "probe@sys#other", "password": PROBE_PASSWORD, "sql": "select 1"},
    });
    let task = api.post("/api/v2/obproxy/clusters", &body).await.unwrap();
    api.success(api::id(&task).unwrap(), PATIENCE).await.unwrap();

    // An upgrade that fails and is taken back, one that succeeds, and the end of the proxy.
    let bad_day = bed.proxies[0].home.join("standin-faults.json");
    fs::write(&bad_day, r#"{"exit": 1}"#).unwrap();
    let task = api::id(&bed.upgrade(NEW).await.unwrap()).unwrap();
    assert_eq!(api.rest(task, PATIENCE).await.unwrap()["status"], "FAILED");
    let rollback = format!("/api/v2/tasks/instances/{task}/rollback");
    api.post_nothing(&rollback).await.unwrap();
    api.success(task, PATIENCE).await.unwrap();
    fs::remove_file(&bad_day).unwrap();
    let task = bed.upgrade(NEW).await.unwrap();
    api.success(api::id(&task).unwrap(), PATIENCE).await.unwrap();
    bed.at_rest_as(NEW).await.unwrap();
    let mut pids = process::of_home(root);
    pids.push(bed.fleet.server().unwrap().process.pid());
    search.processes(&pids);
    let task = bed.submit_removal(&bed.proxies).await.unwrap();
    api.success(api::id(&task).unwrap(), PATIENCE).await.unwrap();

    search.answers(api, bed.cluster).await;
    search.files(root);
    assert!(search.found.is_empty(), "{:#?}", search.found);
    assert!(
        search.looked_at > 100,
        "only {} places were looked at",
        search.looked_at
    );
}
