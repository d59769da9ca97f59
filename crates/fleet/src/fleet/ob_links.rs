//! Links between proxy clusters and OceanBase clusters.

use std::collections::BTreeSet;

use obfleet_engine::{Lock, Submission, TaskView};
use obfleet_wire::{
    Refusal,
    obproxy::{LinkStatus, ObLinkParam},
    reason::Reason,
    time::Timestamp,
};

use super::{Actor, Error, Fleet};
use crate::{
    Once, flows,
    inventory::{Cluster, InventoryChange, ObCluster, ObLink},
    plan::{
        Snapshot,
        ob::{Backend, NewLink},
        ob_links::{self, Concerned},
    },
};

/// What new links come to.
pub(super) struct Linking {
    pub(super) changes: Vec<InventoryChange>,
    pub(super) locks: Vec<Lock>,
    /// OceanBase clusters the links bring.
    pub(super) registered: Vec<i64>,
}

impl Fleet {
    /// Links a proxy cluster to OceanBase clusters: one task.
    pub async fn add_ob_links(
        &self,
        who: &Actor,
        cluster_id: i64,
        links: &[ObLinkParam],
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        self.first_time(once, self.submit_add_links(who, cluster_id, links, once))
            .await
    }

    async fn submit_add_links(
        &self,
        who: &Actor,
        cluster_id: i64,
        links: &[ObLinkParam],
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let fleet = self.snapshot().await?;
        let cluster = fleet.cluster(cluster_id)?;
        let new = ob_links::plan_add(&fleet, cluster, links)?;
        self.check_passwords(&fleet, cluster, &new)?;
        let linking = self.linking(who, cluster_id, &new, LinkStatus::Creating).await?;
        let names = new.iter().map(|link| link.name.clone()).collect::<Vec<_>>();
        let concerned = Concerned::of(&fleet, [cluster_id]);
        let mut submission = Submission::new("Add ob link", &who.name, flows::ob_links::template(concerned.count())?);
        submission.context = flows::ob_links::context_for_add(cluster, &names, &linking.registered, &concerned);
        submission.changes = linking.changes;
        submission.locks = linking.locks;
        self.submit_links(submission, cluster_id, &concerned, once).await
    }

    /// Takes the link to an OceanBase cluster away: one task.
    pub async fn delete_ob_link(
        &self,
        who: &Actor,
        cluster_id: i64,
        name: &str,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        self.first_time(once, self.submit_delete_link(who, cluster_id, name, once))
            .await
    }

    async fn submit_delete_link(
        &self,
        who: &Actor,
        cluster_id: i64,
        name: &str,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let fleet = self.snapshot().await?;
        let cluster = fleet.cluster(cluster_id)?;
        let link = ob_links::plan_delete(&fleet, cluster, name)?;
        let concerned = Concerned::of(&fleet, [cluster_id]);
        let mut submission = Submission::new(
            "Delete ob link",
            &who.name,
            flows::ob_links::template(concerned.count())?,
        );
        submission.context = flows::ob_links::context_for_delete(cluster, link, &concerned);
        submission.changes = vec![InventoryChange::SetObLink {
            cluster_id,
            name: name.to_owned(),
            status: LinkStatus::Deleting,
            told: link.told,
        }];
        submission.locks = vec![Lock::shared("ob_cluster", link.ob_cluster)];
        self.submit_links(submission, cluster_id, &concerned, once).await
    }

    async fn submit_links(
        &self,
        mut submission: Submission<InventoryChange>,
        cluster_id: i64,
        concerned: &Concerned,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        submission.cluster_id = Some(cluster_id);
        submission.locks.push(Lock::shared("obproxy_cluster", cluster_id));
        submission.locks.push(Lock::exclusive("ob_links", cluster_id));
        submission.locks.extend(proxy_locks(concerned));
        Once::mark(once, &mut submission);
        Ok(self.engine.submit(submission).await?)
    }

    /// What it takes to make planned links. Proxies that will be told by a task come to know of one when the task tells
    /// them; a new cluster's are told from the beginning.
    pub(super) async fn linking(
        &self,
        who: &Actor,
        cluster_id: i64,
        links: &[NewLink],
        status: LinkStatus,
    ) -> Result<Linking, Error> {
        let mut linking = Linking {
            changes: Vec::new(),
            locks: Vec::new(),
            registered: Vec::new(),
        };
        let now = Timestamp::now();
        for link in links {
            let ob_cluster = match &link.backend {
                Backend::Known(id) => *id,
                Backend::New {
                    ob_cluster_id,
                    root_servers,
                } => {
                    let id = self.crew.inventory.next_id().await?;
                    let new = ObCluster {
                        id,
                        name: link.name.clone(),
                        ob_cluster_id: *ob_cluster_id,
                        cluster_type: obfleet_wire::ob::ClusterType::Primary,
                        root_servers: root_servers.clone(),
                        proxyro_password: None,
                        account: None,
                        creator_id: who.id,
                        creator_name: who.name.clone(),
                        created: now,
                        updated: now,
                    };
                    linking.changes.push(InventoryChange::InsertObCluster(Box::new(new)));
                    linking.registered.push(id);
                    id
                }
            };
            linking.locks.push(Lock::shared("ob_cluster", ob_cluster));
            linking.changes.push(InventoryChange::InsertObLink(ObLink {
                cluster_id,
                name: link.name.clone(),
                ob_cluster,
                username: link.username.clone(),
                status,
                told: status == LinkStatus::Running,
            }));
        }
        Ok(linking)
    }

    /// A proxy keeps two passwords of proxyro, and must have those of all OceanBase clusters behind it.
    pub(super) fn check_passwords(&self, fleet: &Snapshot, cluster: &Cluster, new: &[NewLink]) -> Result<(), Error> {
        let linked = fleet.links_of(cluster.id).map(|link| link.ob_cluster);
        let named = new.iter().filter_map(|link| match link.backend {
            Backend::Known(id) => Some(id),
            Backend::New { .. } => None,
        });
        let behind = linked.chain(named).filter_map(|id| fleet.ob_clusters.get(&id));
        self.check_fit(cluster, behind)
    }

    /// The same for every cluster that serves an OceanBase cluster, which will be as `changed` says.
    pub(super) fn check_passwords_with(&self, fleet: &Snapshot, changed: &ObCluster) -> Result<(), Error> {
        let serving = fleet.ob_links.iter().filter(|link| link.ob_cluster == changed.id);
        for cluster in serving.filter_map(|link| fleet.clusters.get(&link.cluster_id)) {
            let linked = fleet.links_of(cluster.id).map(|link| link.ob_cluster);
            let behind = linked.filter_map(|id| match id == changed.id {
                true => Some(changed),
                false => fleet.ob_clusters.get(&id),
            });
            self.check_fit(cluster, behind)?;
        }
        Ok(())
    }

    fn check_fit<'a>(&self, cluster: &Cluster, behind: impl Iterator<Item = &'a ObCluster>) -> Result<(), Error> {
        let passwords = self.crew.proxyro_passwords(cluster, behind)?;
        let distinct: BTreeSet<_> = passwords.iter().collect();
        match distinct.len() > flows::backends::PASSWORDS.len() {
            true => Err(Refusal::about(obfleet_wire::Code::Com10003, [Reason::TooManyProxyroPasswords.into()]).into()),
            false => Ok(()),
        }
    }
}

/// Proxies that are to be told stay as they are meanwhile.
pub(super) fn proxy_locks(concerned: &Concerned) -> impl Iterator<Item = Lock> {
    concerned
        .proxies
        .iter()
        .map(|(proxy, _)| Lock::shared("obproxy", proxy))
}

/// What becomes of the links of a cluster when nobody will end the task that was at work on them: they are what proxies are
/// told.
pub(super) fn settled(fleet: &Snapshot, cluster_id: i64) -> Vec<InventoryChange> {
    let open = fleet
        .links_of(cluster_id)
        .filter(|link| link.status != LinkStatus::Running);
    let settle = |link: &ObLink| {
        let name = link.name.clone();
        match link.told {
            true => InventoryChange::SetObLink {
                cluster_id,
                name,
                status: LinkStatus::Running,
                told: true,
            },
            false => InventoryChange::DeleteObLink { cluster_id, name },
        }
    };
    open.map(settle).collect()
}
