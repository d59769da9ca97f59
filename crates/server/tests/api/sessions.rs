//! Browsers that log in, and what is tried with their cookies.

use reqwest::{Method, RequestBuilder, header::SET_COOKIE};
use serde_json::json;

use crate::{
    contract::assert_shape,
    support::{Api, PASSWORD, Reply},
};

const LOGIN: &str = "/api/v2/login";
const LOGOUT: &str = "/api/v2/logout";
const USERS: &str = "/api/v2/iam/users";
const ME: &str = "/api/v2/profiles/me";
const REGIONS: &str = "/api/v2/compute/regions";

/// What a browser keeps.
#[derive(Clone)]
struct Browser {
    session: String,
    token: String,
}

impl Browser {
    /// From the cookies of an answer.
    fn of(reply: &Reply) -> Self {
        let cookies: Vec<&str> = reply
            .headers
            .get_all(SET_COOKIE)
            .iter()
            .map(|cookie| cookie.to_str().unwrap())
            .collect();
        let value = |name: &str| {
            let cookie = cookies.iter().find_map(|cookie| cookie.strip_prefix(name)).unwrap();
            cookie.split(';').next().unwrap().to_owned()
        };
        Self {
            session: value("JSESSIONID="),
            token: value("XSRF-TOKEN="),
        }
    }

    async fn new(api: &Api, user: &str, password: &str) -> Self {
        let reply = Reply::of(login(api, user, password)).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Self::of(&reply)
    }

    /// A request as any site makes the browser send it.
    fn sends(&self, api: &Api, method: Method, path: &str) -> RequestBuilder {
        let cookies = format!("JSESSIONID={}; XSRF-TOKEN={}", self.session, self.token);
        api.bare(method, path).header("Cookie", cookies)
    }

    async fn get(&self, api: &Api, path: &str) -> Reply {
        Reply::of(self.sends(api, Method::GET, path)).await
    }

    /// A change as a page of ours makes it.
    async fn post(&self, api: &Api, path: &str, body: serde_json::Value) -> Reply {
        let request = self.sends(api, Method::POST, path).header("X-XSRF-TOKEN", &self.token);
        Reply::of(request.json(&body)).await
    }
}

fn login(api: &Api, user: &str, password: &str) -> RequestBuilder {
    form(api, &[("username", user), ("password", password)])
}

fn form(api: &Api, fields: &[(&str, &str)]) -> RequestBuilder {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let kind = "application/x-www-form-urlencoded";
    api.bare(Method::POST, LOGIN).header("Content-Type", kind).body(body)
}

fn code(reply: &Reply) -> (u16, String) {
    let (status, code, _) = reply.refusal();
    (status, code)
}

async fn anna(api: &Api) -> i64 {
    let body = json!({
        "name": "anna", "password": PASSWORD, "needChangePassword": false, "roles": [{"name": "HOST_MANAGER"}],
    });
    api.post(USERS, body).await.data()["id"].as_i64().unwrap()
}

#[tokio::test]
async fn a_browser_logs_in_and_out() {
    let api = Api::start().await;
    anna(&api).await;
    let key = Reply::of(api.bare(Method::GET, "/api/v2/loginKey")).await;
    assert_eq!(key.data(), json!({"publicKey": ""}));
    let reply = Reply::of(login(&api, "anna", PASSWORD)).await;
    let data = assert_shape(&reply, "logged-in");
    assert_eq!(data, json!({"location": "/", "needChangePassword": false}));
    let cookies: Vec<_> = reply
        .headers
        .get_all(SET_COOKIE)
        .iter()
        .map(|cookie| cookie.to_str().unwrap())
        .collect();
    assert!(
        cookies.len() == 2 && cookies[0].contains("; HttpOnly; SameSite=Strict"),
        "{cookies:?}"
    );
    assert_eq!(reply.headers["cache-control"], "no-store");

    let browser = Browser::of(&reply);
    assert_eq!(browser.get(&api, ME).await.data()["name"], "anna");
    assert_eq!(browser.post(&api, REGIONS, json!({"name": "north"})).await.status, 200);
    assert_eq!(
        code(&browser.get(&api, "/api/v2/tasks/instances").await),
        (403, "IAM11000".into())
    );
    let verified = api.running.verifications();
    for _ in 0..5 {
        browser.get(&api, ME).await.data();
    }
    assert_eq!(api.running.verifications(), verified, "a session costs no argon2");

    let out = browser.post(&api, LOGOUT, json!({})).await;
    assert_eq!(out.status, 200);
    assert!(
        out.headers
            .get_all(SET_COOKIE)
            .iter()
            .all(|cookie| cookie.to_str().unwrap().contains("Max-Age=0"))
    );
    let after = browser.get(&api, ME).await;
    assert_eq!(
        code(&after),
        (401, "IAM10000".into()),
        "who has kept the cookie has nothing"
    );
    assert!(after.text.contains("session"), "{}", after.text);
}

#[tokio::test]
async fn what_is_no_login_is_refused() {
    let api = Api::start().await;
    let wrong = Reply::of(login(&api, "admin", "Wrong-Horse-1")).await;
    let nobody = Reply::of(login(&api, "nobody", "Wrong-Horse-1")).await;
    assert_eq!(
        (code(&wrong), code(&nobody)),
        ((401, "IAM10006".into()), (401, "IAM10006".into()))
    );
    assert_eq!(wrong.json()["error"]["message"], nobody.json()["error"]["message"]);
    assert!(!wrong.headers.contains_key(SET_COOKIE));
    let json = api
        .bare(Method::POST, LOGIN)
        .json(&json!({"username": "admin", "password": PASSWORD}));
    assert_eq!(Reply::of(json).await.status, 415);
    let half = form(&api, &[("username", "admin")]);
    assert_eq!(
        Reply::of(half).await.refusal(),
        (400, "COM10001".into(), "password".into())
    );
    let long = login(&api, &"a".repeat(4000), PASSWORD);
    assert_eq!(Reply::of(long).await.status, 401);
    for cookie in ["JSESSIONID=", "JSESSIONID=abc", "XSRF-TOKEN=abc"] {
        let reply = Reply::of(api.bare(Method::GET, ME).header("Cookie", cookie)).await;
        assert_eq!(code(&reply), (401, "IAM10000".into()), "{cookie}");
    }
}

#[tokio::test]
async fn another_site_changes_nothing_by_somebodys_browser() {
    let api = Api::start().await;
    anna(&api).await;
    let (browser, other) = (
        Browser::new(&api, "anna", PASSWORD).await,
        Browser::new(&api, "anna", PASSWORD).await,
    );
    let north = json!({"name": "north"});
    // The cookies alone, and with tokens that another site could know.
    let forged = [
        None,
        Some(""),
        Some("1"),
        Some(other.token.as_str()),
        Some(browser.session.as_str()),
    ];
    for token in forged {
        for (method, path) in [
            (Method::POST, REGIONS),
            (Method::DELETE, "/api/v2/compute/regions/1"),
            (Method::POST, LOGOUT),
        ] {
            let mut request = browser.sends(&api, method.clone(), path).json(&north);
            if let Some(token) = token {
                request = request.header("X-XSRF-TOKEN", token);
            }
            let reply = Reply::of(request).await;
            assert_eq!(code(&reply), (403, "COM10009".into()), "{method} {path} {token:?}");
        }
    }
    // A cookie that another site has put beside it: the token is not compared with that.
    let planted = api
        .bare(Method::POST, REGIONS)
        .header("Cookie", format!("JSESSIONID={}; XSRF-TOKEN=1", browser.session))
        .header("X-XSRF-TOKEN", "1")
        .json(&north);
    assert_eq!(code(&Reply::of(planted).await), (403, "COM10009".into()));
    assert_eq!(api.get(REGIONS).await.data()["page"]["totalElements"], 1);
    assert_eq!(browser.post(&api, REGIONS, north).await.status, 200);
    // Whoever sends credentials has no need of it, whatever cookies there are.
    let basic = browser
        .sends(&api, Method::POST, REGIONS)
        .basic_auth("admin", Some(PASSWORD));
    assert_eq!(Reply::of(basic.json(&json!({"name": "south"}))).await.status, 200);

    // Nor does it log a browser in as somebody of its own.
    for (name, value) in [
        ("Origin", "http://evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
    ] {
        let reply = Reply::of(login(&api, "anna", PASSWORD).header(name, value)).await;
        assert_eq!(code(&reply), (403, "COM10009".into()), "{name}: {value}");
        assert!(!reply.headers.contains_key(SET_COOKIE));
    }
    let own = format!("http://{}", api.running.address);
    assert_eq!(
        Reply::of(login(&api, "anna", PASSWORD).header("Origin", own))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_session_that_was_there_before_is_not_the_one_that_is_logged_in() {
    let api = Api::start().await;
    anna(&api).await;
    // An attacker has made the victim's browser keep a session of the attacker's choice.
    let planted = "ab".repeat(32);
    let reply = Reply::of(login(&api, "anna", PASSWORD).header("Cookie", format!("JSESSIONID={planted}"))).await;
    let browser = Browser::of(&reply);
    assert_ne!(browser.session, planted);
    let attacker = api
        .bare(Method::GET, ME)
        .header("Cookie", format!("JSESSIONID={planted}"));
    assert_eq!(Reply::of(attacker).await.status, 401);
    // Also one that was good: it ends when its browser logs in again.
    let again = Browser::of(
        &Reply::of(login(&api, "admin", PASSWORD).header("Cookie", format!("JSESSIONID={}", browser.session))).await,
    );
    assert_eq!(browser.get(&api, ME).await.status, 401);
    assert_eq!(again.get(&api, ME).await.data()["name"], "admin");
    // Two at once are none: one of them is not the user's.
    let both = format!("JSESSIONID={}; JSESSIONID={planted}", again.session);
    let both = api.bare(Method::GET, ME).header("Cookie", both);
    assert_eq!(Reply::of(both).await.status, 401);
    // What the database has is not what lets in.
    let digest = {
        use sha2::Digest as _;
        hex::encode(sha2::Sha256::digest(&again.session))
    };
    let stolen = api
        .bare(Method::GET, ME)
        .header("Cookie", format!("JSESSIONID={digest}"));
    assert_eq!(Reply::of(stolen).await.status, 401);
    for file in std::fs::read_dir(api.dir.path().join("state")).unwrap() {
        let path = file.unwrap().path();
        let bytes = if path.is_file() {
            std::fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        for secret in [&again.session, &again.token] {
            assert!(
                !bytes.windows(64).any(|part| part == secret.as_bytes()),
                "{}",
                path.display()
            );
        }
    }
}

#[tokio::test]
async fn sessions_end_with_what_they_stand_for() {
    let api = Api::start().await;
    let path = format!("{USERS}/{}", anna(&api).await);
    let browser = Browser::new(&api, "anna", PASSWORD).await;
    api.patch(&path, json!({"enabled": false})).await.data();
    assert_eq!(browser.get(&api, ME).await.status, 401);
    api.patch(&path, json!({"enabled": true})).await.data();
    assert_eq!(browser.get(&api, ME).await.status, 401, "it does not come back");

    let (changing, other) = (
        Browser::new(&api, "anna", PASSWORD).await,
        Browser::new(&api, "anna", PASSWORD).await,
    );
    let change = json!({"currentPassword": PASSWORD, "newPassword": "Other-Horse-2"});
    let changed = changing.post(&api, &format!("{ME}/changePassword"), change).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(changing.get(&api, ME).await.status, 200);
    assert_eq!(other.get(&api, ME).await.status, 401);

    api.post(&format!("{path}/resetPassword"), json!({"password": PASSWORD}))
        .await
        .json();
    assert_eq!(changing.get(&api, ME).await.status, 401);
    let reply = Reply::of(login(&api, "anna", PASSWORD)).await;
    assert_eq!(reply.data()["needChangePassword"], true);
    let browser = Browser::of(&reply);
    assert_eq!(code(&browser.get(&api, REGIONS).await), (403, "IAM10020".into()));
    let change = json!({"currentPassword": PASSWORD, "newPassword": "Third-Horse-3"});
    assert_eq!(
        browser.post(&api, &format!("{ME}/changePassword"), change).await.status,
        200
    );
    assert_eq!(browser.get(&api, REGIONS).await.status, 200);

    api.patch(&path, json!({"roles": []})).await.data();
    assert_eq!(
        code(&browser.get(&api, REGIONS).await),
        (403, "IAM11000".into()),
        "roles are those of now"
    );
    api.delete(&path).await.json();
    assert_eq!(browser.get(&api, ME).await.status, 401);
}
