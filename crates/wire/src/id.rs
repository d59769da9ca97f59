//! Lists of ids as they stand in one path segment: `1`, `1,2`.

use std::str::FromStr;

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

#[cfg(test)]
mod tests {
    use super::*;

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
