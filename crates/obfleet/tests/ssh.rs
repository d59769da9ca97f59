//! Hosts that get their agents over SSH: from a real sshd on loopback, in a mount namespace with accounts of its own.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::{
    ffi::OsString,
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use obfleet_lab::{fleet::Fleet, process::Process};
use obfleet_standin::ports::PortLease;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const EXE: &str = env!("CARGO_BIN_EXE_obfleet");
/// Where Debian has it; it wants to be started by its whole path.
const SSHD: &str = "/usr/sbin/sshd";
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);

/// Of root, in the namespace alone.
const PASSWORD: &str = "Lab-Secret-1";
const HASH: &str = "$6$obfleet$RPMTAtQIY9CUBoBrXJHnHvZ9VJYIpMJgLckKYpigoY8d0eFfP5JZJdUMK9j2vs0Th7DmWvJREkMhCwe6eXciL/";
/// Of the key that is let in.
const PASSPHRASE: &str = "open sesame";

/// Whether there is an sshd, and namespaces can be made here; an sshd that takes logins runs as root.
fn can_have_accounts() -> bool {
    if !Path::new(SSHD).exists() {
        let promised = std::env::var_os("OBFLEET_TEST_TOOLS").is_some_and(|value| value == "1");
        assert!(!promised, "OBFLEET_TEST_TOOLS=1, but there is no {SSHD}");
        eprintln!("left out: there is no {SSHD}");
        return false;
    }
    let probe = Command::new("unshare").args(["--mount", "true"]).status();
    let can = probe.is_ok_and(|status| status.success());
    if !can {
        eprintln!("left out: only root can run an sshd with accounts of its own");
    }
    can
}

/// Machine and server.
struct Lab {
    // Ends before the directory it works in.
    sshd: Option<Process>,
    port: PortLease,
    agent_port: PortLease,
    fleet: Fleet,
}

impl Lab {
    async fn start() -> Self {
        let fleet = Fleet::start(Path::new(EXE), 0).await.unwrap();
        let dir = fleet.root().join("sshd");
        for path in [dir.clone(), dir.join("home")] {
            fs::create_dir(path).unwrap();
        }
        keygen(&dir.join("key"), PASSPHRASE);
        fs::copy(dir.join("key.pub"), dir.join("authorized_keys")).unwrap();
        keygen(&dir.join("host_key"), "");
        keygen(&dir.join("other_host_key"), "");
        let home = dir.join("home");
        let accounts = format!(
            "root:x:0:0:root:{}:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n",
            home.display()
        );
        fs::write(dir.join("passwd"), accounts).unwrap();
        fs::write(
            dir.join("shadow"),
            format!("root:{HASH}:19000:0:99999:7:::\nsshd:*:19000::::::\n"),
        )
        .unwrap();
        let mut lab = Self {
            sshd: None,
            port: PortLease::take().unwrap(),
            agent_port: PortLease::take().unwrap(),
            fleet,
        };
        lab.start_sshd("host_key").await;
        lab
    }

    /// Agents get an executable without what only debuggers read: it is sent twice here.
    fn lighten(&self) {
        let executables = self.fleet.server().unwrap().state_dir.join("agents");
        fs::create_dir(&executables).unwrap();
        let light = executables.join(format!("obfleet-{}", std::env::consts::ARCH));
        // Without binutils it is sent as it is.
        let stripped = Command::new("strip").arg("-o").arg(&light).arg(EXE).status();
        if !stripped.is_ok_and(|status| status.success()) {
            fs::copy(EXE, light).unwrap();
        }
    }

    fn dir(&self) -> PathBuf {
        self.fleet.root().join("sshd")
    }

    /// Starts the server of the machine, with this host key.
    async fn start_sshd(&mut self, host_key: &str) {
        self.sshd = None;
        let dir = self.dir();
        let config = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {dir}/{host_key}\nPidFile none\nUsePAM no\nStrictModes no\n\
             AuthorizedKeysFile {dir}/authorized_keys\nPermitRootLogin yes\nPasswordAuthentication yes\n\
             KbdInteractiveAuthentication no\nPerSourcePenalties no\n",
            self.port.port(),
            dir = dir.display()
        );
        // Releases that do not know the last one do not need it.
        let config = match Command::new(SSHD)
            .arg("-T")
            .args(["-o", "PerSourcePenalties=no", "-f", "/dev/null"])
            .output()
        {
            Ok(output) if String::from_utf8_lossy(&output.stderr).contains("Bad configuration option") => {
                config.replace("PerSourcePenalties no\n", "")
            }
            _ => config,
        };
        fs::write(dir.join("sshd_config"), config).unwrap();
        // It ends with this thread, however that ends. Without /run there is no systemd there that an agent could be given to.
        let script = "mount -t tmpfs none /run && mkdir -m 755 /run/sshd && mount --bind \"$0/passwd\" /etc/passwd \
                      && mount --bind \"$0/shadow\" /etc/shadow && exec setpriv --pdeathsig KILL /usr/sbin/sshd -D -e -f \"$0/sshd_config\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(&dir);
        let mut sshd = Process::start(&mut command, dir.join("log")).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port.port())).is_err() {
            assert!(
                sshd.ended().is_none() && Instant::now() < deadline,
                "no sshd: {}",
                sshd.last_words()
            );
            sleep(LOOK).await;
        }
        self.sshd = Some(sshd);
    }

    /// Where the agent will live.
    fn root(&self) -> PathBuf {
        self.fleet.root().join("machine")
    }

    async fn credential(&self, name: &str, property: Value) -> i64 {
        let body = json!({"targetType": "HOST", "name": name, "sshCredentialProperty": property});
        let api = self.fleet.api().unwrap();
        let made = api.post("/api/v2/profiles/me/credentials", &body).await.unwrap();
        made["id"].as_i64().unwrap()
    }

    async fn password(&self, password: &str) -> i64 {
        let property = json!({"type": "PASSWORD", "username": "root", "passphrase": password});
        self.credential(password, property).await
    }

    fn body(&self, credential: i64) -> Value {
        json!({
            "hostBasicDataList": [{"innerIpAddress": "127.0.0.1"}],
            "sshPort": self.port.port(),
            "kind": "DEDICATED_PHYSICAL_MACHINE",
            "idcId": 1,
            "typeId": 1,
            "credentialId": credential,
            "mgragentPort": self.agent_port.port(),
            "installPath": self.root(),
        })
    }

    /// Adds the machine as a host. → the task, at rest
    async fn add(&self, body: &Value) -> Value {
        let api = self.fleet.api().unwrap();
        let made = api.post("/api/v2/compute/hosts/batchCreate", body).await.unwrap();
        let task = &made["contents"][0];
        assert_eq!(
            (&task["name"], &task["hostId"]),
            (&json!("Prepare host"), &made["hostIds"][0]),
            "{made}"
        );
        api.rest(task["id"].as_i64().unwrap(), PATIENCE).await.unwrap()
    }

    async fn is_added(&self, body: &Value) -> i64 {
        let task = self.add(body).await;
        let api = self.fleet.api().unwrap();
        assert_eq!(task["status"], "SUCCESSFUL", "{}", api.why(&task).await);
        let id = task["hostId"].as_i64().unwrap();
        self.is_up(id).await;
        id
    }

    async fn is_up(&self, id: i64) {
        let api = self.fleet.api().unwrap();
        let host = api.get(&format!("/api/v2/compute/hosts/{id}")).await.unwrap();
        assert_eq!(
            (&host["status"], &host["hostAgentStatus"]),
            (&json!("AVAILABLE"), &json!("AVAILABLE")),
            "{host}"
        );
        assert_eq!(host["sshPort"], self.port.port());
    }

    /// Runs a command that asks the server. → what it showed
    fn obfleet(&self, arguments: Vec<OsString>) -> String {
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
    async fn failed(&self, task: &Value, step: &str, says: &[&str]) {
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

    async fn order(&self, task: &Value, order: &str) -> Value {
        let api = self.fleet.api().unwrap();
        let id = task["id"].as_i64().unwrap();
        api.post_nothing(&format!("/api/v2/tasks/instances/{id}/{order}"))
            .await
            .unwrap();
        api.rest(id, PATIENCE).await.unwrap()
    }

    /// Rolls the task back; nothing is left of the host.
    async fn rolled_back(&self, task: &Value) {
        let back = self.order(task, "rollback").await;
        let api = self.fleet.api().unwrap();
        assert_eq!(back["status"], "SUCCESSFUL", "{}", api.why(&back).await);
        let hosts = api.get("/api/v2/compute/hosts").await.unwrap();
        assert_eq!(hosts["contents"], json!([]), "{hosts}");
    }

    async fn delete(&self, host: i64) {
        let api = self.fleet.api().unwrap();
        api.delete(&format!("/api/v2/compute/hosts/{host}")).await.unwrap();
    }

    /// Processes that run the executable of the machine's agent.
    fn agents(&self) -> Vec<String> {
        let line = |entry: fs::DirEntry| {
            let line = fs::read_to_string(entry.path().join("cmdline"))
                .ok()?
                .replace('\0', " ");
            let exe = self.root().join("agent/obfleet");
            line.starts_with(&format!("{} agent", exe.display())).then_some(line)
        };
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| line(entry.ok()?))
            .collect()
    }
}

fn keygen(file: &Path, passphrase: &str) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", passphrase, "-f"])
        .arg(file)
        .status();
    assert!(made.unwrap().success());
}

fn fingerprint(key: &Path) -> String {
    let told = Command::new("ssh-keygen").arg("-lf").arg(key).output().unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    text.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn a_machine_becomes_a_host_by_key_and_again_after_it_was_deleted() {
    if !can_have_accounts() {
        return;
    }
    let mut lab = Lab::start().await;
    lab.lighten();
    // As people do it.
    let dir = lab.dir();
    fs::write(dir.join("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let mut arguments = words(&["credential", "add", "deploy", "--passphrase"]);
    arguments.extend([dir.join("passphrase").into(), "--key".into(), dir.join("key").into()]);
    let made = lab.obfleet(arguments);
    assert!(made.contains("PRIVATE_KEY") && !made.contains("BEGIN"), "{made}");
    let (ssh_port, agent_port) = (lab.port.port().to_string(), lab.agent_port.port().to_string());
    let mut arguments = words(&["host", "add", "127.0.0.1", "--credential", "deploy", "--watch"]);
    arguments.extend(words(&[
        "--ssh-port",
        &ssh_port,
        "--agent-port",
        &agent_port,
        "--install-path",
    ]));
    arguments.push(lab.root().into());
    lab.obfleet(arguments);
    let api = lab.fleet.api().unwrap();
    let credentials = api.get("/api/v2/profiles/me/credentials").await.unwrap();
    let body = lab.body(credentials["contents"][0]["id"].as_i64().unwrap());
    let hosts = api.get("/api/v2/compute/hosts").await.unwrap();
    let first = hosts["contents"][0]["id"].as_i64().unwrap();
    lab.is_up(first).await;
    let agents = lab.agents();
    let [agent] = agents.as_slice() else {
        panic!("{agents:?}")
    };
    assert!(
        agent.contains(&format!("--listen 127.0.0.1:{}", lab.agent_port.port())),
        "{agent}"
    );
    let agent_dir = lab.root().join("agent");
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
    assert_eq!(lab.agents().len(), 1);
    let body = lab.body(lab.password(PASSWORD).await);
    lab.start_sshd("other_host_key").await;
    let task = lab.add(&body).await;
    let dir = lab.dir();
    let (known, shown) = (
        fingerprint(&dir.join("host_key")),
        fingerprint(&dir.join("other_host_key")),
    );
    lab.failed(&task, "Pre check for create host", &[&known, &shown, "sshHostKey"])
        .await;
    lab.rolled_back(&task).await;
    let mut told = body.clone();
    told["hostBasicDataList"][0]["sshHostKey"] = json!(shown);
    let second = lab.is_added(&told).await;
    assert_ne!(first, second);
    assert_eq!(lab.agents().len(), 1);

    // One that can be logged in to is cleared.
    lab.delete(second).await;
    let api = lab.fleet.api().unwrap();
    let is_empty = |hosts: &Value| hosts["contents"] == json!([]);
    api.until("/api/v2/compute/hosts", PATIENCE, is_empty).await.unwrap();
    assert!(lab.agents().is_empty() && !lab.root().exists());
}

#[tokio::test]
async fn what_is_in_the_way_is_told_and_can_be_put_right() {
    if !can_have_accounts() {
        return;
    }
    let lab = Lab::start().await;
    let (wrong, right) = (lab.password("Wrong-Secret-1").await, lab.password(PASSWORD).await);
    let check = "Pre check for create host";

    let task = lab.add(&lab.body(wrong)).await;
    lab.failed(&task, check, &["root cannot log in", "credential"]).await;
    lab.rolled_back(&task).await;

    let nobody = PortLease::take().unwrap();
    let mut body = lab.body(right);
    body["sshPort"] = json!(nobody.port());
    let task = lab.add(&body).await;
    lab.failed(&task, check, &["cannot connect", &nobody.port().to_string()])
        .await;
    lab.rolled_back(&task).await;

    // Files of somebody else's, a port that is taken: all of it is told at once.
    fs::create_dir(lab.root()).unwrap();
    fs::write(lab.root().join("theirs"), "").unwrap();
    let taken = std::net::TcpListener::bind(("127.0.0.1", lab.agent_port.port())).unwrap();
    let body = lab.body(right);
    let task = lab.add(&body).await;
    lab.failed(
        &task,
        check,
        &["installPath", &format!("port {} is in use", lab.agent_port.port())],
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
    fs::remove_dir_all(lab.root()).unwrap();
    let executables = lab.fleet.server().unwrap().state_dir.join("agents");
    fs::create_dir(&executables).unwrap();
    let executable = executables.join(format!("obfleet-{}", std::env::consts::ARCH));
    fs::write(&executable, "#!/bin/sh\necho wrong libc\nexit 3\n").unwrap();
    let task = lab.order(&task, "retry").await;
    lab.failed(&task, "Install ocp agent", &["does not run here", "wrong libc"])
        .await;
    lab.rolled_back(&task).await;
    assert!(!lab.root().exists());

    // An agent of another server is left alone.
    fs::remove_file(&executable).unwrap();
    fs::create_dir_all(lab.root().join("agent")).unwrap();
    fs::write(lab.root().join("agent/mark"), "another 1\n").unwrap();
    let task = lab.add(&body).await;
    lab.failed(&task, check, &["belongs to installation another"]).await;
    fs::remove_dir_all(lab.root()).unwrap();
    let task = lab.order(&task, "retry").await;
    assert_eq!(task["status"], "SUCCESSFUL", "{}", api.why(&task).await);
    assert_eq!(lab.agents().len(), 1);
}
