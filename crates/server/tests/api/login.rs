//! Who is let in.

use obfleet_server::auth::{LOCK_RULE, password};
use obfleet_store::{
    Database,
    users::{User, UserRole},
};
use obfleet_wire::time::Timestamp;
use reqwest::Method;
use serde_json::json;

use crate::{
    shape::differences,
    support::{Api, PASSWORD, Reply},
};

const PATH: &str = "/api/v2/obproxy/clusters";

async fn login(api: &Api, user: &str, password: &str) -> Reply {
    Reply::of(api.bare(Method::GET, PATH).basic_auth(user, Some(password))).await
}

#[tokio::test]
async fn nobody_and_strangers_are_turned_away() {
    let api = Api::start().await;
    for path in [PATH, "/api/v2/nothing", "/"] {
        let reply = Reply::of(api.bare(Method::GET, path)).await;
        assert_eq!((reply.status.as_u16(), reply.refusal().1.as_str()), (401, "IAM10000"));
        assert!(!reply.headers.contains_key("www-authenticate"));
        assert_eq!(differences(&reply.json(), "envelope"), [""; 0]);
    }
    for (user, password) in [
        ("admin", "wrong"),
        ("nobody", PASSWORD),
        ("admin", ""),
        ("Admin", PASSWORD),
    ] {
        let reply = login(&api, user, password).await;
        assert_eq!(
            (reply.status.as_u16(), reply.refusal().1.as_str()),
            (401, "IAM10004"),
            "{user}"
        );
        assert!(!reply.text.contains(PASSWORD));
    }
    assert_eq!(login(&api, "admin", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_password_is_verified_once() {
    let api = Api::start().await;
    let calls = (0..20).map(|_| login(&api, "admin", PASSWORD));
    for reply in futures::future::join_all(calls).await {
        assert_eq!(reply.status, 200);
    }
    assert_eq!(api.running.verifications(), 1);
    login(&api, "nobody", PASSWORD).await;
    assert_eq!(
        api.running.verifications(),
        2,
        "an unknown user costs as much as a known one"
    );
}

#[tokio::test]
async fn guessing_is_slowed_down_but_locks_nobody_out() {
    let api = Api::start().await;
    assert_eq!(login(&api, "admin", PASSWORD).await.status, 200);
    let guesses = (0..40).map(|n| format!("guess{n}"));
    let mut blocked = 0;
    for guess in guesses {
        let reply = login(&api, "admin", &guess).await;
        assert_eq!(reply.status, 401);
        if reply.refusal().1 == "IAM10007" {
            blocked += 1;
            assert!(reply.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
        }
    }
    assert!(blocked >= 20, "{blocked} of 40 guesses were made to wait");
    assert!(
        api.running.verifications() <= 20,
        "{} guesses were verified",
        api.running.verifications()
    );
    assert_eq!(
        login(&api, "admin", PASSWORD).await.status,
        200,
        "who is known is let in all the same"
    );
}

#[tokio::test]
async fn guessing_all_at_once_gains_nothing() {
    let api = Api::start().await;
    let guesses: Vec<String> = (0..60).map(|n| format!("guess{n}")).collect();
    let replies = futures::future::join_all(guesses.iter().map(|guess| login(&api, "admin", guess))).await;
    assert!(replies.iter().all(|reply| reply.status == 401));
    assert!(
        api.running.verifications() <= 20,
        "{} guesses were verified",
        api.running.verifications()
    );
}

#[tokio::test]
async fn the_password_file_rules_at_every_start() {
    let api = Api::start_with(|options| options.admin_password_file = None).await;
    let generated = api.running.admin_password.clone().unwrap();
    assert_eq!(login(&api, "admin", &generated).await.status, 200);
    assert_eq!(login(&api, "admin", "admin").await.status, 401);

    let Api { running, dir, http } = api;
    let mut options = obfleet_server::Options::new("127.0.0.1:0".parse().unwrap(), dir.path().join("state"));
    running.stop().await.unwrap();
    options.admin_password_file = Some(dir.path().join("password"));
    let running = obfleet_server::Server::start(options.clone()).await.unwrap();
    assert_eq!(running.admin_password, None);
    let api = Api { running, http, dir };
    assert_eq!(login(&api, "admin", PASSWORD).await.status, 200);
    assert_eq!(login(&api, "admin", &generated).await.status, 401);

    std::fs::write(api.dir.path().join("password"), "short").unwrap();
    api.running.stop().await.unwrap();
    assert!(obfleet_server::Server::start(options).await.is_err());
}

/// Users of these roles, made in the state database of a server that is not running yet.
async fn add_users(state: &std::path::Path, users: &[(&str, &str)]) {
    std::fs::create_dir_all(state).unwrap();
    let database = Database::open(&state.join("obfleet.db")).await.unwrap();
    for (id, (name, role)) in (200..).zip(users) {
        let roles = vec![UserRole::everywhere(role)];
        let user = User::new(id, name, password::hash(PASSWORD).unwrap(), roles);
        assert!(database.users().insert(&user, Timestamp(1)).await.unwrap());
    }
    database.close().await;
}

#[tokio::test]
async fn changes_take_a_role() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    add_users(&state, &[("viewer", "OBPROXY_VIEWER"), ("manager", "OBPROXY_MANAGER")]).await;
    let api = Api::start_with(|options| options.state_dir = state).await;
    let cluster = api.cluster("test").await;
    let task = api.get("/api/v2/tasks/instances").await.data()["contents"][0]["id"].clone();
    let ask = async |user: &str, method: Method, path: &str| {
        let request = api.bare(method, path).basic_auth(user, Some(PASSWORD)).json(&json!({}));
        Reply::of(request).await
    };

    let changes = [
        (Method::POST, PATH.to_owned(), "OBPROXY_MANAGER"),
        (Method::DELETE, format!("{PATH}/{cluster}"), "OBPROXY_MANAGER"),
        (
            Method::POST,
            format!("{PATH}/{cluster}/obproxies/1/upgrade"),
            "OBPROXY_MANAGER",
        ),
        (
            Method::POST,
            format!("/api/v2/tasks/instances/{task}/retry"),
            "TASK_MANAGER",
        ),
        (Method::POST, "/api/v2/software-packages".to_owned(), "PACKAGE_MANAGER"),
        (
            Method::DELETE,
            "/api/v2/software-packages/1".to_owned(),
            "PACKAGE_MANAGER",
        ),
        (Method::POST, "/api/v2/compute/agents/tokens".to_owned(), "HOST_MANAGER"),
    ];
    for (method, path, role) in &changes {
        let reply = ask("viewer", method.clone(), path).await;
        assert_eq!(
            reply.refusal(),
            (403, "IAM11000".to_owned(), String::new()),
            "{method} {path}"
        );
        assert!(reply.text.contains(role), "{}", reply.text);
        let manager = ask("manager", method.clone(), path).await;
        assert_eq!(
            manager.status == 403,
            *role != "OBPROXY_MANAGER",
            "{method} {path}: {}",
            manager.text
        );
    }
    // Looking takes a role, too.
    for (path, viewer, manager) in [
        (PATH, 200, 200),
        ("/api/v2/tasks/instances", 403, 200),
        ("/api/v2/compute/hosts", 403, 200),
        ("/api/v2/software-packages", 403, 200),
    ] {
        assert_eq!(ask("viewer", Method::GET, path).await.status, viewer, "{path}");
        assert_eq!(ask("manager", Method::GET, path).await.status, manager, "{path}");
    }
}

#[tokio::test]
async fn many_failures_lock_a_name_whether_or_not_it_is_somebodys() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    add_users(&state, &[("victim", "ADMIN")]).await;
    {
        // What other servers of the database, or this one before, have counted.
        let database = Database::open(&state.join("obfleet.db")).await.unwrap();
        for name in ["victim", "nobody"] {
            for _ in 1..LOCK_RULE.failures {
                let users = database.users();
                users.login_failed(name, LOCK_RULE, Timestamp::now()).await.unwrap();
            }
        }
        database.close().await;
    }
    let api = Api::start_with(|options| options.state_dir = state).await;
    assert_eq!(login(&api, "admin", PASSWORD).await.status, 200);
    for name in ["victim", "nobody"] {
        let last = login(&api, name, "guess").await;
        assert_eq!(last.refusal().1, "IAM10004", "{}", last.text);
        assert!(last.text.contains(" 0 more"), "{}", last.text);
        let verified = api.running.verifications();
        let locked = login(&api, name, PASSWORD).await;
        assert_eq!(
            (locked.status.as_u16(), locked.refusal().1.as_str()),
            (401, "IAM10003"),
            "{}",
            locked.text
        );
        let wait: u64 = locked.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((800..=900).contains(&wait), "{wait}");
        assert_eq!(api.running.verifications(), verified, "a locked name costs no argon2");
    }
    assert_eq!(login(&api, "admin", PASSWORD).await.status, 200, "others are let in");
}
