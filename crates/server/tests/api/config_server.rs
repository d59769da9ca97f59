//! What proxies are told when they ask.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    shape::differences,
    support::{Api, Reply},
};

/// Asks as a proxy does, without a login. → the status and the answer
async fn ask(api: &Api, query: &str) -> (u16, Value) {
    let reply = Reply::of(api.bare(Method::GET, &format!("/services?{query}"))).await;
    let answer = reply.json();
    assert_eq!(differences(&answer, "config-answer"), [""; 0], "{answer}");
    assert_eq!(answer["Code"], reply.status.as_u16());
    assert_eq!(answer["Success"], reply.status == 200, "{answer}");
    (reply.status.as_u16(), answer)
}

async fn told(api: &Api, query: &str, fixture: &str) -> Value {
    let (status, answer) = ask(api, query).await;
    assert_eq!(
        (status, &answer["Message"]),
        (200, &json!("successful")),
        "{query}: {answer}"
    );
    let data = answer["Data"].clone();
    if !data.is_array() {
        assert_eq!(differences(&data, fixture), [""; 0], "{data}");
    }
    data
}

const CONFIG: &str = "Action=GetObProxyConfig&User_ID=alibaba&UID=admin&ObproxyClusterName=test";

/// A CONFIG_URL cluster named test that serves north and south, of which south has a twin. → its path
async fn cluster(api: &Api) -> String {
    for (id, kind, port) in [(1, "PRIMARY", 2881), (2, "STANDBY", 3881)] {
        let body = json!({
            "name": "south", "obClusterId": id, "type": kind, "rootServers": [{"ip": "10.0.1.1", "sqlPort": port}],
        });
        api.post("/api/v2/ob/clusters", body).await.data();
    }
    let links =
        json!([{"clusterName": "south"}, {"clusterName": "north", "rootServers": ["10.0.0.1:2881", "10.0.0.2:2881"]}]);
    let body = json!({"name": "test", "workMode": "CONFIG_URL", "obLinks": links});
    let task = api.post("/api/v2/obproxy/clusters", body).await.data();
    api.rest(task["id"].as_i64().unwrap()).await;
    format!("/api/v2/obproxy/clusters/{}", task["obproxyClusterId"])
}

#[tokio::test]
async fn a_proxy_is_told_where_to_ask_and_what() {
    let api = Api::start().await;
    let path = cluster(&api).await;
    let config = told(&api, CONFIG, "config").await;
    let url = api.get(&path).await.data()["configUrl"].as_str().unwrap().to_owned();
    let whole: Value = Reply::of(api.http.get(url)).await.json();
    assert_eq!(whole["Data"], config, "the cluster's configUrl leads here");
    let version = told(&api, &format!("{CONFIG}&VersionOnly=true"), "config-version").await;
    assert_eq!(version["Version"], config["Version"]);
    assert_eq!(config["Version"].as_str().unwrap().len(), 32);

    let list = config["ObRootServiceInfoUrlList"].as_array().unwrap();
    let names: Vec<_> = list.iter().map(|entry| entry["ObRegion"].clone()).collect();
    assert_eq!(names, ["north", "south"]);
    let servers = async |url: &str| Reply::of(api.http.get(url)).await.json()["Data"].clone();
    let north = servers(list[0]["ObRootServiceInfoUrl"].as_str().unwrap()).await;
    assert_eq!(differences(&north, "config-root-service"), [""; 0], "{north}");
    assert_eq!(
        north["RsList"][1],
        json!({"address": "10.0.0.2:2882", "role": "FOLLOWER", "sql_port": 2881})
    );
    let meta = servers(config["ObProxyDatabaseInfo"]["MetaDataBase"].as_str().unwrap()).await;
    assert_eq!(meta["ObRegion"], "north");

    let south = format!("{}&version=2", list[1]["ObRootServiceInfoUrl"].as_str().unwrap());
    let both = servers(&south).await;
    let both = both.as_array().unwrap();
    assert_eq!(
        (both.len(), &both[0]["Type"], &both[1]["ObRegionId"]),
        (2, &json!("PRIMARY"), &json!(2))
    );
    for info in both {
        assert_eq!(differences(info, "config-root-service"), [""; 0], "{info}");
    }
    let standby = servers(&format!("{south}&ObRegionId=2")).await;
    assert_eq!(standby["RsList"][0]["sql_port"], 3881);
    let idc = told(&api, "Action=ObIDCRegionInfo&ObRegion=north", "config-idc").await;
    assert_eq!(idc["IDCList"], json!([]));
}

#[tokio::test]
async fn the_version_follows_the_links() {
    let api = Api::start().await;
    let path = cluster(&api).await;
    let version = async || told(&api, &format!("{CONFIG}&VersionOnly=true"), "config-version").await["Version"].clone();
    let before = version().await;
    let add = json!({"clusterName": "west", "rootServers": ["10.0.2.1:2881"]});
    api.post(&format!("{path}/obLinks/batchAdd"), add).await;
    api.until(&path, |cluster| {
        cluster["obLinks"]
            .as_array()
            .unwrap()
            .iter()
            .all(|link| link["status"] == "RUNNING")
    })
    .await;
    // What was read is told for a moment longer.
    let mut after = version().await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while after == before {
        assert!(tokio::time::Instant::now() < deadline, "the version stays {before}");
        tokio::task::yield_now().await;
        after = version().await;
    }
    let config = told(&api, CONFIG, "config").await;
    assert_eq!(config["ObRootServiceInfoUrlList"].as_array().unwrap().len(), 3);

    api.delete(&format!("{path}/obLinks/west")).await;
    api.until(&path, |cluster| cluster["obLinks"].as_array().unwrap().len() == 2)
        .await;
    while after != before {
        assert!(tokio::time::Instant::now() < deadline, "the version does not go back");
        tokio::task::yield_now().await;
        after = version().await;
    }
}

#[tokio::test]
async fn what_nobody_needs_is_not_told() {
    let api = Api::start().await;
    cluster(&api).await;
    api.cluster("fixed").await;
    let lonely = json!({"name": "lonely", "rootServers": [{"ip": "10.0.9.1", "sqlPort": 2881}]});
    api.post("/api/v2/ob/clusters", lonely).await.data();
    let config = "Action=GetObProxyConfig&ObproxyClusterName";
    for (query, status) in [
        (&*format!("{config}=nobody"), 404),
        (&format!("{config}=fixed"), 404),
        ("Action=GetObProxyConfig", 400),
        ("Action=ObRootServiceInfo&ObRegion=lonely", 404),
        ("Action=ObRootServiceInfo&ObRegion=ob", 404),
        (
            "Action=ObRootServiceInfo&ObRegion=MetaDataBase&ObproxyClusterName=fixed",
            404,
        ),
        ("Action=ObRootServiceInfo", 400),
        ("Action=ObRootServiceInfo&ObRegion=north&ObRegionId=x", 400),
        ("Action=ObIDCRegionInfo&ObRegion=lonely", 404),
        ("Action=GetObProxy", 404),
        ("Action=Everything", 400),
        ("", 400),
    ] {
        let (is, answer) = ask(&api, query).await;
        assert_eq!(is, status, "{query}: {answer}");
        assert!(
            !answer["Message"].as_str().unwrap().is_empty() && answer.get("Data").is_none(),
            "{answer}"
        );
    }
    let all = [CONFIG, "Action=ObRootServiceInfo&ObRegion=north"];
    for query in all {
        let (_, answer) = ask(&api, query).await;
        for word in ["fixed", "lonely", "proxyro", "admin@"] {
            assert!(!answer.to_string().contains(word), "{word} in {answer}");
        }
    }
}
