//! What a demo came to, as a JSON line and as a table.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{
    packages::{Fault, NEW, OLD},
    traffic::Counts,
};

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
    /// Proxies that were taken over, where that was to be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_over: Option<usize>,
}

/// What is known of a demo.
#[derive(Debug)]
pub struct Findings {
    /// The fault that was asked for.
    pub fault: Option<Fault>,
    /// Version each proxy tells at the end.
    pub versions: Vec<String>,
    /// What its clients saw, proxy by proxy.
    pub counts: Vec<Counts>,
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
    /// Whether the backend has the rows of all committed transactions, and no other.
    pub rows_are_right: bool,
    /// Whether the demo did not come to its end.
    pub broken_off: bool,
    /// See [`Report::taken_over`].
    pub taken_over: Option<usize>,
}

impl Findings {
    /// Before anything is known.
    pub fn new(fault: Option<Fault>) -> Self {
        Self {
            fault,
            versions: Vec::new(),
            counts: Vec::new(),
            seconds: 0.0,
            reply_ms_p99: 0,
            server_rss_mb: 0,
            start_ms: 0,
            rolled_back: false,
            rows_are_right: false,
            broken_off: false,
            taken_over: None,
        }
    }

    /// So many proxies serve; what they run at the end is not known yet.
    pub fn fleet_is_there(&mut self, proxies: usize, start_ms: u64) {
        self.versions = vec!["?".to_owned(); proxies];
        self.counts = vec![Counts::default(); proxies];
        self.start_ms = start_ms;
    }

    /// Whether everything that was to be taken over is.
    pub fn is_taken_over(&self) -> bool {
        self.taken_over.is_none_or(|taken| taken == self.versions.len())
    }

    fn total(&self) -> Counts {
        self.counts.iter().copied().fold(Counts::default(), Counts::and)
    }

    /// The verdict and its figures.
    pub fn report(&self) -> Report {
        let total = self.total();
        let proxies = self.versions.len();
        let running = |version: &str| self.versions.iter().filter(|v| *v == version).count();
        let (from, to) = (OLD.text(), NEW.text());
        let unharmed = proxies > 0 && total.refused == 0 && total.broken_transactions == 0;
        let ok = unharmed
            && self.rows_are_right
            && !self.broken_off
            && self.is_taken_over()
            && match self.fault {
                None => running(&to) == proxies && total.rejected_by_new == 0 && total.broken_on_new == 0,
                Some(_) => running(&from) == proxies && self.rolled_back,
            };
        Report {
            ok,
            proxies,
            upgraded: running(&to),
            from,
            to,
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
            taken_over: self.taken_over,
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
                report.from,
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
        for (number, (version, counts)) in self.versions.iter().zip(&self.counts).enumerate() {
            line(&(number + 1).to_string(), version, counts);
        }
        line("total", "", &self.total());
        let way = match (report.rolled_back, report.fault) {
            _ if self.broken_off => "broken off".to_owned(),
            (true, Some(fault)) => format!("went back by itself ({fault})"),
            (false, None) if report.upgraded == report.proxies && report.taken_over.is_some() => {
                "taken over and upgraded".to_owned()
            }
            (false, None) if report.upgraded == report.proxies => "upgraded".to_owned(),
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

    fn findings(fault: Option<Fault>, versions: [&str; 2], counts: Counts) -> Findings {
        Findings {
            versions: versions.map(str::to_owned).to_vec(),
            counts: vec![Counts::default(), counts],
            seconds: 12.34,
            reply_ms_p99: 9,
            server_rss_mb: 40,
            start_ms: 300,
            rolled_back: fault.is_some(),
            rows_are_right: true,
            ..Findings::new(fault)
        }
    }

    fn report(fault: Option<Fault>, versions: [&str; 2], counts: Counts) -> Report {
        findings(fault, versions, counts).report()
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
        let good = || findings(None, [new, new], well);
        let wrong_rows = Findings {
            rows_are_right: false,
            ..good()
        };
        let broken_off = Findings {
            broken_off: true,
            ..good()
        };
        assert!(!wrong_rows.report().ok && !broken_off.report().ok);
        let taken_over = |taken_over| Findings { taken_over, ..good() };
        assert!(taken_over(Some(2)).report().ok && !taken_over(Some(1)).report().ok);
    }

    #[test]
    fn a_demo_that_ends_early_is_reported_as_not_well() {
        for fault in [None, Some(Fault::Exit)] {
            let mut findings = Findings::new(fault);
            assert!(!findings.report().ok);
            findings.fleet_is_there(3, 12);
            assert!(!findings.report().ok);
            assert!(findings.table().contains("did not come to its end"));
            findings.broken_off = true;
            assert!(findings.table().contains("broken off"));
        }
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
