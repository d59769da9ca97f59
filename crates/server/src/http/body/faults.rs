//! All that is wrong with a body at once. Reading it stops at the first fault; so a body that was not read is held against the
//! schema of its type, which is the type's own word ([`shape`]): who filled in a form wants to know of every field.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Expected, Fault};
use crate::openapi::shape;

/// Faults that are told; a body of nothing else has thousands.
const MOST: usize = 20;
const COMPONENT: &str = "#/components/schemas/";

/// What is wrong with a body beside the field that reading it stopped at.
pub fn besides<T: DeserializeOwned>(bytes: &[u8], field: &str) -> Vec<Fault> {
    let Ok(body) = serde_json::from_slice::<Value>(bytes) else {
        return Vec::new();
    };
    let mut look = Look::default();
    let Ok(schema) = shape::schema::<T>(&mut look.components) else {
        return Vec::new();
    };
    let components = std::mem::take(&mut look.components);
    look.at("", &schema, &body, &components);
    look.found.retain(|fault| fault.field() != Some(field));
    look.found
}

#[derive(Default)]
struct Look {
    components: Map<String, Value>,
    found: Vec<Fault>,
}

impl Look {
    fn at(&mut self, path: &str, schema: &Value, given: &Value, components: &Map<String, Value>) {
        if self.found.len() >= MOST {
            return;
        }
        let schema = match schema["$ref"].as_str().and_then(|name| name.strip_prefix(COMPONENT)) {
            Some(name) => &components[name],
            None => schema,
        };
        // What may be null, and is not.
        let schema = match schema["anyOf"].get(0) {
            Some(_) if given.is_null() => return,
            Some(other) => return self.at(path, other, given, components),
            None => schema,
        };
        let kind = match &schema["type"] {
            Value::Array(kinds) if given.is_null() && kinds.iter().any(|kind| kind == "null") => return,
            Value::Array(kinds) => kinds.first().and_then(Value::as_str),
            kind => kind.as_str(),
        };
        let expected = match (kind, given) {
            (Some("object"), Value::Object(members)) => return self.object(path, schema, members, components),
            (Some("array"), Value::Array(entries)) => {
                for (n, entry) in entries.iter().enumerate() {
                    self.at(&format!("{path}[{n}]"), &schema["items"], entry, components);
                }
                return;
            }
            (Some("string"), Value::String(text)) => match schema["enum"].as_array() {
                Some(words) if !words.iter().any(|word| word == text) => {
                    let words = words.iter().filter_map(|word| Some(word.as_str()?.to_owned()));
                    Expected::OneOf(words.collect())
                }
                _ => return,
            },
            (Some("integer"), Value::Number(number)) if number.is_i64() || number.is_u64() => {
                let (least, most) = (schema["minimum"].as_i64(), schema["maximum"].as_i64());
                let number = number.as_i64().unwrap_or(i64::MAX);
                let outside = least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most);
                match outside {
                    true => Expected::Integer(
                        least.unwrap_or(i64::MIN).into(),
                        most.map_or(u64::MAX.into(), i128::from),
                    ),
                    false => return,
                }
            }
            (Some("number"), Value::Number(_)) | (Some("boolean"), Value::Bool(_)) | (None, _) => return,
            (Some("object"), _) => Expected::Object,
            (Some("array"), _) => Expected::List,
            (Some("boolean"), _) => Expected::Bool,
            (Some("string"), _) if schema["enum"].is_null() => Expected::Text,
            _ => Expected::Other,
        };
        let member = if path.is_empty() { "body" } else { path };
        self.found.push(Fault::WrongMember {
            member: member.to_owned(),
            expected,
        });
    }

    fn object(&mut self, path: &str, schema: &Value, members: &Map<String, Value>, components: &Map<String, Value>) {
        let below = |name: &str| match path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        for (name, given) in members {
            match schema["properties"].get(name) {
                Some(member) => self.at(&below(name), member, given, components),
                None if schema["additionalProperties"] == false => self.found.push(Fault::UnknownMember(below(name))),
                None if schema["additionalProperties"].is_object() => {
                    self.at(&below(name), &schema["additionalProperties"], given, components);
                }
                None => {}
            }
        }
        // Another spelling may stand for one that is missing.
        let spelt = |name: &String| schema["properties"][name]["deprecated"] == true;
        if !members.keys().any(spelt) {
            let required = schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            for name in required.filter(|name| !members.contains_key(*name)) {
                self.found.push(Fault::MissingMember(below(name)));
            }
        }
        self.found.truncate(MOST);
    }
}

#[cfg(test)]
mod tests {
    use obfleet_wire::{iam::NewUser, obproxy::CreateObproxyCluster};

    use super::*;

    fn fields<T: DeserializeOwned>(body: &str, but: &str) -> Vec<String> {
        let faults = besides::<T>(body.as_bytes(), but);
        faults.iter().map(|fault| fault.field().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_field_is_named() {
        let body =
            r#"{"port":"x","workMode":"NONE","colour":1,"obproxyInstallParam":{"hostIds":[1,"x"],"sqlPort":70000}}"#;
        let expected = [
            "obproxyInstallParam.hostIds[1]",
            "obproxyInstallParam.sqlPort",
            "port",
            "workMode",
            "name",
        ];
        let mut found = fields::<CreateObproxyCluster>(body, "colour");
        found.sort();
        let mut expected = expected.map(str::to_owned).to_vec();
        expected.sort();
        assert_eq!(found, expected);
        assert_eq!(
            fields::<NewUser>(r#"{"roles":[{}],"password":1}"#, "name"),
            ["password", "roles[0].name"]
        );
    }

    #[test]
    fn a_good_body_has_no_faults_and_a_bad_one_not_too_many() {
        let good = r#"{"name":"a","port":null,"obproxyInstallParam":{"hostIds":[],"exportPort":2884}}"#;
        assert!(fields::<CreateObproxyCluster>(good, "").is_empty());
        let many = format!(
            "{{{}}}",
            (0..100).map(|n| format!("\"m{n}\":1")).collect::<Vec<_>>().join(",")
        );
        assert_eq!(fields::<CreateObproxyCluster>(&many, "m0").len(), MOST - 1);
        assert!(fields::<CreateObproxyCluster>("[", "").is_empty());
    }
}
