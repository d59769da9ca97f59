//! What is kept of all that is measured: the metrics with a [`Metric`], summed up over all labels but one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use obfleet_obproxy::process::Usage;
use obfleet_wire::{
    agent::Series,
    metric::{Metric, key},
};

/// Values of a label that are kept apart; those of the others add up to one.
const MOST_VALUES: usize = 16;
/// What the others are called.
const OTHERS: &str = "others";
/// Of the values of a label, the bytes that are kept.
const LONGEST: usize = 64;

/// Of an exporter's series.
pub(super) fn of_exporter(series: &[Series]) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    let mut seen = BTreeMap::<&str, BTreeSet<&str>>::new();
    for one in series {
        // A histogram's sum is what was there before it was one.
        let name = one.name.strip_suffix("_sum").unwrap_or(&one.name);
        let Some(metric) = Metric::named(name) else {
            continue;
        };
        let value = metric
            .label
            .and_then(|label| one.label(label))
            .filter(|value| !value.is_empty());
        let value = value.map(|value| {
            let known = seen.entry(metric.name).or_default();
            let fits = value.len() <= LONGEST && (known.contains(value) || known.len() < MOST_VALUES);
            if fits {
                known.insert(value);
                value
            } else {
                OTHERS
            }
        });
        *values.entry(key(metric.name, value)).or_insert(0.0) += one.value;
    }
    values.retain(|_, value| value.is_finite());
    values
}

/// Of what a proxy tells by SQL; `most` is its `client_max_connections`.
pub(super) fn of_counters(counters: &HashMap<String, i64>, most: Option<&str>) -> BTreeMap<String, f64> {
    let told = [
        (
            "obproxy_client_connections",
            counters.get("current_client_connections").copied(),
        ),
        (
            "obproxy_server_connections",
            counters.get("current_server_connections").copied(),
        ),
        ("obproxy_client_request_total", counters.get("client_requests").copied()),
        (
            "obproxy_client_max_connections",
            most.and_then(|most| most.parse().ok()),
        ),
    ];
    #[expect(clippy::cast_precision_loss, reason = "a rate does not need the last of 53 bits")]
    let value = |(name, value): (&str, Option<i64>)| Some((name.to_owned(), value? as f64));
    told.into_iter().filter_map(value).collect()
}

/// Of a process, all but how busy it is.
pub(super) fn of_process(usage: &Usage) -> BTreeMap<String, f64> {
    #[expect(clippy::cast_precision_loss, reason = "no process has 2^53 of anything")]
    let value = |(name, value): (&str, u64)| (name.to_owned(), value as f64);
    [
        ("obproxy_rss_memory", usage.rss_bytes),
        ("obproxy_fd_count", usage.files),
        ("obproxy_thread_count", usage.threads),
    ]
    .into_iter()
    .map(value)
    .collect()
}

#[cfg(test)]
mod tests {
    use obfleet_obproxy::exposition::parse;
    use obfleet_wire::metric::Kind;

    use super::*;

    #[test]
    fn tenants_add_up_and_kinds_of_statements_stay_apart() {
        let text = "\
            odp_sql_request_total{cluster=\"a\",tenant=\"x\",sqlType=\"SELECT\",sqlResult=\"success\"} 10\n\
            odp_sql_request_total{cluster=\"a\",tenant=\"y\",sqlType=\"SELECT\",sqlResult=\"fail\"} 5\n\
            odp_sql_request_total{cluster=\"a\",tenant=\"y\",sqlType=\"INSERT\",sqlResult=\"success\"} 1\n\
            odp_transaction_total{cluster=\"a\",tenant=\"y\"} 4\n\
            odp_sql_cost_total_sum{timeType=\"server\"} 900\n\
            odp_sql_cost_total_bucket{timeType=\"server\",le=\"5\"} 900\n\
            odp_unheard_of 1\n";
        let kept = of_exporter(&parse(text));
        let kept: Vec<_> = kept.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        assert_eq!(
            kept,
            [
                ("odp_sql_cost_total/server", 900.0),
                ("odp_sql_request_total/INSERT", 1.0),
                ("odp_sql_request_total/SELECT", 15.0),
                ("odp_transaction_total", 4.0),
            ]
        );
    }

    #[test]
    fn a_label_with_many_values_costs_no_more_than_some() {
        let text: String = (0..100)
            .map(|n| format!("odp_sql_request_total{{sqlType=\"T{n:03}\"}} 1\n"))
            .collect();
        let kept = of_exporter(&parse(&text));
        assert_eq!(kept.len(), MOST_VALUES + 1);
        assert_eq!(kept.values().sum::<f64>(), 100.0);
        assert_eq!(kept["odp_sql_request_total/others"], 84.0);
    }

    #[test]
    fn every_name_has_a_metric() {
        let counters = [
            "current_client_connections",
            "current_server_connections",
            "client_requests",
        ];
        let counters = counters.map(|name| (name.to_owned(), 3)).into();
        let usage = Usage {
            rss_bytes: 1,
            cpu: std::time::Duration::ZERO,
            files: 2,
            threads: 3,
        };
        let mut names: Vec<String> = of_counters(&counters, Some("8192")).into_keys().collect();
        names.extend(of_process(&usage).into_keys());
        assert_eq!(names.len(), 7);
        for name in names {
            let metric = Metric::named(&name).unwrap();
            assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
        }
        assert!(!of_counters(&counters, Some("many")).contains_key("obproxy_client_max_connections"));
    }
}
