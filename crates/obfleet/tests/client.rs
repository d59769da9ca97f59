//! The commands that ask a server, against one that runs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, Instant},
};

use obfleet_lab::{api::Api, process::Process, testbed::PATIENCE};
use obfleet_server::{Options, Running, Server, TlsFiles};
use obfleet_standin::ports::PortLease;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

const PASSWORD: &str = "Correct-Horse-1";

struct Desk {
    running: Running,
    dir: TempDir,
}

impl Desk {
    async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    async fn with(change: impl FnOnce(&mut Options, &Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new("127.0.0.1:0".parse().unwrap(), dir.path().join("state"));
        std::fs::write(dir.path().join("password"), PASSWORD).unwrap();
        options.admin_password_file = Some(dir.path().join("password"));
        change(&mut options, dir.path());
        let running = Server::start(options).await.unwrap();
        Self { running, dir }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn contexts(&self) -> PathBuf {
        self.dir.path().join("config/contexts.json")
    }

    /// Runs `obfleet`, which knows nothing but where contexts are kept.
    async fn run(&self, args: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_obfleet"));
        command.args(args).env_clear().env("OBFLEET_CONTEXTS", self.contexts());
        command.envs(environment.iter().copied()).kill_on_drop(true);
        command.output().await.unwrap()
    }

    /// What it prints.
    async fn says(&self, args: &[&str]) -> String {
        let output = self.run(args, &[]).await;
        let (out, error) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        assert!(output.status.success(), "{args:?}: {out}{error}");
        out
    }

    /// What it complains of.
    async fn refuses(&self, args: &[&str]) -> String {
        let output = self.run(args, &[]).await;
        assert!(!output.status.success() && output.stdout.is_empty(), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    async fn json(&self, args: &[&str]) -> Value {
        let args = [args, &["-o", "json"]].concat();
        serde_json::from_str(&self.says(&args).await).unwrap()
    }

    /// The administrator, with a context.
    async fn log_in(&self) {
        let (url, file) = (self.running.url.clone(), self.file("given", &format!("{PASSWORD}\n")));
        let file = file.to_str().unwrap();
        let said = self.says(&context_add(&url, file)).await;
        assert!(said.contains("lab is the current context"), "{said}");
    }
}

/// Keeps the administrator's context `lab` of the server there.
fn context_add<'a>(url: &'a str, password_file: &'a str) -> [&'a str; 9] {
    [
        "context",
        "add",
        "lab",
        "--url",
        url,
        "--user",
        "admin",
        "--password-file",
        password_file,
    ]
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_context_keeps_a_key_and_gives_it_back() {
    let desk = Desk::new().await;
    let nobody = desk.refuses(&["whoami"]).await;
    assert!(nobody.contains("obfleet context add"), "{nobody}");
    desk.log_in().await;
    assert_eq!(mode(&desk.contexts()), 0o600);
    let kept = std::fs::read_to_string(desk.contexts()).unwrap();
    assert!(!kept.contains(PASSWORD), "a key is kept and not the password");
    let listed = desk.says(&["context", "list"]).await;
    let secret = serde_json::from_str::<Value>(&kept).unwrap()["contexts"]["lab"]["secretKey"].clone();
    assert!(
        listed.contains("lab") && !listed.contains(secret.as_str().unwrap()),
        "{listed}"
    );
    let me = desk.json(&["whoami"]).await;
    assert_eq!(me["name"], "admin");
    assert!(desk.says(&["whoami"]).await.contains("user:manage"));
    assert_eq!(desk.json(&["access-key", "list"]).await.as_array().unwrap().len(), 1);

    // Several changes within one second, each with a signature of its own.
    let (one, two) = tokio::join!(
        desk.says(&["access-key", "create"]),
        desk.says(&["access-key", "create"])
    );
    assert_ne!(one, two);

    std::fs::set_permissions(desk.contexts(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = desk.refuses(&["whoami"]).await;
    assert!(open.contains("chmod 600"), "{open}");
    std::fs::set_permissions(desk.contexts(), std::fs::Permissions::from_mode(0o600)).unwrap();
    desk.says(&["context", "remove", "lab"]).await;
    assert!(desk.refuses(&["whoami"]).await.contains("obfleet context add"));
    let as_admin = [
        ("OBFLEET_URL", desk.running.url.as_str()),
        ("OBFLEET_USER", "admin"),
        ("OBFLEET_PASSWORD", PASSWORD),
    ];
    let keys = desk.run(&["access-key", "list", "-o", "json"], &as_admin).await;
    let keys: Value = serde_json::from_slice(&keys.stdout).unwrap();
    assert_eq!(keys.as_array().unwrap().len(), 2, "the context's key is gone: {keys}");
}

#[tokio::test]
async fn users_and_roles_are_looked_after() {
    let desk = Desk::new().await;
    desk.log_in().await;
    desk.says(&["role", "add", "NIGHT", "--right", "task:view", "--right", "task:manage"])
        .await;
    let first = desk.file("first", "Other-Horse-2");
    let first = first.to_str().unwrap();
    let add = [
        "user",
        "add",
        "anna",
        "--role",
        "NIGHT",
        "--description",
        "nights",
        "--first-password",
        first,
    ];
    let added = desk.says(&add).await;
    assert!(
        added.contains("anna") && added.contains("ENABLED") && added.contains("NIGHT"),
        "{added}"
    );
    let unknown = desk.refuses(&["user", "add", "berta", "--role", "NO_ROLE"]).await;
    assert!(unknown.contains("COM10001") && unknown.contains("NO_ROLE"), "{unknown}");
    let made = desk.json(&["user", "add", "berta", "--keep-password"]).await;
    let as_berta = [
        ("OBFLEET_URL", desk.running.url.as_str()),
        ("OBFLEET_USER", "berta"),
        ("OBFLEET_PASSWORD", made["password"].as_str().unwrap()),
    ];
    let who = desk.run(&["whoami", "-o", "json"], &as_berta).await;
    assert!(String::from_utf8_lossy(&who.stdout).contains("berta"), "{who:?}");
    let refused = desk.run(&["user", "list"], &as_berta).await;
    let refused = String::from_utf8(refused.stderr).unwrap();
    assert!(
        refused.contains("IAM11000") && refused.contains("user:view"),
        "{refused}"
    );

    // She has to choose a password of her own first.
    let new = desk.file("new", "Third-Horse-3");
    let as_anna = |password| {
        [
            ("OBFLEET_URL", desk.running.url.as_str()),
            ("OBFLEET_USER", "anna"),
            ("OBFLEET_PASSWORD", password),
        ]
    };
    let change = ["passwd", "--current", first, "--new", new.to_str().unwrap()];
    let changed = desk.run(&change, &as_anna("Other-Horse-2")).await;
    assert!(changed.status.success(), "{changed:?}");
    let who = desk.run(&["whoami"], &as_anna("Third-Horse-3")).await;
    assert!(String::from_utf8_lossy(&who.stdout).contains("task:manage"), "{who:?}");

    let disabled = desk
        .says(&["user", "change", "anna", "--disable", "--role", "TASK_VIEWER"])
        .await;
    assert!(
        disabled.contains("DISABLED") && disabled.contains("TASK_VIEWER"),
        "{disabled}"
    );
    let in_vain = desk.run(&["whoami"], &as_anna("Third-Horse-3")).await;
    assert!(
        String::from_utf8_lossy(&in_vain.stderr).contains("IAM10001"),
        "{in_vain:?}"
    );
    desk.says(&["user", "change", "anna", "--enable", "--no-roles"]).await;
    assert_eq!(
        desk.json(&["user", "show", "anna"]).await[0]["roles"],
        Value::Array(Vec::new())
    );
    desk.says(&["user", "unlock", "anna"]).await;
    let reset = desk.json(&["user", "reset-password", "anna"]).await;
    assert_eq!(reset["password"].as_str().unwrap().len(), 20);
    desk.says(&["user", "delete", "anna"]).await;
    assert!(desk.refuses(&["user", "show", "anna"]).await.contains("no user anna"));
    desk.says(&["role", "change", "NIGHT", "--right", "task:view"]).await;
    let roles = desk.says(&["role", "list"]).await;
    assert!(roles.contains("OBPROXY_MANAGER") && roles.contains("NIGHT"), "{roles}");
    desk.says(&["role", "delete", "NIGHT"]).await;
}

#[tokio::test]
async fn what_was_done_is_verified_without_a_server() {
    let desk = Desk::new().await;
    desk.log_in().await;
    let state = desk.dir.path().join("state");
    let state = state.to_str().unwrap();
    // The key of the context was made.
    let verified = desk.says(&["audit", "verify", "--state-dir", state]).await;
    let last = verified.trim().rsplit(' ').next().unwrap().to_owned();
    assert!(
        verified.starts_with("records verified: ") && verified.contains(" from 1 to "),
        "{verified}"
    );

    let exported = desk.says(&["audit", "export", "--state-dir", state]).await;
    assert!(!exported.contains(PASSWORD), "{exported}");
    let file = desk.file("audit.ndjson", &exported);
    let file = file.to_str().unwrap();
    assert_eq!(desk.says(&["audit", "verify", file, "--noted", &last]).await, verified);

    // Without its beginning an export is good, and it is said where it begins.
    desk.says(&["access-key", "create"]).await;
    let exported = desk.says(&["audit", "export", "--state-dir", state]).await;
    let (_, rest) = exported.split_once('\n').unwrap();
    let rest = desk.file("rest.ndjson", rest);
    let rest = desk.says(&["audit", "verify", rest.to_str().unwrap()]).await;
    assert!(rest.contains(" from 2 to "), "{rest}");

    let (seq, _) = last.split_once(':').unwrap();
    let other = format!("{seq}:{}", "0".repeat(64));
    let anew = desk.refuses(&["audit", "verify", file, "--noted", &other]).await;
    assert!(anew.contains("not the one that was noted"), "{anew}");
    desk.file("audit.ndjson", &exported.replacen("admin", "nimda", 1));
    let altered = desk.refuses(&["audit", "verify", file]).await;
    assert!(altered.contains("record 1 was altered"), "{altered}");
    desk.file("audit.ndjson", "{}\n");
    let none = desk.refuses(&["audit", "verify", file]).await;
    assert!(none.contains("line 1 is no record"), "{none}");
}

#[tokio::test]
async fn clusters_and_tasks_are_looked_after() {
    let desk = Desk::new().await;
    desk.log_in().await;
    let body = r#"{"name": "test", "address": "db.example", "port": 2883, "workMode": "RS_LIST",
                   "obLinks": [{"clusterName": "ob", "rootServers": ["10.0.0.1:2881"], "username": "proxyro"}]}"#;
    let body = desk.file("cluster.json", body);
    let made = [
        "api",
        "post",
        "/api/v2/obproxy/clusters",
        "--body",
        body.to_str().unwrap(),
    ];
    let made = desk.json(&made).await;
    let (task, cluster) = (made["id"].to_string(), made["obproxyClusterId"].to_string());
    let watched = desk.says(&["task", "watch", &task]).await;
    assert!(watched.trim_end().ends_with("SUCCESSFUL"), "{watched}");
    let listed = desk.says(&["cluster", "list"]).await;
    assert!(listed.contains("test") && listed.contains("RS_LIST"), "{listed}");
    assert_eq!(desk.json(&["cluster", "show", "test"]).await["id"].to_string(), cluster);
    let page = desk
        .json(&["api", "GET", "/api/v2/obproxy/clusters?page=1&size=5"])
        .await;
    assert_eq!(page["page"]["size"], 5);
    let none = desk.refuses(&["cluster", "show", "other"]).await;
    assert!(none.contains("no cluster other"), "{none}");
    let refused = desk.refuses(&["proxy", "upgrade", "test", "7"]).await;
    assert!(refused.contains("ODP21002"), "{refused}");
    assert_eq!(desk.json(&["host", "list"]).await, Value::Array(Vec::new()));
    assert_eq!(desk.json(&["package", "list"]).await, Value::Array(Vec::new()));

    let deleted = desk.says(&["cluster", "delete", "test", "--watch"]).await;
    assert!(deleted.trim_end().ends_with("SUCCESSFUL"), "{deleted}");
    let tasks = desk.json(&["task", "list", "--status", "SUCCESSFUL"]).await;
    assert_eq!(tasks.as_array().unwrap().len(), 2, "{tasks}");
    let newest = tasks[0]["id"].to_string();
    let steps = desk.json(&["task", "show", &newest]).await;
    assert!(!steps["subtasks"].as_array().unwrap().is_empty());
    let over = desk.refuses(&["task", "rollback", &newest, "--watch"]).await;
    assert!(over.contains("TSK10007"), "{over}");
}

/// A certificate for 127.0.0.1 that is its own authority, in files of this name. → the certificate's
fn certificate(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}

#[tokio::test]
async fn a_context_keeps_the_authority_of_its_server() {
    let desk = Desk::with(|options, dir| {
        let (certificate, key) = certificate(dir, "own");
        options.tls = Some(TlsFiles {
            certificate,
            key,
            look_every: Duration::from_secs(60),
        });
    })
    .await;
    let (other, _) = certificate(desk.dir.path(), "other");
    let own = desk.dir.path().join("own.pem");
    let (url, file) = (desk.running.url.clone(), desk.file("given", PASSWORD));
    let log_in = |ca: Option<&Path>| {
        let mut words = context_add(&url, file.to_str().unwrap()).map(str::to_owned).to_vec();
        words.extend(ca.map(|ca| format!("--ca={}", ca.display())));
        words
    };
    let no_pem = desk.file("no.pem", "none");
    for (ca, said) in [
        (None, "certificate"),
        (Some(&other), "certificate"),
        (Some(&no_pem), "no certificate in PEM"),
    ] {
        let words = log_in(ca.map(PathBuf::as_path));
        let refused = desk
            .refuses(&words.iter().map(String::as_str).collect::<Vec<_>>())
            .await;
        assert!(refused.contains(said), "{ca:?}: {refused}");
    }
    let words = log_in(Some(&own));
    desk.says(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
    std::fs::remove_file(&own).unwrap();
    assert_eq!(desk.json(&["whoami"]).await["name"], "admin");
    desk.says(&["context", "remove", "lab"]).await;
}

/// A server as a process, once it answers; its log is the file `log`.
struct Served {
    process: Process,
    api: Api,
    address: String,
    dir: TempDir,
    _port: PortLease,
}

impl Served {
    /// `command` begins the command line.
    async fn new(mut command: std::process::Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = PortLease::take().unwrap();
        let address = format!("127.0.0.1:{}", port.port());
        command
            .args(["server", "--listen", &address, "--state-dir"])
            .arg(dir.path().join("state"));
        let mut process = Process::start(&mut command, dir.path().join("log")).unwrap();
        let api = Api::new(format!("http://{address}"), PASSWORD.to_owned()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !api.answers().await {
            assert!(
                process.ended().is_none() && Instant::now() < deadline,
                "{}",
                process.last_words()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self {
            process,
            api,
            address,
            dir,
            _port: port,
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

#[tokio::test]
async fn many_who_say_nothing_keep_nobody_out() {
    const SILENT: usize = 400;
    // As a shell or systemd starts it, but for the number.
    let mut command = std::process::Command::new("sh");
    command.args([
        "-c",
        "ulimit -Sn 256; exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_obfleet"),
    ]);
    let served = Served::new(command).await;
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(tokio::net::TcpStream::connect(&served.address).await.unwrap());
    }
    let open = || {
        std::fs::read_dir(format!("/proc/{}/fd", served.process.pid()))
            .unwrap()
            .count()
    };
    let deadline = Instant::now() + PATIENCE;
    while open() < SILENT {
        assert!(
            Instant::now() < deadline,
            "{} connections of {SILENT}: {}",
            open(),
            served.process.last_words()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(served.api.answers().await);
    served.process.stop();
}

#[tokio::test]
async fn nobody_writes_lines_of_their_own_into_the_log() {
    let served = Served::new(std::process::Command::new(env!("CARGO_BIN_EXE_obfleet"))).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/api/v2", served.address);
    let forged = "nobody\n2026-01-01T00:00:00Z  INFO forged\r\u{1b}[2J";
    let stranger = http
        .get(format!("{url}/obproxy/clusters"))
        .basic_auth(forged, Some("x"));
    assert_eq!(stranger.send().await.unwrap().status(), 401);
    let form = "username=nobody%0A2026-01-01T00:00:00Z++INFO+forged%0D%1B%5B2J&password=x";
    let login = http.post(format!("{url}/login")).body(form);
    let login = login.header("Content-Type", "application/x-www-form-urlencoded");
    let login = login.send().await.unwrap().status();
    assert!(login.is_client_error(), "{login}");
    let query = http.get(format!("{url}/obproxy/clusters%0aforged?a%0aforged=b%0aforged"));
    let query = query.send().await.unwrap().status();
    assert!(query.is_client_error(), "{query}");

    let deadline = Instant::now() + PATIENCE;
    while served.log().matches("forged").count() < 2 {
        assert!(Instant::now() < deadline, "{}", served.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = served.log();
    for line in log.lines() {
        let control = line.chars().find(|character| character.is_control());
        assert_eq!(control, None, "{line:?}");
        assert!(!line.contains("forged") || line.contains("refused"), "{line:?}");
    }
    served.process.stop();
}
