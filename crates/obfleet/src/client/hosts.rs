//! `obfleet host …` and `obfleet credential …`

use std::{fs, io, path::Path};

use anyhow::{Context as _, bail};
use obfleet_client::Client;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    all,
    fleet::{HOSTS, cells, rows},
    secret,
    show::{Shown, text},
    tasks,
};
use crate::cli::{
    client::Output,
    hosts::{CredentialOrder, HostOrder, NewHosts},
};

const CREDENTIALS: &str = "/api/v2/profiles/me/credentials";

/// Runs a command about hosts.
pub async fn host(client: &Client, order: HostOrder, output: Output) -> anyhow::Result<Shown> {
    match order {
        HostOrder::List => {
            let hosts = all(client, HOSTS, &[]).await?;
            let members = [
                "id",
                "name",
                "innerIpAddress",
                "architecture",
                "hostAgentStatus",
                "hostAgentVersion",
                "idcName",
            ];
            let titles = ["ID", "NAME", "IP", "ARCHITECTURE", "AGENT", "VERSION", "IDC"];
            let rows = rows(&hosts, |host| cells(host, &members));
            Ok(Shown::table(hosts, &titles, rows))
        }
        HostOrder::Add(new) => add(client, new, output).await,
        HostOrder::Delete { ids } => {
            let body = json!({"hostIdList": ids});
            let path = format!("{HOSTS}/batchDelete");
            client.call(Method::POST, &path, &[], Some(&body)).await?;
            Ok(Shown::done("the hosts are deleted"))
        }
    }
}

async fn add(client: &Client, new: NewHosts, output: Output) -> anyhow::Result<Shown> {
    if new.host_key.is_some() && new.addresses.len() > 1 {
        bail!("a host key is that of one machine: add the machines one by one, or leave --host-key out");
    }
    let hosts: Vec<Value> = new
        .addresses
        .iter()
        .map(|address| match &new.host_key {
            Some(key) => json!({"innerIpAddress": address, "sshHostKey": key}),
            None => json!({"innerIpAddress": address}),
        })
        .collect();
    let mut body = json!({
        "bindAddress": new.bind,
        "credentialId": credential_id(client, &new.credential).await?,
        "hostBasicDataList": hosts,
        "idcId": new.idc,
        "kind": "DEDICATED_PHYSICAL_MACHINE",
        "mgragentPort": new.agent_port,
        "sshPort": new.ssh_port,
        "typeId": new.host_type,
    });
    for (member, value) in [("installPath", new.install_path), ("alias", new.alias)] {
        if let Some(value) = value {
            body[member] = value.into();
        }
    }
    let path = format!("{HOSTS}/batchCreate");
    let made = client.call(Method::POST, &path, &[], Some(&body)).await?;
    let started = made["contents"].as_array().cloned().unwrap_or_default();
    if new.follow.watch {
        let mut shown = None;
        let mut failure = None;
        for task in &started {
            let id = task["id"].as_i64().context("the server tells no id of the task")?;
            match tasks::watch(client, id, output).await {
                Ok(watched) => shown = Some(watched),
                Err(error) => failure = Some(error),
            }
        }
        return match (failure, shown) {
            (Some(error), _) => Err(error),
            (None, Some(shown)) => Ok(shown),
            (None, None) => bail!("the server started no task"),
        };
    }
    let row = |task: &Value| cells(task, &["hostId", "id", "name", "status"]);
    let titles = ["HOST", "TASK", "NAME", "STATUS"];
    let contents = Value::Array(started);
    let rows = rows(&contents, row);
    Ok(Shown::table(made, &titles, rows))
}

/// Runs a command about credentials.
pub async fn credential(client: &Client, order: CredentialOrder) -> anyhow::Result<Shown> {
    match order {
        CredentialOrder::List => Ok(listed(all(client, CREDENTIALS, &[]).await?)),
        CredentialOrder::Add {
            name,
            ssh_user,
            secret: given,
            passphrase,
            description,
        } => {
            let (kind, proof) = match (&given.login_password, &given.key) {
                (Some(file), _) => ("PASSWORD", password(file)?),
                (None, Some(file)) => ("PRIVATE_KEY", key(file)?),
                (None, None) => bail!("give --login-password or --key"),
            };
            let body = json!({
                "description": description,
                "name": name,
                "sshCredentialProperty": {
                    "keyPassphrase": passphrase.as_deref().map(secret).transpose()?,
                    "passphrase": proof,
                    "type": kind,
                    "username": ssh_user,
                },
                "targetType": "HOST",
            });
            let made = client.call(Method::POST, CREDENTIALS, &[], Some(&body)).await?;
            Ok(listed(Value::Array(vec![made])))
        }
        CredentialOrder::Delete { name } => {
            let path = format!("{CREDENTIALS}/{}", credential_id(client, &name).await?);
            client.call(Method::DELETE, &path, &[], None).await?;
            Ok(Shown::done("the credential is forgotten"))
        }
    }
}

fn listed(credentials: Value) -> Shown {
    let row = |credential: &Value| {
        let mut row = cells(credential, &["id", "name"]);
        row.extend(cells(&credential["sshCredentialProperty"], &["type", "username"]));
        row.push(text(&credential["description"]));
        row
    };
    let titles = ["ID", "NAME", "TYPE", "USER", "DESCRIPTION"];
    let rows = rows(&credentials, row);
    Shown::table(credentials, &titles, rows)
}

fn password(file: &Path) -> anyhow::Result<String> {
    match file == Path::new("-") {
        true => {
            let text = io::read_to_string(io::stdin()).context("the standard input cannot be read")?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        false => secret(file),
    }
}

fn key(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}

/// The id of the credential that is called so.
async fn credential_id(client: &Client, credential: &str) -> anyhow::Result<i64> {
    let credentials = all(client, CREDENTIALS, &[]).await?;
    let number: Option<i64> = credential.parse().ok();
    let mut known = credentials.as_array().into_iter().flatten();
    let id = known
        .find(|known| known["name"] == credential || (number.is_some() && known["id"].as_i64() == number))
        .and_then(|found| found["id"].as_i64());
    id.with_context(|| format!("you have no credential {credential}; `obfleet credential list` shows yours"))
}
