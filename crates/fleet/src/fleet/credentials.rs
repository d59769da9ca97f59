//! Users' credentials for hosts.

use obfleet_wire::{
    Code, Refusal,
    credential::{Credential as CredentialView, NewCredential, SshCredential, SshLoginType, TargetType},
    reason::{Reason, Thing},
    time::Timestamp,
};

use super::{Actor, Error, Fleet, sites::check_text};
use crate::inventory::{Credential, CredentialRemoved};

/// Longest name, in characters.
const NAME: usize = 128;
/// Longest name of a user of a host, in characters.
const USERNAME: usize = 64;
/// Longest description, in characters.
const DESCRIPTION: usize = 512;

impl Fleet {
    /// The user's credentials, by id.
    pub async fn credentials(&self, who: &Actor) -> Result<Vec<CredentialView>, Error> {
        Ok(self
            .crew
            .inventory
            .credentials(who.id)
            .await?
            .iter()
            .map(view)
            .collect())
    }

    /// One of the user's credentials.
    pub async fn credential(&self, who: &Actor, id: i64) -> Result<CredentialView, Error> {
        let credential = self.crew.inventory.credential(who.id, id).await?;
        Ok(credential.as_ref().map(view).ok_or_else(|| missing(id))?)
    }

    /// Keeps a credential, what proves it sealed.
    pub async fn add_credential(&self, who: &Actor, body: NewCredential) -> Result<CredentialView, Error> {
        let ssh = body.ssh_credential_property;
        check_text("name", &body.name, 1, NAME)?;
        check_text("sshCredentialProperty.username", &ssh.username, 1, USERNAME)?;
        if let Some(description) = &body.description {
            check_text("description", description, 0, DESCRIPTION)?;
        }
        if ssh.passphrase.is_empty() {
            return Err(Refusal::invalid("sshCredentialProperty.passphrase", Reason::SecretNeeded).into());
        }
        // Some clients send an empty text for none.
        let key_passphrase = ssh.key_passphrase.filter(|text| !text.is_empty());
        match ssh.login_type {
            SshLoginType::Password if key_passphrase.is_some() => {
                return Err(Refusal::invalid("sshCredentialProperty.keyPassphrase", Reason::NoKey).into());
            }
            SshLoginType::Password => {}
            SshLoginType::PrivateKey => {
                if !is_private_key(&ssh.passphrase) {
                    return Err(Refusal::invalid("sshCredentialProperty.passphrase", Reason::NoPrivateKey).into());
                }
            }
        }
        let now = Timestamp::now();
        let sealer = &self.crew.sealer;
        let mut credential = Credential {
            id: 0,
            user_id: who.id,
            name: body.name,
            description: body.description,
            login: ssh.login_type,
            username: ssh.username,
            secret: sealer.seal(&ssh.passphrase)?,
            key_passphrase: key_passphrase.map(|text| sealer.seal(&text)).transpose()?,
            created: now,
            updated: now,
        };
        let added = self.crew.inventory.insert_credential(&credential).await?;
        credential.id = added.ok_or_else(|| Refusal::new(Code::Crd08002, [&credential.name]).field("name"))?;
        Ok(view(&credential))
    }

    /// Forgets one of the user's credentials that no task is about to use.
    pub async fn remove_credential(&self, who: &Actor, id: i64) -> Result<(), Error> {
        match self.crew.inventory.delete_credential(who.id, id).await? {
            CredentialRemoved::Gone => Ok(()),
            CredentialRemoved::Missing => Err(missing(id).into()),
            CredentialRemoved::HeldBy { task, name } => {
                let held = [Thing::Credential(id.to_string()).into(), (&task).into(), (&name).into()];
                let target = serde_json::json!({"taskId": task, "taskName": name});
                Err(Refusal::about(Code::Com10005, held).target(target).into())
            }
        }
    }
}

/// The user has none of that id.
pub(super) fn missing(id: i64) -> Refusal {
    Refusal::new(Code::Crd08001, [id]).field("credentialId")
}

/// Whether a text has the outer form of a private key, in OpenSSH's or a PEM form; what is in it only its use tells.
fn is_private_key(text: &str) -> bool {
    const LABEL: &str = "PRIVATE KEY-----";
    let mut lines = text.trim().lines().map(str::trim_end);
    let first = lines.next().unwrap_or_default();
    let last = lines.next_back().unwrap_or_default();
    let is_whole = |begin: &str| {
        let kind = first.strip_prefix(begin)?;
        (kind.ends_with(LABEL) && last == format!("-----END {kind}")).then_some(())
    };
    lines.next().is_some() && is_whole("-----BEGIN ").is_some()
}

fn view(credential: &Credential) -> CredentialView {
    CredentialView {
        create_time: credential.created,
        description: credential.description.clone(),
        id: credential.id,
        name: credential.name.clone(),
        ssh_credential_property: SshCredential {
            login_type: credential.login,
            username: credential.username.clone(),
        },
        target_type: TargetType::Host,
        update_time: credential.updated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_is_whole_and_no_public_one() {
        for kind in ["OPENSSH ", "RSA ", "ENCRYPTED ", ""] {
            let key = |begin: &str, end: &str| format!("{begin}\r\nb3Bl\r\n{end}\r\n");
            let (begin, end) = (
                format!("-----BEGIN {kind}PRIVATE KEY-----"),
                format!("-----END {kind}PRIVATE KEY-----"),
            );
            assert!(is_private_key(&key(&begin, &end)), "{kind}");
            assert!(!is_private_key(&key(&begin, "")), "{kind}: the end is missing");
            assert!(!is_private_key(&key(&end, &end)), "{kind}: the beginning is missing");
            assert!(!is_private_key(&format!("{begin}\n{end}")), "{kind}: nothing between");
        }
        let public = "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----";
        for wrong in ["", "password", "ssh-ed25519 AAAA me", public] {
            assert!(!is_private_key(wrong), "{wrong}");
        }
    }
}
