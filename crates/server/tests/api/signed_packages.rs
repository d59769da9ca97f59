//! A server that takes only packages signed by a trusted key.

use std::{path::Path, process::Command};

use obfleet_server::{Options, Server, ServerError};
use serde_json::Value;

use crate::{
    shape::differences,
    support::{Api, OLD, Reply, package},
};

/// Whether GnuPG and RPM's signing program are there; the suite promises them.
fn programs_are_there() -> bool {
    let there = ["gpg", "rpmsign"].iter().all(|program| {
        let asked = Command::new(program).arg("--version").output();
        asked.is_ok_and(|output| output.status.success())
    });
    let promised = std::env::var_os("OBFLEET_TEST_TOOLS").is_some_and(|value| value == "1");
    assert!(
        there || !promised,
        "OBFLEET_TEST_TOOLS=1, but gpg or rpmsign is not installed"
    );
    there
}

/// GnuPG with keys of its own.
struct Gpg {
    /// Short: a socket is in it.
    home: tempfile::TempDir,
}

impl Gpg {
    fn run(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new(program)
            .env("GNUPGHOME", self.home.path())
            .args(arguments)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {told}");
        output.stdout
    }

    /// Makes a key → its fingerprint
    fn key(&self, name: &str) -> String {
        let quiet = ["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""];
        let make = ["--quick-generate-key", name, "ed25519", "sign", "never"];
        self.run("gpg", &[&quiet[..], &make].concat());
        let listed = String::from_utf8(self.run("gpg", &["--list-keys", "--with-colons", name])).unwrap();
        let line = listed.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    fn export(&self, key: &str, file: &Path) {
        std::fs::write(file, self.run("gpg", &["--armor", "--export", key])).unwrap();
    }

    fn sign(&self, package: &Path, key: &str) -> Vec<u8> {
        let key = format!("_gpg_name {key}");
        let quietly = "_gpg_sign_cmd_extra_args --batch --pinentry-mode loopback";
        let path = package.display().to_string();
        // RPM of Debian expects it elsewhere.
        let search = std::env::var_os("PATH").unwrap();
        let mut places = std::env::split_paths(&search).map(|dir| dir.join("gpg"));
        let gpg = format!("__gpg {}", places.find(|path| path.is_file()).unwrap().display());
        let defined = ["--define", &key, "--define", quietly, "--define", &gpg];
        self.run("rpmsign", &[&defined[..], &["--addsign", &path]].concat());
        std::fs::read(package).unwrap()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        // GnuPG starts an agent of its own for each home.
        let mut end = Command::new("gpgconf");
        let ended = end
            .env("GNUPGHOME", self.home.path())
            .args(["--kill", "gpg-agent"])
            .status();
        println!("gpg-agent: {ended:?}");
    }
}

fn message(reply: &Reply) -> String {
    reply.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn only_packages_signed_by_a_trusted_key_are_taken() {
    if !programs_are_there() {
        return;
    }
    let gpg = Gpg {
        home: tempfile::tempdir_in("/tmp").unwrap(),
    };
    let (vendor, stranger) = (gpg.key("vendor"), gpg.key("stranger"));
    let keys = tempfile::tempdir().unwrap();
    gpg.export(&vendor, &keys.path().join("vendor.asc"));
    let api = Api::start_with(|options| options.package_keys = Some(keys.path().to_owned())).await;
    let path = package(api.dir.path(), OLD);

    let refused = |reply: &Reply| assert_eq!(reply.refusal(), (400, "PKG10006".into(), "file".into()));
    let unsigned = std::fs::read(&path).unwrap();
    let reply = api.upload_bytes(OLD, unsigned.clone()).await;
    refused(&reply);
    assert!(message(&reply).contains("carries no signature"), "{}", reply.text);

    let by_stranger = gpg.sign(&path, &stranger);
    let reply = api.upload_bytes(OLD, by_stranger.clone()).await;
    refused(&reply);
    assert!(message(&reply).contains(&stranger), "{}", reply.text);

    let signed = gpg.sign(&path, &vendor);
    let mut damaged = signed.clone();
    *damaged.last_mut().unwrap() ^= 1;
    refused(&api.upload_bytes(OLD, damaged).await);
    let taken = api.upload_bytes(OLD, signed.clone()).await.data();
    assert_eq!(differences(&taken, "package"), [""; 0]);
    assert_eq!(taken["signedBy"], vendor.as_str());
    let again = api.upload_bytes(OLD, signed).await;
    assert_eq!(again.refusal(), (409, "PKG10012".into(), "file".into()));

    // Keys count from the moment they are there, and what is no key lets no package in.
    let path = format!("/api/v2/software-packages/{}", taken["id"]);
    assert_eq!(api.delete(&path).await.status, 200);
    gpg.export(&stranger, &keys.path().join("stranger.asc"));
    let taken = api.upload_bytes(OLD, by_stranger.clone()).await.data();
    assert_eq!(taken["signedBy"], stranger.as_str());
    std::fs::write(keys.path().join("readme.txt"), "no key").unwrap();
    let reply = api.upload_bytes(OLD, by_stranger).await;
    assert_eq!(reply.refusal().0, 500);
    assert!(message(&reply).contains("package keys"), "{}", reply.text);
}

#[tokio::test]
async fn a_package_from_before_is_uploaded_once_more_to_be_checked() {
    if !programs_are_there() {
        return;
    }
    let gpg = Gpg {
        home: tempfile::tempdir_in("/tmp").unwrap(),
    };
    let vendor = gpg.key("vendor");
    let mut api = Api::start().await;
    let signed = gpg.sign(&package(api.dir.path(), OLD), &vendor);
    let taken = api.upload_bytes(OLD, signed.clone()).await.data();
    assert_eq!(taken["signedBy"], Value::Null);
    api.running.stop().await.unwrap();

    let keys = tempfile::tempdir().unwrap();
    let mut options = Options::new("127.0.0.1:0".parse().unwrap(), api.dir.path().join("state"));
    options.package_keys = Some(keys.path().to_owned());
    let started = Server::start(options.clone()).await;
    assert!(matches!(started.err(), Some(ServerError::PackageKeys(_))));
    gpg.export(&vendor, &keys.path().join("vendor.asc"));
    api.running = Server::start(options).await.unwrap();
    let checked = api.upload_bytes(OLD, signed).await.data();
    assert_eq!(checked["id"], taken["id"]);
    assert_eq!(checked["signedBy"], vendor.as_str());
    let page = api.get("/api/v2/software-packages").await.data();
    assert_eq!(page["contents"][0]["signedBy"], vendor.as_str());
}
