//! Rows of the inventory's tables as the fleet's types.

use obfleet_fleet::{
    inventory::{Cluster, EnrolToken, Host, HostPlace, HostProfile, ObCluster, ObLink, Package, Proxy},
    secrets::Sealed,
};
use obfleet_wire::time::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::Error;

use crate::sql::{Column, Row};

/// The word an enum is stored as: that of its JSON.
pub(super) fn word(value: &impl Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    json.as_str().unwrap_or_default().to_owned()
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Decode(Box::new(error))
}

pub(super) fn get<'r, T: Column<'r>>(row: &'r Row, column: &str) -> Result<T, Error> {
    row.get(column)
}

/// A number that is a port.
fn port(row: &Row, column: &str) -> Result<u16, Error> {
    u16::try_from(get::<i64>(row, column)?).map_err(decode)
}

fn port_or_null(row: &Row, column: &str) -> Result<Option<u16>, Error> {
    let number: Option<i64> = get(row, column)?;
    number.map(u16::try_from).transpose().map_err(decode)
}

pub(super) fn json<T: DeserializeOwned>(row: &Row, column: &str) -> Result<T, Error> {
    serde_json::from_str(get(row, column)?).map_err(decode)
}

pub(super) fn enumerated<T: DeserializeOwned>(row: &Row, column: &str) -> Result<T, Error> {
    serde_json::from_value(serde_json::Value::String(get(row, column)?)).map_err(decode)
}

pub(super) fn parsed<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    text: &str,
) -> Result<T, Error> {
    text.parse().map_err(decode)
}

pub(super) fn time(row: &Row, column: &str) -> Result<Timestamp, Error> {
    Ok(Timestamp(get(row, column)?))
}

pub(super) fn host(row: &Row) -> Result<Host, Error> {
    Ok(Host {
        id: get(row, "id")?,
        facts: json(row, "facts")?,
        address: get(row, "address")?,
        agent_port: port(row, "agent_port")?,
        agent_version: get(row, "agent_version")?,
        online: get(row, "online")?,
        reserved: get(row, "reserved")?,
        profile: HostProfile {
            alias: get(row, "alias")?,
            description: get(row, "description")?,
            place: place(row)?,
            kind: enumerated(row, "kind")?,
            publish_ports: get(row, "publish_ports")?,
            serial_number: get(row, "serial_number")?,
            ssh_port: port_or_null(row, "ssh_port")?,
        },
        stage: enumerated(row, "stage")?,
        bootstrap: match get::<Option<&str>>(row, "bootstrap")? {
            Some(text) => Some(serde_json::from_str(text).map_err(decode)?),
            None => None,
        },
        deleted: get(row, "deleted")?,
        created: time(row, "created_at")?,
        updated: time(row, "updated_at")?,
    })
}

pub(super) fn cluster(row: &Row) -> Result<Cluster, Error> {
    Ok(Cluster {
        id: get(row, "id")?,
        name: get(row, "name")?,
        address: get(row, "address")?,
        port: port_or_null(row, "port")?,
        work_mode: enumerated(row, "work_mode")?,
        settings: json(row, "settings")?,
        parameter_version: get(row, "parameter_version")?,
        version: get::<Option<&str>>(row, "version")?.map(parsed).transpose()?,
        creator_id: get(row, "creator_id")?,
        creator_name: get(row, "creator_name")?,
        deleted: get(row, "deleted")?,
        created: time(row, "created_at")?,
        updated: time(row, "updated_at")?,
    })
}

pub(super) fn proxy(row: &Row) -> Result<Proxy, Error> {
    Ok(Proxy {
        id: get(row, "id")?,
        cluster_id: get(row, "cluster_id")?,
        host_id: get(row, "host_id")?,
        version: parsed(get(row, "version")?)?,
        sql_port: port(row, "sql_port")?,
        exporter_port: port(row, "exporter_port")?,
        rpc_port: port_or_null(row, "rpc_port")?,
        status: enumerated(row, "status")?,
        operate_status: enumerated(row, "operate_status")?,
        parameter_version: get(row, "parameter_version")?,
        exporter_registered: get(row, "exporter_registered")?,
        last_active: get::<Option<i64>>(row, "last_active_at")?.map(Timestamp),
        offline: get(row, "offline")?,
        deleted: get(row, "deleted")?,
    })
}

pub(super) fn package(row: &Row) -> Result<Package, Error> {
    Ok(Package {
        id: get(row, "id")?,
        name: parsed(get(row, "file_name")?)?,
        is_proxy: get(row, "is_proxy")?,
        size: get::<i64>(row, "size")?.unsigned_abs(),
        sha1: get(row, "sha1")?,
        sha256: get(row, "sha256")?,
        signed_by: get(row, "signed_by")?,
        created: time(row, "created_at")?,
    })
}

pub(super) fn ob_cluster(row: &Row) -> Result<ObCluster, Error> {
    let account: Option<&str> = get(row, "account")?;
    Ok(ObCluster {
        id: get(row, "id")?,
        name: get(row, "name")?,
        ob_cluster_id: Some(get(row, "ob_cluster_id")?).filter(|id| *id != 0),
        cluster_type: enumerated(row, "cluster_type")?,
        root_servers: json(row, "root_servers")?,
        proxyro_password: get::<Option<String>>(row, "proxyro_password")?.map(Sealed::from_text),
        account: account.map(serde_json::from_str).transpose().map_err(decode)?,
        creator_id: get(row, "creator_id")?,
        creator_name: get(row, "creator_name")?,
        created: time(row, "created_at")?,
        updated: time(row, "updated_at")?,
    })
}

pub(super) fn ob_link(row: &Row) -> Result<ObLink, Error> {
    Ok(ObLink {
        cluster_id: get(row, "cluster_id")?,
        name: get(row, "name")?,
        ob_cluster: get(row, "ob_cluster")?,
        username: get(row, "username")?,
        status: enumerated(row, "status")?,
        told: get(row, "told")?,
    })
}

pub(super) fn token(row: &Row) -> Result<EnrolToken, Error> {
    Ok(EnrolToken {
        id: get(row, "id")?,
        key: hex::decode(get::<&str>(row, "proof_key")?).map_err(decode)?,
        expires: time(row, "expires_at")?,
        place: place(row)?,
        host_id: get(row, "host_id")?,
    })
}

fn place(row: &Row) -> Result<HostPlace, Error> {
    Ok(HostPlace {
        idc_id: get(row, "idc_id")?,
        type_id: get(row, "type_id")?,
    })
}
