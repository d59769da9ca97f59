//! The text a proxy's exporter answers Prometheus with, read for what is good in it.
//!
//! A proxy that is broken may answer anything: a line that is no sample is left out, and there are limits to all that is
//! kept.

use std::{iter::Peekable, str::CharIndices};

use obfleet_wire::agent::Series;

/// Series that are read at most. A proxy itself keeps some 3 000.
pub const MOST_SERIES: usize = 5_000;
/// Labels of a series.
const MOST_LABELS: usize = 24;
/// Bytes of a name.
const LONGEST_NAME: usize = 200;
/// Bytes of a label's value: schema names are shorter.
const LONGEST_VALUE: usize = 512;

/// The samples in the text whose values are finite, in its order.
pub fn parse(text: &str) -> Vec<Series> {
    text.lines().filter_map(sample).take(MOST_SERIES).collect()
}

/// `name{label="value",…} 1.5 1700000000000`, where labels and time may be absent.
fn sample(line: &str) -> Option<Series> {
    let line = line.trim();
    let end = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    let (name, rest) = line.split_at(end);
    let name = is_name(name, true).then_some(name)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split_ascii_whitespace();
    let value: f64 = words.next()?.parse().ok()?;
    let time_is_one = words.next().is_none_or(|time| time.parse::<f64>().is_ok());
    (value.is_finite() && time_is_one && words.next().is_none()).then(|| Series {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// The labels, and what follows their closing brace.
fn labels(text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    let mut rest = text.trim_start();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once('=')?;
        let name = name.trim();
        let (value, after) = quoted(after.trim_start())?;
        // Prometheus takes nothing of a scrape that has a label twice.
        let is_twice = labels.iter().any(|(other, _): &(String, String)| other == name);
        if !is_name(name, false) || is_twice || labels.len() == MOST_LABELS {
            return None;
        }
        labels.push((name.to_owned(), value));
        rest = after.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if rest.starts_with('}') => rest,
            None => return None,
        };
    }
}

/// A text between double quotes, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(escaped(&mut chars)?),
            other => value.push(other),
        }
        if value.len() > LONGEST_VALUE {
            return None;
        }
    }
    None
}

fn escaped(chars: &mut Peekable<CharIndices<'_>>) -> Option<char> {
    Some(match chars.next()?.1 {
        'n' => '\n',
        '\\' => '\\',
        '"' => '"',
        _ => return None,
    })
}

fn is_name(text: &str, colons: bool) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || (colons && c == b':');
    !text.is_empty()
        && text.len() <= LONGEST_NAME
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use obfleet_wire::time::Timestamp;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_an_exporter_writes() {
        let text = "# HELP odp_x Something\n# TYPE odp_sql_request_total counter\n\
            odp_sql_request_total{logicTenant=\"\", sqlType=\"SELECT\",schema=\"a \\\"b\\\" \\\\ c\\n\",} 12 1700000000000\n\
            \n\
            odp_transaction_total 1e3\n\
            odp_current_session{sessionType = \"client\"}\t7.5\n";
        let read = parse(text);
        let names: Vec<_> = read.iter().map(|series| (series.name.as_str(), series.value)).collect();
        assert_eq!(
            names,
            [
                ("odp_sql_request_total", 12.0),
                ("odp_transaction_total", 1000.0),
                ("odp_current_session", 7.5)
            ]
        );
        assert_eq!(read[0].label("schema"), Some("a \"b\" \\ c\n"));
        assert_eq!(read[0].label("logicTenant"), Some(""));
        assert_eq!(read[2].label("sessionType"), Some("client"));
    }

    #[test]
    fn a_broken_line_costs_no_other() {
        let broken = [
            "odp_a{x=\"1\" 5",
            "odp_a{x=\"1} 5",
            "odp_a{x=1} 5",
            "odp_a{9x=\"1\"} 5",
            "odp_a{x=\"\\q\"} 5",
            "odp_a{x=\"1\",y=\"1\",x=\"2\"} 5",
            "odp_a",
            "odp_a five",
            "odp_a NaN",
            "odp_a +Inf",
            "odp_a 1 2 3",
            "odp_a 1 then",
            "{x=\"1\"} 5",
            "9a 5",
            "汉字 5",
            "<html>404</html>",
        ];
        for line in broken {
            let read = parse(&format!("{line}\nodp_b 2\n"));
            assert_eq!(read.len(), 1, "{line}");
            assert_eq!(read[0].name, "odp_b", "{line}");
        }
        let long = format!("odp_a{{x=\"{}\"}} 1\nodp_b 2", "v".repeat(LONGEST_VALUE + 1));
        assert_eq!(parse(&long).len(), 1);
        let many = "odp_a 1\n".repeat(MOST_SERIES + 10);
        assert_eq!(parse(&many).len(), MOST_SERIES);
    }

    fn any_series() -> impl Strategy<Value = Series> {
        let label = ("[a-z_][a-zA-Z0-9_]{0,8}", "\\PC{0,12}|[\\\\\"\n,={}]{0,6}");
        let labels = prop::collection::btree_map(label.0, label.1, 0..5);
        ("[a-z_:][a-z0-9_:]{0,12}", labels, -1e15..1e15_f64).prop_map(|(name, labels, value)| Series {
            name,
            labels: labels.into_iter().collect(),
            value,
        })
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*|([a-z_]{1,4}(\\{[a-z=\",\\\\]{0,12}\\}?)? ?[0-9.]{0,4}\n?){0,8}") {
            for series in parse(&text) {
                prop_assert!(series.value.is_finite() && series.labels.len() <= MOST_LABELS);
            }
        }

        #[test]
        fn what_is_written_is_read_again(series in any_series()) {
            let text = series.line(&[], Timestamp(1_700_000_000_000));
            // Other line ends than \n are no line's end to Prometheus, but lines() takes \r\n for one.
            prop_assume!(!text.contains('\r'));
            prop_assert_eq!(parse(&text), vec![series]);
        }
    }
}
