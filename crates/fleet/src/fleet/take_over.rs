//! Taking over proxies that somebody else installed.

use std::collections::BTreeSet;

use futures::future::join_all;
use obfleet_engine::{Lock, Submission, TaskView};
use obfleet_wire::{
    Code, Refusal,
    agent::{Caution, ExamineRequest, FoundProxy, Obstacle},
    obproxy::{MoveOutObproxy, ParameterDifference, ProxyStatus, TakeOverHost, TakeOverObproxy},
    reason::Reason,
};

use super::{
    Actor, Error, Fleet,
    holding::{held, locks},
    install::coming,
};
use crate::{
    Once, flows,
    inventory::{Cluster, InventoryChange, WantedValue},
    plan::{
        Selection, Snapshot,
        install::check_sys_password,
        operate,
        take_over::{self, Judged, Wish},
    },
};

/// What a take over would find and do on one host.
#[derive(Debug, Clone)]
pub struct TakeOverCheck {
    /// The host.
    pub host_id: i64,
    /// The port.
    pub sql_port: u16,
    /// The proxy, if one was found.
    pub proxy: Option<FoundProxy>,
    /// What stands in the way.
    pub obstacles: Vec<Obstacle>,
    /// What is to be known.
    pub cautions: Vec<Caution>,
    /// What would be changed.
    pub differences: Vec<ParameterDifference>,
}

/// A proxy that is asked for, with what was found of it.
pub(super) struct Candidate<'a> {
    pub(super) host: &'a TakeOverHost,
    pub(super) proxy: Option<FoundProxy>,
    pub(super) judged: Judged,
}

impl Fleet {
    /// Looks at proxies that are to be taken over into a cluster, and changes nothing.
    pub async fn check_take_over(&self, cluster_id: i64, body: &TakeOverObproxy) -> Result<Vec<TakeOverCheck>, Error> {
        let fleet = self.snapshot().await?;
        let cluster = fleet.cluster(cluster_id)?;
        let rows = self.crew.parameters.wanted(cluster_id).await?;
        let wanted: Vec<&TakeOverHost> = body.hosts.iter().collect();
        let candidates = self.candidates(&fleet, cluster, &rows, body, &wanted).await?;
        let told = |candidate: Candidate<'_>| TakeOverCheck {
            host_id: candidate.host.host_id,
            sql_port: candidate.host.sql_port,
            proxy: candidate.proxy,
            obstacles: candidate.judged.obstacles,
            cautions: candidate.judged.cautions,
            differences: candidate.judged.differences,
        };
        Ok(candidates.into_iter().map(told).collect())
    }

    /// Takes proxies over: one task a proxy. What stands in the way of one refuses all. A repetition makes the tasks that the
    /// first time did not come to.
    pub async fn take_over(
        &self,
        who: &Actor,
        cluster_id: i64,
        body: TakeOverObproxy,
        once: Option<&Once>,
    ) -> Result<Vec<TaskView>, Error> {
        let part = |index| once.map(|once| once.part(index));
        let (mut tasks, mut wanted, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        for (index, host) in body.hosts.iter().enumerate() {
            match self.made(part(index).as_ref()).await? {
                Some(made) => tasks.push(made),
                None => {
                    wanted.push(host);
                    parts.push(index);
                }
            }
        }
        if wanted.is_empty() && !tasks.is_empty() {
            return Ok(tasks);
        }
        let fleet = self.snapshot().await?;
        let cluster = fleet.cluster(cluster_id)?;
        let rows = self.crew.parameters.wanted(cluster_id).await?;
        let candidates = self.candidates(&fleet, cluster, &rows, &body, &wanted).await?;
        for candidate in &candidates {
            if let Some(obstacle) = candidate.judged.obstacles.first() {
                let reason = Reason::NotTakenOver {
                    host: fleet.host(candidate.host.host_id)?.facts.name.clone(),
                    port: candidate.host.sql_port,
                    obstacle: Box::new(obstacle.clone()),
                };
                return Err(Refusal::about(Code::Odp21107, [reason.into()]).field("hosts").into());
            }
        }
        for (candidate, index) in candidates.into_iter().zip(parts) {
            let Some(taken) = candidate.judged.taken else { continue };
            let id = self.crew.inventory.next_id().await?;
            let place = (cluster_id, candidate.host.host_id);
            let proxy = coming(id, place, taken.version, taken.ports, ProxyStatus::TakingOver);
            let mut submission = Submission::new("Take over obproxy", &who.name, flows::take_over::template()?);
            submission.context = flows::take_over::context(cluster, &proxy);
            submission.cluster_id = Some(cluster_id);
            submission.host_id = Some(proxy.host_id);
            submission.locks = vec![
                Lock::shared("obproxy_cluster", cluster_id),
                Lock::exclusive("obproxy", id),
                Lock::exclusive("host_port", format!("{}:{}", proxy.host_id, proxy.sql_port)),
                // What it is given is what the cluster is linked to when that is looked at.
                Lock::shared("ob_links", cluster_id),
            ];
            let password = candidate.host.proxysys_passwd.as_deref();
            let password = password.map(|password| self.crew.sealer.seal(password)).transpose()?;
            submission.changes = vec![
                InventoryChange::InsertProxy(proxy),
                InventoryChange::SetTakeOverPassword { proxy_id: id, password },
            ];
            Once::mark(part(index).as_ref(), &mut submission);
            tasks.push(self.engine.submit(submission).await?);
        }
        Ok(tasks)
    }

    /// Gives proxies back: they go on, and are the fleet's no more. One task for all of them.
    pub async fn move_out(
        &self,
        who: &Actor,
        cluster_id: i64,
        proxies: &[i64],
        body: &MoveOutObproxy,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let submit = async {
            let fleet = self.snapshot().await?;
            let members = operate::plan_move_out(&fleet, cluster_id, &Selection::in_path(proxies))?;
            if let Some(password) = &body.proxysys_passwd {
                check_sys_password(password).map_err(|refusal| refusal.field("proxysysPasswd"))?;
            }
            let ids: Vec<_> = members.iter().map(|member| member.proxy_id).collect();
            let many = u32::try_from(ids.len()).unwrap_or(u32::MAX);
            let mut submission = Submission::new("Move out obproxy", &who.name, flows::move_out::template(many)?);
            submission.context = flows::move_out::context(fleet.cluster(cluster_id)?, &members);
            submission.cluster_id = Some(cluster_id);
            submission.locks = locks(cluster_id, &ids);
            submission.changes = held(&ids, ProxyStatus::MovingOut);
            for proxy_id in ids {
                let password = body.proxysys_passwd.as_deref();
                let password = password.map(|password| self.crew.sealer.seal(password)).transpose()?;
                submission
                    .changes
                    .push(InventoryChange::SetTakeOverPassword { proxy_id, password });
            }
            Once::mark(once, &mut submission);
            Ok(self.engine.submit(submission).await?)
        };
        self.first_time(once, submit).await
    }

    /// Looks at proxies, on all hosts at a time.
    pub(super) async fn candidates<'a>(
        &self,
        fleet: &Snapshot,
        cluster: &Cluster,
        rows: &[WantedValue],
        body: &TakeOverObproxy,
        wanted: &[&'a TakeOverHost],
    ) -> Result<Vec<Candidate<'a>>, Error> {
        if body.hosts.is_empty() {
            return Err(Refusal::invalid("hosts", Reason::Empty).into());
        }
        let mut distinct = BTreeSet::new();
        for one in wanted {
            if !distinct.insert((one.host_id, one.sql_port)) {
                return Err(Refusal::invalid("hosts", Reason::PortTwice(one.sql_port)).into());
            }
            let host = fleet.host(one.host_id).map_err(|refusal| refusal.field("hostId"))?;
            if !host.is_ready() {
                let (name, wanted) = (host.facts.name.as_str(), "AVAILABLE");
                return Err(Refusal::new(Code::Cmp07004, [name, wanted]).field("hostId").into());
            }
        }
        let looks = wanted.iter().map(|one| self.candidate(fleet, cluster, rows, body, one));
        join_all(looks).await.into_iter().collect()
    }

    async fn candidate<'a>(
        &self,
        fleet: &Snapshot,
        cluster: &Cluster,
        rows: &[WantedValue],
        body: &TakeOverObproxy,
        wanted: &'a TakeOverHost,
    ) -> Result<Candidate<'a>, Error> {
        let passwords = match &wanted.proxysys_passwd {
            Some(password) => vec![password.clone()],
            None => vec![self.crew.sealer.open(&cluster.settings.sys_password)?, String::new()],
        };
        let request = ExamineRequest {
            sql_port: wanted.sql_port,
            passwords,
        };
        let examination = self.crew.agents.examine(fleet.host(wanted.host_id)?, &request).await?;
        let wish = Wish {
            host_id: wanted.host_id,
            sql_port: wanted.sql_port,
            exporter_port: body.exporter_port,
            rpc_port: body.rpc_port,
        };
        Ok(Candidate {
            host: wanted,
            judged: take_over::judge(fleet, cluster, rows, wish, &examination),
            proxy: examination.proxy,
        })
    }
}
