//! `show proxycluster`.

use super::Answer;
use crate::proxy::Proxy;

/// One row a root server; one with empty columns for a cluster nobody has logged in to.
pub(super) fn answer(proxy: &Proxy) -> Answer {
    let listed = proxy.config_server.as_ref().and_then(|server| server.listed());
    let Some(listed) = listed else {
        return Answer::error(4018, "HY000", "Entry not exist");
    };
    let rows = listed.into_iter().flat_map(|cluster| {
        let row = |id: i64, address: String, role: &str| {
            [
                cluster.name.as_str(),
                &id.to_string(),
                &cluster.url,
                &address,
                role,
                "FULL",
            ]
            .map(str::to_owned)
        };
        match &cluster.list {
            Some(list) => {
                let servers = list.servers.iter();
                servers
                    .map(|(address, role)| row(list.id, address.to_string(), role))
                    .collect()
            }
            None => vec![row(0, String::new(), "")],
        }
    });
    let columns = [
        "cluster_name",
        "cluster_id",
        "rs_url",
        "root_addr",
        "role",
        "replica_type",
    ];
    Answer::table(columns, rows.collect::<Vec<_>>())
}
