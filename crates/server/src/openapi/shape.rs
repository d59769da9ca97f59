//! The JSON schema of a type, as its own deserialiser tells it: which members it reads, as what, which of them it can do
//! without, and whether it refuses others. So the document says what the server does, and nothing is declared twice.
//!
//! A deserialiser that answers every question with a sample is asked again and again: once with everything, then once for
//! each member without it, and once for each object with a member that nobody knows.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use obfleet_wire::id::{FEW, MOST_IDS};
use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, IntoDeserializer as _, MapAccess, SeqAccess, Visitor,
        value::{Error, StrDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Map, Value, json};

/// Texts a member may want: the first that it takes is given.
const TEXTS: &[&str] = &[
    "text",
    "1",
    "4.2.1.0-11",
    "obproxy-ce-4.2.1.0-11",
    "2026-01-01T00:00:00+08:00",
    "127.0.0.1",
    "127.0.0.1:2881",
];
const NUMBERS: &[u8] = &[1, 0, 100];
/// Samples of what reads anything: nothing, a text, an empty list, an empty object.
const ANYTHINGS: usize = 4;
/// Objects within objects; deeper ones are of types that hold themselves.
const DEEPEST: usize = 12;
const UNKNOWN: &str = "x-unknown";

/// What is known of one object.
#[derive(Debug, Clone, Default, PartialEq)]
struct Object {
    members: BTreeMap<&'static str, Value>,
    optional: BTreeSet<&'static str>,
    strict: bool,
}

/// What was learnt, and what the present run tries.
#[derive(Debug, Default)]
struct Notes {
    objects: BTreeMap<&'static str, Object>,
    /// Which sample is next for what is at this path.
    samples: BTreeMap<String, usize>,
    /// What was given a sample last.
    last: String,
    /// The member that was asked for last, and its object.
    member: Option<(&'static str, &'static str)>,
    /// Other spellings of members, which are not given beside them: object, spelling → member.
    spellings: BTreeMap<(&'static str, &'static str), String>,
    /// Given before the other members of their object.
    first: BTreeSet<(&'static str, String)>,
    /// Entries that are not given, by their paths.
    empty: BTreeSet<String>,
    /// Left out in this run.
    without: Option<(&'static str, &'static str)>,
    /// Given one more member in this run.
    with_unknown: Option<&'static str>,
}

/// The schema of `T`; objects are put into `components` by their names and referred to.
///
/// # Errors
/// When its deserialiser takes none of the samples.
pub fn schema<T: for<'de> Deserialize<'de>>(components: &mut Map<String, Value>) -> Result<Value, String> {
    let notes = RefCell::new(Notes::default());
    let kind = std::any::type_name::<T>();
    let root = loop {
        let seen = RefCell::new(json!({}));
        let error = match T::deserialize(Probe::root(&notes, &seen)) {
            Ok(_) => break seen.into_inner(),
            Err(error) => error,
        };
        let mut notes = notes.borrow_mut();
        if notes.spelt_otherwise(&error.to_string()) {
            continue;
        }
        let last = notes.last.clone();
        let next = notes.samples.entry(last.clone()).or_default();
        *next += 1;
        if *next > 2 * TEXTS.len() {
            // A list of what takes none of the samples is left empty: its entries may be anything.
            if last.ends_with("/0") && notes.empty.insert(last.clone()) {
                continue;
            }
            return Err(format!("{kind} at {last:?}: {error}"));
        }
    };
    let run = |without, with_unknown| {
        let (mut given, seen) = (notes.borrow_mut(), RefCell::new(json!({})));
        (given.without, given.with_unknown) = (without, with_unknown);
        drop(given);
        T::deserialize(Probe::root(&notes, &seen)).is_ok()
    };
    let mut objects = notes.borrow().objects.clone();
    for (name, object) in &mut objects {
        let dispensable = |member: &&&'static str| run(Some((*name, **member)), None);
        object.optional = object.members.keys().filter(dispensable).copied().collect();
        object.strict = !run(None, Some(*name));
    }
    for ((object, spelling), member) in std::mem::take(&mut notes.borrow_mut().spellings) {
        let members = objects
            .get_mut(object)
            .map(|object| (&mut object.members, &mut object.optional));
        if let Some((members, optional)) = members
            && let Some(schema) = members.get(member.as_str())
        {
            let mut schema = schema.clone();
            schema["deprecated"] = json!(true);
            members.insert(spelling, schema);
            optional.insert(spelling);
        }
    }
    for (name, object) in objects {
        components.insert(name.to_owned(), object.schema());
    }
    Ok(root)
}

impl Notes {
    /// Learns from a refusal that two members are one, and says whether it did.
    fn spelt_otherwise(&mut self, error: &str) -> bool {
        let Some(member) = error
            .strip_prefix("duplicate field `")
            .and_then(|rest| rest.strip_suffix('`'))
        else {
            return false;
        };
        let Some((object, last)) = self.member else {
            return false;
        };
        if last == member {
            // It came after its other spelling, of which nothing is told.
            self.first.insert((object, member.to_owned()))
        } else {
            self.spellings.insert((object, last), member.to_owned()).is_none()
        }
    }
}

impl Object {
    fn schema(self) -> Value {
        let required: Vec<_> = self
            .members
            .keys()
            .filter(|name| !self.optional.contains(*name))
            .collect();
        let mut schema = json!({"type": "object"});
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if self.strict {
            schema["additionalProperties"] = json!(false);
        }
        schema["properties"] = json!(self.members);
        schema
    }
}

/// A deserialiser of a sample, which notes what it is asked for.
struct Probe<'n> {
    notes: &'n RefCell<Notes>,
    path: String,
    depth: usize,
    schema: &'n RefCell<Value>,
}

impl<'n> Probe<'n> {
    fn root(notes: &'n RefCell<Notes>, schema: &'n RefCell<Value>) -> Self {
        let path = String::new();
        Self {
            notes,
            path,
            depth: 0,
            schema,
        }
    }

    fn below<'m>(&'m self, part: &str, schema: &'m RefCell<Value>) -> Probe<'m> {
        Probe {
            notes: self.notes,
            path: format!("{}/{part}", self.path),
            depth: self.depth + 1,
            schema,
        }
    }

    fn say(&self, schema: Value) {
        *self.schema.borrow_mut() = schema;
    }

    /// The number of the sample to give.
    fn sample(&self, of: usize) -> usize {
        let mut notes = self.notes.borrow_mut();
        notes.last.clone_from(&self.path);
        notes.samples.get(&self.path).copied().unwrap_or_default() % of
    }

    fn number(&self) -> u8 {
        NUMBERS[self.sample(NUMBERS.len())]
    }
}

macro_rules! scalars {
    ($($method:ident => $schema:tt $visit:ident($value:expr);)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
                self.say(json!($schema));
                visitor.$visit(($value)(&self))
            }
        )*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    scalars! {
        deserialize_bool => {"type": "boolean"} visit_bool(|_: &Self| true);
        deserialize_i8 => {"type": "integer"} visit_i8(|probe: &Self| i8::try_from(probe.number()).unwrap_or(1));
        deserialize_i16 => {"type": "integer"} visit_i16(|probe: &Self| i16::from(probe.number()));
        deserialize_i32 => {"type": "integer", "format": "int32"} visit_i32(|probe: &Self| i32::from(probe.number()));
        deserialize_i64 => {"type": "integer", "format": "int64"} visit_i64(|probe: &Self| i64::from(probe.number()));
        deserialize_u8 => {"type": "integer", "minimum": 0, "maximum": 255} visit_u8(|probe: &Self| probe.number());
        deserialize_u16 => {"type": "integer", "minimum": 0, "maximum": 65535} visit_u16(|probe: &Self| u16::from(probe.number()));
        deserialize_u32 => {"type": "integer", "minimum": 0} visit_u32(|probe: &Self| u32::from(probe.number()));
        deserialize_u64 => {"type": "integer", "minimum": 0} visit_u64(|probe: &Self| u64::from(probe.number()));
        deserialize_f32 => {"type": "number"} visit_f32(|probe: &Self| f32::from(probe.number()));
        deserialize_f64 => {"type": "number"} visit_f64(|probe: &Self| f64::from(probe.number()));
        deserialize_str => {"type": "string"} visit_str(|probe: &Self| TEXTS[probe.sample(TEXTS.len())]);
        deserialize_string => {"type": "string"} visit_str(|probe: &Self| TEXTS[probe.sample(TEXTS.len())]);
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.say(json!({}));
        match self.sample(ANYTHINGS) {
            0 => visitor.visit_unit(),
            1 => visitor.visit_str(TEXTS[0]),
            2 => visitor.visit_seq(serde::de::value::SeqDeserializer::<_, Error>::new(
                std::iter::empty::<u8>(),
            )),
            _ => visitor.visit_map(serde::de::value::MapDeserializer::<_, Error>::new(std::iter::empty::<(
                &str,
                u8,
            )>())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.depth > DEEPEST {
            return visitor.visit_none();
        }
        let inner = RefCell::new(json!({}));
        let value = visitor.visit_some(self.below("?", &inner))?;
        let inner = inner.into_inner();
        self.say(match inner.get("type").cloned() {
            Some(Value::String(kind)) if inner.get("enum").is_none() => {
                let mut inner = inner;
                inner["type"] = json!([kind, "null"]);
                inner
            }
            _ if inner == json!({}) => inner,
            _ => json!({"anyOf": [inner, {"type": "null"}]}),
        });
        Ok(value)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name.starts_with("$serde_json::") {
            // JSON that is kept as it came: it asks for its text under its own name.
            self.say(json!({}));
            let text = std::iter::once((name, "1"));
            return visitor.visit_map(serde::de::value::MapDeserializer::<_, Error>::new(text));
        }
        let schema = self.schema;
        let value = visitor.visit_newtype_struct(self)?;
        if name == FEW {
            schema.borrow_mut()["maxItems"] = json!(MOST_IDS);
        }
        Ok(value)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let inner = RefCell::new(json!({}));
        let one = One {
            probe: &self,
            inner: &inner,
            left: usize::from(self.depth <= DEEPEST),
        };
        let value = visitor.visit_seq(one)?;
        self.say(json!({"type": "array", "items": inner.into_inner()}));
        Ok(value)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let inner = RefCell::new(json!({}));
        let one = Members {
            probe: &self,
            names: vec!["1"],
            inner: &inner,
            object: None,
        };
        let value = visitor.visit_map(one)?;
        self.say(json!({"type": "object", "additionalProperties": inner.into_inner()}));
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.say(json!({"$ref": format!("#/components/schemas/{name}")}));
        let inner = RefCell::new(json!({}));
        let notes = self.notes.borrow();
        let mut names: Vec<_> = fields.iter().rev().copied().collect();
        names
            .retain(|member| notes.without != Some((name, *member)) && !notes.spellings.contains_key(&(name, *member)));
        // The last is given first.
        names.sort_by_key(|member| notes.first.contains(&(name, (*member).to_owned())));
        if notes.with_unknown == Some(name) {
            names.push(UNKNOWN);
        }
        drop(notes);
        visitor.visit_map(Members {
            probe: &self,
            names,
            inner: &inner,
            object: Some(name),
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.say(json!({"type": "string", "enum": variants}));
        let variant: StrDeserializer<'_, Error> = variants[self.sample(variants.len())].into_deserializer();
        visitor.visit_enum(variant)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

/// A list of one.
struct One<'a, 'n> {
    probe: &'a Probe<'n>,
    inner: &'a RefCell<Value>,
    left: usize,
}

impl<'de> SeqAccess<'de> for One<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        if self
            .probe
            .notes
            .borrow()
            .empty
            .contains(&format!("{}/0", self.probe.path))
        {
            *self.inner.borrow_mut() = json!({});
            return Ok(None);
        }
        seed.deserialize(self.probe.below("0", self.inner)).map(Some)
    }
}

/// The members of an object, last first.
struct Members<'a, 'n> {
    probe: &'a Probe<'n>,
    names: Vec<&'static str>,
    inner: &'a RefCell<Value>,
    /// Its name; a map has none.
    object: Option<&'static str>,
}

impl<'de> MapAccess<'de> for Members<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(name) = self.names.last() else {
            return Ok(None);
        };
        if let Some(object) = self.object {
            self.probe.notes.borrow_mut().member = Some((object, name));
        }
        let name: StrDeserializer<'_, Error> = (*name).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let name = self.names.pop().unwrap_or(UNKNOWN);
        *self.inner.borrow_mut() = json!({});
        let value = seed.deserialize(self.probe.below(name, self.inner))?;
        if let Some(object) = self.object
            && name != UNKNOWN
        {
            let mut notes = self.probe.notes.borrow_mut();
            let members = &mut notes.objects.entry(object).or_default().members;
            members.insert(name, self.inner.borrow().clone());
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(dead_code, reason = "only its shape counts")]
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Outer {
        first_name: String,
        age: Option<u16>,
        #[serde(default, alias = "aKinds", alias = "sort")]
        kinds: Vec<Kind>,
        inner: BTreeMap<String, Inner>,
        #[serde(deserialize_with = "obfleet_wire::id::few")]
        ids: Vec<i64>,
        #[serde(default, deserialize_with = "obfleet_wire::id::few_or_none")]
        others: Option<Vec<i64>>,
    }

    #[expect(dead_code, reason = "only its shape counts")]
    #[derive(Deserialize)]
    struct Inner {
        at: obfleet_wire::time::Timestamp,
        any: Value,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "UPPERCASE")]
    enum Kind {
        Good,
        Bad,
    }

    #[test]
    fn a_deserialiser_tells_members_needs_and_strictness() {
        let _ = (Kind::Good, Kind::Bad);
        let mut components = Map::new();
        let root = schema::<Vec<Outer>>(&mut components).unwrap();
        assert_eq!(
            root,
            json!({"type": "array", "items": {"$ref": "#/components/schemas/Outer"}})
        );
        assert_eq!(
            components["Outer"],
            json!({
                "type": "object",
                "additionalProperties": false,
                "required": ["firstName", "ids", "inner"],
                "properties": {
                    "firstName": {"type": "string"},
                    "age": {"type": ["integer", "null"], "minimum": 0, "maximum": 65535},
                    "aKinds": {"type": "array", "items": {"type": "string", "enum": ["GOOD", "BAD"]}, "deprecated": true},
                    "kinds": {"type": "array", "items": {"type": "string", "enum": ["GOOD", "BAD"]}},
                    "sort": {"type": "array", "items": {"type": "string", "enum": ["GOOD", "BAD"]}, "deprecated": true},
                    "ids": {"type": "array", "items": {"type": "integer", "format": "int64"}, "maxItems": MOST_IDS},
                    "others": {"type": ["array", "null"], "items": {"type": "integer", "format": "int64"}, "maxItems": MOST_IDS},
                    "inner": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Inner"}},
                },
            })
        );
        assert_eq!(components["Inner"]["required"], json!(["any", "at"]));
        assert_eq!(components["Inner"].get("additionalProperties"), None);
        assert_eq!(components["Inner"]["properties"]["at"], json!({"type": "string"}));
    }
}
