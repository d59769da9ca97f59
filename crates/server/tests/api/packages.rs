//! Uploading, listing, fetching and removing packages.

use reqwest::Method;
use serde_json::json;

use crate::{
    fake_agent::FakeAgent,
    shape::differences,
    support::{Api, NEW, OLD, Reply},
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
    let form = reqwest::multipart::Form::new().text("other", "x");
    let reply = Reply::of(api.request(Method::POST, PACKAGES).multipart(form)).await;
    assert_eq!(reply.refusal(), (400, "COM10003".into(), String::new()));
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
