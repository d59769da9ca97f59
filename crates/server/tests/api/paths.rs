//! Names in paths and in uploads lead nowhere but to what they name.

use std::path::Path;

use reqwest::Method;

use crate::{
    fake_agent::FakeAgent,
    support::{Api, OLD, Reply, package_of},
};

/// In a file of the server's that no request may reach.
const TREASURE: &str = "the-treasure-of-the-server";

/// Ways to the file, as whoever hopes for one of them writes them. What they hold of `/` and `\` is encoded, or the client
/// itself would resolve them.
const WAYS: [&str; 9] = [
    "..%2f..%2ftreasure",
    "..%2F..%2F..%2F..%2Ftreasure",
    "%2e%2e%2f%2e%2e%2ftreasure",
    "..%5c..%5ctreasure",
    "%2ftreasure",
    "....%2f%2f....%2f%2ftreasure",
    "..%252f..%252ftreasure",
    "obproxy.log%00..%2f..%2ftreasure",
    "..%c0%af..%c0%aftreasure",
];

fn all_files(dir: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(all_files(&path)),
            false => files.push(path.display().to_string()),
        }
    }
    files
}

#[tokio::test]
async fn a_name_in_a_path_leads_to_what_it_names_alone() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (cluster, ids) = api.fleet(&[&agent]).await;
    let proxy = ids[0];
    for place in [".", "state"] {
        std::fs::write(api.dir.path().join(place).join("treasure"), TREASURE).unwrap();
    }

    for way in WAYS {
        for (method, path) in [
            (Method::GET, format!("/api/v2/files/sys-package/{way}")),
            (Method::GET, format!("/api/v2/obproxy/clusters/{way}")),
            (
                Method::GET,
                format!("/api/v2/obproxy/clusters/{cluster}/obproxies/{proxy}%2f{way}"),
            ),
            (
                Method::GET,
                format!("/api/v2/obproxy/clusters/{cluster}/obproxies/{proxy}/logs/{way}"),
            ),
            (
                Method::POST,
                format!("/api/v2/obproxy/clusters/{cluster}/obproxies/{proxy},{way}/upgrade"),
            ),
            (Method::GET, format!("/api/v2/tasks/instances/{way}")),
            (Method::GET, format!("/api/v2/docs/{way}")),
            (Method::DELETE, format!("/api/v2/software-packages/{way}")),
        ] {
            let reply = Reply::of(api.request(method.clone(), &path)).await;
            assert!(reply.status.is_client_error(), "{method} {path}: {}", reply.status);
            assert!(!reply.text.contains(TREASURE), "{method} {path}");
        }
    }
    for place in [".", "state"] {
        let kept = std::fs::read_to_string(api.dir.path().join(place).join("treasure"));
        assert_eq!(kept.unwrap(), TREASURE);
    }
}

#[tokio::test]
async fn an_upload_is_kept_under_the_name_in_its_header() {
    let api = Api::start().await;
    let bytes = package_of(api.dir.path(), OLD, "#!/bin/false\n");
    for name in [
        "../../../../evil.rpm",
        "/evil.rpm",
        "..\\evil.rpm",
        "evil\n.rpm",
        "evil",
    ] {
        let reply = api.upload_bytes(name, bytes.clone()).await;
        match reply.status.as_u16() {
            200 => {
                assert_eq!(reply.data()["fileName"], OLD, "{name:?}");
                let removed = format!("/api/v2/software-packages/{}", reply.data()["id"]);
                assert_eq!(api.delete(&removed).await.status, 200);
            }
            status => assert!((400..500).contains(&status), "{name:?}: {}", reply.text),
        }
    }
    let evil: Vec<_> = all_files(api.dir.path())
        .into_iter()
        .filter(|file| file.contains("evil"))
        .collect();
    assert_eq!(evil, Vec::<String>::new());
}
