//! Figures as JSON, as short as they can be.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer, de::DeserializeOwned};

/// A number of at most three decimals; a whole one without a point.
struct Figure(f64);

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// From here on not every whole number is one of the floating kind.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let rounded = if self.0.abs() < EXACT / 1000.0 {
            (self.0 * 1000.0).round() / 1000.0
        } else {
            self.0
        };
        if rounded.fract() == 0.0 && rounded.abs() < EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
            serializer.serialize_i64(rounded as i64)
        } else {
            serializer.serialize_f64(rounded)
        }
    }
}

pub(super) fn of_sample(values: &BTreeMap<String, f64>) -> String {
    let figures: BTreeMap<_, _> = values
        .iter()
        .filter(|(_, value)| value.is_finite())
        .map(|(key, value)| (key, Figure(*value)))
        .collect();
    text(&figures)
}

pub(super) fn of_hour(minutes: &BTreeMap<String, Vec<Option<f64>>>) -> String {
    let figures: BTreeMap<_, Vec<_>> = minutes
        .iter()
        .map(|(key, figures)| (key, figures.iter().map(|figure| figure.map(Figure)).collect()))
        .collect();
    text(&figures)
}

fn text(figures: &impl Serialize) -> String {
    // A map of texts to numbers can always be written.
    serde_json::to_string(figures).unwrap_or_else(|_| "{}".to_owned())
}

pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_come_back() {
        let values = BTreeMap::from([
            ("a".to_owned(), 12.0),
            ("b".to_owned(), 1.0 / 3.0),
            ("c".to_owned(), -0.0),
            ("d".to_owned(), 1.234_567e17),
            ("e".to_owned(), f64::NAN),
        ]);
        let text = of_sample(&values);
        // Whether an exponent has a sign is the writer's business.
        assert_eq!(text.replace("e+", "e"), r#"{"a":12,"b":0.333,"c":0,"d":1.234567e17}"#);
        let again: BTreeMap<String, f64> = read(&text).unwrap();
        assert_eq!((again["a"], again["d"]), (12.0, 1.234_567e17));
        let hour = BTreeMap::from([("a".to_owned(), vec![Some(3.0), None, Some(0.5)])]);
        assert_eq!(of_hour(&hour), r#"{"a":[3,null,0.5]}"#);
        assert_eq!(
            read::<BTreeMap<String, Vec<Option<f64>>>>(&of_hour(&hour)).unwrap(),
            hour
        );
        assert!(read::<BTreeMap<String, f64>>("{").is_err());
    }
}
