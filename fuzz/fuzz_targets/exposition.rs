//! What a proxy's exporter answers: read within bounds, and fit to be told to Prometheus.

#![no_main]

use libfuzzer_sys::fuzz_target;
use obfleet_obproxy::exposition::{MOST_SERIES, parse};
use obfleet_wire::time::Timestamp;

const AT: Timestamp = Timestamp(1_700_000_000_000);

fuzz_target!(|text: &str| {
    let read = parse(text);
    assert!(read.len() <= MOST_SERIES && read.len() <= text.lines().count());
    for series in &read {
        assert!(series.value.is_finite());
        for (at, (name, _)) in series.labels.iter().enumerate() {
            let before = &series.labels[..at];
            assert!(
                before.iter().all(|(other, _)| other != name),
                "{name} is there twice: {series:?}"
            );
        }
        let line = series.line(&[], AT);
        assert_eq!(line.matches('\n').count(), 1, "{line:?} is one line");
        assert_eq!(parse(&line), std::slice::from_ref(series), "{line:?} is read again");
    }
});
