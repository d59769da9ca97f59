//! Adding hosts over SSH.

use std::{collections::BTreeSet, net::IpAddr};

use obfleet_engine::{Lock, Submission, TaskView};
use obfleet_wire::{
    Code, Refusal,
    agent::HostFacts,
    host::{CreateHosts, HostBasicData},
    reason::Reason,
    time::Timestamp,
};

use super::{
    Actor, Error, Fleet, credentials,
    hosts::{ALIAS, DESCRIPTION},
    sites::{check_place, check_text},
};
use crate::{
    Once,
    bootstrap::{AGENT_PORT, BootstrapSettings, SSH_PORT},
    flows,
    inventory::{Host, HostPlace, HostProfile, HostStage, InventoryChange},
    plan::Snapshot,
};

/// Longest serial number, in characters.
const SERIAL_NUMBER: usize = 255;
/// Longest list of published ports, in characters.
const PUBLISH_PORTS: usize = 1024;
/// Longest installPath, in characters.
const INSTALL_PATH: usize = 128;
/// Hosts of one request.
const MOST: usize = 200;

impl Fleet {
    /// Adds hosts over SSH: one task a host. What is wrong with one refuses all. A repetition makes the tasks that the first
    /// time did not come to.
    pub async fn add_hosts(&self, who: &Actor, body: CreateHosts, once: Option<&Once>) -> Result<Vec<TaskView>, Error> {
        let part = |index| once.map(|once| once.part(index));
        let (mut tasks, mut left) = (Vec::new(), Vec::new());
        for index in 0..body.host_basic_data_list.len() {
            match self.made(part(index).as_ref()).await? {
                Some(made) => tasks.push(made),
                None => left.push(index),
            }
        }
        if left.is_empty() && !tasks.is_empty() {
            return Ok(tasks);
        }
        let fleet = self.snapshot().await?;
        let credential = self.crew.inventory.credential(who.id, body.credential_id).await?;
        if credential.is_none() {
            return Err(credentials::missing(body.credential_id).into());
        }
        let hosts = new_hosts(&fleet, who, &body, &left)?;
        for (index, mut host) in left.into_iter().zip(hosts) {
            host.id = self.crew.inventory.next_id().await?;
            if let Some(settings) = &mut host.bootstrap
                && settings.host_key.is_none()
            {
                let port = host.profile.ssh_port.unwrap_or(SSH_PORT);
                settings.host_key = self.crew.inventory.ssh_host_key(&host.address, port).await?;
            }
            let mut submission = Submission::new("Prepare host", &who.name, flows::add_host::template()?);
            submission.context = flows::add_host::context(&host);
            submission.host_id = Some(host.id);
            submission.locks = vec![
                Lock::exclusive("host", host.id),
                Lock::exclusive("host_address", &host.address),
                Lock::shared("credential", body.credential_id),
            ];
            submission.changes = vec![InventoryChange::InsertHost(Box::new(host))];
            Once::mark(part(index).as_ref(), &mut submission);
            tasks.push(self.engine.submit(submission).await?);
        }
        Ok(tasks)
    }
}

/// The rows of the hosts at these places of the list, without ids.
fn new_hosts(fleet: &Snapshot, who: &Actor, body: &CreateHosts, wanted: &[usize]) -> Result<Vec<Host>, Refusal> {
    let given = &body.host_basic_data_list;
    if given.is_empty() {
        return Err(Refusal::invalid("hostBasicDataList", Reason::Empty));
    }
    if given.len() > MOST {
        let reason = Reason::TooMany {
            given: given.len(),
            most: MOST,
        };
        return Err(Refusal::invalid("hostBasicDataList", reason));
    }
    if body.alias.is_some() && given.len() > 1 {
        return Err(Refusal::invalid("alias", Reason::ForOneHost));
    }
    let profile = profile(fleet, body)?;
    let settings = settings(who, body)?;
    let mut seen = BTreeSet::new();
    let mut hosts = Vec::new();
    for (index, data) in given.iter().enumerate() {
        let field = |name: &str| format!("hostBasicDataList[{index}].{name}");
        let host = new_host(data, &profile, &settings, field)?;
        let taken = || {
            Refusal::new(Code::Cmp07001, [host.address.clone(), host.agent_port.to_string()])
                .field(field("innerIpAddress"))
        };
        if !seen.insert(host.address.clone()) {
            return Err(taken());
        }
        if wanted.contains(&index) {
            if let Some(other) = fleet.hosts.values().find(|other| is_same(other, &host)) {
                return Err(taken().target(serde_json::json!({"hostId": other.id})));
            }
            hosts.push(host);
        }
    }
    Ok(hosts)
}

fn text_of(field: &str, text: Option<&str>, most: usize) -> Result<Option<String>, Refusal> {
    match text {
        Some(text) if !text.is_empty() => check_text(field, text, 1, most).map(|()| Some(text.to_owned())),
        _ => Ok(None),
    }
}

fn profile(fleet: &Snapshot, body: &CreateHosts) -> Result<HostProfile, Refusal> {
    let place = HostPlace {
        idc_id: body.idc_id.unwrap_or_else(|| HostPlace::default().idc_id),
        type_id: body.type_id.unwrap_or_else(|| HostPlace::default().type_id),
    };
    check_place(&fleet.sites, place)?;
    if body.ssh_port == Some(0) {
        return Err(Refusal::invalid("sshPort", Reason::NoPort));
    }
    let publish_ports = body.publish_ports.as_ref().map(|ports| ports.join(","));
    Ok(HostProfile {
        alias: text_of("alias", body.alias.as_deref(), ALIAS)?,
        description: text_of("description", body.description.as_deref(), DESCRIPTION)?,
        place,
        kind: body.kind,
        publish_ports: text_of("publishPorts", publish_ports.as_deref(), PUBLISH_PORTS)?,
        serial_number: None,
        ssh_port: body.ssh_port,
    })
}

fn settings(who: &Actor, body: &CreateHosts) -> Result<BootstrapSettings, Refusal> {
    let agent_port = body.mgragent_port.unwrap_or(AGENT_PORT);
    if agent_port == 0 {
        return Err(Refusal::invalid("mgragentPort", Reason::NoPort));
    }
    let bind = body.bind_address.as_deref().unwrap_or("0.0.0.0");
    let bind = address(bind).ok_or_else(|| Refusal::invalid("bindAddress", Reason::NoAddress))?;
    Ok(BootstrapSettings {
        credential_id: body.credential_id,
        user_id: who.id,
        root: body.install_path.as_deref().map(install_path).transpose()?,
        agent_port,
        bind,
        host_key: None,
    })
}

fn new_host(
    data: &HostBasicData,
    profile: &HostProfile,
    settings: &BootstrapSettings,
    field: impl Fn(&str) -> String,
) -> Result<Host, Refusal> {
    let address =
        address(&data.inner_ip_address).ok_or_else(|| Refusal::invalid(&field("innerIpAddress"), Reason::NoAddress))?;
    let host_key = data.ssh_host_key.as_deref().map(|key| {
        let wrong = || Refusal::invalid(&field("sshHostKey"), Reason::NoFingerprint);
        fingerprint(key).ok_or_else(wrong)
    });
    let now = Timestamp::now();
    Ok(Host {
        id: 0,
        facts: HostFacts {
            host_uid: String::new(),
            name: address.clone(),
            architecture: String::new(),
            kernel: String::new(),
            release: String::new(),
        },
        address,
        agent_port: settings.agent_port,
        agent_version: String::new(),
        online: false,
        reserved: false,
        profile: HostProfile {
            serial_number: text_of(&field("serialNumber"), data.serial_number.as_deref(), SERIAL_NUMBER)?,
            ..profile.clone()
        },
        stage: HostStage::New,
        bootstrap: Some(BootstrapSettings {
            host_key: host_key.transpose()?,
            ..settings.clone()
        }),
        deleted: false,
        created: now,
        updated: now,
    })
}

/// Whether a host is the machine that another would be on, or has its ports.
fn is_same(one: &Host, other: &Host) -> bool {
    let ssh = |host: &Host| host.profile.ssh_port.unwrap_or(SSH_PORT);
    one.address == other.address && (ssh(one) == ssh(other) || one.agent_port == other.agent_port)
}

fn address(text: &str) -> Option<String> {
    let address: IpAddr = text.trim().parse().ok()?;
    Some(address.to_string())
}

/// A directory that may be an agent's: absolute, no way round, and of characters that no shell and no unit changes.
fn install_path(path: &str) -> Result<String, Refusal> {
    let plain = path.trim_end_matches('/');
    let is_plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'@' | b'+'))
    };
    let parts = plain.strip_prefix('/').map(|rest| rest.split('/').all(is_plain));
    match parts {
        Some(true) if plain.len() <= INSTALL_PATH => Ok(plain.to_owned()),
        _ => Err(Refusal::new(Code::Cmp07028, [path]).field("installPath")),
    }
}

/// `SHA256:` and the digest, as OpenSSH tells it.
fn fingerprint(text: &str) -> Option<String> {
    let digest = text.trim().strip_prefix("SHA256:")?.trim_end_matches('=');
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    (digest.len() == 43 && digest.bytes().all(base64)).then(|| format!("SHA256:{digest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_install_path_is_a_directory_of_its_own() {
        assert_eq!(install_path("/srv/ob-fleet/").unwrap(), "/srv/ob-fleet");
        for wrong in [
            "", "/", "srv", "/a/../b", "/a//b", "/a/./b", "~/x", "/a\nb", "/a b", "/a'b",
        ] {
            assert_eq!(install_path(wrong).unwrap_err().code, Code::Cmp07028, "{wrong:?}");
        }
    }

    #[test]
    fn a_fingerprint_has_the_form_ssh_keygen_prints() {
        let digest = "uNiVztksCsDhcc0u9e8BgrJXVGDa6hDm5hNKVOjFWEo";
        let told = format!("SHA256:{digest}");
        assert_eq!(fingerprint(&told), Some(told.clone()));
        assert_eq!(fingerprint(&format!(" {told}= ")), Some(told));
        let odd = format!("SHA256:{}!", &digest[1..]);
        for wrong in ["", digest, "MD5:aa:bb", "SHA256:short", &odd] {
            assert_eq!(fingerprint(wrong), None, "{wrong}");
        }
    }
}
