//! Hosts, and how agents join with theirs.

use std::collections::{BTreeMap, BTreeSet};

use obfleet_engine::{Lock, Submission};
use obfleet_wire::{
    Code, Refusal,
    agent::FoundProxy,
    host::{EditHost, Host as HostView},
    reason::{Reason, Thing},
    time::Timestamp,
};

use super::{
    Actor, Error, Fleet,
    sites::{check_place, check_text},
};
use crate::{
    flows,
    inventory::{EnrolToken, Host, HostPlace, HostStage, HostsDeleted, InventoryChange, Proxy},
    plan::Selection,
    view,
};

/// Longest alias, in characters.
pub(super) const ALIAS: usize = 255;
/// Longest description, in characters.
pub(super) const DESCRIPTION: usize = 512;

impl Fleet {
    /// All hosts, by id.
    pub async fn hosts(&self) -> Result<Vec<HostView>, Error> {
        let fleet = self.snapshot().await?;
        let mut proxies = BTreeMap::<i64, Vec<&Proxy>>::new();
        for proxy in fleet.proxies.values() {
            proxies.entry(proxy.host_id).or_default().push(proxy);
        }
        let mut show = |host: &Host| view::host(&fleet, host, proxies.remove(&host.id).unwrap_or_default());
        Ok(fleet.hosts.values().map(&mut show).collect())
    }

    /// One host.
    pub async fn host(&self, id: i64) -> Result<HostView, Error> {
        let fleet = self.snapshot().await?;
        let host = fleet.host(id).map_err(|refusal| refusal.field("hostId"))?;
        let proxies = fleet.proxies.values().filter(|proxy| proxy.host_id == id);
        Ok(view::host(&fleet, host, proxies))
    }

    /// The proxies that run on a host, whoever started them, as its agent sees them now.
    pub async fn obproxies_on_host(&self, id: i64) -> Result<Vec<FoundProxy>, Error> {
        let fleet = self.snapshot().await?;
        let host = fleet.host(id).map_err(|refusal| refusal.field("hostId"))?;
        Ok(self.crew.agents.obproxies(host).await?)
    }

    /// Changes what people say of a host.
    pub async fn edit_host(&self, id: i64, body: EditHost) -> Result<HostView, Error> {
        let fleet = self.snapshot().await?;
        let missing = |refusal: Refusal| refusal.field("hostId");
        let mut profile = fleet.host(id).map_err(missing)?.profile.clone();
        let text = |field: &str, given: Option<String>, now: Option<String>, most| match given {
            None => Ok(now),
            Some(text) if text.is_empty() => Ok(None),
            Some(text) => check_text(field, &text, 1, most).map(|()| Some(text)),
        };
        profile.alias = text("alias", body.alias, profile.alias, ALIAS)?;
        profile.description = text("description", body.description, profile.description, DESCRIPTION)?;
        profile.place = HostPlace {
            idc_id: body.idc_id.unwrap_or(profile.place.idc_id),
            type_id: body.type_id.unwrap_or(profile.place.type_id),
        };
        check_place(&fleet.sites, profile.place)?;
        // A host that is gone by now is missing in the answer.
        self.crew.inventory.edit_host(id, &profile).await?;
        self.host(id).await
    }

    /// The host of a proxy of a cluster.
    pub async fn host_of_proxy(&self, cluster_id: i64, proxy_id: i64) -> Result<Host, Error> {
        let fleet = self.snapshot().await?;
        let cluster = fleet.cluster(cluster_id)?;
        let mut proxies = fleet.members(cluster, &Selection::in_path(&[proxy_id]))?.into_iter();
        let host = proxies.next().map(|proxy| fleet.host(proxy.host_id)).transpose()?;
        Ok(host.cloned().ok_or_else(|| Refusal::new(Code::Odp21002, [proxy_id]))?)
    }

    /// Deletes hosts without proxies, all of them or none. An agent that was put there over SSH and that can be asked is taken
    /// away first, by a task a host; nothing is asked of the others.
    pub async fn delete_hosts(&self, who: &Actor, ids: &[i64], field: &str) -> Result<(), Error> {
        if ids.is_empty() {
            return Err(Refusal::invalid(field, Reason::Empty).into());
        }
        let fleet = self.snapshot().await?;
        let (mut by_task, mut at_once) = (Vec::new(), Vec::new());
        for id in ids.iter().copied().collect::<BTreeSet<_>>() {
            match fleet.hosts.get(&id) {
                Some(host) if self.credential_of(host).await?.is_some() => by_task.push(host),
                _ => at_once.push(id),
            }
        }
        for host in &by_task {
            let proxies = fleet.proxies.values().filter(|proxy| proxy.host_id == host.id);
            let proxies: Vec<i64> = proxies.map(|proxy| proxy.id).collect();
            if !proxies.is_empty() {
                return Err(carries(host.id, &proxies, field).into());
            }
        }
        if !at_once.is_empty() {
            self.delete_at_once(&at_once, field).await?;
        }
        for host in by_task {
            let Some(credential) = self.credential_of(host).await? else {
                continue;
            };
            let mut submission = Submission::new("Delete host", &who.name, flows::delete_host::template()?);
            submission.context = flows::delete_host::context(host);
            submission.host_id = Some(host.id);
            submission.locks = vec![Lock::exclusive("host", host.id), Lock::shared("credential", credential)];
            submission.changes = vec![InventoryChange::SetHostStage {
                host_id: host.id,
                stage: HostStage::Deleting,
            }];
            self.engine.submit(submission).await?;
        }
        Ok(())
    }

    /// The credential with which the agent of a host can be taken away, if it was put there with one, and the host is well.
    async fn credential_of(&self, host: &Host) -> Result<Option<i64>, Error> {
        match &host.bootstrap {
            Some(how) if host.is_ready() => {
                let credential = self.crew.inventory.credential(how.user_id, how.credential_id).await?;
                Ok(credential.map(|credential| credential.id))
            }
            _ => Ok(None),
        }
    }

    async fn delete_at_once(&self, ids: &[i64], field: &str) -> Result<(), Error> {
        match self.crew.inventory.delete_hosts(ids).await? {
            HostsDeleted::Gone => Ok(()),
            HostsDeleted::Missing(id) => Err(Refusal::new(Code::Cmp07005, [id]).field(field).into()),
            HostsDeleted::Carries(id, proxies) => Err(carries(id, &proxies, field).into()),
            HostsDeleted::HeldBy { host, task, name } => {
                let held = [Thing::Hosts(host.to_string()).into(), (&task).into(), (&name).into()];
                let refusal = Refusal::about(Code::Com10005, held).field(field);
                let target = serde_json::json!({"taskId": task, "taskName": name});
                Err(refusal.target(target).into())
            }
        }
    }

    /// Keeps a token an agent can enrol with once.
    pub async fn keep_enrol_token(&self, token: &EnrolToken) -> Result<(), Error> {
        Ok(self.crew.inventory.insert_token(token).await?)
    }

    /// A token that is neither used nor expired.
    pub async fn enrol_token(&self, id: &str) -> Result<Option<EnrolToken>, Error> {
        let token = self.crew.inventory.token(id).await?;
        Ok(token.filter(|token| token.expires > Timestamp::now()))
    }

    /// Uses up a token for a host, whose `id` is of no account. → its id, `None` when the token was used meanwhile
    pub async fn enrol(&self, token_id: &str, host: &Host) -> Result<Option<i64>, Error> {
        Ok(self.crew.inventory.enrol(token_id, host).await?)
    }
}

/// The host carries these proxies.
fn carries(id: i64, proxies: &[i64], field: &str) -> Refusal {
    let list = proxies.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let used = [Thing::HostKind.into(), (&id).into(), Thing::Proxies(list).into()];
    let target = serde_json::json!({"hostId": id, "obproxyServerIds": proxies});
    Refusal::about(Code::Cmp07000, used).field(field).target(target)
}
