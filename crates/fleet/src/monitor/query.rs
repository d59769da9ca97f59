//! Questions about the history, and how an answer is added up: points to steps of time, proxies to groups.

use std::collections::{BTreeMap, BTreeSet};

use obfleet_wire::{
    agent::ProxySample,
    metric::{EXPORTED, Kind, Metric},
};

use super::points::{HOUR, Hour, Point, of_samples};
use crate::inventory::{Cluster, Host, Proxy};

/// Labels a proxy has by its place in the fleet.
pub const FLEET_LABELS: &[&str] = &[
    "app",
    "host",
    "host_id",
    "obproxy",
    "obproxy_cluster",
    "obproxy_cluster_id",
    "obproxy_id",
];

/// Whether anything has a label of this name.
pub fn is_label(name: &str) -> bool {
    FLEET_LABELS.contains(&name) || EXPORTED.iter().any(|metric| metric.label == Some(name))
}

/// A question.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// From here on, in ms since the epoch.
    pub from: i64,
    /// And before this.
    pub to: i64,
    /// One value is wanted for each such time, in ms.
    pub step: i64,
    /// Of what.
    pub metrics: Vec<&'static Metric>,
    /// One group for each combination of the values of these labels.
    pub group_by: Vec<String>,
    /// Only of what has these labels.
    pub only: Vec<(String, String)>,
    /// Only of proxies of these clusters.
    pub clusters: Option<BTreeSet<i64>>,
}

/// A proxy something is asked about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The proxy.
    pub proxy_id: i64,
    /// Its host.
    pub host_id: i64,
    /// Its cluster.
    pub cluster_id: i64,
    /// Its [`FLEET_LABELS`].
    pub labels: BTreeMap<&'static str, String>,
}

impl Subject {
    pub(super) fn new(proxy: &Proxy, cluster: &Cluster, host: &Host) -> Self {
        let labels = [
            ("app", "obproxy".to_owned()),
            ("host", host.facts.name.clone()),
            ("host_id", host.id.to_string()),
            ("obproxy", format!("{}:{}", host.address, proxy.sql_port)),
            ("obproxy_cluster", cluster.name.clone()),
            ("obproxy_cluster_id", cluster.id.to_string()),
            ("obproxy_id", proxy.id.to_string()),
        ];
        Self {
            proxy_id: proxy.id,
            host_id: host.id,
            cluster_id: cluster.id,
            labels: labels.into(),
        }
    }
}

/// The values of one combination of labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The labels that were asked for, as far as it has them.
    pub labels: BTreeMap<String, String>,
    /// By the beginning of their time, in ms since the epoch, and by metric. Where nothing is known there is nothing.
    pub values: BTreeMap<i64, BTreeMap<&'static str, f64>>,
}

impl Query {
    pub(super) fn is_about(&self, subject: &Subject) -> bool {
        let within = |clusters: &BTreeSet<i64>| clusters.contains(&subject.cluster_id);
        let mut only = self.only.iter();
        self.clusters.as_ref().is_none_or(within)
            && only.all(|(label, value)| subject.labels.get(label.as_str()).is_none_or(|own| own == value))
    }

    /// The metric of a key that is asked for.
    fn metric(&self, key: &str) -> Option<(&'static Metric, Option<&'static str>, String)> {
        let (metric, value) = Metric::of_key(key)?;
        let value = value.unwrap_or_default();
        let asked = self.metrics.iter().any(|one| one.name == metric.name);
        let of_series = |label: &str| !FLEET_LABELS.contains(&label);
        let fits = self
            .only
            .iter()
            .filter(|(label, _)| of_series(label))
            .all(|(label, wanted)| metric.label == Some(label.as_str()) && value == wanted);
        (asked && fits).then(|| (metric, metric.label, value.to_owned()))
    }

    fn beginning(&self, at: i64) -> i64 {
        at.div_euclid(self.step) * self.step
    }
}

/// By time and metric the sum, and how many went into it.
type Sums = BTreeMap<i64, BTreeMap<&'static str, (f64, u32)>>;

/// What is known so far: by values of the labels, metric and time the sum, and how many went into it.
pub(super) struct Answer<'q> {
    query: &'q Query,
    sums: BTreeMap<Vec<Option<String>>, Sums>,
}

impl<'q> Answer<'q> {
    pub(super) fn new(query: &'q Query) -> Self {
        Self {
            query,
            sums: BTreeMap::new(),
        }
    }

    /// Adds what is known of one proxy. An hour that is summed up counts instead of its samples.
    pub(super) fn add(&mut self, subject: &Subject, hours: &[Hour], samples: &[ProxySample]) {
        let query = self.query;
        let wanted = |key: &str| query.metric(key).is_some();
        let summed_up: BTreeSet<i64> = hours.iter().map(|hour| hour.hour).collect();
        let mut points = of_samples(samples, wanted);
        for points in points.values_mut() {
            points.retain(|point| !summed_up.contains(&point.at.div_euclid(HOUR)));
        }
        for hour in hours {
            for (key, more) in hour.points(wanted) {
                points.entry(key).or_default().extend(more);
            }
        }
        for (key, mut points) in points {
            points.retain(|point| (query.from..query.to).contains(&point.at));
            if let Some((metric, label, value)) = query.metric(&key) {
                self.add_points(subject, metric, label.map(|label| (label, value.as_str())), &points);
            }
        }
    }

    fn add_points(&mut self, subject: &Subject, metric: &'static Metric, own: Option<(&str, &str)>, points: &[Point]) {
        let value = |label: &String| {
            let fleet = subject.labels.get(label.as_str()).cloned();
            fleet.or_else(|| own.filter(|(name, _)| name == label).map(|(_, value)| value.to_owned()))
        };
        let group: Vec<Option<String>> = self.query.group_by.iter().map(value).collect();
        let mut steps = BTreeMap::<i64, (f64, i64)>::new();
        for point in points {
            let (sum, span) = steps.entry(self.query.beginning(point.at)).or_default();
            *sum += point.value;
            *span += point.span;
        }
        let group = self.sums.entry(group).or_default();
        for (at, (sum, span)) in steps {
            #[expect(clippy::cast_precision_loss, reason = "spans are days at most, in ms")]
            let per_span = sum / span as f64;
            let value = if metric.kind == Kind::Counter {
                per_span * 1000.0
            } else {
                per_span
            };
            let (total, count) = group.entry(at).or_default().entry(metric.name).or_default();
            *total += value;
            *count += 1;
        }
    }

    pub(super) fn groups(self) -> Vec<Group> {
        let group_by = &self.query.group_by;
        let value = |(name, (sum, count)): (&'static str, (f64, u32))| {
            let is_level = Metric::named(name).is_some_and(|metric| metric.kind == Kind::Level);
            let value = if is_level { sum / f64::from(count) } else { sum };
            (name, (value * 1000.0).round() / 1000.0)
        };
        let group = |(labels, values): (Vec<Option<String>>, Sums)| Group {
            labels: group_by
                .iter()
                .zip(labels)
                .filter_map(|(name, value)| Some((name.clone(), value?)))
                .collect(),
            values: values
                .into_iter()
                .map(|(at, values)| (at, values.into_iter().map(value).collect()))
                .collect(),
        };
        let groups = self.sums.into_iter().map(group);
        groups.filter(|group| !group.values.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use obfleet_wire::time::Timestamp;

    use super::*;

    fn subject(proxy_id: i64, cluster: &str) -> Subject {
        Subject {
            proxy_id,
            host_id: proxy_id,
            cluster_id: 1,
            labels: [
                ("obproxy_cluster", cluster.to_owned()),
                ("obproxy_id", proxy_id.to_string()),
            ]
            .into(),
        }
    }

    fn query(metrics: &[&str], group_by: &[&str], only: &[(&str, &str)]) -> Query {
        Query {
            from: 0,
            to: HOUR,
            step: 60_000,
            metrics: metrics.iter().map(|name| Metric::named(name).unwrap()).collect(),
            group_by: group_by.iter().map(|&label| label.to_owned()).collect(),
            clusters: None,
            only: only
                .iter()
                .map(|&(label, value)| (label.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    fn sample(proxy_id: i64, at: i64, values: &[(&str, f64)]) -> ProxySample {
        ProxySample {
            proxy_id,
            at: Timestamp(at),
            values: values.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect(),
        }
    }

    fn asked(query: &Query, of: &[(Subject, Vec<ProxySample>)]) -> Vec<Group> {
        let mut answer = Answer::new(query);
        for (subject, samples) in of.iter().filter(|(subject, _)| query.is_about(subject)) {
            answer.add(subject, &[], samples);
        }
        answer.groups()
    }

    fn fleet() -> Vec<(Subject, Vec<ProxySample>)> {
        let of = |proxy: i64, factor: f64| {
            let values = |n: f64| {
                [
                    ("odp_sql_request_total/SELECT", 300.0 * n * factor),
                    ("odp_sql_request_total/INSERT", 30.0 * n * factor),
                    ("obproxy_rss_memory", 100.0 * factor),
                    ("obproxy_process_cpu_percent", 10.0 * factor),
                ]
            };
            let times = [(0.0, 60_000), (1.0, 90_000), (2.0, 115_000)];
            times.map(|(n, at)| sample(proxy, at, &values(n))).to_vec()
        };
        vec![
            (subject(1, "a"), of(1, 1.0)),
            (subject(2, "a"), of(2, 3.0)),
            (subject(3, "b"), of(3, 10.0)),
        ]
    }

    #[test]
    fn counters_become_rates_and_proxies_add_up() {
        let query = query(
            &[
                "odp_sql_request_total",
                "obproxy_rss_memory",
                "obproxy_process_cpu_percent",
            ],
            &["obproxy_cluster"],
            &[],
        );
        let groups = asked(&query, &fleet());
        let names: Vec<_> = groups
            .iter()
            .map(|group| group.labels["obproxy_cluster"].as_str())
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(groups[0].values.keys().copied().collect::<Vec<_>>(), [60_000]);
        let a = &groups[0].values[&60_000];
        // 2 × 330 × 4 in 55 s.
        assert_eq!(a["odp_sql_request_total"], 48.0);
        assert_eq!(a["obproxy_rss_memory"], 400.0);
        assert_eq!(a["obproxy_process_cpu_percent"], 20.0, "averaged");
    }

    #[test]
    fn labels_of_series_group_and_filter() {
        let by_type = query(&["odp_sql_request_total"], &["sqlType"], &[("obproxy_cluster", "b")]);
        let groups = asked(&by_type, &fleet());
        let types: Vec<_> = groups.iter().map(|group| group.labels["sqlType"].as_str()).collect();
        assert_eq!(types, ["INSERT", "SELECT"]);
        let selects = query(
            &["odp_sql_request_total", "obproxy_rss_memory"],
            &["obproxy_id"],
            &[("sqlType", "SELECT"), ("obproxy_id", "1")],
        );
        let groups = asked(&selects, &fleet());
        assert_eq!(groups.len(), 1);
        assert_eq!(
            groups[0].values[&60_000].keys().copied().collect::<Vec<_>>(),
            ["odp_sql_request_total"],
            "memory has no such label"
        );
        assert!(asked(&query(&["obproxy_up"], &["app"], &[]), &fleet()).is_empty());
    }

    #[test]
    fn a_summed_up_hour_counts_once() {
        let samples: Vec<_> = (0..240_u32)
            .map(|n| {
                sample(
                    1,
                    i64::from(n) * 15_000,
                    &[("odp_transaction_total", f64::from(n) * 30.0)],
                )
            })
            .collect();
        let hour = Hour::of(1, 0, &samples).unwrap();
        let query = Query {
            step: HOUR,
            ..query(&["odp_transaction_total"], &["obproxy_cluster"], &[])
        };
        let mut answer = Answer::new(&query);
        answer.add(&subject(1, "a"), &[hour], &samples);
        let groups = answer.groups();
        let rate = groups[0].values[&0]["odp_transaction_total"];
        assert!((rate - 2.0).abs() < 0.02, "{rate}");
    }
}
