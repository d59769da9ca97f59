//! The executable and its certificates: of its own making, read again when it is told to, and the way to HTTPS.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use obfleet_lab::{
    process::{self, Process},
    testbed::PATIENCE,
};
use obfleet_standin::ports::PortLease;
use tempfile::TempDir;

const EXE: &str = env!("CARGO_BIN_EXE_obfleet");
const PASSWORD: &str = "Correct-Horse-1";

/// Waits for something, and says what the server said if it never comes.
async fn until(what: &str, log: &Path, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(
            Instant::now() < deadline,
            "{what}: {}",
            fs::read_to_string(log).unwrap()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Where a server is started again and again.
struct Place {
    dir: TempDir,
    port: PortLease,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
            port: PortLease::take().unwrap(),
        };
        fs::write(place.path("password"), PASSWORD).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port.port())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// A server that is ready; its log is the file `log`.
    async fn serve(&self, options: &[&str]) -> Process {
        let mut command = std::process::Command::new(EXE);
        command
            .args(["server", "--listen", &format!("127.0.0.1:{}", self.port.port())])
            .arg("--admin-password-file")
            .arg(self.path("password"))
            .arg("--state-dir")
            .arg(self.path("state"))
            .args(options);
        let log = self.path("log");
        let _ = fs::remove_file(&log);
        let process = Process::start(&mut command, log.clone()).unwrap();
        until("it is ready", &log, async || self.log().contains("ready on ")).await;
        process
    }

    /// Runs a command that asks the server. → whether it succeeded, and all it said
    async fn run(&self, args: &[&str]) -> (bool, String) {
        let mut command = tokio::process::Command::new(EXE);
        command
            .args(args)
            .env_clear()
            .env("OBFLEET_CONTEXTS", self.path("contexts.json"));
        let output = command.kill_on_drop(true).output().await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    /// Writes a new certificate that is its own authority. → the certificate
    fn certificate(&self) -> String {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        fs::write(self.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
        fs::write(self.path("cert.pem"), made.cert.pem()).unwrap();
        made.cert.pem()
    }

    /// Whether somebody who knows that certificate alone is served; with a connection of its own.
    async fn serves(&self, certificate: &str) -> bool {
        let known = reqwest::Certificate::from_pem(certificate.as_bytes()).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([known]);
        let asked = client.build().unwrap().get(format!("{}/api/v2/time", self.url()));
        asked.send().await.is_ok_and(|answer| answer.status() == 200)
    }
}

#[tokio::test]
async fn a_server_without_files_has_a_certificate_that_clients_go_on_trusting() {
    let place = Place::new();
    let server = place.serve(&["--tls-generate"]).await;
    let authority = place.path("state/tls/authority.pem");
    let ca = authority.to_str().unwrap();
    assert!(
        place
            .log()
            .contains(&format!("clients trust this server with --ca {ca}")),
        "{}",
        place.log()
    );
    assert!(
        place.log().contains(&format!("ready on {}", place.url())),
        "{}",
        place.log()
    );
    let (url, password) = (place.url(), place.path("password"));
    let add = [
        "context",
        "add",
        "own",
        "--url",
        &url,
        "--user",
        "admin",
        "--password-file",
        password.to_str().unwrap(),
    ];
    let (added, said) = place.run(&add).await;
    assert!(!added && said.contains("certificate"), "nobody knows it: {said}");
    let (added, said) = place.run(&[&add[..], &["--ca", ca]].concat()).await;
    assert!(added, "{said}");
    let before = fs::read(&authority).unwrap();
    server.stop();

    // The context has the authority; the certificate is made anew from it.
    let server = place.serve(&["--tls-generate"]).await;
    assert_eq!(fs::read(&authority).unwrap(), before);
    let (known, said) = place.run(&["whoami"]).await;
    assert!(known && said.contains("admin"), "{said}");
    server.stop();
}

#[tokio::test]
async fn a_hangup_has_the_certificate_read_again_and_tells_what_came_of_it() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (place, redirect) = (Place::new(), PortLease::take().unwrap());
    let old = place.certificate();
    let (certificate, key) = (place.path("cert.pem"), place.path("key.pem"));
    let from = format!("127.0.0.1:{}", redirect.port());
    let options = [
        "--tls-cert",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
        "--redirect-http",
        &from,
    ];
    let server = place.serve(&options).await;
    assert!(place.serves(&old).await);
    let (log, told) = (place.path("log"), "told to read the certificate again");
    let after_it = |number: usize| place.log().split(told).nth(number).unwrap_or_default().to_owned();

    let new = place.certificate();
    process::signal(server.pid(), Signal::SIGHUP);
    until("it was told", &log, async || {
        after_it(1).contains("has the certificate of these files")
    })
    .await;
    assert!(place.serves(&new).await && !place.serves(&old).await);

    fs::write(&key, "no key").unwrap();
    process::signal(server.pid(), Signal::SIGHUP);
    let complained = async || {
        let said = after_it(2);
        said.contains("goes on with the certificate it has") && said.contains("key.pem holds no private key")
    };
    until("it complains", &log, complained).await;
    assert!(place.serves(&new).await, "{}", place.log());

    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none());
    let asked = client.build().unwrap().get(format!("http://{from}/api/v2/time?a=%20b"));
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.status(), 308);
    assert_eq!(
        answer.headers()["location"],
        format!("{}/api/v2/time?a=%20b", place.url())
    );
    server.stop();
}

#[tokio::test]
async fn a_hangup_ends_no_server_without_a_certificate() {
    let place = Place::new();
    let mut server = place.serve(&[]).await;
    process::signal(server.pid(), Signal::SIGHUP);
    until("it was told", &place.path("log"), async || {
        place.log().contains("this server speaks plain HTTP")
    })
    .await;
    assert!(server.ended().is_none(), "{}", place.log());
    server.stop();

    let (started, said) = place.run(&["server", "--redirect-http", "127.0.0.1:0"]).await;
    assert!(!started && said.contains("--redirect-http sends to HTTPS"), "{said}");
}
