//! From what was measured to figures that can be added up.

use std::collections::BTreeMap;

use obfleet_wire::{
    agent::ProxySample,
    metric::{Kind, Metric},
};

/// Milliseconds of an hour and of a minute.
pub const HOUR: i64 = 60 * MINUTE;
/// Of a minute.
pub const MINUTE: i64 = 60_000;
/// Between two samples of a counter that are further apart nothing is known.
pub const LONGEST_GAP: i64 = 75_000;

/// One figure: of a counter what it grew by in the time before, of others their value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// In ms since the epoch; the end of its time.
    pub at: i64,
    /// The time it is of, in ms; 1 for what is no counter.
    pub span: i64,
    /// The figure.
    pub value: f64,
}

/// The figures of one proxy for one hour, sixty for each key; `None` where there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Hour {
    /// The proxy.
    pub proxy_id: i64,
    /// Hours since the epoch.
    pub hour: i64,
    /// By key: what a counter grew by in each minute, the mean of others.
    pub minutes: BTreeMap<String, Vec<Option<f64>>>,
}

fn is_counter(key: &str) -> bool {
    Metric::of_key(key).is_some_and(|(metric, _)| metric.kind == Kind::Counter)
}

/// The points of one proxy's samples, which are in the order of time, by key.
pub fn of_samples(samples: &[ProxySample], wanted: impl Fn(&str) -> bool) -> BTreeMap<String, Vec<Point>> {
    let mut points = BTreeMap::<String, Vec<Point>>::new();
    let mut before = BTreeMap::<&str, (i64, f64)>::new();
    for sample in samples {
        let at = sample.at.millis();
        for (key, &value) in sample.values.iter().filter(|(key, _)| wanted(key)) {
            let point = if is_counter(key) {
                let last = before.insert(key, (at, value));
                let Some((then, last)) = last.filter(|(then, _)| at > *then && at - then <= LONGEST_GAP) else {
                    continue;
                };
                Point {
                    at,
                    span: at - then,
                    // It began anew in between: what it has is what it grew by since.
                    value: if value >= last { value - last } else { value },
                }
            } else {
                Point { at, span: 1, value }
            };
            points.entry(key.clone()).or_default().push(point);
        }
    }
    points
}

impl Hour {
    /// Sums up the samples of one proxy, which are in the order of time and may begin earlier. `None` when there is none of
    /// this hour.
    pub fn of(proxy_id: i64, hour: i64, samples: &[ProxySample]) -> Option<Self> {
        let (from, to) = (hour * HOUR - LONGEST_GAP, (hour + 1) * HOUR);
        let first = samples.partition_point(|sample| sample.at.millis() < from);
        let end = samples.partition_point(|sample| sample.at.millis() < to);
        let mut minutes = BTreeMap::new();
        for (key, points) in of_samples(&samples[first..end], |_| true) {
            let mut sums = vec![None::<(f64, u32)>; 60];
            for point in points.iter().filter(|point| point.at >= hour * HOUR) {
                let minute = usize::try_from((point.at - hour * HOUR) / MINUTE).unwrap_or(0);
                let (sum, count) = sums[minute].get_or_insert((0.0, 0));
                *sum += point.value;
                *count += 1;
            }
            if sums.iter().all(Option::is_none) {
                continue;
            }
            let counts = is_counter(&key);
            let figure = |(sum, count): (f64, u32)| if counts { sum } else { sum / f64::from(count) };
            minutes.insert(key, sums.into_iter().map(|sum| sum.map(figure)).collect());
        }
        (!minutes.is_empty()).then_some(Self {
            proxy_id,
            hour,
            minutes,
        })
    }

    /// Its points, by key.
    pub fn points(&self, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, Vec<Point>> {
        let wanted = self.minutes.iter().filter(|(key, _)| wanted(key));
        let points = wanted.map(|(key, figures)| {
            let span = if is_counter(key) { MINUTE } else { 1 };
            let point = |(minute, figure): (i64, &Option<f64>)| {
                Some(Point {
                    // Within the minute, not at the beginning of the next one.
                    at: self.hour * HOUR + (minute + 1) * MINUTE - 1,
                    span,
                    value: (*figure)?,
                })
            };
            (key.clone(), (0..).zip(figures).filter_map(point).collect())
        });
        points.collect()
    }
}

#[cfg(test)]
mod tests {
    use obfleet_wire::time::Timestamp;
    use proptest::prelude::*;

    use super::*;

    const TX: &str = "odp_transaction_total";
    const FDS: &str = "obproxy_fd_count";

    fn sample(at: i64, values: &[(&str, f64)]) -> ProxySample {
        ProxySample {
            proxy_id: 7,
            at: Timestamp(at),
            values: values.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect(),
        }
    }

    fn growth(points: &[Point]) -> Vec<(i64, f64)> {
        points.iter().map(|point| (point.span, point.value)).collect()
    }

    #[test]
    fn a_counter_that_began_anew_is_no_leap() {
        let samples = [(0, 100.0), (15_000, 130.0), (30_000, 10.0), (45_000, 25.0)];
        let samples = samples.map(|(at, value)| sample(at, &[(TX, value), (FDS, value)]));
        let points = of_samples(&samples, |key| key == TX);
        assert_eq!(growth(&points[TX]), [(15_000, 30.0), (15_000, 10.0), (15_000, 15.0)]);
        assert_eq!(points.len(), 1);
    }

    #[test]
    fn what_is_missing_for_long_is_not_known() {
        let samples = [
            sample(0, &[(TX, 1.0)]),
            sample(15_000, &[]),
            sample(30_000, &[(TX, 5.0)]),
            sample(30_000 + LONGEST_GAP + 1, &[(TX, 900.0)]),
        ];
        let points = of_samples(&samples, |_| true);
        assert_eq!(
            growth(&points[TX]),
            [(30_000, 4.0)],
            "a scrape that failed is bridged, an outage is not"
        );
    }

    #[test]
    fn an_hour_has_the_growth_and_the_means_of_its_minutes() {
        let begin = 10 * HOUR;
        let samples = [
            sample(begin - 15_000, &[(TX, 100.0), (FDS, 1.0)]),
            sample(begin + 1, &[(TX, 110.0), (FDS, 10.0)]),
            sample(begin + 15_001, &[(TX, 125.0), (FDS, 20.0)]),
            sample(begin + 61_000, &[(TX, 5.0), (FDS, 7.0)]),
            sample(begin + HOUR, &[(TX, 500.0)]),
        ];
        let hour = Hour::of(7, 10, &samples).unwrap();
        assert_eq!(hour.minutes[TX][..3], [Some(25.0), Some(5.0), None]);
        assert_eq!(hour.minutes[FDS][..3], [Some(15.0), Some(7.0), None]);
        let points = hour.points(|_| true);
        assert_eq!(growth(&points[TX]), [(MINUTE, 25.0), (MINUTE, 5.0)]);
        assert!(points[TX].iter().all(|point| point.at.div_euclid(HOUR) == 10));
        assert_eq!(Hour::of(7, 8, &samples), None);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_made_up_when_an_hour_is_summed_up(steps in prop::collection::vec((1_i64..60_000, 0_u32..1000), 1..300)) {
            let (mut at, mut value) = (10 * HOUR - 20_000, 0_u32);
            let mut samples = vec![sample(at, &[(TX, 0.0)])];
            for (time, growth) in steps {
                at += time;
                value += growth;
                samples.push(sample(at, &[(TX, f64::from(value))]));
            }
            let raw: f64 = of_samples(&samples, |_| true).values().flatten()
                .filter(|point| point.at.div_euclid(HOUR) == 10).map(|point| point.value).sum();
            let hour = Hour::of(7, 10, &samples);
            let summed: f64 = hour.iter().flat_map(|hour| hour.minutes.values().flatten().flatten()).sum();
            prop_assert!((raw - summed).abs() < 1e-6);
        }
    }
}
