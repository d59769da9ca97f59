//! What is told: figures, as JSON lines or as a table.

use std::fmt::Write as _;

use serde::Serialize;

use crate::place::StoreKind;
use crate::sample::median;

/// One number of one run.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// What it is called.
    pub name: &'static str,
    /// The number.
    pub value: f64,
    /// What it counts.
    pub unit: &'static str,
    /// What bare transactions alone came to in the same run, in the same unit.
    pub floor: Option<f64>,
}

impl Reading {
    /// A number that no disk sets a floor to.
    pub fn new(name: &'static str, value: f64, unit: &'static str) -> Self {
        Self {
            name,
            value,
            unit,
            floor: None,
        }
    }

    /// With what bare transactions alone came to.
    #[must_use]
    pub fn floor(self, floor: f64) -> Self {
        Self {
            floor: Some(floor),
            ..self
        }
    }
}

/// The median of several runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What it is called.
    pub name: &'static str,
    /// The database it was measured on.
    pub store: StoreKind,
    /// The number.
    pub value: f64,
    /// What it counts.
    pub unit: &'static str,
    /// What bare transactions alone come to.
    pub floor: Option<f64>,
}

impl Figure {
    /// Of runs that gave the same readings in the same order.
    pub fn medians(store: StoreKind, runs: &[Vec<Reading>]) -> Vec<Self> {
        let Some(first) = runs.first() else { return Vec::new() };
        let of_all = |index: usize, pick: fn(&Reading) -> Option<f64>| {
            median(runs.iter().filter_map(|run| pick(run.get(index)?)).collect())
        };
        let figure = |(index, reading): (usize, &Reading)| {
            Some(Self {
                name: reading.name,
                store,
                value: rounded(of_all(index, |reading| Some(reading.value))?),
                unit: reading.unit,
                floor: of_all(index, |reading| reading.floor).map(rounded),
            })
        };
        first.iter().enumerate().filter_map(figure).collect()
    }
}

/// To thousandths: no measurement here is better than that.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// For people.
pub fn table(figures: &[Figure]) -> String {
    let mut text = String::from("| figure | store | value | bare transactions | ratio |\n|---|---|---:|---:|---:|\n");
    for figure in figures {
        let unit = figure.unit;
        let (floor, ratio) = match figure.floor {
            Some(floor) => (format!("{floor:.2} {unit}"), format!("{:.2}", figure.value / floor)),
            None => (String::new(), String::new()),
        };
        // A String takes every text.
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} {unit} | {floor} | {ratio} |",
            figure.name, figure.store, figure.value
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_figure_by_figure() {
        let run = |hop, bare| {
            vec![
                Reading::new("hop_p50", hop, "ms").floor(bare),
                Reading::new("start_ms", 7.0, "ms"),
            ]
        };
        let figures = Figure::medians(StoreKind::Sqlite, &[run(3.0, 2.0), run(9.0, 1.0), run(4.0, 2.5)]);
        assert_eq!(
            serde_json::to_string(&figures[0]).unwrap(),
            r#"{"name":"hop_p50","store":"sqlite","value":4.0,"unit":"ms","floor":2.0}"#
        );
        assert_eq!(figures[1].floor, None);
        let table = table(&figures);
        assert!(
            table.contains("| hop_p50 | sqlite | 4.00 ms | 2.00 ms | 2.00 |"),
            "{table}"
        );
        assert!(table.contains("| start_ms | sqlite | 7.00 ms |  |  |"), "{table}");
    }
}
