//! The API by HTTPS: certificates from files, which change while clients are there.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use obfleet_server::{Options, Server, ServerError, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reqwest::{Certificate, Client};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{
    fake_agent::real_agent,
    support::{Api, PASSWORD, Reply, client},
};

/// Long enough for a loaded machine; nothing waits this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// An authority of a test's own.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    /// Writes a new key, and a certificate of it for 127.0.0.1.
    pub fn write(&self, dir: &Path) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let files = files(dir);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    /// A client that knows no other authority, with connections of its own.
    pub fn client(&self) -> Client {
        drop(client());
        let known = Certificate::from_pem(self.pem.as_bytes()).unwrap();
        Client::builder().no_proxy().tls_certs_only([known]).build().unwrap()
    }
}

fn files(dir: &Path) -> TlsFiles {
    TlsFiles {
        certificate: dir.join("cert.pem"),
        key: dir.join("key.pem"),
        look_every: LOOK_EVERY,
    }
}

async fn start(authority: &Authority, dir: &Path) -> Api {
    let files = authority.write(dir);
    Api::start_with(|options| options.tls = Some(files)).await
}

/// Whether the client takes the server for the one it means.
async fn trusts(client: &Client, api: &Api) -> bool {
    client
        .get(format!("{}/api/v2/time", api.running.url))
        .send()
        .await
        .is_ok()
}

#[tokio::test]
async fn clients_that_know_the_authority_are_served_and_cookies_stay_on_https() {
    let (ours, other, dir) = (Authority::new(), Authority::new(), tempfile::tempdir().unwrap());
    let api = start(&ours, dir.path()).await;
    let url = &api.running.url;
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let me = ours.client().get(format!("{url}/api/v2/profiles/me"));
    assert_eq!(
        Reply::of(me.basic_auth("admin", Some(PASSWORD))).await.data()["name"],
        "admin"
    );
    assert!(!trusts(&other.client(), &api).await, "somebody else's authority");
    let plain = client().get(format!("http://{}/api/v2/time", api.running.address));
    assert!(plain.send().await.is_err(), "plain HTTP");

    let login = ours.client().post(format!("{url}/api/v2/login"));
    let login = login
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("username=admin&password={PASSWORD}"));
    let cookies = Reply::of(login).await.headers;
    let cookies: Vec<_> = cookies.get_all("set-cookie").iter().collect();
    assert_eq!(cookies.len(), 2);
    assert!(
        cookies
            .iter()
            .all(|cookie| cookie.to_str().unwrap().ends_with("; Secure"))
    );
    api.running.stop().await.unwrap();
}

#[tokio::test]
async fn a_new_certificate_is_taken_while_connections_go_on() {
    let (old, new, dir) = (Authority::new(), Authority::new(), tempfile::tempdir().unwrap());
    let api = start(&old, dir.path()).await;
    let there_before = old.client();
    assert!(trusts(&there_before, &api).await);

    new.write(dir.path());
    let deadline = Instant::now() + PATIENCE;
    while !trusts(&new.client(), &api).await {
        assert!(Instant::now() < deadline, "the certificate was never taken");
        assert!(trusts(&there_before, &api).await, "a connection was cut");
        sleep(LOOK_EVERY).await;
    }
    assert!(trusts(&there_before, &api).await, "a connection was cut");
    assert!(
        !trusts(&old.client(), &api).await,
        "the old certificate is still in use"
    );
    api.running.stop().await.unwrap();
}

/// Why a server does not start.
async fn refusal(change: impl FnOnce(&mut Options)) -> ServerError {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new("127.0.0.1:0".parse().unwrap(), dir.path().join("state"));
    change(&mut options);
    match Server::start(options).await {
        Ok(_) => panic!("it started"),
        Err(error) => {
            assert!(
                !dir.path().join("state").exists(),
                "nothing is made before it is known to do"
            );
            error
        }
    }
}

#[tokio::test]
async fn passwords_cross_no_network_in_clear_text_by_accident() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
        let error = refusal(|options| options.listen = listen.parse().unwrap()).await;
        assert!(matches!(error, ServerError::Insecure { .. }), "{listen}: {error}");
        let told = ["--tls-cert", "127.0.0.1", "--insecure-http"];
        assert!(told.iter().all(|way| error.to_string().contains(way)), "{error}");
    }
    // In plain words, it tries; that address is nobody's.
    let error = refusal(|options| {
        options.listen = "192.0.2.1:0".parse().unwrap();
        options.insecure_http = true;
        options.state_dir = PathBuf::from("/dev/null/none");
    })
    .await;
    assert!(!matches!(error, ServerError::Insecure { .. }), "{error}");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let said = async || {
        let files = files(dir.path());
        refusal(|options| options.tls = Some(files)).await.to_string()
    };
    assert!(said().await.contains("cert.pem cannot be read"));
    let files = authority.write(dir.path());
    fs::write(&files.certificate, "").unwrap();
    assert!(said().await.contains("cert.pem holds no certificate"));
    authority.write(dir.path());
    fs::write(&files.key, "x").unwrap();
    assert!(said().await.contains("key.pem holds no private key"));
    authority.write(dir.path());
    fs::write(&files.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let foreign = said().await;
    assert!(foreign.contains("give the two that belong together"), "{foreign}");
}

#[tokio::test]
async fn an_agent_enrols_by_https() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let mut api = start(&authority, dir.path()).await;
    api.http = authority.client();
    let agent = tokio::spawn(obfleet_agent::run(real_agent(&api, dir.path()).await));
    let there = |hosts: &Value| hosts["contents"][0]["hostAgentStatus"] == "AVAILABLE";
    api.until("/api/v2/compute/hosts", there).await;
    agent.abort();
    api.running.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_makes_its_own_certificate_and_keeps_its_authority() {
    let api = Api::start_with(|options| options.own_certificate = true).await;
    assert!(api.running.url.starts_with("https://127.0.0.1:"), "{}", api.running.url);
    let state = api.dir.path().join("state");
    let given = fs::read(obfleet_server::tls::own::authority(&state)).unwrap();
    let knows = || {
        let known = Certificate::from_pem(&given).unwrap();
        Client::builder().no_proxy().tls_certs_only([known]).build().unwrap()
    };
    assert!(trusts(&knows(), &api).await);
    assert!(!trusts(&client(), &api).await, "nobody else knows it");

    let Api { running, dir, http } = api;
    running.stop().await.unwrap();
    let mut options = Options::new("127.0.0.1:0".parse().unwrap(), state);
    options.own_certificate = true;
    let running = Server::start(options).await.unwrap();
    let api = Api { running, dir, http };
    assert!(trusts(&knows(), &api).await, "who was given the authority goes on");
}

/// What the server answers to these bytes.
async fn told(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn plain_http_is_sent_to_https_and_nowhere_else() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let files = authority.write(dir.path());
    let api = Api::start_with(|options| {
        options.tls = Some(files);
        options.redirect_http = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let plain = api.running.redirecting.unwrap();
    let me = authority.client().get(format!("http://{plain}/api/v2/time?a=%20b"));
    assert!(
        me.send().await.unwrap().url().as_str().starts_with(&api.running.url),
        "followed"
    );
    // Whatever the method; a body is not read.
    let post = format!(
        "POST /api/v2/login?x HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 99999\r\n\r\n",
        plain.port()
    );
    let sent = told(plain, &post).await;
    assert!(sent.starts_with("HTTP/1.1 308 "), "{sent}");
    let location = format!("location: {}/api/v2/login?x\r\n", api.running.url);
    assert!(sent.contains(&location), "{sent}");
    for host in [
        "Host: user@evil.example\r\n",
        "Host: evil.example/x?\r\n",
        "Host: a\r\nHost: evil.example\r\n",
        "",
    ] {
        let sent = told(plain, &format!("GET / HTTP/1.1\r\n{host}Connection: close\r\n\r\n")).await;
        assert!(
            sent.starts_with("HTTP/1.1 400 ") && !sent.contains("location"),
            "{host} {sent}"
        );
    }
    // What breaks a line is no part of a header.
    let split = told(plain, "GET / HTTP/1.1\r\nHost: a\rX-Evil: 1\r\n\r\n").await;
    assert!(split.starts_with("HTTP/1.1 400 "), "{split}");
    api.running.stop().await.unwrap();
    assert!(TcpStream::connect(plain).await.is_err(), "it stops with the server");
}
