//! Slows down whoever guesses passwords, per user and per network.
//!
//! Some failures are free; after that each one doubles the wait before the next try. A try made during the wait is
//! refused without a look at the password, and does not make the wait longer.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::address::network;

/// Failures are forgotten after this much time without another one.
const FORGIVEN: Duration = Duration::from_secs(15 * 60);
/// Users and networks watched at most; beyond it the ones that failed longest ago are let go.
const WATCHED: usize = 10_000;

/// Somebody whose failures are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Suspect {
    User(String),
    Network(IpAddr),
}

struct Record {
    failures: u32,
    last: Instant,
}

/// The failures of late.
#[derive(Default)]
pub struct Throttle {
    records: HashMap<Suspect, Record>,
}

impl Suspect {
    /// Failures without a wait. Several users share a network, so it has more.
    fn free(&self) -> u32 {
        match self {
            Self::User(_) => 5,
            Self::Network(_) => 10,
        }
    }

    fn longest_wait(&self) -> Duration {
        match self {
            Self::User(_) => Duration::from_secs(60),
            Self::Network(_) => Duration::from_secs(5 * 60),
        }
    }

    fn wait_after(&self, failures: u32) -> Duration {
        match failures.checked_sub(self.free()) {
            None => Duration::ZERO,
            Some(beyond) => Duration::from_secs(1 << beyond.min(10)).min(self.longest_wait()),
        }
    }
}

fn suspects(user: &str, address: IpAddr) -> [Suspect; 2] {
    [Suspect::User(user.to_owned()), Suspect::Network(network(address))]
}

impl Throttle {
    /// How long this user at this address has to wait before a try; `None` when not at all.
    pub fn wait(&self, user: &str, address: IpAddr, now: Instant) -> Option<Duration> {
        let wait = |suspect: Suspect| {
            let record = self.records.get(&suspect)?;
            let until = record.last + suspect.wait_after(record.failures);
            until.checked_duration_since(now).filter(|wait| !wait.is_zero())
        };
        suspects(user, address).into_iter().filter_map(wait).max()
    }

    /// Counts a failure.
    pub fn failed(&mut self, user: &str, address: IpAddr, now: Instant) {
        self.forget(now);
        for suspect in suspects(user, address) {
            let record = self.records.entry(suspect).or_insert(Record { failures: 0, last: now });
            record.failures = record.failures.saturating_add(1);
            record.last = now;
        }
    }

    /// Forgets the failures of a user who has the right password.
    pub fn succeeded(&mut self, user: &str, address: IpAddr) {
        for suspect in suspects(user, address) {
            self.records.remove(&suspect);
        }
    }

    /// Forgets the failures of a user, wherever they came from.
    pub fn forgive(&mut self, user: &str) {
        self.records.remove(&Suspect::User(user.to_owned()));
    }

    fn forget(&mut self, now: Instant) {
        self.records
            .retain(|_, record| now.saturating_duration_since(record.last) < FORGIVEN);
        while self.records.len() >= WATCHED {
            let oldest = self
                .records
                .iter()
                .min_by_key(|(_, record)| record.last)
                .map(|(suspect, _)| suspect.clone());
            let Some(oldest) = oldest else { break };
            self.records.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn waits_grow_and_end() {
        let mut throttle = Throttle::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..14 {
            throttle.failed("admin", AWAY, now);
            let wait = throttle.wait("admin", AWAY, now).unwrap_or_default();
            assert_eq!(throttle.wait("admin", AWAY, now + wait), None, "the wait ends");
            now += wait;
            waits.push(wait.as_secs());
        }
        assert_eq!(waits[..4], [0, 0, 0, 0]);
        assert!(
            waits[4..].is_sorted() && waits[4] == 1 && *waits.last().unwrap() == 60,
            "{waits:?}"
        );
        assert_eq!(throttle.wait("somebody else", HOME, now), None);
        assert!(
            throttle
                .wait("somebody else", AWAY, now - Duration::from_secs(50))
                .is_some(),
            "a network waits for all its users"
        );
    }

    #[test]
    fn a_success_and_time_forgive() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..30 {
            throttle.failed("admin", AWAY, now);
        }
        assert!(throttle.wait("admin", HOME, now).is_some());
        throttle.failed("other", HOME, now + FORGIVEN);
        assert_eq!(throttle.records.len(), 2, "old failures are forgotten");
        for _ in 0..30 {
            throttle.failed("admin", AWAY, now + FORGIVEN);
        }
        throttle.succeeded("admin", AWAY);
        assert_eq!(throttle.wait("admin", AWAY, now + FORGIVEN), None);
    }

    #[test]
    fn an_ipv6_host_cannot_hide_among_its_addresses() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for n in 0..20u16 {
            throttle.failed(&format!("u{n}"), format!("2001:db8::{n:x}").parse().unwrap(), now);
        }
        assert!(throttle.wait("admin", "2001:db8::ffff".parse().unwrap(), now).is_some());
        assert_eq!(throttle.wait("admin", "2001:db8:0:1::1".parse().unwrap(), now), None);
    }

    #[test]
    fn the_number_watched_is_bounded() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for n in 0..WATCHED as u64 + 50 {
            throttle.failed(&format!("u{n}"), AWAY, now + Duration::from_millis(n));
        }
        assert!(throttle.records.len() <= WATCHED + 1);
    }
}
