//! Lists of ids: as they stand in one path segment (`1`, `1,2`), and in bodies.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

/// Ids from one path segment, without duplicates, in the order they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdList(pub Vec<i64>);

/// The text is not a comma-separated list of positive ids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a positive integer id")]
pub struct IdListError(pub String);

impl FromStr for IdList {
    type Err = IdListError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut ids = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            let id = part
                .parse::<i64>()
                .ok()
                .filter(|id| *id > 0)
                .ok_or_else(|| IdListError(part.to_owned()))?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(Self(ids))
    }
}

/// Entries that a list of ids may have, in a path or a body: more than any fleet does at once.
pub const MOST_IDS: usize = 1000;

/// The name under which [`few`] asks for its list, so that a deserialiser that describes types knows of the bound.
pub const FEW: &str = "$obfleet::few";

/// Reads a list of [`MOST_IDS`] entries at most, and no further than that.
///
/// # Errors
/// When it has more, or is no list of these.
pub fn few<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Few<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Few<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MOST_IDS} entries")
        }

        fn visit_newtype_struct<D: Deserializer<'de>>(self, list: D) -> Result<Vec<T>, D::Error> {
            list.deserialize_seq(self)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut given: A) -> Result<Vec<T>, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = given.next_element()? {
                if entries.len() == MOST_IDS {
                    return Err(de::Error::invalid_length(MOST_IDS + 1, &self));
                }
                entries.push(entry);
            }
            Ok(entries)
        }
    }

    deserializer.deserialize_newtype_struct(FEW, Few(PhantomData))
}

/// The same for one that may be absent or null.
///
/// # Errors
/// As [`few`].
pub fn few_or_none<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(bound = "T: Deserialize<'de>")]
    struct List<T>(#[serde(deserialize_with = "few")] Vec<T>);

    Ok(Option::<List<T>>::deserialize(deserializer)?.map(|list| list.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Body {
        #[serde(deserialize_with = "few")]
        ids: Vec<i64>,
        #[serde(default, deserialize_with = "few_or_none")]
        others: Option<Vec<i64>>,
    }

    #[test]
    fn lists_in_bodies_have_a_bound() {
        let of = |entries: usize| format!(r#"{{"ids":{:?}}}"#, vec![1; entries]);
        let read = |text: &str| serde_json::from_str::<Body>(text).map_err(|error| error.to_string());
        assert_eq!(read(&of(MOST_IDS)).unwrap().ids.len(), MOST_IDS);
        let many = read(&of(MOST_IDS + 1)).unwrap_err();
        assert!(many.contains(", expected at most 1000 entries"), "{many}");
        assert_eq!(read(r#"{"ids":[],"others":null}"#).unwrap().others, None);
        assert_eq!(read(r#"{"ids":[],"others":[3]}"#).unwrap().others, Some(vec![3]));
        assert!(read(&of(MOST_IDS + 1).replace("ids", "ids\":[],\"others")).is_err());
    }

    #[test]
    fn takes_one_several_and_repeated_ids() {
        assert_eq!("1".parse(), Ok(IdList(vec![1])));
        assert_eq!("3, 1,3".parse(), Ok(IdList(vec![3, 1])));
    }

    #[test]
    fn names_the_part_that_is_wrong() {
        for (text, part) in [
            ("", ""),
            ("1,", ""),
            ("1,x", "x"),
            ("0", "0"),
            ("-1", "-1"),
            ("9223372036854775808", "9223372036854775808"),
        ] {
            assert_eq!(text.parse::<IdList>(), Err(IdListError(part.to_owned())));
        }
    }
}
