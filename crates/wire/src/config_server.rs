//! What a config server tells proxies: `GET /services?Action=…`. The form is that of OceanBase's own config servers, which
//! proxies are strict about: they take no answer that lacks a member, or has an empty text in one.

use serde::{Deserialize, Serialize};

/// An answer. Proxies take it if the HTTP status and `Code` are 2xx, `Success` is true and `Message` is [`SUCCESSFUL`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Answer<T> {
    /// An HTTP status.
    pub code: u16,
    /// What was asked for; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<T>,
    /// [`SUCCESSFUL`], or what is wrong.
    pub message: String,
    /// Whether there is what was asked for.
    pub success: bool,
}

/// The message of every good answer.
pub const SUCCESSFUL: &str = "successful";

impl<T> Answer<T> {
    /// A good answer.
    pub fn of(data: T) -> Self {
        Self {
            code: 200,
            data: Some(data),
            message: SUCCESSFUL.to_owned(),
            success: true,
        }
    }

    /// A bad one.
    pub fn refusal(code: u16, message: impl Into<String>) -> Self {
        Self {
            code,
            data: None,
            message: message.into(),
            success: false,
        }
    }
}

/// `Data` of `Action=GetObProxyConfig&VersionOnly=true`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VersionOnly {
    /// Version of the configuration.
    pub version: String,
}

/// `Data` of `Action=GetObProxyConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ObProxyConfig {
    /// Where new binaries would be.
    pub ob_proxy_bin_url: String,
    /// The metadb.
    pub ob_proxy_database_info: DatabaseInfo,
    /// The OceanBase clusters. A proxy refuses an empty list.
    pub ob_root_service_info_url_list: Vec<RootServiceUrl>,
    /// A digest of the rest, 32 characters, the most a proxy takes.
    pub version: String,
}

/// The metadb of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DatabaseInfo {
    /// Name of the database.
    pub data_base: String,
    /// Where its root servers are told.
    pub meta_data_base: String,
    /// Password of the user.
    pub password: String,
    /// The user.
    pub user: String,
}

/// An OceanBase cluster of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RootServiceUrl {
    /// Its name.
    pub ob_region: String,
    /// Where its root servers are told.
    pub ob_root_service_info_url: String,
}

/// `Data` of `Action=ObRootServiceInfo`: one cluster, or all of a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrAll<T> {
    /// One.
    One(T),
    /// All, a cluster id each.
    All(Vec<T>),
}

/// An OceanBase cluster's root servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RootServiceInfo {
    /// Its name.
    pub ob_cluster: String,
    /// Its cluster_id parameter; 0 where it is not known.
    pub ob_cluster_id: i64,
    /// Its name again, as older proxies call it.
    pub ob_region: String,
    /// Its cluster_id parameter again.
    pub ob_region_id: i64,
    /// Root servers that are read from only.
    pub readonly_rs_list: Vec<RootServerInfo>,
    /// Its root servers.
    pub rs_list: Vec<RootServerInfo>,
    /// PRIMARY or STANDBY.
    #[serde(rename = "Type")]
    pub cluster_type: String,
}

/// A root server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootServerInfo {
    /// `ip:rpcport`.
    pub address: String,
    /// LEADER or FOLLOWER.
    pub role: String,
    /// SQL port.
    pub sql_port: u16,
}

/// `Data` of `Action=ObIDCRegionInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IdcRegionInfo {
    /// Which IDC lies in which region.
    #[serde(rename = "IDCList")]
    pub idc_list: Vec<IdcRegion>,
    /// The cluster's name.
    pub ob_region: String,
    /// Its cluster_id parameter; 0 where it is not known.
    pub ob_region_id: i64,
}

/// An IDC and its region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdcRegion {
    /// The IDC.
    pub idc: String,
    /// Its region.
    pub region: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_spelled_as_proxies_read_them() {
        let info = RootServiceInfo {
            ob_cluster: "ob1".into(),
            ob_cluster_id: 1,
            ob_region: "ob1".into(),
            ob_region_id: 1,
            readonly_rs_list: Vec::new(),
            rs_list: vec![RootServerInfo {
                address: "10.0.0.1:2882".into(),
                role: "LEADER".into(),
                sql_port: 2881,
            }],
            cluster_type: "PRIMARY".into(),
        };
        let expected = json!({"Code": 200, "Message": "successful", "Success": true, "Data": [{
            "ObCluster": "ob1", "ObClusterId": 1, "ObRegion": "ob1", "ObRegionId": 1, "ReadonlyRsList": [], "Type": "PRIMARY",
            "RsList": [{"address": "10.0.0.1:2882", "role": "LEADER", "sql_port": 2881}],
        }]});
        assert_eq!(
            serde_json::to_value(Answer::of(OneOrAll::All(vec![info]))).unwrap(),
            expected
        );
        let refused = Answer::<()>::refusal(404, "no");
        assert_eq!(
            serde_json::to_value(refused).unwrap(),
            json!({"Code": 404, "Message": "no", "Success": false})
        );
        let idc = IdcRegionInfo {
            idc_list: Vec::new(),
            ob_region: "ob1".into(),
            ob_region_id: 0,
        };
        assert_eq!(
            serde_json::to_value(idc).unwrap(),
            json!({"IDCList": [], "ObRegion": "ob1", "ObRegionId": 0})
        );
        let config = ObProxyConfig {
            ob_proxy_bin_url: "b".into(),
            ob_proxy_database_info: DatabaseInfo {
                data_base: "d".into(),
                meta_data_base: "m".into(),
                password: "p".into(),
                user: "u".into(),
            },
            ob_root_service_info_url_list: vec![RootServiceUrl {
                ob_region: "ob1".into(),
                ob_root_service_info_url: "r".into(),
            }],
            version: "v".into(),
        };
        assert_eq!(
            serde_json::to_value(config).unwrap(),
            json!({
                "ObProxyBinUrl": "b",
                "ObProxyDatabaseInfo": {"DataBase": "d", "MetaDataBase": "m", "Password": "p", "User": "u"},
                "ObRootServiceInfoUrlList": [{"ObRegion": "ob1", "ObRootServiceInfoUrl": "r"}],
                "Version": "v",
            })
        );
    }
}
