//! Who is connected: `show proxysession`, `show processlist`, `show proxynet`.

use std::process;

use nix::unistd::gettid;

use super::Answer;
use crate::proxy::Proxy;
use crate::sessions::Session;

/// A session's state as the proxy names it: between transactions, or anything else.
fn state(session: &Session) -> &'static str {
    if session.activity().is_between_transactions() {
        "MCS_KEEP_ALIVE"
    } else {
        "MCS_ACTIVE_READER"
    }
}

/// What both lists have in common: tenant, user, host, database, transactions, server sessions, state, thread, process.
fn common(session: &Session) -> [String; 9] {
    let (user, tenant, database) = session.identity().map_or_else(Default::default, |identity| {
        (
            identity.user.clone(),
            identity.tenant.clone(),
            identity.database.clone().unwrap_or_default(),
        )
    });
    let activity = session.activity();
    [
        tenant,
        user,
        session.peer.to_string(),
        database,
        activity.transactions.to_string(),
        activity.server_sessions.to_string(),
        state(session).to_owned(),
        gettid().to_string(),
        process::id().to_string(),
    ]
}

pub(super) fn proxysession(proxy: &Proxy) -> Answer {
    let rows = proxy.sessions.list().into_iter().map(|session| {
        let cluster = session
            .identity()
            .map(|identity| identity.cluster.clone())
            .unwrap_or_default();
        let [tenant, user, host, db, transactions, server_sessions, state, tid, pid] = common(&session);
        let id = session.id.to_string();
        let ssl = "0".to_owned();
        [
            id.clone(),
            id,
            cluster,
            tenant,
            user,
            host,
            db,
            transactions,
            server_sessions,
            state,
            tid,
            pid,
            ssl,
        ]
    });
    let columns = [
        "proxy_sessid",
        "Id",
        "Cluster",
        "Tenant",
        "User",
        "Host",
        "db",
        "trans_count",
        "svr_session_count",
        "state",
        "tid",
        "pid",
        "using_ssl",
    ];
    Answer::table(columns, rows)
}

pub(super) fn processlist(proxy: &Proxy) -> Answer {
    let rows = proxy.sessions.list().into_iter().map(|session| {
        let [tenant, user, host, db, transactions, server_sessions, state, tid, pid] = common(&session);
        [
            session.id.to_string(),
            tenant,
            user,
            host,
            db,
            transactions,
            server_sessions,
            state,
            tid,
            pid,
        ]
    });
    let columns = [
        "Id",
        "Tenant",
        "User",
        "Host",
        "db",
        "trans_count",
        "svr_session_count",
        "state",
        "tid",
        "pid",
    ];
    Answer::table(columns, rows)
}

/// The attributes of one session, or of all.
pub(super) fn attribute(proxy: &Proxy, id: Option<u32>) -> Answer {
    let sessions: Vec<_> = proxy
        .sessions
        .list()
        .into_iter()
        .filter(|session| id.is_none_or(|id| session.id == id))
        .collect();
    if let (Some(id), true) = (id, sessions.is_empty()) {
        return Answer::error(1094, "HY000", format!("Unknown thread id: {id}"));
    }
    let rows = sessions.iter().flat_map(|session| {
        let activity = session.activity();
        let identity = session.identity();
        let row = |name: &str, value: String| [name.to_owned(), value, String::new()];
        [
            row("proxy_sessid", session.id.to_string()),
            row("cs_id", session.id.to_string()),
            row(
                "tenant",
                identity.map(|identity| identity.tenant.clone()).unwrap_or_default(),
            ),
            row(
                "user_name",
                identity.map(|identity| identity.user.clone()).unwrap_or_default(),
            ),
            row("host_ip", session.peer.ip().to_string()),
            row("host_port", session.peer.port().to_string()),
            row("trans_count", activity.transactions.to_string()),
            row("active", u8::from(!activity.is_between_transactions()).to_string()),
            row("in_trans", u8::from(activity.in_transaction).to_string()),
        ]
    });
    Answer::table(["attribute_name", "value", "info"], rows)
}

/// One thread does everything here.
pub(super) fn net_thread(proxy: &Proxy) -> Answer {
    let count = proxy.sessions.count().to_string();
    let columns = [
        "net_thread_id",
        "current_connection_count",
        "global_current_client_connection_count",
    ];
    Answer::table(columns, [["0".to_owned(), count.clone(), count]])
}
