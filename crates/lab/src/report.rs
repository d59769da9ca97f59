//! What a demo came to, as a JSON line and as a table.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{packages::Fault, traffic::Counts};

/// The report's JSON line; the order of the members is the order of the line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Whether the demo showed what it is to show.
    pub ok: bool,
    /// Proxies of the fleet.
    pub proxies: usize,
    /// Those that run the new version at the end.
    pub upgraded: usize,
    /// Version before.
    pub from: String,
    /// Version of the new package.
    pub to: String,
    /// Logins done.
    pub connects: u64,
    /// Connections refused.
    pub refused: u64,
    /// Longest time to greeting and login.
    pub stall_ms_max: u64,
    /// Connections closed between transactions.
    pub closed_at_boundary: u64,
    /// Transactions broken, of those begun on processes that were meant to serve.
    pub broken_transactions: u64,
    /// From the upgrade's submission until its task came to rest.
    pub seconds: f64,
    /// Slowest but one in a hundred of the accepted upgrade submissions.
    pub reply_ms_p99: u64,
    /// The server's resident memory.
    pub server_rss_mb: u64,
    /// From the server's start to its first answer.
    pub start_ms: u64,
    /// Whether the fleet went back to the old version.
    pub rolled_back: bool,
    /// Logins turned away by the bad process.
    pub rejected_by_new: u64,
    /// Transactions begun on the bad process and broken.
    pub broken_on_new: u64,
    /// What was wrong with the new package.
    pub fault: Option<&'static str>,
}

/// What is known at the end of a demo.
#[derive(Debug)]
pub struct Findings<'a> {
    /// The fault that was asked for.
    pub fault: Option<Fault>,
    /// Version before.
    pub from: &'a str,
    /// Version of the new package.
    pub to: &'a str,
    /// Version each proxy tells at the end.
    pub versions: &'a [String],
    /// What its clients saw, proxy by proxy.
    pub counts: &'a [Counts],
    /// From submission to rest.
    pub seconds: f64,
    /// See [`Report::reply_ms_p99`].
    pub reply_ms_p99: u64,
    /// See [`Report::server_rss_mb`].
    pub server_rss_mb: u64,
    /// See [`Report::start_ms`].
    pub start_ms: u64,
    /// Whether the task was rolled back with success.
    pub rolled_back: bool,
}

impl Findings<'_> {
    fn total(&self) -> Counts {
        self.counts.iter().copied().fold(Counts::default(), Counts::and)
    }

    /// The verdict and its figures.
    pub fn report(&self) -> Report {
        let total = self.total();
        let proxies = self.versions.len();
        let running = |version: &str| self.versions.iter().filter(|v| *v == version).count();
        let unharmed = proxies > 0 && total.refused == 0 && total.broken_transactions == 0;
        let ok = unharmed
            && match self.fault {
                None => running(self.to) == proxies && total.rejected_by_new == 0 && total.broken_on_new == 0,
                Some(_) => running(self.from) == proxies && self.rolled_back,
            };
        Report {
            ok,
            proxies,
            upgraded: running(self.to),
            from: self.from.to_owned(),
            to: self.to.to_owned(),
            connects: total.connects,
            refused: total.refused,
            stall_ms_max: total.stall_ms_max,
            closed_at_boundary: total.closed_at_boundary,
            broken_transactions: total.broken_transactions,
            seconds: (self.seconds * 10.0).round() / 10.0,
            reply_ms_p99: self.reply_ms_p99,
            server_rss_mb: self.server_rss_mb,
            start_ms: self.start_ms,
            rolled_back: self.rolled_back,
            rejected_by_new: total.rejected_by_new,
            broken_on_new: total.broken_on_new,
            fault: self.fault.map(Fault::name),
        }
    }

    /// The figures for a person.
    pub fn table(&self) -> String {
        let report = self.report();
        let mut text = format!(
            "{:<8}{:<12}{:<12}{:>9}{:>9}{:>10}{:>9}{:>11}{:>8}{:>10}{:>14}\n",
            "proxy",
            "before",
            "now",
            "connects",
            "refused",
            "worst ms",
            "closed",
            "committed",
            "broken",
            "rejected",
            "broken on new"
        );
        let mut line = |name: &str, now: &str, counts: &Counts| {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{name:<8}{:<12}{now:<12}{:>9}{:>9}{:>10}{:>9}{:>11}{:>8}{:>10}{:>14}",
                self.from,
                counts.connects,
                counts.refused,
                counts.stall_ms_max,
                counts.closed_at_boundary,
                counts.committed,
                counts.broken_transactions,
                counts.rejected_by_new,
                counts.broken_on_new
            );
        };
        for (number, (version, counts)) in self.versions.iter().zip(self.counts).enumerate() {
            line(&(number + 1).to_string(), version, counts);
        }
        line("total", "", &self.total());
        let way = match (report.rolled_back, report.fault) {
            (true, Some(fault)) => format!("went back by itself ({fault})"),
            (false, None) => "upgraded".to_owned(),
            _ => "did not come to its end".to_owned(),
        };
        let _ = write!(
            text,
            "{way} in {} s; upgrade accepted within {} ms (p99); server: {} MiB, first answer after {} ms\n{}",
            report.seconds,
            report.reply_ms_p99,
            report.server_rss_mb,
            report.start_ms,
            if report.ok { "all well" } else { "NOT as it should be" }
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(fault: Option<Fault>, versions: [&str; 2], counts: Counts) -> Report {
        Findings {
            fault,
            from: "4.2.1.0-11",
            to: "4.3.1.0-1",
            versions: &versions.map(str::to_owned),
            counts: &[Counts::default(), counts],
            seconds: 12.34,
            reply_ms_p99: 9,
            server_rss_mb: 40,
            start_ms: 300,
            rolled_back: fault.is_some(),
        }
        .report()
    }

    #[test]
    fn all_is_well_only_if_everything_is() {
        let (old, new) = ("4.2.1.0-11", "4.3.1.0-1");
        let well = Counts::default();
        let refused = Counts { refused: 1, ..well };
        let broken = Counts {
            broken_transactions: 1,
            ..well
        };
        let on_new = Counts {
            broken_on_new: 1,
            ..well
        };
        assert!(report(None, [new, new], well).ok);
        assert!(!report(None, [new, old], well).ok);
        assert!(report(Some(Fault::Exit), [old, old], on_new).ok);
        assert!(!report(Some(Fault::Exit), [old, new], well).ok);
        for bad in [refused, broken] {
            assert!(!report(None, [new, new], bad).ok);
            assert!(!report(Some(Fault::Hang), [old, old], bad).ok);
        }
        assert!(!report(None, [new, new], on_new).ok);
    }

    #[test]
    fn the_line_has_its_members_in_order() {
        let line = serde_json::to_string(&report(None, ["4.3.1.0-1", "4.3.1.0-1"], Counts::default())).unwrap();
        assert_eq!(
            line,
            r#"{"ok":true,"proxies":2,"upgraded":2,"from":"4.2.1.0-11","to":"4.3.1.0-1","connects":0,"refused":0,"stall_ms_max":0,"closed_at_boundary":0,"broken_transactions":0,"seconds":12.3,"reply_ms_p99":9,"server_rss_mb":40,"start_ms":300,"rolled_back":false,"rejected_by_new":0,"broken_on_new":0,"fault":null}"#
        );
    }
}
