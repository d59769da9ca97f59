//! Uploading, listing, fetching and removing packages.

use futures::future::join_all;
use reqwest::{
    Method,
    header::{ETAG, IF_NONE_MATCH, IF_RANGE, RANGE},
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    fake_agent::FakeAgent,
    shape::differences,
    support::{Api, NEW, OLD, Reply, package},
};

const PACKAGES: &str = "/api/v2/software-packages";

#[tokio::test]
async fn come_and_go() {
    let api = Api::start().await;
    let uploaded = api.upload(OLD).await.data();
    let sent = std::fs::read(api.dir.path().join(OLD)).unwrap();
    assert_eq!(differences(&uploaded, "package"), [""; 0]);
    assert_eq!(uploaded["fileName"], OLD);
    assert_eq!(uploaded["type"], "OBPROXY_INSTALL_PACKAGE");
    api.upload(NEW).await.data();
    assert_eq!(api.upload(OLD).await.refusal(), (409, "PKG10012".into(), "file".into()));

    let page = api.get(PACKAGES).await.data();
    assert_eq!(differences(&page, "package-page"), [""; 0]);
    let names = async |query: &str| -> Vec<String> {
        let page = api.get(&format!("{PACKAGES}?{query}")).await.data();
        page["contents"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["fileName"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("version=4.3.1.0").await, [NEW]);
    assert_eq!(names("keyword=4.2.1").await, [OLD]);
    assert_eq!(names("sort=version,desc&size=1").await, [NEW]);
    assert_eq!(names("architecture=aarch64").await, [""; 0]);
    assert_eq!(
        names("operatingSystem=el8,el7&type=OBPROXY_INSTALL_PACKAGE")
            .await
            .len(),
        2
    );

    let file = api
        .request(Method::GET, &format!("/api/v2/files/sys-package/{OLD}"))
        .send()
        .await
        .unwrap();
    let bytes = file.bytes().await.unwrap();
    assert_eq!(bytes, sent);
    for name in ["nothing.rpm", "..%2F..%2Fkey", "%2e%2e%2fkey"] {
        let reply = api.get(&format!("/api/v2/files/sys-package/{name}")).await;
        assert_eq!(reply.refusal().0, 404, "{name}");
    }

    let path = format!("{PACKAGES}/{}", uploaded["id"]);
    let removed = api.delete(&path).await;
    assert_eq!(removed.status, 200);
    assert!(removed.json().get("data").is_none(), "{}", removed.text);
    assert_eq!(api.delete(&path).await.refusal(), (404, "PKG10014".into(), "id".into()));
}

#[tokio::test]
async fn one_in_use_stays() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    api.fleet(&[&agent]).await;
    let page = api.get(PACKAGES).await.data();
    assert_eq!(page["contents"][0]["deletable"], false);
    let path = format!("{PACKAGES}/{}", page["contents"][0]["id"]);
    assert_eq!(api.delete(&path).await.refusal(), (409, "PKG10007".into(), "id".into()));
}

#[tokio::test]
async fn what_is_no_package_is_refused_and_leaves_nothing() {
    let api = Api::start_with(|options| options.max_package_bytes = 256 * 1024).await;
    assert_eq!(
        api.upload_bytes("x.rpm", b"no rpm".to_vec()).await.refusal(),
        (400, "PKG10004".into(), "file".into())
    );
    assert_eq!(
        api.upload_bytes("x.zip", b"PK".to_vec()).await.refusal(),
        (400, "PKG10003".into(), "file".into())
    );
    // Within the room for borders, so it is the file's own bytes that are counted.
    assert_eq!(
        api.upload_bytes("x.rpm", vec![0; 256 * 1024 + 1]).await.refusal().0,
        413
    );
    assert_eq!(api.post(PACKAGES, json!({})).await.refusal().0, 415);
    let send = async |form: Form| Reply::of(api.request(Method::POST, PACKAGES).multipart(form)).await;
    let form = Form::new().text("other", "x");
    assert_eq!(send(form).await.refusal(), (400, "COM10003".into(), String::new()));
    let file = || Part::bytes(b"no rpm".to_vec()).file_name("x.rpm");
    let twice = send(Form::new().part("file", file()).part("file", file())).await;
    assert_eq!(twice.refusal(), (400, "COM10003".into(), String::new()));
    assert!(twice.text.contains("more than one part named file"), "{}", twice.text);
    let endless = send(Form::new().text("other", "x".repeat(100_000)).part("file", file())).await;
    assert_eq!(endless.refusal().0, 413);
    // Of the right kind, but it ends too early: the package is read by nobody.
    let whole = std::fs::read(package(api.dir.path(), OLD)).unwrap();
    let cut = api.upload_bytes(OLD, whole[..whole.len() - 10].to_vec()).await;
    assert_eq!(cut.refusal(), (400, "PKG10006".into(), "file".into()));
    let cut = api.upload_bytes(OLD, whole[..200].to_vec()).await;
    assert_eq!(cut.refusal(), (400, "PKG10006".into(), "file".into()));
    for dir in ["uploads", "packages"] {
        assert_eq!(
            std::fs::read_dir(api.dir.path().join("state").join(dir))
                .unwrap()
                .count(),
            0,
            "{dir}"
        );
    }
}

#[tokio::test]
async fn other_parts_are_passed_over_and_names_tell_nothing() {
    let api = Api::start().await;
    let bytes = std::fs::read(package(api.dir.path(), OLD)).unwrap();
    let form = Form::new()
        .text("type", "x")
        .part("file", Part::bytes(bytes).file_name("whatever.rpm"))
        .text("comment", "y");
    let uploaded = Reply::of(api.request(Method::POST, PACKAGES).multipart(form))
        .await
        .data();
    assert_eq!(uploaded["fileName"], OLD);
}

#[tokio::test]
async fn of_uploads_at_the_same_time_one_is_kept() {
    let api = Api::start().await;
    let bytes = std::fs::read(package(api.dir.path(), OLD)).unwrap();
    // The same name, and another content: a package is built with the time in it, and this one has another binary.
    let other = {
        let dir = tempfile::tempdir().unwrap();
        crate::support::package_of(dir.path(), OLD, "#!/bin/true\n")
    };
    let uploads =
        (0..6).map(|number| api.upload_bytes(OLD, if number % 2 == 0 { bytes.clone() } else { other.clone() }));
    let replies = join_all(uploads).await;
    let (taken, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert_eq!(taken.len(), 1);
    for reply in refused {
        assert_eq!(reply.refusal(), (409, "PKG10012".into(), "file".into()));
    }
    let kept: Vec<_> = std::fs::read_dir(api.dir.path().join("state/packages"))
        .unwrap()
        .collect();
    let name = format!("{}.rpm", taken[0].data()["sha256"].as_str().unwrap());
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(kept[0].as_ref().unwrap().file_name().to_str(), Some(name.as_str()));
    assert_eq!(
        std::fs::read_dir(api.dir.path().join("state/uploads")).unwrap().count(),
        0
    );
}

#[tokio::test]
async fn one_that_a_task_is_about_to_install_stays() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (cluster, proxies) = api.fleet(&[&agent]).await;
    let new = api.upload(NEW).await.data();
    let path = format!("{PACKAGES}/{}", new["id"]);
    agent.busy(true);
    let upgrade = format!("/api/v2/obproxy/clusters/{cluster}/obproxies/{}/upgrade", proxies[0]);
    let task = api.post_nothing(&upgrade).await.data();
    let refused = api.delete(&path).await;
    assert_eq!(refused.refusal(), (409, "PKG10007".into(), "id".into()));
    assert!(
        refused.text.contains(&format!("task {}", task["id"])),
        "{}",
        refused.text
    );
    agent.busy(false);
    // The answer to what was under way is none that the step can use.
    let id = task["id"].as_i64().unwrap();
    assert_eq!(api.rest(id).await["status"], "FAILED");
    assert_eq!(api.delete(&path).await.refusal().1, "PKG10007", "it may be retried");
    api.post_nothing(&format!("/api/v2/tasks/instances/{id}/retry"))
        .await
        .data();
    assert_eq!(api.rest(id).await["status"], "SUCCESSFUL");
    assert_eq!(api.delete(&path).await.refusal().1, "PKG10007", "a proxy runs it now");

    // What ran before is free, and a package for another architecture was never in use.
    let old = api.get(&format!("{PACKAGES}?version=4.2.1.0")).await.data();
    assert_eq!(old["contents"][0]["deletable"], true);
    let elsewhere = api.upload(&NEW.replace("x86_64", "aarch64")).await.data();
    assert_eq!(elsewhere["deletable"], true);
    for package in [&old["contents"][0], &elsewhere] {
        let gone = api.delete(&format!("{PACKAGES}/{}", package["id"])).await;
        assert_eq!(gone.status, 200, "{}", gone.text);
    }
}

#[tokio::test]
async fn a_download_that_broke_off_goes_on() {
    let api = Api::start().await;
    api.upload(OLD).await.data();
    let sent = std::fs::read(api.dir.path().join(OLD)).unwrap();
    let path = format!("/api/v2/files/sys-package/{OLD}");
    let ask = async |headers: &[(reqwest::header::HeaderName, &str)]| {
        let request = api.request(Method::GET, &path);
        let request = headers
            .iter()
            .fold(request, |request, (name, value)| request.header(name, *value));
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (status, headers, response.bytes().await.unwrap())
    };
    let (status, headers, whole) = ask(&[]).await;
    let etag = headers[ETAG].to_str().unwrap().to_owned();
    assert_eq!((status, &whole[..]), (200, &sent[..]));
    assert_eq!(etag, format!("\"{}\"", hex::encode(Sha256::digest(&sent))));
    assert_eq!(headers["accept-ranges"], "bytes");

    let half = sent.len() / 2;
    let from = format!("bytes={half}-");
    let (status, headers, rest) = ask(&[(RANGE, &from), (IF_RANGE, &etag)]).await;
    assert_eq!((status, &rest[..]), (206, &sent[half..]));
    let range = format!("bytes {half}-{}/{}", sent.len() - 1, sent.len());
    assert_eq!(headers["content-range"], range.as_str());
    assert_eq!(headers["content-length"], (sent.len() - half).to_string().as_str());
    let (_, _, start) = ask(&[(RANGE, &format!("bytes=0-{}", half - 1))]).await;
    assert_eq!([&start[..], &rest[..]].concat(), sent);

    let (status, _, other) = ask(&[(RANGE, &from), (IF_RANGE, "\"another\"")]).await;
    assert_eq!(
        (status, &other[..]),
        (200, &sent[..]),
        "of another file nothing goes on"
    );
    assert_eq!(ask(&[(IF_NONE_MATCH, &etag)]).await.0, 304);
    let (status, headers, refusal) = ask(&[(RANGE, &format!("bytes={}-", sent.len()))]).await;
    let refusal: Value = serde_json::from_slice(&refusal).unwrap();
    assert_eq!((status, &refusal["successful"]), (416, &json!(false)));
    assert_eq!(headers["content-range"], format!("bytes */{}", sent.len()).as_str());
    let head = Reply::of(api.request(Method::HEAD, &path)).await;
    assert_eq!(head.headers["content-length"], sent.len().to_string().as_str());
    assert!(head.text.is_empty());
}

#[tokio::test]
async fn a_file_that_is_lost_is_uploaded_again() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (cluster, proxies) = api.fleet(&[&agent]).await;
    api.upload(NEW).await.data();
    let sent = std::fs::read(api.dir.path().join(NEW)).unwrap();
    let dir = api.dir.path().join("state/packages");
    for entry in std::fs::read_dir(&dir).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }

    // The host has it already.
    let path = format!("/api/v2/obproxy/clusters/{cluster}/obproxies/{}/upgrade", proxies[0]);
    let task = api.post_nothing(&path).await.data();
    assert_eq!(api.rest(task["id"].as_i64().unwrap()).await["status"], "SUCCESSFUL");

    let before = api.get(PACKAGES).await.data();
    let path = format!("/api/v2/files/sys-package/{NEW}");
    let lost = api.get(&path).await;
    assert_eq!(lost.refusal().0, 500);
    assert!(lost.text.contains("upload the same file again"), "{}", lost.text);
    let again = api.upload_bytes(NEW, sent.clone()).await.data();
    assert_eq!(
        api.get(PACKAGES).await.data()["contents"],
        before["contents"],
        "{again}"
    );
    assert_eq!(api.get(&path).await.status, 200);
    assert_eq!(api.upload_bytes(NEW, sent).await.refusal().1, "PKG10012");
}
