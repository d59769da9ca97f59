//! How much one user may ask of a server.

use std::{collections::HashSet, io::ErrorKind, net::SocketAddr, time::Duration};

use futures::{StreamExt as _, stream};
use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::support::{Api, NEW, OLD, PASSWORD, Reply};

const PATIENCE: Duration = Duration::from_secs(30);

fn told(headers: &HeaderMap) -> [Option<u64>; 3] {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.parse().ok();
    ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"].map(number)
}

#[tokio::test]
async fn a_user_has_so_many_requests_and_nobody_elses() {
    // Far more than a minute's worth of what comes before, whose window may end.
    let api = Api::start_with(|options| options.requests_per_minute = 5).await;
    let body = json!({"name": "other", "password": "Correct-Horse-2", "roles": [{"name": "OBPROXY_VIEWER"}]});
    let made = api.post("/api/v2/iam/users", body).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let me = "/api/v2/profiles/me";
    let mut seen = HashSet::new();
    let refused = loop {
        let reply = api.get(me).await;
        let [limit, remaining, reset] = told(&reply.headers);
        assert_eq!(limit, Some(5));
        assert!(reset.is_some_and(|reset| reset <= 60), "{reset:?}");
        if reply.status == 429 {
            assert_eq!(remaining, Some(0));
            break reply;
        }
        assert_eq!(reply.status, 200, "{}", reply.text);
        seen.insert(remaining.unwrap());
    };
    assert!((0..4).all(|left| seen.contains(&left)), "{seen:?}");
    let envelope = refused.json();
    assert_eq!(
        (&envelope["status"], &envelope["successful"]),
        (&429.into(), &false.into())
    );
    assert_eq!(envelope["error"]["code"], 0);
    assert!(
        envelope["error"]["message"]
            .as_str()
            .unwrap()
            .contains("5 requests a minute"),
        "{envelope}"
    );
    assert!(refused.headers.contains_key("retry-after"));

    let other = api.bare(Method::GET, me).basic_auth("other", Some("Correct-Horse-2"));
    let other = Reply::of(other).await;
    assert_ne!(other.status, 429, "{}", other.text);
    assert_eq!(told(&other.headers)[1], Some(4));
    // Who is nobody is told nothing, and uses nothing up.
    let nobody = Reply::of(api.bare(Method::GET, me)).await;
    assert_eq!((nobody.status.as_u16(), told(&nobody.headers)), (401, [None; 3]));
    let time = Reply::of(
        api.bare(Method::GET, "/api/v2/time")
            .basic_auth("admin", Some(PASSWORD)),
    )
    .await;
    assert_eq!(time.status, 200, "what is open is not counted");
}

#[tokio::test]
async fn limits_can_be_switched_off() {
    let api = Api::start_with(|options| options.requests_per_minute = 0).await;
    let reply = api.get("/api/v2/profiles/me").await;
    assert_eq!((reply.status.as_u16(), told(&reply.headers)), (200, [None; 3]));
}

#[tokio::test]
async fn heads_have_a_bound() {
    let api = Api::start().await;
    let me = || api.request(Method::GET, "/api/v2/profiles/me");
    assert_eq!(
        Reply::of(me().header("x-large", "a".repeat(16 * 1024))).await.status,
        200
    );
    assert_eq!(
        Reply::of(me().header("x-large", "a".repeat(128 * 1024))).await.status,
        431
    );
    let many = (0..200).fold(me(), |request, n| request.header(format!("x-{n}"), "a"));
    assert_eq!(Reply::of(many).await.status, 431);
}

#[tokio::test]
async fn a_call_is_about_so_many_ids() {
    let api = Api::start().await;
    let cluster = api.cluster("test").await;
    let path = format!("/api/v2/obproxy/clusters/{cluster}");
    let ids: Vec<i64> = (1..=1001).collect();
    let text = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let in_path = api.post_nothing(&format!("{path}/obproxies/{text}/restart")).await;
    assert_eq!(in_path.refusal(), (400, "COM10001".into(), "obproxyIds".into()));
    assert!(
        in_path.text.contains("a list of 1000 at most") && in_path.text.len() < 1000,
        "{}",
        in_path.text
    );
    let body = |ids: &[i64]| json!({"obproxyServerIds": ids});
    let in_body = api.post(&format!("{path}/servers/stop"), body(&ids)).await;
    assert_eq!(in_body.refusal(), (400, "COM10001".into(), "obproxyServerIds".into()));
    assert!(in_body.text.contains("a list of 1000 at most"), "{}", in_body.text);
    let fewer = api.post(&format!("{path}/servers/stop"), body(&ids[1..])).await;
    assert_eq!(fewer.refusal().1, "ODP21002", "so many are looked for");
}

#[tokio::test]
async fn so_many_uploads_are_on_their_way_at_once() {
    const MOST: usize = 8;
    let api = Api::start().await;
    let hanging = || {
        let begun = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.rpm\"\r\n\r\nbytes";
        let body = stream::iter([Ok::<_, std::io::Error>(begun)]).chain(stream::pending());
        let request = api.request(Method::POST, "/api/v2/software-packages");
        let request = request.header(CONTENT_TYPE, "multipart/form-data; boundary=b");
        tokio::spawn(request.body(reqwest::Body::wrap_stream(body)).send())
    };
    let mut uploads: Vec<_> = (0..MOST).map(|_| hanging()).collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut file = OLD;
    let refused = loop {
        let reply = api.upload(file).await;
        if reply.status == 503 {
            break reply;
        }
        // The others have not begun yet.
        // One that came while this one had its place was refused.
        for upload in uploads.iter_mut().filter(|upload| upload.is_finished()) {
            *upload = hanging();
        }
        assert!(
            [200, 409].contains(&reply.status.as_u16()) && Instant::now() < deadline,
            "{}",
            reply.text
        );
        file = NEW;
        sleep(Duration::from_millis(20)).await;
    };
    assert!(refused.text.contains("8 uploads are on their way"), "{}", refused.text);
    assert_eq!(refused.headers["retry-after"], "10");
    uploads.pop().unwrap().abort();
    while api.upload(file).await.status == 503 {
        assert!(Instant::now() < deadline, "a place that was given up is not free");
        sleep(Duration::from_millis(20)).await;
    }
    uploads.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn an_address_has_so_many_connections_at_a_time() {
    let api = Api::start_with(|options| options.connections_per_address = 3).await;
    let address = api.running.address;
    let connect = async || TcpStream::connect(address).await.unwrap();
    let mut silent = vec![connect().await, connect().await, connect().await];
    assert_eq!(ask(address).await, "", "one too many is answered");

    silent.pop();
    let deadline = Instant::now() + PATIENCE;
    while !ask(address).await.starts_with("HTTP/1.1 200") {
        assert!(
            Instant::now() < deadline,
            "a place that is free again is given to nobody"
        );
        sleep(Duration::from_millis(20)).await;
    }
    // It is the place of the one that went: silence closes connections too, after a while.
    for open in &silent {
        let read = open.try_read(&mut [0; 1]);
        assert!(read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
    }
}

/// What is answered to a request on a connection of its own; nothing where that is closed unread.
async fn ask(address: SocketAddr) -> String {
    let answered = async {
        let mut connection = TcpStream::connect(address).await?;
        let request = b"GET /api/v2/time HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        connection.write_all(request).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    timeout(PATIENCE, answered).await.unwrap().unwrap_or_default()
}
