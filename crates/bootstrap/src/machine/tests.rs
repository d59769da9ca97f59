//! On this machine, by a shell without SSH.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::*;

/// A shell of this machine; of a file it sends so many bytes.
struct Here {
    most: usize,
}

#[async_trait]
impl Remote for Here {
    async fn exec(&self, command: &str, input: &[u8]) -> Result<Exit, RemoteError> {
        let mut shell = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        shell.stdin.take().unwrap().write_all(input).await.unwrap();
        let output = shell.wait_with_output().await.unwrap();
        Ok(Exit {
            status: output.status.code().map(i32::cast_unsigned),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        })
    }

    async fn upload(&self, command: &str, file: &Path) -> Result<Exit, RemoteError> {
        let bytes = fs::read(file).unwrap();
        self.exec(command, &bytes[..bytes.len().min(self.most)]).await
    }
}

struct Place {
    directory: TempDir,
    remote: Here,
    mark: Mark,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            remote: Here { most: usize::MAX },
            mark: Mark {
                installation: "i1".into(),
                host_id: 7,
            },
        }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("deep/root")
    }

    async fn machine(&self) -> Machine<'_> {
        let name = format!("test-{}", self.directory.path().display());
        let root = self.root();
        Machine::open(&self.remote, &name, root.to_str()).await.unwrap()
    }

    async fn install(&self, executable: &[u8], sha256: &str) -> Result<(), MachineError> {
        let file = self.directory.path().join("executable");
        fs::write(&file, executable).unwrap();
        let agent = Agent {
            mark: &self.mark,
            executable: &file,
            sha256,
            server_url: "http://127.0.0.1:1",
            listen: "127.0.0.1:2889".parse().unwrap(),
            bind: "127.0.0.1".parse().unwrap(),
            token: "a.b.c",
        };
        self.machine().await.install(&agent, "x", false, &|_| {}).await
    }
}

/// Of the text `no program\n`.
const DIGEST: &str = "0d0ec08e21d9cf1d0ebb8b0c14c08bd2e7c8fd1ba0b0a2b1bd27a6c3e1a3b2c0";

#[tokio::test]
async fn a_machine_is_seen_as_it_is() {
    let place = Place::new();
    let machine = place.machine().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = machine.inspect(port).await.unwrap();
    assert_eq!(seen.architecture, std::env::consts::ARCH);
    assert!(
        seen.port_taken && seen.writable && !seen.occupied && seen.missing.is_empty(),
        "{seen:?}"
    );
    assert!(seen.ahead_ms.abs() <= seen.exact_to_ms, "{seen:?}");
    assert!(seen.free_bytes > 0 && seen.mark.is_none(), "{seen:?}");
    assert!(!place.root().exists(), "looking changes nothing");
    fs::create_dir_all(place.root().join("agent")).unwrap();
    assert!(!machine.inspect(port).await.unwrap().occupied);
    fs::write(place.root().join("theirs"), "").unwrap();
    assert!(machine.inspect(port).await.unwrap().occupied);
}

#[tokio::test]
async fn what_did_not_arrive_whole_or_does_not_run_is_not_started() {
    let mut place = Place::new();
    let text = b"#!/bin/sh\nexit 3\n";
    let digest = script::run(
        &place.remote,
        false,
        "digest",
        "tell digest \"$(printf '#!/bin/sh\\nexit 3\\n' | sha256sum | cut -c 1-64)\"",
        &[],
    )
    .await
    .unwrap();
    place.remote.most = 5;
    let error = place.install(text, digest.text("digest")).await.unwrap_err();
    assert!(error.to_string().contains("did not arrive whole"), "{error}");
    place.remote.most = usize::MAX;
    let error = place.install(text, DIGEST).await.unwrap_err();
    assert!(error.to_string().contains("did not arrive whole"), "{error}");
    let error = place.install(text, digest.text("digest")).await.unwrap_err();
    assert!(error.to_string().contains("does not run here"), "{error}");
    let machine = place.machine().await;
    assert_eq!(machine.inspect(1).await.unwrap().mark, Some(place.mark.clone()));

    // It is this host's until it is taken away, and then nothing is left.
    let other = Mark {
        host_id: 8,
        ..place.mark.clone()
    };
    assert!(!machine.remove(&other, 2889, false).await.unwrap());
    let mine = std::mem::replace(&mut place.mark, other);
    let error = place.install(text, digest.text("digest")).await.unwrap_err();
    assert!(error.to_string().contains("agent of another host (i1 7)"), "{error}");
    let machine = place.machine().await;
    fs::create_dir_all(place.root().join("proxies")).unwrap();
    fs::create_dir_all(place.root().join("slots/x")).unwrap();
    assert!(machine.remove(&mine, 2889, false).await.unwrap());
    assert!(!place.root().exists());
    assert!(!machine.remove(&mine, 2889, false).await.unwrap());
}

#[tokio::test]
async fn homes_of_proxies_stay() {
    let place = Place::new();
    let error = place.install(b"no program\n", DIGEST).await.unwrap_err();
    assert!(error.to_string().contains("did not arrive whole"), "{error}");
    let home = place.root().join("proxies/shop-1");
    fs::create_dir_all(&home).unwrap();
    fs::create_dir_all(place.root().join("slots/x")).unwrap();
    assert!(place.machine().await.remove(&place.mark, 2889, false).await.unwrap());
    assert!(home.exists() && place.root().join("slots/x").exists());
    assert!(!place.root().join("agent").exists());
}

#[test]
fn clocks_and_places() {
    assert_eq!(
        clock("1700000000123456789"),
        Some(Duration::from_nanos(1_700_000_000_123_456_789))
    );
    assert_eq!(clock("1700000000N"), Some(Duration::from_millis(1_700_000_000_500)));
    assert_eq!(clock("1700000000"), Some(Duration::from_millis(1_700_000_000_500)));
    assert_eq!(clock("noon"), None);
    assert!(is_place("/opt/obfleet") && is_place("/home/a.b/obfleet-2"));
    for wrong in [
        "", "/", "opt", "/a/../b", "/a//b", "/a/./b", "~/x", "/a\nb", "/a b", "/a/", "/a'b", "/a$b",
    ] {
        assert!(!is_place(wrong), "{wrong:?}");
    }
}
