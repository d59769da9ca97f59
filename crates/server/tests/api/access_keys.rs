//! Access keys, and requests signed with them: the right ones and those of attackers.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::{
    contract::assert_shape,
    signing::{Draft, Key},
    support::{Api, NEW, PASSWORD, Reply, package},
};

const KEYS: &str = "/api/v2/iam/accessKeys";
const REGIONS: &str = "/api/v2/compute/regions";

fn assert_refused(reply: &Reply, part: &str) {
    assert_eq!(
        reply.refusal(),
        (401, "IAM10000".into(), String::new()),
        "{part}: {}",
        reply.text
    );
    assert!(reply.text.contains(part), "{part}: {}", reply.text);
}

#[tokio::test]
async fn a_signed_request_is_its_users() {
    let api = Api::start().await;
    let key = Key::new(&api).await;
    let mut listing = Draft::new(&api, Method::GET, REGIONS);
    listing.query = "keyword=de%20fault%2C1&page=1&size=5";
    assert_eq!(listing.send(&api, &key).await.data()["page"]["size"], 5);
    assert_eq!(
        listing.send(&api, &key).await.status,
        200,
        "a question may be asked twice"
    );

    let body = json!({"name": "north", "description": "北"});
    let region = Draft::new(&api, Method::POST, REGIONS)
        .json(&body)
        .send(&api, &key)
        .await
        .data();
    assert_eq!(region["name"], "north");
    assert_eq!(
        api.running.verifications(),
        1,
        "the key was made with a password, and nothing else"
    );
    let own = Draft::new(&api, Method::GET, KEYS).send(&api, &key).await.data();
    assert_eq!(own["contents"][0]["accessKey"], key.access_key.as_str());
}

#[tokio::test]
async fn the_date_may_come_in_the_other_header() {
    let api = Api::start().await;
    let key = Key::new(&api).await;
    let draft = Draft::new(&api, Method::GET, REGIONS);
    let date: &'static str = httpdate::fmt_http_date(draft.date).leak();
    let mut with_both = draft.clone();
    with_both.extra.insert(0, ("x-ocp-date", date));
    let signature = with_both.signature(&key);
    // What the client signed is the other one; its library sends a Date of its own.
    with_both.date -= Duration::from_secs(7);
    assert_eq!(Reply::of(with_both.with(&api, &signature)).await.status, 200);
}

#[tokio::test]
async fn a_signature_is_good_for_nothing_else() {
    let api = Api::start().await;
    let (key, other) = (Key::new(&api).await, Key::new(&api).await);
    let mut draft = Draft::new(&api, Method::POST, REGIONS).json(&json!({"name": "north"}));
    draft.query = "a=1";
    let signature = draft.signature(&key);
    type Change = fn(&mut Draft);
    let changes: [(&str, Change); 8] = [
        ("method", |draft| draft.method = Method::PUT),
        ("path", |draft| draft.path = "/api/v2/compute/hostTypes"),
        ("query", |draft| draft.query = "a=2"),
        ("body", |draft| {
            draft.body = json!({"name": "south"}).to_string().into_bytes();
        }),
        ("no body", |draft| draft.body.clear()),
        ("content type", |draft| {
            draft.content_type = "application/json;charset=utf-8";
        }),
        ("date", |draft| draft.date += Duration::from_secs(1)),
        ("header", |draft| draft.extra[0].1 = "mcp-server"),
    ];
    for (what, change) in changes {
        let mut changed = draft.clone();
        change(&mut changed);
        let reply = Reply::of(changed.with(&api, &signature)).await;
        assert_eq!(reply.status, 401, "{what}: {}", reply.text);
        assert_refused(&reply, "does not match");
    }
    let mut elsewhere = draft.clone();
    elsewhere.host = "other.example:8080".into();
    assert_refused(&Reply::of(elsewhere.with(&api, &signature)).await, "does not match");
    let with_others_secret = Key {
        access_key: key.access_key.clone(),
        secret: other.secret.clone(),
    };
    assert_refused(&draft.send(&api, &with_others_secret).await, "does not match");
    let of_nobody = Key {
        access_key: "0123456789abcdef".into(),
        secret: key.secret.clone(),
    };
    let unknown = draft.send(&api, &of_nobody).await;
    assert_refused(&unknown, "does not match");
    assert_refused(
        &Reply::of(draft.with(&api, "OCP-ACCESS-KEY-HMACSHA1 x:y:z")).await,
        "Authorization",
    );
    assert_eq!(
        api.get(REGIONS).await.data()["page"]["totalElements"],
        1,
        "nothing was added"
    );
    assert_eq!(
        draft.send(&api, &key).await.status,
        200,
        "the true one is good all the same"
    );
}

#[tokio::test]
async fn an_old_signature_and_one_from_the_future_are_refused() {
    let api = Api::start().await;
    let key = Key::new(&api).await;
    let quarter = Duration::from_secs(15 * 60);
    for shifted in [-1_i32, 1] {
        let mut draft = Draft::new(&api, Method::GET, REGIONS);
        draft.date = if shifted < 0 {
            draft.date - quarter
        } else {
            draft.date + quarter + Duration::from_secs(30)
        };
        assert_refused(&draft.send(&api, &key).await, "15 minutes");
    }
    let mut undated = Draft::new(&api, Method::GET, REGIONS).with(&api, "x").build().unwrap();
    undated.headers_mut().remove("date");
    undated
        .headers_mut()
        .insert("authorization", "OCP-ACCESS-KEY-HMACSHA1 x:AAAA".parse().unwrap());
    let reply = api.http.execute(undated).await.unwrap().text().await.unwrap();
    assert!(reply.contains("x-ocp-date"), "{reply}");
}

#[tokio::test]
async fn a_change_is_not_made_twice_by_one_signature() {
    let api = Api::start().await;
    let key = Key::new(&api).await;
    let draft = Draft::new(&api, Method::POST, REGIONS).json(&json!({"name": "north"}));
    let signature = draft.signature(&key);
    assert_eq!(Reply::of(draft.with(&api, &signature)).await.status, 200);
    api.delete("/api/v2/compute/regions/2").await.json();
    assert_refused(&Reply::of(draft.with(&api, &signature)).await, "made before");
    assert_eq!(
        api.get(REGIONS).await.data()["page"]["totalElements"],
        1,
        "it did not come back"
    );

    // Nor by many at once.
    let draft = Draft::new(&api, Method::POST, REGIONS).json(&json!({"name": "south"}));
    let signature = draft.signature(&key);
    let all = (0..8).map(|_| Reply::of(draft.with(&api, &signature)));
    let replies = futures::future::join_all(all).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 1);
    assert_eq!(replies.iter().filter(|reply| reply.status == 401).count(), 7);
}

#[tokio::test]
async fn keys_are_made_listed_disabled_rotated_and_deleted() {
    let api = Api::start().await;
    let created = assert_shape(
        &api.post(KEYS, json!({"description": "nightly"})).await,
        "access-key-created",
    );
    let key = Key::of(&created);
    assert!(key.access_key.len() == 16 && key.access_key.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert!(key.secret.len() == 32 && key.secret.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let page = assert_shape(&api.get(KEYS).await, "access-key-page");
    assert_eq!(page["contents"][0]["description"], "nightly");
    assert!(!page.to_string().contains(&key.secret), "a secret is told once");

    let path = format!("{KEYS}/{}", key.access_key);
    let patch =
        async |status: &str| Reply::of(api.request(Method::PATCH, &path).json(&json!({"status": status}))).await;
    assert_eq!(
        assert_shape(&patch("DISABLED").await, "access-key")["status"],
        "DISABLED"
    );
    let listing = Draft::new(&api, Method::GET, KEYS);
    assert_refused(&listing.send(&api, &key).await, "disabled");
    assert_eq!(patch("ENABLED").await.data()["status"], "ENABLED");
    assert_eq!(listing.send(&api, &key).await.status, 200);

    let rotated = assert_shape(&api.post_nothing(&format!("{path}/rotate")).await, "access-key-created");
    let new = Key::of(&rotated);
    assert_eq!(rotated["description"], "nightly");
    assert_ne!((&new.access_key, &new.secret), (&key.access_key, &key.secret));
    for key in [&key, &new] {
        assert_eq!(listing.send(&api, key).await.status, 200);
    }
    assert_eq!(api.delete(&path).await.json().get("data"), None);
    assert_refused(&listing.send(&api, &key).await, "does not match");
    assert_eq!(listing.send(&api, &new).await.status, 200);
    for reply in [
        api.delete(&path).await,
        patch("ENABLED").await,
        api.post_nothing(&format!("{path}/rotate")).await,
    ] {
        assert_eq!(reply.refusal(), (404, "COM10002".into(), "accessKey".into()));
    }
}

#[tokio::test]
async fn bad_input_is_named_and_keys_are_counted() {
    let api = Api::start().await;
    for (body, field) in [
        (json!({"description": "x".repeat(256)}), "description"),
        (json!({"description": "a\nb"}), "description"),
        (json!({"descriptio": ""}), "descriptio"),
    ] {
        assert_eq!(
            api.post(KEYS, body).await.refusal(),
            (400, "COM10001".into(), field.into())
        );
    }
    for _ in 0..5 {
        api.post_nothing(KEYS).await.data();
    }
    let one_more = api.post_nothing(KEYS).await;
    assert_eq!(
        (one_more.refusal().0, one_more.refusal().1),
        (400, "IAM10018".into()),
        "{}",
        one_more.text
    );
    let path = format!("{KEYS}/nobodys");
    let wrong = Reply::of(api.request(Method::PATCH, &path).json(&json!({"status": "GONE"}))).await;
    assert_eq!(wrong.refusal(), (400, "COM10001".into(), "status".into()));
    let unsigned = Reply::of(api.bare(Method::GET, KEYS)).await;
    assert_refused(&unsigned, "Basic");
}

#[tokio::test]
async fn a_package_is_uploaded_by_a_signed_request() {
    let api = Api::start_with(|options| options.max_package_bytes = 4 << 20).await;
    let key = Key::new(&api).await;
    let rpm = std::fs::read(package(api.dir.path(), NEW)).unwrap();
    let multipart = |content: &[u8]| {
        let head = format!("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{NEW}\"\r\n\r\n");
        [head.as_bytes(), content, b"\r\n--b--\r\n"].concat()
    };
    let mut draft = Draft::new(&api, Method::POST, "/api/v2/software-packages");
    draft.content_type = "multipart/form-data; boundary=b";
    // More than is kept in memory.
    draft.body = multipart(&vec![7; 3 << 20]);
    let no_package = draft.send(&api, &key).await;
    assert_eq!(no_package.status, 400, "{}", no_package.text);
    let wrong = Key {
        access_key: key.access_key.clone(),
        secret: "0".repeat(32),
    };
    draft.date += Duration::from_secs(1);
    assert_refused(&draft.send(&api, &wrong).await, "does not match");
    draft.body = multipart(&vec![7; 5 << 20]);
    assert_eq!(draft.send(&api, &key).await.status, 413);
    draft.body = multipart(&rpm);
    assert_eq!(draft.send(&api, &key).await.data()["fileName"], NEW);
    let left: Vec<_> = std::fs::read_dir(api.dir.path().join("state/uploads"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");

    let mut large = Draft::new(&api, Method::POST, REGIONS);
    large.body = vec![b' '; (1 << 20) + 1];
    assert_eq!(large.send(&api, &key).await.status, 413, "nothing else may be so large");
}

#[tokio::test]
async fn nobodys_upload_does_not_get_to_the_disk() {
    let api = Api::start().await;
    let (disabled, nobodys) = (
        Key::new(&api).await,
        Key {
            access_key: "0123456789abcdef".into(),
            secret: "0".repeat(32),
        },
    );
    let path = format!("{KEYS}/{}", disabled.access_key);
    let off = api.request(Method::PATCH, &path).json(&json!({"status": "DISABLED"}));
    Reply::of(off).await.data();
    for key in [&disabled, &nobodys] {
        let mut draft = Draft::new(&api, Method::POST, "/api/v2/software-packages");
        draft.content_type = "multipart/form-data; boundary=b";
        let signature = draft.signature(key);
        // More than is kept in memory, and no end of it: whoever waits for that never answers.
        let begin = futures::stream::iter([Ok::<_, std::io::Error>(vec![7_u8; 2 << 20])]);
        let endless = futures::StreamExt::chain(begin, futures::stream::pending());
        let request = draft.with(&api, &signature).body(reqwest::Body::wrap_stream(endless));
        let reply = tokio::time::timeout(Duration::from_secs(20), Reply::of(request)).await;
        assert_refused(&reply.unwrap(), "does not match");
    }
}

#[tokio::test]
async fn secrets_are_nowhere_in_clear_text() {
    let api = Api::start().await;
    let key = Key::new(&api).await;
    Draft::new(&api, Method::POST, REGIONS)
        .json(&json!({"name": "north"}))
        .send(&api, &key)
        .await
        .data();
    for file in std::fs::read_dir(api.dir.path().join("state")).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let secret = key.secret.as_bytes();
            assert!(
                !bytes.windows(secret.len()).any(|part| part == secret),
                "{}",
                path.display()
            );
        }
    }
    let basic = Reply::of(api.bare(Method::GET, KEYS).basic_auth(&key.access_key, Some(PASSWORD))).await;
    assert_eq!(basic.status, 401, "a key's name is no user's");
}
