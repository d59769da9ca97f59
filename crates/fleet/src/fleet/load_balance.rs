//! Which proxies a client that balances load by itself may connect to.

use obfleet_wire::{Code, Refusal, obproxy::ProxyStatus};
use serde::{Deserialize, Serialize};

use super::{Error, Fleet};
use crate::{inventory::Proxy, plan::Snapshot};

/// A proxy server that takes connections. OCP does not document these members; they are those of its proxy servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalanceServer {
    /// The server's id.
    pub id: i64,
    /// IDC of its host, so that a client may prefer near ones.
    pub idc_name: String,
    /// Address of its host.
    pub ip: String,
    /// SQL port.
    pub sql_port: u16,
}

impl Fleet {
    /// The serving proxies of the cluster named `app`, by id. ODP21102 when there is no such cluster.
    pub async fn load_balance_servers(&self, app: &str) -> Result<Vec<LoadBalanceServer>, Error> {
        Ok(servers(&*self.snapshot().await?, app)?)
    }
}

fn servers(fleet: &Snapshot, app: &str) -> Result<Vec<LoadBalanceServer>, Refusal> {
    let cluster = fleet.clusters.values().find(|cluster| cluster.name == app);
    let cluster = cluster.ok_or_else(|| Refusal::new(Code::Odp21102, [app]).field("appName"))?;
    let server = |proxy: &Proxy| {
        let host = fleet.hosts.get(&proxy.host_id)?;
        let idc = fleet.sites.idcs.get(&host.profile.place.idc_id);
        Some(LoadBalanceServer {
            id: proxy.id,
            idc_name: idc.map(|idc| idc.site.name.clone()).unwrap_or_default(),
            ip: host.address.clone(),
            sql_port: proxy.sql_port,
        })
    };
    let serving = fleet
        .proxies_of(cluster.id)
        .filter(|proxy| proxy.status == ProxyStatus::Running && !proxy.offline);
    Ok(serving.filter_map(server).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn only_running_proxies_of_the_cluster_are_told() {
        let mut fleet = testing::fleet_of(3, "4.2.1.0-11");
        let name = fleet.clusters.values().next().unwrap().name.clone();
        let ids = |fleet: &Snapshot| {
            servers(fleet, &name)
                .unwrap()
                .iter()
                .map(|server| server.id)
                .collect::<Vec<_>>()
        };
        let all: Vec<i64> = fleet.proxies.keys().copied().collect();
        assert_eq!(ids(&fleet), all);
        for status in [
            ProxyStatus::Creating,
            ProxyStatus::Deleting,
            ProxyStatus::Restarting,
            ProxyStatus::Stopped,
            ProxyStatus::Unavailable,
            ProxyStatus::Upgrading,
        ] {
            fleet.proxies.get_mut(&all[1]).unwrap().status = status;
            assert_eq!(ids(&fleet), [all[0], all[2]], "{status:?}");
        }
        fleet.proxies.get_mut(&all[1]).unwrap().status = ProxyStatus::Running;
        fleet.proxies.get_mut(&all[1]).unwrap().offline = true;
        assert_eq!(ids(&fleet), [all[0], all[2]], "balancers are to keep away from it");
        let other = servers(&fleet, "nobody").unwrap_err();
        assert_eq!((other.code, other.field.as_deref()), (Code::Odp21102, Some("appName")));
        fleet.proxies.get_mut(&all[0]).unwrap().cluster_id += 1;
        assert_eq!(ids(&fleet), [all[2]]);
    }
}
