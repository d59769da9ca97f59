//! What is measured of proxies: the names agents report under, and what each figure is.
//!
//! A proxy's own exporter has a series for each tenant, schema and kind of statement. For the history only a few of them
//! are kept, summed up over all but one label; a [`key`] names what is kept, `odp_sql_request_total/SELECT`.

use std::fmt;

/// How figures of one metric belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows until its process ends; shown as its rate per second.
    Counter,
    /// Goes up and down; those of several proxies add up.
    Gauge,
    /// Goes up and down; those of several proxies are averaged.
    Level,
}

/// One metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How its figures belong together.
    pub kind: Kind,
    /// The one label that is kept.
    pub label: Option<&'static str>,
    /// What is shown is counted in this.
    pub unit: &'static str,
}

const fn metric(name: &'static str, kind: Kind, label: Option<&'static str>, unit: &'static str) -> Metric {
    Metric {
        name,
        kind,
        label,
        unit,
    }
}

/// Those of the proxy's exporter.
pub const EXPORTED: &[Metric] = &[
    metric("odp_transaction_total", Kind::Counter, None, "tps"),
    metric("odp_sql_request_total", Kind::Counter, Some("sqlType"), "qps"),
    metric("odp_sql_cost_total", Kind::Counter, Some("timeType"), "us/s"),
    metric("odp_current_session", Kind::Gauge, Some("sessionType"), "sessions"),
    metric(
        "odp_new_client_connections",
        Kind::Counter,
        Some("connectionResult"),
        "connections/s",
    ),
    metric("odp_request_byte", Kind::Counter, Some("transType"), "byte/s"),
    metric("odp_entry_total", Kind::Counter, Some("entryType"), "entries/s"),
];

/// Those a proxy tells root@proxysys, also when its exporter is silent.
pub const TOLD: &[Metric] = &[
    metric("obproxy_client_connections", Kind::Gauge, None, "connections"),
    metric("obproxy_server_connections", Kind::Gauge, None, "connections"),
    metric("obproxy_client_max_connections", Kind::Gauge, None, "connections"),
    metric("obproxy_client_request_total", Kind::Counter, None, "qps"),
];

/// Those of its process.
pub const OF_PROCESS: &[Metric] = &[
    metric("obproxy_up", Kind::Gauge, None, "processes"),
    metric("obproxy_rss_memory", Kind::Gauge, None, "byte"),
    metric("obproxy_process_cpu_percent", Kind::Level, None, "%"),
    metric("obproxy_fd_count", Kind::Gauge, None, "files"),
    metric("obproxy_thread_count", Kind::Gauge, None, "threads"),
];

impl Metric {
    /// The metric of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        [EXPORTED, TOLD, OF_PROCESS]
            .into_iter()
            .flatten()
            .find(|metric| metric.name == name)
    }

    /// The metric a key is of, and the value of its label.
    pub fn of_key(key: &str) -> Option<(&'static Self, Option<&str>)> {
        let (name, value) = match key.split_once('/') {
            Some((name, value)) => (name, Some(value)),
            None => (key, None),
        };
        Some((Self::named(name)?, value))
    }
}

/// What one figure of a metric is kept under.
pub fn key(name: &str, label: Option<&str>) -> String {
    match label {
        Some(label) => format!("{name}/{label}"),
        None => name.to_owned(),
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_their_metric() {
        let (metric, value) = Metric::of_key("odp_sql_request_total/SELECT").unwrap();
        assert_eq!(
            (metric.name, metric.label, value),
            ("odp_sql_request_total", Some("sqlType"), Some("SELECT"))
        );
        assert_eq!(key(metric.name, value), "odp_sql_request_total/SELECT");
        assert_eq!(Metric::of_key("obproxy_up").unwrap().1, None);
        assert_eq!(Metric::of_key("something/else"), None);
    }
}
