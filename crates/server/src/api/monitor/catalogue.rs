//! The metrics there are, by class and group, in both languages.

use std::borrow::Cow;

use obfleet_wire::metric::{EXPORTED, Metric, OF_PROCESS, TOLD};
use serde::{Deserialize, Serialize};

use crate::http::{ApiError, ApiResult, ListQuery, Wanted, language::Language};

const TYPES: &[&str] = &["NORMAL", "TOP"];
const SCOPES: &[&str] = &["CLUSTER", "HOST", "OBPROXY", "TENANT"];

/// Metrics of one origin.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "MetricClass", rename_all = "camelCase")]
pub struct Class {
    description: Cow<'static, str>,
    key: Cow<'static, str>,
    metric_groups: Vec<Group>,
    name: Cow<'static, str>,
}

/// A chart: here one metric each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "MetricGroup", rename_all = "camelCase")]
struct Group {
    description: Cow<'static, str>,
    key: Cow<'static, str>,
    metrics: Vec<Meta>,
    name: Cow<'static, str>,
    with_label: bool,
}

/// One metric.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "MetricMeta", rename_all = "camelCase")]
struct Meta {
    description: Cow<'static, str>,
    key: Cow<'static, str>,
    name: Cow<'static, str>,
    unit: Cow<'static, str>,
}

/// The classes of a scope and type. Of scopes other than proxies nothing is measured here, and there are no rankings.
///
/// # Errors
/// 400 for a scope or type that OCP does not have, either.
pub fn classes(query: &ListQuery, language: Language) -> ApiResult<Vec<Class>> {
    let word = |name: &'static str, usual, words: &'static [&'static str]| {
        let given = query.text(name).unwrap_or(usual);
        let known = words.iter().any(|word| word.eq_ignore_ascii_case(given));
        match known {
            true => Ok(given.to_ascii_uppercase()),
            false => Err(ApiError::value(name, given, Wanted::OneOf(words))),
        }
    };
    let (kind, scope) = (word("type", "NORMAL", TYPES)?, word("scope", "", SCOPES)?);
    if kind != "NORMAL" || scope != "OBPROXY" {
        return Ok(Vec::new());
    }
    let class = |key: &'static str, metrics: &'static [Metric], english: &'static str, chinese| Class {
        description: language.choose(english, chinese).into(),
        key: key.into(),
        metric_groups: metrics.iter().map(|metric| group(metric, language)).collect(),
        name: language.choose(english, chinese).into(),
    };
    Ok(vec![
        class("obproxy_service", EXPORTED, "Requests and sessions", "请求与会话"),
        class("obproxy_connection", TOLD, "Connections", "连接"),
        class("obproxy_process", OF_PROCESS, "Process", "进程"),
    ])
}

fn group(metric: &'static Metric, language: Language) -> Group {
    let text = text(metric.name, language);
    Group {
        description: text.into(),
        key: metric.name.into(),
        metrics: vec![Meta {
            description: text.into(),
            key: metric.name.into(),
            name: text.into(),
            unit: metric.unit.into(),
        }],
        name: text.into(),
        with_label: metric.label.is_some(),
    }
}

/// What a metric is, or its name where nobody has said so.
fn text(name: &'static str, language: Language) -> &'static str {
    let (english, chinese) = match name {
        "odp_transaction_total" => ("Transactions per second", "每秒事务数"),
        "odp_sql_request_total" => ("Statements per second, by sqlType", "每秒 SQL 请求数，按 sqlType 区分"),
        "odp_sql_cost_total" => (
            "Time spent on statements in a second, by timeType",
            "每秒花费在 SQL 请求上的时间，按 timeType 区分",
        ),
        "odp_current_session" => ("Sessions, by sessionType", "当前会话数，按 sessionType 区分"),
        "odp_new_client_connections" => (
            "New connections of clients per second, by connectionResult",
            "每秒新建客户端连接数，按 connectionResult 区分",
        ),
        "odp_request_byte" => ("Bytes per second, by transType", "每秒传输字节数，按 transType 区分"),
        "odp_entry_total" => (
            "Look-ups of locations per second, by entryType",
            "每秒位置查询次数，按 entryType 区分",
        ),
        "obproxy_client_connections" => ("Connections of clients", "客户端连接数"),
        "obproxy_server_connections" => ("Connections to servers", "服务端连接数"),
        "obproxy_client_max_connections" => ("Connections of clients that are let in", "允许的最大客户端连接数"),
        "obproxy_client_request_total" => ("Requests of clients per second", "每秒客户端请求数"),
        "obproxy_up" => ("Processes that run", "运行中的进程数"),
        "obproxy_rss_memory" => ("Memory in use", "使用的物理内存"),
        "obproxy_process_cpu_percent" => (
            "Processor time, in percent of one processor",
            "CPU 使用率（单核百分比）",
        ),
        "obproxy_fd_count" => ("Open files", "打开的文件描述符数"),
        "obproxy_thread_count" => ("Threads", "线程数"),
        name => (name, name),
    };
    language.choose(english, chinese)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_explained_in_both_languages() {
        for metric in [EXPORTED, TOLD, OF_PROCESS].into_iter().flatten() {
            let (english, chinese) = (
                text(metric.name, Language::English),
                text(metric.name, Language::Chinese),
            );
            assert!(english != metric.name && english != chinese, "{metric}");
        }
    }
}
