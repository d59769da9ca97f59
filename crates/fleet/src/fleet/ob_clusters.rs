//! OceanBase clusters: registered, changed, probed, forgotten.

use std::collections::BTreeSet;

use obfleet_engine::{Lock, Submission, TaskView};
use obfleet_wire::{
    Code, Refusal,
    ob::{Account, ObCluster as ObClusterView, RegisterObCluster, RootServer, UpdateObCluster},
    obproxy::WorkMode,
    reason::{Reason, Thing},
    time::Timestamp,
};

use super::{Actor, Error, Fleet, ob_links::proxy_locks};
use crate::{
    Once, flows,
    inventory::{ObCluster, SealedAccount},
    plan::{
        Snapshot,
        ob::{self, Facts},
        ob_links::Concerned,
    },
    secrets::SealError,
    view,
};

/// What a probe needs to know.
#[derive(Debug)]
pub struct ProbeTarget {
    /// The registered root servers.
    pub root_servers: Vec<RootServer>,
    /// Who logs in, if anybody can.
    pub account: Option<Account>,
}

/// The account proxies have on the servers of an OceanBase cluster.
const PROXYRO: &str = "proxyro@sys";

impl Fleet {
    /// All OceanBase clusters, by id.
    pub async fn ob_clusters(&self) -> Result<Vec<ObClusterView>, Error> {
        let fleet = self.snapshot().await?;
        Ok(fleet
            .ob_clusters
            .values()
            .map(|known| view::ob_cluster(&fleet, known))
            .collect())
    }

    /// One OceanBase cluster.
    pub async fn ob_cluster(&self, id: i64) -> Result<ObClusterView, Error> {
        let fleet = self.snapshot().await?;
        Ok(view::ob_cluster(&fleet, fleet.ob_cluster(id)?))
    }

    /// Registers an OceanBase cluster.
    pub async fn register_ob_cluster(&self, who: &Actor, body: &RegisterObCluster) -> Result<ObClusterView, Error> {
        let check = |fleet: &Snapshot| {
            ob::check_name("name", &body.name)?;
            ob::check_cluster_id("obClusterId", body.ob_cluster_id)?;
            ob::check_namesakes(fleet, &body.name, body.ob_cluster_id, body.cluster_type, None)
        };
        let fleet = self.snapshot().await?;
        check(&fleet)?;
        let now = Timestamp::now();
        let known = ObCluster {
            root_servers: ob::check_root_servers("rootServers", &body.root_servers)?,
            id: self.crew.inventory.next_id().await?,
            name: body.name.clone(),
            ob_cluster_id: body.ob_cluster_id,
            cluster_type: body.cluster_type,
            proxyro_password: self.sealed(body.proxyro_password.as_deref())?,
            account: self.sealed_account(body.account.as_ref())?,
            creator_id: who.id,
            creator_name: who.name.clone(),
            created: now,
            updated: now,
        };
        if !self.crew.inventory.insert_ob_cluster(&known).await? {
            // Somebody was faster.
            check(&*self.snapshot().await?)?;
            let taken = [Thing::ObClusterKind.into(), body.name.as_str().into()];
            return Err(Refusal::about(Code::Com10006, taken).field("name").into());
        }
        Ok(view::ob_cluster(&fleet, &known))
    }

    /// Changes an OceanBase cluster. Secrets are kept at once; what proxies are told changes by a task, which also brings
    /// it to those that run.
    pub async fn update_ob_cluster(
        &self,
        who: &Actor,
        id: i64,
        body: &UpdateObCluster,
        once: Option<&Once>,
    ) -> Result<ObClusterView, Error> {
        if let Some(made) = self.made(once).await? {
            return self.updated(id, Some(&made), body).await;
        }
        let fleet = self.snapshot().await?;
        let known = fleet.ob_cluster(id)?;
        let facts = ob::plan_update(&fleet, known, body)?;
        let proxyro_password = self.sealed(body.proxyro_password.as_deref())?;
        let account = self.sealed_account(body.account.as_ref())?;
        if let Some(password) = &proxyro_password {
            let changed = ObCluster {
                proxyro_password: Some(password.clone()),
                ..known.clone()
            };
            self.check_passwords_with(&fleet, &changed)?;
        }
        if proxyro_password.is_some() || account.is_some() {
            let (password, account) = (proxyro_password.as_ref(), account.as_ref());
            let inventory = &self.crew.inventory;
            let kept = inventory
                .keep_ob_secrets(id, password, account, Timestamp::now())
                .await?;
            if !kept {
                // Deleted meanwhile.
                self.snapshot().await?.ob_cluster(id)?;
            }
        }
        let is_served = fleet.ob_links.iter().any(|link| link.name == known.name);
        let task = if facts != Facts::of(known)
            || (is_served && (body.root_servers.is_some() || proxyro_password.is_some()))
        {
            Some(self.submit_update(who, &fleet, known, &facts, once).await?)
        } else {
            None
        };
        self.updated(id, task.as_ref(), body).await
    }

    async fn submit_update(
        &self,
        who: &Actor,
        fleet: &Snapshot,
        known: &ObCluster,
        facts: &Facts,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let serving: BTreeSet<i64> = fleet
            .ob_links
            .iter()
            .filter(|link| link.name == known.name)
            .map(|link| link.cluster_id)
            .collect();
        let concerned = Concerned::of(fleet, serving.iter().copied());
        let template = flows::ob_links::template_for_update(concerned.count())?;
        let mut submission = Submission::new("Update ob cluster", &who.name, template);
        submission.context = flows::ob_links::context_for_update(known, facts, &concerned);
        submission.locks = vec![Lock::exclusive("ob_cluster", known.id)];
        submission.locks.extend(proxy_locks(&concerned));
        for cluster in serving {
            submission.locks.push(Lock::shared("obproxy_cluster", cluster));
            submission.locks.push(Lock::exclusive("ob_links", cluster));
        }
        Once::mark(once, &mut submission);
        Ok(self.engine.submit(submission).await?)
    }

    async fn updated(&self, id: i64, task: Option<&TaskView>, body: &UpdateObCluster) -> Result<ObClusterView, Error> {
        let fleet = self.snapshot().await?;
        let known = fleet.ob_cluster(id)?;
        let restart_needed = fleet
            .ob_links
            .iter()
            .filter(|link| link.ob_cluster == id && body.root_servers.is_some())
            .filter_map(|link| fleet.clusters.get(&link.cluster_id))
            .filter(|cluster| cluster.work_mode == WorkMode::RsList && fleet.proxies_of(cluster.id).next().is_some())
            .map(|cluster| cluster.name.clone());
        Ok(ObClusterView {
            restart_needed: restart_needed.collect(),
            task_id: task.map(|task| task.id.0),
            ..view::ob_cluster(&fleet, known)
        })
    }

    /// Forgets an OceanBase cluster nobody serves.
    pub async fn delete_ob_cluster(&self, id: i64) -> Result<(), Error> {
        check_unserved(&*self.snapshot().await?, id)?;
        if !self.crew.inventory.delete_ob_cluster(id).await? {
            // Somebody has come to serve it, or was faster.
            check_unserved(&*self.snapshot().await?, id)?;
        }
        Ok(())
    }

    /// What a probe of an OceanBase cluster needs: with `account`, or the one that is kept, or as proxies log in.
    pub async fn probe_target(&self, id: i64, account: Option<Account>) -> Result<ProbeTarget, Error> {
        let fleet = self.snapshot().await?;
        let known = fleet.ob_cluster(id)?;
        let open = |user: &str, sealed| {
            Ok::<_, SealError>(Account {
                user: user.to_owned(),
                password: self.crew.sealer.open(sealed)?,
            })
        };
        let account = match (account, &known.account, &known.proxyro_password) {
            (Some(given), ..) => Some(given),
            (None, Some(kept), _) => Some(open(&kept.user, &kept.password)?),
            (None, None, Some(password)) => Some(open(PROXYRO, password)?),
            (None, None, None) => None,
        };
        Ok(ProbeTarget {
            root_servers: known.root_servers.clone(),
            account,
        })
    }

    fn sealed(&self, secret: Option<&str>) -> Result<Option<crate::secrets::Sealed>, SealError> {
        secret.map(|secret| self.crew.sealer.seal(secret)).transpose()
    }

    fn sealed_account(&self, account: Option<&Account>) -> Result<Option<SealedAccount>, SealError> {
        let seal = |account: &Account| {
            Ok(SealedAccount {
                user: account.user.clone(),
                password: self.crew.sealer.seal(&account.password)?,
            })
        };
        account.map(seal).transpose()
    }
}

fn check_unserved(fleet: &Snapshot, id: i64) -> Result<(), Refusal> {
    let known = fleet.ob_cluster(id)?;
    let link = fleet.ob_links.iter().find(|link| link.name == known.name);
    match link.and_then(|link| fleet.clusters.get(&link.cluster_id)) {
        Some(cluster) => {
            let by = cluster.name.clone();
            Err(Refusal::about(Code::Com10003, [Reason::Served { by }.into()]).field("id"))
        }
        None => Ok(()),
    }
}
