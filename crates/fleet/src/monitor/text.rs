//! All proxies' figures as one text for Prometheus: what each exporter said last, with the fleet's labels and the time it
//! was said; what is old is left out, and how old it is is told.

use std::collections::BTreeMap;

use obfleet_wire::{
    agent::{AgentMetrics, Series},
    time::Timestamp,
};

use super::{query::Subject, skew};
use crate::inventory::Host;

/// What is older is left out, in ms. Prometheus itself lets a series go on for five minutes after its last sample.
pub(super) const OLD: i64 = 60_000;

/// What the agents of the hosts told, in their order; `None` of one that did not answer.
pub(super) fn of(subjects: &[Subject], hosts: &[&Host], told: &[Option<AgentMetrics>], now: Timestamp) -> String {
    let mut families = Families::default();
    for (host, told) in hosts.iter().zip(told) {
        let (id, name) = (host.id.to_string(), host.facts.name.as_str());
        let labels = [("host", name), ("host_id", id.as_str())];
        families.add("obfleet_agent_up", &labels, f64::from(u8::from(told.is_some())), now);
        let Some(told) = told else {
            continue;
        };
        let skew = skew(told.time, now);
        let ours = |at: Timestamp| Timestamp(at.millis() + skew);
        for subject in subjects.iter().filter(|subject| subject.host_id == host.id) {
            let labels: Vec<(&str, &str)> = subject
                .labels
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .filter(|(name, _)| *name != "app")
                .collect();
            let samples = told.samples.iter().filter(|sample| sample.proxy_id == subject.proxy_id);
            if let Some(sample) = samples.max_by_key(|sample| sample.at) {
                // What the exporter says is told below, whole.
                for (name, value) in sample.values.iter().filter(|(name, _)| name.starts_with("obproxy_")) {
                    families.add(name, &labels, *value, ours(sample.at));
                }
            }
            let exported = told.exported.iter().find(|one| one.proxy_id == subject.proxy_id);
            if let Some(exported) = exported {
                let at = ours(exported.at);
                let age = (now.millis() - at.millis()).max(0);
                #[expect(clippy::cast_precision_loss, reason = "an age in ms")]
                families.add("obfleet_exporter_age_seconds", &labels, age as f64 / 1000.0, now);
                if age <= OLD {
                    exported
                        .series
                        .iter()
                        .for_each(|series| families.put(series, &labels, at));
                }
            }
        }
    }
    families.text()
}

/// Lines by name: those of one name have to stand together.
#[derive(Default)]
struct Families(BTreeMap<String, String>);

impl Families {
    fn add(&mut self, name: &str, labels: &[(&str, &str)], value: f64, at: Timestamp) {
        let series = Series {
            name: name.to_owned(),
            labels: Vec::new(),
            value,
        };
        self.put(&series, labels, at);
    }

    fn put(&mut self, series: &Series, labels: &[(&str, &str)], at: Timestamp) {
        let lines = self.0.entry(series.name.clone()).or_default();
        lines.push_str(&series.line(labels, at));
    }

    fn text(self) -> String {
        self.0.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use obfleet_wire::agent::{Exported, ProxySample};

    use super::*;
    use crate::testing::fleet_of;

    fn subject(proxy_id: i64) -> Subject {
        Subject {
            proxy_id,
            host_id: 100,
            cluster_id: 1,
            labels: [("app", "obproxy".to_owned()), ("obproxy_id", proxy_id.to_string())].into(),
        }
    }

    fn exported(proxy_id: i64, at: i64) -> Exported {
        let series = |name: &str| Series {
            name: name.to_owned(),
            labels: vec![("tenant".to_owned(), "t".to_owned())],
            value: 5.0,
        };
        Exported {
            proxy_id,
            at: Timestamp(at),
            series: vec![series("odp_b"), series("odp_a")],
        }
    }

    #[test]
    fn what_is_old_is_left_out_and_its_age_is_told() {
        let now = 1_000_000;
        let told = AgentMetrics {
            time: Timestamp(now),
            samples: vec![ProxySample {
                proxy_id: 7,
                at: Timestamp(now - 3_000),
                values: [
                    ("obproxy_up".to_owned(), 1.0),
                    ("odp_transaction_total".to_owned(), 9.0),
                ]
                .into(),
            }],
            exported: vec![exported(7, now - 2_000), exported(8, now - OLD - 1)],
        };
        let fleet = fleet_of(2, "4.2.1.0-11");
        let hosts: Vec<&Host> = fleet.hosts.values().collect();
        let text = of(&[subject(7), subject(8)], &hosts, &[Some(told), None], Timestamp(now));
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines.contains(&"odp_a{obproxy_id=\"7\",tenant=\"t\"} 5 998000"),
            "{text}"
        );
        assert!(lines.contains(&"obproxy_up{obproxy_id=\"7\"} 1 997000"), "{text}");
        assert!(
            !text.contains("odp_a{obproxy_id=\"8\"") && !text.contains("odp_transaction_total"),
            "{text}"
        );
        assert!(
            lines.contains(&"obfleet_exporter_age_seconds{obproxy_id=\"8\"} 60.001 1000000"),
            "{text}"
        );
        assert!(
            text.contains("host_id=\"100\"} 1 ") && text.contains("host_id=\"101\"} 0 "),
            "{text}"
        );
        let names: Vec<_> = lines.iter().map(|line| line.split('{').next().unwrap()).collect();
        assert!(names.is_sorted(), "one name's lines stand together: {names:?}");
    }
}
