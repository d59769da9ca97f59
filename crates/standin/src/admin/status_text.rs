//! `show proxyinfo upgrade`: one line of debug text, the best view into a hot restart.

use std::fmt::Write as _;

use super::Answer;
use crate::{moment::Moment, proxy::Proxy};

pub(super) fn answer(proxy: &Proxy) -> Answer {
    Answer::table(["name", "info"], [["hot upgrade info".to_owned(), text(proxy)]])
}

fn text(proxy: &Proxy) -> String {
    let view = proxy.restart().clone();
    let machine = &view.machine;
    let endpoints = proxy.endpoints();
    let ip = proxy.config().text("local_bound_ip").to_owned();
    let (drain_start, drain_end) = machine
        .drain
        .map_or((None, None), |drain| (Some(drain.started_at), drain.deadline));
    let mut text = format!(
        "{{is_inited:true, proxy_port:{port}, proxy_ip:\"{ip}\", timeout_rollback_timeout_at:{rollback_at}, \
         info:{{is_inherited:{is_inherited}, upgrade_version:0, need_conn_accept:{accepts}, user_rejected:0, \
         ipv4_fd:{}, ipv6_fd:{}, rpc_ipv4_fd:{}, rpc_ipv6_fd:{}, received_sig:{received_sig}, sub_pid:{sub_pid}, \
         graceful_exit_end_time:{exit_end}, graceful_exit_start_time:{exit_start}, active_client_vc_count:{vc_count}, \
         local_addr:\"{ip}:{port}\", rpc_local_addr:, rc_status:\"\", hu_cmd:\"\", state:\"{state}\", hu_status:\"\", \
         is_parent:true, sub_status:\"{sub_status}\", last_parent_status:\"\", last_sub_status:\"\", upgrade_version_buf:\"\", \
         argc:{argc}",
        endpoints.sql_fd,
        endpoints.sql_ipv6_fd,
        endpoints.rpc_fd,
        endpoints.rpc_ipv6_fd,
        port = endpoints.sql_port,
        rollback_at = shown(machine.rollback_at),
        is_inherited = proxy.is_inherited,
        accepts = machine.accepts(),
        received_sig = view.received_sig,
        sub_pid = machine.sub_pid.unwrap_or(-1),
        exit_end = shown(drain_end),
        exit_start = shown(drain_start),
        vc_count = if machine.rollback_at.is_some() { 0 } else { -1 },
        state = machine.state.name(),
        sub_status = machine.sub_status,
        argc = proxy.argv.len(),
    );
    for (index, word) in proxy.argv.iter().enumerate() {
        // Writing to a String does not fail.
        let _ = write!(text, ", argv[{index}]=\"{}\"", without_secrets(word));
    }
    let program = proxy.argv.first().map_or("", String::as_str);
    let _ = write!(text, ", inherited_argv[0]=\"{program}\"}}}}");
    text
}

/// A time as the proxy shows it; 0 for none.
fn shown(at: Option<Moment>) -> u128 {
    at.map_or(0, Moment::epoch_nanos)
}

/// A word of the command line with passwords hidden.
fn without_secrets(word: &str) -> String {
    let hide = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if name.contains("password") => format!("{name}=***"),
        _ => pair.to_owned(),
    };
    word.split(',').map(hide).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden() {
        assert_eq!(
            without_secrets("a=1,obproxy_sys_password=abc,b=2"),
            "a=1,obproxy_sys_password=***,b=2"
        );
        assert_eq!(without_secrets("./bin/obproxy"), "./bin/obproxy");
    }
}
