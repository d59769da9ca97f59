//! Whether the members of an answer are in alphabetical order, as they are in OCP's, however deep.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Every member of `text`, a JSON document, that comes after one with a later name.
pub fn unsorted(text: &str) -> Vec<String> {
    let Found(found) = serde_json::from_str(text).unwrap();
    found
}

struct Found(Vec<String>);

impl<'de> Deserialize<'de> for Found {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let (mut found, mut last) = (Vec::new(), String::new());
        while let Some((name, Found(inside))) = map.next_entry::<String, Found>()? {
            if name < last {
                found.push(format!("{name} after {last}"));
            }
            found.extend(inside);
            last = name;
        }
        Ok(Found(found))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Found, A::Error> {
        let mut found = Vec::new();
        while let Some(Found(inside)) = seq.next_element()? {
            found.extend(inside);
        }
        Ok(Found(found))
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(Found(Vec::new()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
        Ok(Found(Vec::new()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Found, E> {
        Ok(Found(Vec::new()))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Found, E> {
        Ok(Found(Vec::new()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found, E> {
        Ok(Found(Vec::new()))
    }

    fn visit_str<E>(self, _: &str) -> Result<Found, E> {
        Ok(Found(Vec::new()))
    }
}

#[test]
fn what_is_out_of_order_is_told() {
    assert_eq!(unsorted(r#"{"a":[{"b":1,"c":null}],"d":{"e":true}}"#), [""; 0]);
    assert_eq!(
        unsorted(r#"[{"d":[{"c":1.5,"b":"x"}],"a":-1}]"#),
        ["b after c", "a after d"]
    );
}
