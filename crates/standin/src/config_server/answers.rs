//! What a config server may answer. A proxy is strict: what lacks a member is not taken.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::META_CLUSTER;

/// Characters of a version at most.
const LONGEST_VERSION: usize = 32;

/// A configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonConfig {
    /// Its version.
    pub version: String,
    /// Where new binaries would be.
    pub bin_url: String,
    /// Database of the metadb.
    pub meta_database: String,
    /// User of the metadb.
    pub meta_user: String,
    /// Where the root servers of the metadb are told.
    pub meta_url: String,
    /// Where the root servers of each cluster are told, by its name.
    pub clusters: BTreeMap<String, String>,
    /// When it was taken, in microseconds since 1970.
    pub modified: i64,
}

/// The root servers of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RsList {
    /// The cluster's name, as the server says it.
    pub cluster: String,
    /// Its cluster_id parameter; 0 where it is not known.
    pub id: i64,
    /// SQL address and role of each.
    pub servers: Vec<(SocketAddr, String)>,
}

impl RsList {
    /// With `;` between them.
    pub fn sql_addresses(&self) -> String {
        let addresses: Vec<_> = self.servers.iter().map(|(address, _)| address.to_string()).collect();
        addresses.join(";")
    }
}

/// `Data` of a good answer.
fn data(body: &[u8]) -> Result<Value, String> {
    let mut answer: Value = serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
    let code = answer["Code"].as_i64().unwrap_or_default();
    let is_good = (200..300).contains(&code)
        && answer["Success"].as_bool() == Some(true)
        && answer["Message"].as_str() == Some("successful");
    match is_good {
        true => Ok(answer["Data"].take()),
        false => Err(format!("Code {code}, Message {}", answer["Message"])),
    }
}

fn text(of: &Value, member: &str) -> Result<String, String> {
    let text = of[member].as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| format!("{member} is missing"))
}

fn version_of(data: &Value) -> Result<String, String> {
    let version = text(data, "Version")?;
    match version.len() <= LONGEST_VERSION {
        true => Ok(version),
        false => Err("Version is too long".to_owned()),
    }
}

/// The version, of an answer that has only that or the whole.
pub fn version(body: &[u8]) -> Result<String, String> {
    version_of(&data(body)?)
}

/// The whole configuration.
pub fn config(body: &[u8]) -> Result<JsonConfig, String> {
    let data = data(body)?;
    let database = &data["ObProxyDatabaseInfo"];
    let mut clusters = BTreeMap::new();
    for entry in data["ObRootServiceInfoUrlList"].as_array().into_iter().flatten() {
        let name = text(entry, "ObRegion").or_else(|_| text(entry, "ObCluster"))?;
        let url = text(entry, "ObRootServiceInfoUrl")?;
        if clusters.insert(name.clone(), url).is_some() {
            return Err(format!("{name} is there twice"));
        }
    }
    if clusters.is_empty() {
        return Err("there is no cluster".to_owned());
    }
    text(database, "Password")?;
    Ok(JsonConfig {
        version: version_of(&data)?,
        bin_url: text(&data, "ObProxyBinUrl")?,
        meta_database: text(database, "DataBase")?,
        meta_user: text(database, "User")?,
        meta_url: text(database, "MetaDataBase")?,
        clusters,
        modified: Utc::now().timestamp_micros(),
    })
}

/// The root servers of a cluster. Of several with its name, those of the PRIMARY are taken.
pub fn rs_list(body: &[u8], name: &str) -> Result<RsList, String> {
    let data = data(body)?;
    let candidates = match &data {
        Value::Array(all) => all.iter().collect(),
        one => vec![one],
    };
    let id = |of: &Value| {
        of["ObRegionId"]
            .as_i64()
            .or_else(|| of["ObClusterId"].as_i64())
            .unwrap_or_default()
    };
    let is_master = |of: &&&Value| of["Type"].as_str() == Some("PRIMARY") && id(of) != 0;
    let chosen = candidates.iter().find(is_master).or_else(|| candidates.first());
    let chosen = chosen.ok_or("there is no cluster")?;
    let cluster = text(chosen, "ObRegion").or_else(|_| text(chosen, "ObCluster"))?;
    if cluster != name && name != META_CLUSTER {
        return Err(format!("it is of {cluster}"));
    }
    let server = |of: &Value| {
        let address: SocketAddr = of["address"].as_str()?.parse().ok()?;
        let sql_port = u16::try_from(of["sql_port"].as_u64()?).ok().filter(|port| *port > 0)?;
        let role = of["role"].as_str().unwrap_or("FOLLOWER").to_owned();
        Some((SocketAddr::new(address.ip(), sql_port), role))
    };
    let listed = chosen["RsList"].as_array().into_iter().flatten();
    let servers = listed
        .map(server)
        .collect::<Option<Vec<_>>>()
        .ok_or("a root server cannot be read")?;
    match servers.is_empty() {
        true => Err("there is no root server".to_owned()),
        false => Ok(RsList {
            cluster,
            id: id(chosen),
            servers,
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(data: &Value) -> Vec<u8> {
        json!({"Code": 200, "Success": true, "Message": "successful", "Data": data})
            .to_string()
            .into_bytes()
    }

    fn whole() -> Value {
        json!({
            "Version": "v1",
            "ObProxyBinUrl": "http://c/bin",
            "ObProxyDatabaseInfo": {"DataBase": "d", "MetaDataBase": "http://c/m", "Password": "p", "User": "u"},
            "ObRootServiceInfoUrlList": [{"ObRegion": "ob1", "ObRootServiceInfoUrl": "http://c/ob1"}],
            "Unknown": 1,
        })
    }

    #[test]
    fn a_configuration_is_taken_only_whole() {
        let taken = config(&answer(&whole())).unwrap();
        assert_eq!(
            (taken.version.as_str(), taken.clusters["ob1"].as_str()),
            ("v1", "http://c/ob1")
        );
        let without = |path: &str| {
            let mut broken = whole();
            *broken.pointer_mut(path).unwrap() = Value::Null;
            config(&answer(&broken)).is_err()
        };
        for path in [
            "/Version",
            "/ObProxyBinUrl",
            "/ObProxyDatabaseInfo",
            "/ObProxyDatabaseInfo/Password",
            "/ObProxyDatabaseInfo/MetaDataBase",
            "/ObRootServiceInfoUrlList",
            "/ObRootServiceInfoUrlList/0/ObRootServiceInfoUrl",
        ] {
            assert!(without(path), "{path}");
        }
        let mut long = whole();
        long["Version"] = "x".repeat(33).into();
        assert!(version(&answer(&long)).is_err());
        for refused in [
            json!({"Code": 404, "Success": false, "Message": "no"}),
            json!({"Code": 200, "Success": true, "Message": "ok", "Data": whole()}),
            json!({"Code": 200, "Success": false, "Message": "successful", "Data": whole()}),
        ] {
            assert!(config(refused.to_string().as_bytes()).is_err(), "{refused}");
        }
    }

    #[test]
    fn of_several_clusters_of_a_name_the_primary_is_taken() {
        let one = |id: i64, kind: &str, port: u16| {
            json!({"ObRegion": "ob1", "ObRegionId": id, "Type": kind,
                "RsList": [{"address": "10.0.0.1:2882", "role": "LEADER", "sql_port": port}], "ReadonlyRsList": []})
        };
        let both = answer(&json!([one(1, "STANDBY", 2881), one(2, "PRIMARY", 3881)]));
        assert_eq!(rs_list(&both, "ob1").unwrap().sql_addresses(), "10.0.0.1:3881");
        assert_eq!(rs_list(&answer(&one(0, "PRIMARY", 2881)), "ob1").unwrap().id, 0);
        assert!(
            rs_list(&answer(&one(1, "PRIMARY", 2881)), "ob2").is_err(),
            "another cluster's"
        );
        assert!(rs_list(&answer(&one(1, "PRIMARY", 2881)), META_CLUSTER).is_ok());
        assert!(rs_list(&answer(&one(1, "PRIMARY", 0)), "ob1").is_err());
        assert!(rs_list(&answer(&json!({"ObRegion": "ob1", "RsList": []})), "ob1").is_err());
        assert!(rs_list(&answer(&json!([])), "ob1").is_err());
    }
}
