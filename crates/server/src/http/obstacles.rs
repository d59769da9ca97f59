//! The words for what keeps a proxy from being taken over, and for what is to be known beforehand: what, why, and the next
//! step.

use obfleet_wire::{
    agent::{Caution, HOLDING_DROP_IN, Obstacle, StartMethod},
    obproxy::{Named, WorkMode},
};
use serde::Serialize;

use super::language::Language;

/// An obstacle as it is told.
pub fn obstacle(obstacle: &Obstacle, language: Language) -> Named {
    Named {
        message: obstacle_text(obstacle, language),
        name: name(obstacle),
    }
}

/// A caution as it is told.
pub fn caution(caution: &Caution, language: Language) -> Named {
    Named {
        message: caution_text(caution, language),
        name: name(caution),
    }
}

/// The `name` of its JSON.
fn name(of: &impl Serialize) -> String {
    let json = serde_json::to_value(of).unwrap_or_default();
    json["name"].as_str().unwrap_or_default().to_owned()
}

fn list(pids: &[i32]) -> String {
    let pids: Vec<_> = pids.iter().map(ToString::to_string).collect();
    pids.join(", ")
}

fn port(port: Option<u16>, language: Language) -> String {
    port.map_or_else(|| language.choose("none", "无").to_owned(), |port| port.to_string())
}

/// The sentence of an obstacle.
pub fn obstacle_text(obstacle: &Obstacle, language: Language) -> String {
    let say = |english: String, chinese: String| language.choose(english, chinese);
    match obstacle {
        Obstacle::NotRunning { port } => say(
            format!("no OBProxy serves on port {port} of the host; start it, or correct sqlPort"),
            format!("主机上没有 OBProxy 使用端口 {port} 提供服务，请先启动或更正 sqlPort"),
        ),
        Obstacle::SeveralCandidates { port, pids } => say(
            format!(
                "several proxies serve on port {port}, on different addresses (pids {}); take over one whose port is its alone",
                list(pids)
            ),
            format!(
                "端口 {port} 上有多个监听不同地址的 OBProxy（pid {}），请接管端口唯一的那个",
                list(pids)
            ),
        ),
        Obstacle::Managed { proxy_id } => say(
            format!("the host's agent has it already, as proxy server {proxy_id}; nothing is left to take over"),
            format!("该 OBProxy 已由主机 Agent 管理（OBProxy 服务器 {proxy_id}），无需接管"),
        ),
        Obstacle::AnotherUser { user, pid } => say(
            format!(
                "process {pid} belongs to user {user}, whom the agent may not act for; run the agent as {user}, or as root"
            ),
            format!("进程 {pid} 属于用户 {user}，Agent 无权操作，请以 {user} 或 root 用户运行 Agent"),
        ),
        Obstacle::NotWritable { path } => say(
            format!("the agent cannot write to {path}; give it the right to, or run it as the user of the proxy"),
            format!("Agent 无法写入 {path}，请授予写权限或以 OBProxy 的用户运行 Agent"),
        ),
        Obstacle::OtherOwner { user, path } => say(
            format!(
                "the proxy runs as {user}, but {path} belongs to another user, as whom it would be started again; make {user} the owner of its home"
            ),
            format!(
                "OBProxy 以用户 {user} 运行，但 {path} 属于其他用户，再次启动会使用该用户，请将其目录的属主改为 {user}"
            ),
        ),
        Obstacle::Container { pid } => say(
            format!("process {pid} lives in a container; run an agent in it, or move the proxy out of it"),
            format!("进程 {pid} 运行在容器中，请在容器内运行 Agent 或将 OBProxy 移出容器"),
        ),
        Obstacle::OtherRoot { root } => say(
            format!(
                "it keeps its files in {root} (OBPROXY_ROOT) and not in its working directory; start it there, without that variable"
            ),
            format!("其文件位于 {root}（OBPROXY_ROOT）而不是工作目录，请去掉该环境变量并在该目录中启动"),
        ),
        Obstacle::CalledElsewhere { argv0 } => say(
            format!(
                "it was called as '{argv0}', which is not bin/obproxy of its home, so a hot restart would run another file; restart it as ./bin/obproxy in its home"
            ),
            format!(
                "其启动命令为 '{argv0}'，不是工作目录下的 bin/obproxy，热重启会运行其他文件，请在其目录中以 ./bin/obproxy 重新启动"
            ),
        ),
        Obstacle::Restarting { pids } => say(
            format!(
                "a hot restart, or the drain after one, is under way (pids {}); wait until one process is left",
                list(pids)
            ),
            format!("正在热重启或退出旧进程（pid {}），请等到只剩一个进程", list(pids)),
        ),
        Obstacle::UnknownWatchdog { pid, command } => say(
            format!(
                "process {pid} ({command}) may start the proxy again and is none that is known; stop it if it does, or have it leave this proxy alone"
            ),
            format!("进程 {pid}（{command}）可能会重新拉起该 OBProxy，且无法识别，请先停止它或让它不再管理该 OBProxy"),
        ),
        Obstacle::SystemdUnit { unit } => {
            let drop_in = format!("/etc/systemd/system/{unit}.d/{HOLDING_DROP_IN}");
            say(
                format!(
                    "systemd runs it as {unit}, and this agent is not root's, so it cannot keep systemd from it; run the agent as root, or make a drop-in {drop_in} with ConditionPathExists=!{drop_in} in [Unit] and Restart=no, KillMode=none, ExecStop= and ExecStopPost= in [Service], run systemctl daemon-reload and check again"
                ),
                format!(
                    "该 OBProxy 由 systemd 单元 {unit} 运行，而该 Agent 不是以 root 运行，无法使 systemd 不再管理它；请以 root 运行 Agent，或创建 drop-in 文件 {drop_in}，在 [Unit] 中写入 ConditionPathExists=!{drop_in}，在 [Service] 中写入 Restart=no、KillMode=none、ExecStop= 和 ExecStopPost=，执行 systemctl daemon-reload 后重新检查"
                ),
            )
        }
        Obstacle::NoRoom { path, needed, free } => say(
            format!("{path} has {free} MiB free and {needed} MiB are needed; make room"),
            format!("{path} 剩余 {free} MiB，需要 {needed} MiB，请清理空间"),
        ),
        Obstacle::SourceNotLetIn { source } => say(
            format!(
                "it sees the agent come from {source}, and lets root@proxysys in from 127.0.0.1 and 192.168.0.0/16 alone; set its skip_proxy_sys_private_check to true, or bind it to 0.0.0.0"
            ),
            format!(
                "Agent 的来源地址为 {source}，而 OBProxy 只允许 root@proxysys 从 127.0.0.1 和 192.168.0.0/16 登录，请将其 skip_proxy_sys_private_check 设为 true 或监听 0.0.0.0"
            ),
        ),
        Obstacle::WrongPassword => say(
            "it turns root@proxysys away; give its password as proxysysPasswd".to_owned(),
            "root@proxysys 登录被拒绝，请在 proxysysPasswd 中提供正确的密码".to_owned(),
        ),
        Obstacle::NoAnswer { reason } => say(
            format!("root@proxysys cannot log in: {reason}; see that the proxy serves, then try again"),
            format!("root@proxysys 无法登录：{reason}，请确认 OBProxy 正常提供服务后再试"),
        ),
        Obstacle::VersionUnknown => say(
            "its executable does not tell its version with -V; run that by hand and see what it lacks".to_owned(),
            "其可执行文件无法通过 -V 显示版本，请手工执行并检查原因".to_owned(),
        ),
        Obstacle::VersionTooLow { version, least } => say(
            format!(
                "it is {version}, and proxies are taken over from {least} on; upgrade it with the tool that installed it"
            ),
            format!("其版本为 {version}，仅支持接管 {least} 及以上版本，请先用原安装工具升级"),
        ),
        Obstacle::OtherFamily { version, cluster } => say(
            format!(
                "it is {version} and the cluster has {cluster}: versions below and from 4.0.0 on are not mixed; take it over into a cluster of its kind"
            ),
            format!("其版本为 {version}，集群版本为 {cluster}，4.0.0 之前与之后的版本不能混用，请接管到同类版本的集群"),
        ),
        Obstacle::OtherWorkMode { cluster } => {
            let mode = match cluster {
                WorkMode::RsList => "RS_LIST",
                WorkMode::ConfigUrl => "CONFIG_URL",
            };
            say(
                format!(
                    "the cluster's workMode is {mode}, and the proxy finds its OceanBase servers the other way; take it over into a cluster of its mode"
                ),
                format!("集群的 workMode 为 {mode}，而该 OBProxy 使用另一种方式，请接管到相同模式的集群"),
            )
        }
        Obstacle::OtherObCluster { serves } => say(
            format!(
                "it serves OceanBase cluster {serves}, which the proxy cluster has no link to; take it over into a cluster that has"
            ),
            format!("它服务于 OceanBase 集群 {serves}，而该 OBProxy 集群没有与之关联，请接管到有此关联的集群"),
        ),
        Obstacle::ExporterPort { has, asked } => say(
            format!(
                "its metrics port is {}, exporterPort {}; correct or give exporterPort",
                port(*has, language),
                port(*asked, language)
            ),
            format!(
                "其监控端口为 {}，exporterPort 为 {}，请更正或指定 exporterPort",
                port(*has, language),
                port(*asked, language)
            ),
        ),
        Obstacle::RpcPort { has, asked } => say(
            format!(
                "its OBKV port is {}, rpcPort {asked}; correct rpcPort or leave it out",
                port(*has, language)
            ),
            format!(
                "其 OBKV 端口为 {}，rpcPort 为 {asked}，请更正或不指定 rpcPort",
                port(*has, language)
            ),
        ),
        Obstacle::PortInUse { port, proxy_id } => say(
            format!("port {port} of the host is that of proxy server {proxy_id} already; take that one away first"),
            format!("主机端口 {port} 已属于 OBProxy 服务器 {proxy_id}，请先删除该服务器"),
        ),
    }
}

fn caution_text(caution: &Caution, language: Language) -> String {
    let say = |english: String, chinese: String| language.choose(english, chinese);
    match caution {
        Caution::Cron { file, line } => say(
            format!("line {line} of {file} speaks of the proxy; see that it does not start or stop it"),
            format!("{file} 第 {line} 行提到了该 OBProxy，请确认它不会启动或停止该 OBProxy"),
        ),
        Caution::StartedBy { tool } => {
            let tool = match tool {
                StartMethod::Obd => "obd",
                StartMethod::Obshell => "obshell",
                _ => "its tool",
            };
            say(
                format!(
                    "{tool} started it and is not told that it is taken over; do not start, stop or upgrade it with {tool} any more"
                ),
                format!("该 OBProxy 由 {tool} 启动，接管后请勿再用 {tool} 启动、停止或升级它"),
            )
        }
        Caution::ExecutableReplaced { path } => say(
            format!(
                "{path} is another file than the one that runs, or is gone; a restart by anybody else would run it"
            ),
            format!("{path} 已不是正在运行的文件或已被删除，他人重启时会运行该文件"),
        ),
        Caution::NoHotRestart { version } => say(
            format!("{version} cannot be restarted hot; its first upgrade stops it for a moment"),
            format!("{version} 不支持热重启，首次升级会短暂中断服务"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_obstacle_has_a_name_and_a_next_step_in_both_languages() {
        let unit = Obstacle::SystemdUnit {
            unit: "obproxy.service".into(),
        };
        let english = obstacle(&unit, Language::English);
        assert_eq!(english.name, "SYSTEMD_UNIT");
        assert!(english.message.contains("obproxy.service") && english.message.contains("KillMode"));
        let chinese = obstacle(&unit, Language::Chinese);
        assert!(chinese.message.contains("obproxy.service") && !chinese.message.contains("cannot"));
        assert_eq!(
            caution(&Caution::StartedBy { tool: StartMethod::Obd }, Language::English).name,
            "STARTED_BY"
        );
        assert_eq!(
            obstacle(&Obstacle::WrongPassword, Language::English).name,
            "WRONG_PASSWORD"
        );
    }
}
