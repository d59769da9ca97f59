//! The process, as the kernel sees it, read at each scrape. The names are those every Prometheus client uses.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Ticks of a second in `/proc`: the kernel's interface to programs has this number on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc/self`.
#[derive(Debug)]
pub struct ProcessCollector;

/// What is read; a figure that the kernel does not give is left out.
#[derive(Debug, Default, PartialEq)]
struct Figures {
    resident_bytes: Option<i64>,
    threads: Option<i64>,
    open_fds: Option<i64>,
    cpu_seconds: Option<f64>,
}

impl Figures {
    fn read() -> Self {
        let text = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let status = text("status");
        let fds = std::fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
        Self {
            resident_bytes: number(&status, "VmRSS:").map(|kib| kib * 1024),
            threads: number(&status, "Threads:"),
            // Without the one that reading the directory took.
            open_fds: fds.and_then(|count| i64::try_from(count).ok()).map(|count| count - 1),
            cpu_seconds: cpu_seconds(&text("stat")),
        }
    }
}

/// The number behind a name in `/proc/self/status`.
fn number(status: &str, name: &str) -> Option<i64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// User and system time in `/proc/self/stat`. The command before them is in brackets and may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let figures = Figures::read();
        let gauges = [
            (
                "process_resident_memory_bytes",
                "Resident memory",
                figures.resident_bytes,
            ),
            ("process_open_fds", "Open file descriptors", figures.open_fds),
            ("process_threads", "Threads", figures.threads),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        if let Some(seconds) = figures.cpu_seconds {
            let counter = ConstCounter::new(seconds);
            let help = "Processor time, user and system";
            counter.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_understood() {
        let status = "Name:\tobfleet\nVmRSS:\t   22528 kB\nThreads:\t9\n";
        assert_eq!(
            (number(status, "VmRSS:"), number(status, "Threads:")),
            (Some(22528), Some(9))
        );
        assert_eq!(number(status, "VmSwap:"), None);
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn this_process_has_all_figures() {
        let figures = Figures::read();
        assert!(figures.resident_bytes > Some(1 << 20), "{figures:?}");
        assert!(figures.threads > Some(0) && figures.open_fds > Some(2), "{figures:?}");
        assert!(figures.cpu_seconds >= Some(0.0), "{figures:?}");
    }
}
