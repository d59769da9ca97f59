//! Machines without systemd, where a script keeps the agent running.

use std::{ffi::OsString, fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use obfleet_lab::machine::{self, HOST_KEY, OTHER_HOST_KEY, PASSPHRASE, PASSWORD};
use obfleet_standin::ports::PortLease;
use serde_json::json;

use crate::lab::{EXE, Lab};

fn fingerprint(key: &Path) -> String {
    let told = Command::new("ssh-keygen").arg("-lf").arg(key).output().unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    text.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn a_machine_becomes_a_host_by_key_and_again_after_it_was_deleted() {
    if !machine::can_be_had() {
        return;
    }
    let mut lab = Lab::start().await;
    machine::lighten(&lab.fleet.server().unwrap().state_dir, Path::new(EXE)).unwrap();
    // As people do it.
    let dir = lab.machine.dir().to_owned();
    fs::write(dir.join("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let mut arguments = words(&["credential", "add", "deploy", "--passphrase"]);
    arguments.extend([dir.join("passphrase").into(), "--key".into(), dir.join("key").into()]);
    let made = lab.obfleet(arguments);
    assert!(made.contains("PRIVATE_KEY") && !made.contains("BEGIN"), "{made}");
    let (ssh_port, agent_port) = (lab.machine.ssh_port().to_string(), lab.machine.agent_port().to_string());
    let mut arguments = words(&["host", "add", "127.0.0.1", "--credential", "deploy", "--watch"]);
    arguments.extend(words(&[
        "--ssh-port",
        &ssh_port,
        "--agent-port",
        &agent_port,
        "--install-path",
    ]));
    arguments.push(lab.machine.root().into());
    lab.obfleet(arguments);
    let api = lab.fleet.api().unwrap();
    let credentials = api.get("/api/v2/profiles/me/credentials").await.unwrap();
    let body = lab.machine.addition(credentials["contents"][0]["id"].as_i64().unwrap());
    let hosts = api.get("/api/v2/compute/hosts").await.unwrap();
    let first = hosts["contents"][0]["id"].as_i64().unwrap();
    lab.is_up(first).await;
    let agents = lab.machine.agents();
    let [agent] = agents.as_slice() else {
        panic!("{agents:?}")
    };
    assert!(
        agent.contains(&format!("--listen 127.0.0.1:{}", lab.machine.agent_port())),
        "{agent}"
    );
    let agent_dir = lab.machine.root().join("agent");
    for private in ["", "env", "state"] {
        let mode = fs::metadata(agent_dir.join(private)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{private} is for others to see");
    }

    // The same machine is no second host.
    let api = lab.fleet.api().unwrap();
    let (status, refusal) = api.try_post("/api/v2/compute/hosts/batchCreate", &body).await.unwrap();
    assert_eq!((status, &refusal["error"]["code"]), (409, &json!(7001)), "{refusal}");
    assert_eq!(refusal["error"]["target"]["hostId"], first, "{refusal}");

    // A host that nobody can log in to any more leaves its agent behind; that gives way to another one, and the machine is
    // still known by its key.
    api.delete(&format!("/api/v2/profiles/me/credentials/{}", body["credentialId"]))
        .await
        .unwrap();
    lab.delete(first).await;
    assert_eq!(lab.machine.agents().len(), 1);
    let body = lab.machine.addition(lab.password(PASSWORD).await);
    lab.machine.let_in(OTHER_HOST_KEY).await.unwrap();
    let task = lab.add(&body).await;
    let (known, shown) = (fingerprint(&dir.join(HOST_KEY)), fingerprint(&dir.join(OTHER_HOST_KEY)));
    lab.failed(&task, "Pre check for create host", &[&known, &shown, "sshHostKey"])
        .await;
    lab.rolled_back(&task).await;
    let mut told = body.clone();
    told["hostBasicDataList"][0]["sshHostKey"] = json!(shown);
    let second = lab.is_added(&told).await;
    assert_ne!(first, second);
    assert_eq!(lab.machine.agents().len(), 1);

    // One that can be logged in to is cleared.
    lab.delete(second).await;
    lab.is_cleared().await;
    assert!(!lab.machine.root().exists());
}

#[tokio::test]
async fn what_is_in_the_way_is_told_and_can_be_put_right() {
    if !machine::can_be_had() {
        return;
    }
    let lab = Lab::start().await;
    let (wrong, right) = (lab.password("Wrong-Secret-1").await, lab.password(PASSWORD).await);
    let check = "Pre check for create host";

    let task = lab.add(&lab.machine.addition(wrong)).await;
    lab.failed(&task, check, &["root cannot log in", "credential"]).await;
    lab.rolled_back(&task).await;

    let nobody = PortLease::take().unwrap();
    let mut body = lab.machine.addition(right);
    body["sshPort"] = json!(nobody.port());
    let task = lab.add(&body).await;
    lab.failed(&task, check, &["cannot connect", &nobody.port().to_string()])
        .await;
    lab.rolled_back(&task).await;

    // Files of somebody else's, a port that is taken: all of it is told at once.
    fs::create_dir(lab.machine.root()).unwrap();
    fs::write(lab.machine.root().join("theirs"), "").unwrap();
    let taken = std::net::TcpListener::bind(("127.0.0.1", lab.machine.agent_port())).unwrap();
    let body = lab.machine.addition(right);
    let task = lab.add(&body).await;
    lab.failed(
        &task,
        check,
        &["installPath", &format!("port {} is in use", lab.machine.agent_port())],
    )
    .await;

    // While it has not ended, neither the host goes nor what it is reached by.
    let api = lab.fleet.api().unwrap();
    let host = task["hostId"].as_i64().unwrap();
    let shown = api.get(&format!("/api/v2/compute/hosts/{host}")).await.unwrap();
    assert_eq!(shown["status"], "NEW", "{shown}");
    let delete = json!({"hostIdList": [host]});
    let (status, refusal) = api
        .try_post("/api/v2/compute/hosts/batchDelete", &delete)
        .await
        .unwrap();
    assert_eq!(
        (status, &refusal["error"]["target"]["taskId"]),
        (409, &task["id"]),
        "{refusal}"
    );
    let error = api
        .delete(&format!("/api/v2/profiles/me/credentials/{right}"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("409"), "{error:#}");

    // Put right, but the agent for the machine is no good.
    drop(taken);
    fs::remove_dir_all(lab.machine.root()).unwrap();
    let executable = machine::executable(&lab.fleet.server().unwrap().state_dir);
    fs::create_dir(executable.parent().unwrap()).unwrap();
    fs::write(&executable, "#!/bin/sh\necho wrong libc\nexit 3\n").unwrap();
    let task = lab.order(&task, "retry").await;
    lab.failed(&task, "Install ocp agent", &["does not run here", "wrong libc"])
        .await;
    lab.rolled_back(&task).await;
    assert!(!lab.machine.root().exists());

    // An agent of another server is left alone.
    fs::remove_file(&executable).unwrap();
    fs::create_dir_all(lab.machine.root().join("agent")).unwrap();
    fs::write(lab.machine.root().join("agent/mark"), "another 1\n").unwrap();
    let task = lab.add(&body).await;
    lab.failed(&task, check, &["belongs to installation another"]).await;
    fs::remove_dir_all(lab.machine.root()).unwrap();
    let task = lab.order(&task, "retry").await;
    assert_eq!(task["status"], "SUCCESSFUL", "{}", api.why(&task).await);
    assert_eq!(lab.machine.agents().len(), 1);
}
