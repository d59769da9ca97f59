//! `show proxystat`: the few of the real proxy's counters that have a meaning here.

use super::Answer;
use super::statement::is_like;
use crate::proxy::Proxy;

pub(super) fn answer(proxy: &Proxy, like: Option<&str>) -> Answer {
    let sessions = proxy.sessions.list();
    let count = |test: fn(&crate::sessions::Activity) -> bool| {
        sessions.iter().filter(|session| test(&session.activity())).count() as u64
    };
    let server_connections: u32 = sessions.iter().map(|session| session.activity().server_sessions).sum();
    let stats: [(&str, u64); 8] = [
        ("current_client_connections", proxy.sessions.count() as u64),
        ("current_active_client_connections", count(|activity| activity.busy)),
        ("current_client_transactions", count(|activity| activity.in_transaction)),
        ("current_server_connections", u64::from(server_connections)),
        ("current_cluster_resource_count", 0),
        ("total_client_connections", proxy.sessions.total()),
        ("client_requests", proxy.sessions.requests()),
        ("completed_transactions", proxy.sessions.transactions()),
    ];
    let rows = stats
        .into_iter()
        .filter(|(name, _)| like.is_none_or(|pattern| is_like(name, pattern)))
        .map(|(name, value)| [name.to_owned(), value.to_string(), "PERSISTENT".to_owned()]);
    Answer::table(["stat_name", "value", "persist_type"], rows)
}
