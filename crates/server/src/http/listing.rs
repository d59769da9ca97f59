//! Lists: filters, order and paging as OCP's clients ask for them (`page` from 1, `size`, `sort=member,asc|desc`,
//! several values of a filter with commas between them).

use std::{cmp::Ordering, ops::RangeInclusive};

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use obfleet_wire::envelope::Paged;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{error::ApiError, fault::Wanted};

/// Entries of a page when the client does not say.
const DEFAULT_SIZE: u64 = 10;
/// Entries of a page at most; OCP's own limit.
const MAX_SIZE: u64 = 2000;

/// An entry of a list.
#[derive(Debug)]
pub struct Entry<T>(Shape<T>);

#[derive(Debug)]
enum Shape<T> {
    AsItIs(T),
    /// A `T` in JSON: a list is sorted by any of its members.
    Sorted(Value),
}

impl<T: Serialize> Serialize for Entry<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Shape::AsItIs(entry) => entry.serialize(serializer),
            Shape::Sorted(json) => json.serialize(serializer),
        }
    }
}

/// Reads a `T`, so that what is made from deserialisers tells one.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entry<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|entry| Self(Shape::AsItIs(entry)))
    }
}

/// The query of a list.
#[derive(Debug, Default)]
pub struct ListQuery(Vec<(String, String)>);

impl ListQuery {
    /// The first value of a parameter; an empty one counts as absent.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// All values of a parameter, given with commas or by repeating it.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        let given = self.0.iter().filter(|(key, _)| key == name);
        given
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .collect()
    }

    /// Whether `value` is among the values of a parameter, or there are none.
    pub fn admits(&self, name: &str, value: &str) -> bool {
        let wanted = self.texts(name);
        wanted.is_empty() || wanted.contains(&value)
    }

    /// Whether one of `values` contains the parameter's text, whatever the case, or there is none.
    pub fn mentions(&self, name: &str, values: &[&str]) -> bool {
        let Some(text) = self.text(name).map(str::to_lowercase) else {
            return true;
        };
        values.iter().any(|value| value.to_lowercase().contains(&text))
    }

    /// A parameter that is an id.
    pub fn id(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let id = |text: &str| {
            text.parse()
                .ok()
                .filter(|id: &i64| *id > 0)
                .ok_or_else(|| ApiError::value(name, text, Wanted::Id))
        };
        self.text(name).map(id).transpose()
    }

    /// A parameter that is an integer of this range.
    pub fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, ApiError> {
        let number = |text: &str| {
            let number = text.parse().ok().filter(|number| range.contains(number));
            number.ok_or_else(|| ApiError::value(name, text, Wanted::Between(*range.start(), *range.end())))
        };
        self.text(name).map(number).transpose()
    }

    fn up_to(&self, name: &str, most: u64, default: u64) -> Result<u64, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(default);
        };
        let number = text.parse().ok().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| ApiError::value(name, text, Wanted::UpTo(most)))
    }

    /// Page number, from 1, and size.
    pub fn paging(&self) -> Result<(u64, u64), ApiError> {
        let number = self.up_to("page", u64::from(u32::MAX), 1)?;
        Ok((number, self.up_to("size", MAX_SIZE, DEFAULT_SIZE)?))
    }

    /// Sorts the entries by the member the client names and cuts its page out of them.
    pub fn page<T: Serialize>(&self, entries: Vec<T>) -> Result<Paged<Entry<T>>, ApiError> {
        self.page_of(entries, |entry| entry)
    }

    /// The same of things that become entries by `show`. Unless they have to be sorted, only those of the page do.
    pub fn page_of<T, E: Serialize>(&self, things: Vec<T>, show: impl Fn(T) -> E) -> Result<Paged<Entry<E>>, ApiError> {
        let (number, size) = self.paging()?;
        let Some(sort) = self.text("sort") else {
            let page = Paged::cut(things, number, size);
            return Ok(page.map(|thing| Entry(Shape::AsItIs(show(thing)))));
        };
        let entries = things.into_iter().map(|thing| serde_json::to_value(show(thing)));
        let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(ApiError::internal)?;
        self.sort(sort, &mut entries)?;
        Ok(Paged::cut(entries, number, size).map(|entry| Entry(Shape::Sorted(entry))))
    }

    fn sort(&self, sort: &str, entries: &mut [Value]) -> Result<(), ApiError> {
        let wrong = || ApiError::value("sort", sort, Wanted::Sort);
        let (member, direction) = sort.split_once(',').unwrap_or((sort, "asc"));
        let descending = match direction.to_ascii_lowercase().as_str() {
            "asc" => false,
            "desc" => true,
            _ => return Err(wrong()),
        };
        if !entries.is_empty() && entries.iter().all(|entry| entry.get(member).is_none()) {
            return Err(wrong());
        }
        entries.sort_by(|a, b| {
            let order = compare(&a[member], &b[member]);
            if descending { order.reverse() } else { order }
        });
        Ok(())
    }
}

/// Numbers by value, texts by code point, everything else of a kind as equal; what is absent or null comes first. An order of
/// all values: sorting by anything less panics.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        _ => kind(a).cmp(&kind(b)),
    }
}

/// Where values of this kind are among the others.
fn kind(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) | Value::Object(_) => 4,
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ListQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let query = query.map_err(|_| ApiError::value("query", parts.uri.query().unwrap_or_default(), Wanted::Utf8))?;
        Ok(Self(query.0))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn query(pairs: &[(&str, &str)]) -> ListQuery {
        ListQuery(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn pages_count_from_one() {
        let entries: Vec<Value> = (1..=25)
            .map(|id| json!({"id": id, "name": format!("n{id:02}")}))
            .collect();
        let first = query(&[]).page(entries.clone()).unwrap();
        assert_eq!(
            (first.contents.len(), first.page.total_pages, first.page.total_elements),
            (10, 3, 25)
        );
        let last = query(&[("page", "3"), ("sort", "id,desc")])
            .page(entries.clone())
            .unwrap();
        assert_eq!(
            serde_json::to_value(&last.contents)
                .unwrap()
                .as_array()
                .unwrap()
                .iter()
                .map(|entry| entry["id"].as_i64().unwrap())
                .collect::<Vec<_>>(),
            [5, 4, 3, 2, 1]
        );
        let beyond = query(&[("page", "9"), ("size", "2000"), ("sort", "name")])
            .page(entries.clone())
            .unwrap();
        assert!(beyond.contents.is_empty());
        for wrong in [
            ("page", "0"),
            ("page", "x"),
            ("size", "0"),
            ("size", "2001"),
            ("sort", "nothing"),
            ("sort", "id,up"),
        ] {
            assert!(query(&[wrong]).page(entries.clone()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn filters_take_commas_and_repetition() {
        let query = query(&[
            ("status", "RUNNING,FAILED"),
            ("status", "X"),
            ("keyword", "ProXy"),
            ("empty", ""),
        ]);
        assert_eq!(query.texts("status"), ["RUNNING", "FAILED", "X"]);
        assert!(query.admits("status", "FAILED") && !query.admits("status", "PENDING"));
        assert!(query.admits("empty", "anything"));
        assert!(query.mentions("keyword", &["a", "obproxy-ce"]) && !query.mentions("keyword", &["a"]));
    }

    #[test]
    fn what_is_null_or_absent_comes_first_however_many_there_are() {
        let entries: Vec<Value> = (0..60_u32)
            .map(|id| match id % 3 {
                0 => json!({"id": id}),
                1 => json!({"id": id, "name": null}),
                _ => json!({"id": id, "name": format!("n{:02}", id * 7 % 60)}),
            })
            .collect();
        let named = |sort| {
            let page = query(&[("size", "60"), ("sort", sort)]).page(entries.clone()).unwrap();
            let page = serde_json::to_value(&page.contents).unwrap();
            let names = page.as_array().unwrap().iter();
            names
                .map(|entry| entry["name"].as_str().map(str::to_owned))
                .collect::<Vec<_>>()
        };
        let ascending = named("name");
        assert!(
            ascending.is_sorted() && ascending[..40].iter().all(Option::is_none),
            "{ascending:?}"
        );
        assert!(named("name,desc").into_iter().rev().is_sorted());
    }
}
