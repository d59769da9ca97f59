//! The last measurements of one proxy.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use obfleet_obproxy::process::ProcessId;
use obfleet_wire::{
    agent::{Exported, ProxySample, Series},
    time::Timestamp,
};
use tokio::time::Instant;

/// Samples that are kept: ten minutes, one each 15 s.
const MOST_SAMPLES: usize = 40;

/// The last measurements of one proxy.
#[derive(Default)]
pub(super) struct Kept {
    samples: VecDeque<ProxySample>,
    exported: Option<(Timestamp, Vec<Series>)>,
    /// Processor time of the process at the last measurement.
    cpu: Option<(ProcessId, Duration, Instant)>,
}

impl Kept {
    /// How busy the process was since the last time it was asked; `None` for one that is seen for the first time.
    pub(super) fn cpu_percent(&mut self, process: ProcessId, cpu: Duration, now: Instant) -> Option<f64> {
        let before = self.cpu.replace((process, cpu, now));
        let (_, used, at) = before.filter(|(same, ..)| *same == process)?;
        let passed = now.duration_since(at).as_secs_f64();
        (passed > 0.0).then(|| cpu.saturating_sub(used).as_secs_f64() / passed * 100.0)
    }

    /// Keeps what was measured; the oldest goes.
    pub(super) fn keep(
        &mut self,
        proxy_id: i64,
        at: Timestamp,
        values: BTreeMap<String, f64>,
        exported: Option<Vec<Series>>,
    ) {
        if self.samples.len() == MOST_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(ProxySample { proxy_id, at, values });
        // What a silent exporter said before stays, and grows old.
        if let Some(series) = exported {
            self.exported = Some((at, series));
        }
    }

    /// What was measured after that moment. A clock that was put back hides nothing for long.
    pub(super) fn after(&self, after: Timestamp) -> impl Iterator<Item = &ProxySample> {
        self.samples.iter().filter(move |sample| sample.at > after)
    }

    /// What the exporter said last.
    pub(super) fn exported(&self, proxy_id: i64) -> Option<Exported> {
        let (at, series) = self.exported.as_ref()?;
        Some(Exported {
            proxy_id,
            at: *at,
            series: series.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_much_is_kept() {
        let mut kept = Kept::default();
        for at in 1..=100 {
            kept.keep(7, Timestamp(at), BTreeMap::new(), (at == 50).then(Vec::new));
        }
        let times = |after| {
            kept.after(Timestamp(after))
                .map(|sample| sample.at.millis())
                .collect::<Vec<_>>()
        };
        assert_eq!(times(0), (61..=100).collect::<Vec<_>>());
        assert_eq!(times(98), [99, 100]);
        assert_eq!(kept.exported(7).unwrap().at, Timestamp(50), "its age shows");
    }

    #[test]
    fn a_busy_processor_is_told_of_one_process() {
        let (one, other) = (
            ProcessId { pid: 1, start_ticks: 1 },
            ProcessId { pid: 1, start_ticks: 2 },
        );
        let (mut kept, now) = (Kept::default(), Instant::now());
        let at = |s| now + Duration::from_secs(s);
        assert_eq!(kept.cpu_percent(one, Duration::from_secs(5), at(0)), None);
        assert_eq!(kept.cpu_percent(one, Duration::from_secs(8), at(2)), Some(150.0));
        assert_eq!(
            kept.cpu_percent(other, Duration::from_secs(1), at(4)),
            None,
            "it is another one"
        );
        assert_eq!(
            kept.cpu_percent(other, Duration::from_secs(1), at(4)),
            None,
            "no time has passed"
        );
    }
}
