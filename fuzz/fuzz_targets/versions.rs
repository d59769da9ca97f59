//! Versions and names of packages: what is read is written the same, and versions have one order.
//!
//! The input has one text on each line.

#![no_main]

use std::cmp::Ordering;

use libfuzzer_sys::fuzz_target;
use obfleet_wire::{
    time::Timestamp,
    version::{PackageName, ProxyVersion},
};

fuzz_target!(|text: &str| {
    let lines = || text.lines().take(8);
    let versions: Vec<ProxyVersion> = lines().filter_map(|line| line.parse().ok()).collect();
    for version in &versions {
        assert_eq!(version.to_string().parse().as_ref(), Ok(version));
        assert!(version.at_least(&version.version));
    }
    for one in &versions {
        for other in &versions {
            assert_eq!(one.cmp(other), by_digits(one, other), "{one} and {other}");
            assert_eq!(one.cmp(other), other.cmp(one).reverse(), "{one} and {other}");
            assert_eq!(one.cmp(other) == Ordering::Equal, one == other, "{one} and {other}");
            assert!(one < other || one.at_least(&other.version), "{one} and {other}");
        }
    }
    for line in lines() {
        if let Ok(name) = line.parse::<PackageName>() {
            assert_eq!(name.file_name(), line);
        }
        // Those whose year has four digits wherever one is.
        let written = |time: &Timestamp| (0..250_000_000_000_000).contains(&time.millis());
        if let Some(time) = line.parse::<Timestamp>().ok().filter(written) {
            assert_eq!(time.to_string().parse(), Ok(time));
        }
    }
});

/// The order of versions as somebody compares them who reads digits, however many.
fn by_digits(one: &ProxyVersion, other: &ProxyVersion) -> Ordering {
    let numbers = |text: &str| -> Vec<(usize, String)> {
        let digits = text.split('.').map(|part| part.trim_start_matches('0'));
        let mut numbers: Vec<_> = digits.map(|digits| (digits.len(), digits.to_owned())).collect();
        while numbers.pop_if(|(length, _)| *length == 0).is_some() {}
        numbers
    };
    let by_numbers = |one: &str, other: &str| numbers(one).cmp(&numbers(other));
    let order = by_numbers(&one.version, &other.version).then_with(|| by_numbers(&one.build, &other.build));
    order
        .then_with(|| one.version.cmp(&other.version))
        .then_with(|| one.build.cmp(&other.build))
}
