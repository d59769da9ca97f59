//! Credentials for hosts: kept for their user, and never told again.

use obfleet_fleet::inventory::Vault as _;
use obfleet_store::Database;
use serde_json::{Value, json};

use crate::{contract::assert_shape, support::Api};

const CREDENTIALS: &str = "/api/v2/profiles/me/credentials";
const PASSWORD: &str = "Ssh-Passw0rd";
const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nS2V5LVQzeHQ=\n-----END OPENSSH PRIVATE KEY-----\n";
const KEY_PART: &str = "S2V5LVQzeHQ";
const KEY_PASSPHRASE: &str = "K3y-passphrase";

fn by_password(name: &str) -> Value {
    json!({
        "targetType": "HOST", "name": name,
        "sshCredentialProperty": {"type": "PASSWORD", "username": "deploy", "passphrase": PASSWORD},
    })
}

fn by_key(name: &str) -> Value {
    json!({
        "targetType": "HOST", "name": name, "description": "for tests",
        "sshCredentialProperty": {
            "type": "PRIVATE_KEY", "username": "root", "passphrase": KEY, "keyPassphrase": KEY_PASSPHRASE,
        },
    })
}

#[tokio::test]
async fn a_credential_is_added_shown_listed_and_deleted_without_its_secret() {
    let api = Api::start().await;
    let mut told = Vec::new();
    let mut ids = Vec::new();
    for body in [by_password("one"), by_key("two")] {
        let reply = api.post(CREDENTIALS, body).await;
        let added = assert_shape(&reply, "credential");
        let shown = api.get(&format!("{CREDENTIALS}/{}", added["id"])).await;
        assert_eq!(assert_shape(&shown, "credential"), added);
        ids.push(added["id"].clone());
        told.extend([reply.text, shown.text]);
    }
    let list = api.get(CREDENTIALS).await;
    let page = assert_shape(&list, "credential-page");
    let property = |i: usize| &page["contents"][i]["sshCredentialProperty"];
    assert_eq!(property(0), &json!({"type": "PASSWORD", "username": "deploy"}));
    assert_eq!(property(1), &json!({"type": "PRIVATE_KEY", "username": "root"}));
    let found = api.get(&format!("{CREDENTIALS}?keyword=DEPLOY")).await.data();
    assert_eq!(found["contents"], json!([page["contents"][0]]));
    told.push(list.text);
    for text in told {
        for secret in [PASSWORD, KEY_PART, KEY_PASSPHRASE] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }

    let one = format!("{CREDENTIALS}/{}", ids[0]);
    assert_eq!(api.delete(&one).await.status, 200);
    for reply in [api.delete(&one).await, api.get(&one).await] {
        assert_eq!(reply.refusal(), (404, "CRD08001".into(), "credentialId".into()));
    }
    assert_eq!(api.get(CREDENTIALS).await.data()["page"]["totalElements"], 1);
}

#[tokio::test]
async fn a_secret_is_sealed_in_the_database() {
    let api = Api::start().await;
    for body in [by_password("one"), by_key("two")] {
        api.post(CREDENTIALS, body).await.data();
    }
    let (running, dir) = (api.running, api.dir);
    running.stop().await.unwrap();
    let state = dir.path().join("state");
    let database = Database::open(&state.join("obfleet.db")).await.unwrap();
    let kept = database.inventory().credentials(100).await.unwrap();
    let names: Vec<_> = kept.iter().map(|credential| credential.name.as_str()).collect();
    assert_eq!(names, ["one", "two"], "they are kept over the end of a server");
    assert!(kept[1].key_passphrase.is_some());
    for file in std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()) {
        if file.is_dir() {
            continue;
        }
        let bytes = std::fs::read(&file).unwrap();
        for secret in [PASSWORD, KEY_PART, KEY_PASSPHRASE] {
            let holds = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!holds, "{secret} in {}", file.display());
        }
    }
}

#[tokio::test]
async fn what_is_no_credential_is_refused_by_its_field() {
    let api = Api::start().await;
    let changed = |mut body: Value, pointer: &str, value: Value| {
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[member] = value;
        body
    };
    let ssh = "/sshCredentialProperty";
    for (body, field) in [
        (changed(by_password("a"), "/name", json!("")), "name"),
        (changed(by_password("a"), "/name", json!("x".repeat(129))), "name"),
        (
            changed(by_password("a"), &format!("{ssh}/username"), json!(" deploy")),
            "sshCredentialProperty.username",
        ),
        (
            changed(by_password("a"), &format!("{ssh}/passphrase"), json!("")),
            "sshCredentialProperty.passphrase",
        ),
        (
            changed(by_password("a"), &format!("{ssh}/keyPassphrase"), json!("x")),
            "sshCredentialProperty.keyPassphrase",
        ),
        (
            changed(by_key("a"), &format!("{ssh}/passphrase"), json!(PASSWORD)),
            "sshCredentialProperty.passphrase",
        ),
    ] {
        let refused = api.post(CREDENTIALS, body).await;
        assert_eq!(
            refused.refusal(),
            (400, "COM10001".into(), field.into()),
            "{}",
            refused.text
        );
        assert!(!refused.text.contains(PASSWORD), "{}", refused.text);
    }
    for (pointer, value) in [("/targetType", json!("MOON")), ("/color", json!("red"))] {
        let refused = api.post(CREDENTIALS, changed(by_password("a"), pointer, value)).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
    }
    assert_eq!(api.get(CREDENTIALS).await.data()["contents"], json!([]));

    api.post(CREDENTIALS, by_password("a")).await.data();
    let twice = api.post(CREDENTIALS, by_key("a")).await;
    assert_eq!(twice.refusal(), (409, "CRD08002".into(), "name".into()));
}

/// As OBD and consoles send it, with members that are of no effect here.
#[tokio::test]
async fn the_form_of_other_clients_is_taken() {
    let api = Api::start().await;
    let body = json!({
        "targetType": "HOST", "name": "obd", "description": "", "validate": false, "obJdbcCredentialProperty": null,
        "sshCredentialProperty": {
            "type": "PASSWORD", "username": "admin", "passphrase": PASSWORD, "hostIdList": [], "keyPassphrase": "",
        },
    });
    assert_shape(&api.post(CREDENTIALS, body).await, "credential");
}
