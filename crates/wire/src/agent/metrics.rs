//! What an agent has measured of its proxies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Answer to `GET /v1/metrics`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentMetrics {
    /// The agent's clock.
    pub time: Timestamp,
    /// What was measured after the moment that was asked for, oldest first for each proxy. Agents keep some minutes of it.
    pub samples: Vec<ProxySample>,
    /// The last answer of each proxy's exporter, if that was asked for.
    #[serde(default)]
    pub exported: Vec<Exported>,
}

/// The figures of one proxy at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxySample {
    /// The proxy.
    pub proxy_id: i64,
    /// When, by the agent's clock.
    pub at: Timestamp,
    /// By [key](crate::metric::key); all of them finite.
    pub values: BTreeMap<String, f64>,
}

/// What a proxy's exporter answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exported {
    /// The proxy.
    pub proxy_id: i64,
    /// When, by the agent's clock.
    pub at: Timestamp,
    /// Its series, bounded in number and size.
    pub series: Vec<Series>,
}

/// One series of an exporter, with its value now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its labels, in the order of the exporter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(String, String)>,
    /// Its value, which is finite.
    pub value: f64,
}

impl Series {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(label, _)| label == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The line that tells Prometheus of it; `more` labels come first, and take the place of its own of the same name.
    pub fn line(&self, more: &[(&str, &str)], at: Timestamp) -> String {
        let own = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let own = own.filter(|(name, _)| more.iter().all(|(other, _)| other != name));
        let labels: Vec<_> = more
            .iter()
            .copied()
            .chain(own)
            .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
            .collect();
        format!("{}{{{}}} {} {}\n", self.name, labels.join(","), self.value, at.millis())
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_fleet_come_first_and_once() {
        let series = Series {
            name: "odp_x".to_owned(),
            labels: vec![("cluster".into(), "a \"b\"".into()), ("obproxy".into(), "self".into())],
            value: 3.0,
        };
        assert_eq!(
            series.line(&[("obproxy", "127.0.0.1:2883")], Timestamp(5)),
            "odp_x{obproxy=\"127.0.0.1:2883\",cluster=\"a \\\"b\\\"\"} 3 5\n"
        );
    }
}
