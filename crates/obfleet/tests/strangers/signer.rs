//! `client.py` drives a cluster from its beginning to its end.

use std::{fs, path::Path, process::Stdio, time::Duration};

use obfleet_lab::{
    backend::{Backend, BackendChoice},
    fleet::Fleet,
    packages::{NEW, OLD},
    process,
};
use obfleet_standin::ports::PortLease;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{DRAIN_WINDOW_S, EXE};

/// Far more than it takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::test]
async fn who_knows_the_documentation_alone_gets_everything_done() {
    let backend = Backend::start(&BackendChoice::Builtin, Path::new("")).await.unwrap();
    let fleet = Fleet::start_with(Path::new(EXE), 2, DRAIN_WINDOW_S, None)
        .await
        .unwrap();
    let key = fleet
        .api()
        .unwrap()
        .post("/api/v2/iam/accessKeys", &json!({}))
        .await
        .unwrap();
    let dir = tempfile::tempdir_in(fleet.root()).unwrap();
    let [old, new] = [OLD, NEW].map(|release| release.build(Path::new(EXE), None, dir.path()).unwrap());
    // Each host has an address of its own, so one port is enough for both.
    let [sql, exporter] = [(); 2].map(|()| PortLease::take().unwrap());
    let hosts: Vec<_> = fleet.hosts.iter().map(|host| host.id.to_string()).collect();
    let mut python = Command::new("python3");
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/strangers/client.py"));
    python
        .arg(&fleet.api().unwrap().url)
        .args([&old, &new])
        .arg(hosts.join(","));
    python.args([
        sql.port().to_string(),
        exporter.port().to_string(),
        backend.address.to_string(),
    ]);
    for (name, member) in [("OBFLEET_ACCESS_KEY", "accessKey"), ("OBFLEET_SECRET_KEY", "secretKey")] {
        python.env(name, key[member].as_str().unwrap());
    }
    python.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, python.output())
        .await
        .expect("it comes to no end")
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let proxies = told[0]["proxies"].clone();
    let versions = |release: obfleet_lab::packages::Release| json!([{"count": 2, "version": release.text()}]);
    let expected = [
        json!({"step": "create", "once": true, "proxies": proxies, "status": "RUNNING", "versions": versions(OLD)}),
        json!({"step": "upload", "package": NEW.file_name(), "again": "PKG10012"}),
        json!({"step": "upgrade", "in_the_way": true, "logged": true, "versions": versions(NEW)}),
        json!({"step": "parameters", "after": "WARN"}),
        json!({"step": "delete", "status": 404}),
    ];
    assert_eq!(told, expected);
    assert_eq!(proxies.as_array().unwrap().len(), 2);
    // What it was told is so.
    for host in &fleet.hosts {
        let homes = fs::read_dir(host.root().join("proxies")).unwrap();
        for home in homes.map(|home| home.unwrap().path()) {
            assert_eq!(process::of_home(&home), [0_u32; 0], "{}", home.display());
        }
    }
}
