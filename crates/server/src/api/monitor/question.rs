//! Reading a question about the history from a query string, in both of OCP's spellings.

use obfleet_fleet::monitor::query::{Query, is_label};
use obfleet_wire::{metric::Metric, time::Timestamp};

use crate::{
    auth::granted::Scope,
    http::{ApiError, ApiResult, ListQuery, Wanted},
};

const SECOND: i64 = 1000;
/// Between two values, when the client does not say: a minute.
const USUAL_STEP: u64 = 60;
/// Proxies are not measured more often.
const LEAST_STEP: u64 = 15;
const MOST_POINTS: u64 = 1440;
/// OCP answers for no longer time, either.
const MOST_DAYS: i64 = 15;
const DAY: i64 = 24 * 3600 * SECOND;

/// The question, about what is within the scope.
///
/// # Errors
/// 400 with the parameter that is wrong.
pub fn read(query: &ListQuery, scope: &Scope, now: Timestamp) -> ApiResult<Query> {
    let (from, from_name) = time(query, "startTime", "start_time")?;
    let from = from.ok_or_else(|| ApiError::value("startTime", "", Wanted::Time))?;
    let (to, _) = time(query, "endTime", "end_time")?;
    let to = to.unwrap_or(now.millis());
    // A question from now on is one about nothing yet, which who asks again and again begins with.
    if from > to {
        let given = query.text(from_name).unwrap_or_default();
        return Err(ApiError::value(from_name, given, Wanted::NotAfter("endTime")));
    }
    if to - from > MOST_DAYS * DAY {
        let given = query.text(from_name).unwrap_or_default();
        return Err(ApiError::value(from_name, given, Wanted::WithinDays(MOST_DAYS)));
    }
    let most = query.number("maxPoints", 0..=MOST_POINTS)?.filter(|most| *most > 0);
    let most = i64::try_from(most.unwrap_or(MOST_POINTS)).unwrap_or(1);
    let seconds = 0..=u64::try_from(MOST_DAYS * DAY / SECOND).unwrap_or(u64::MAX);
    let interval = query.number("interval", seconds.clone())?.filter(|step| *step > 0);
    let least = query.number("minStep", seconds)?.unwrap_or(0);
    let step = interval.unwrap_or(USUAL_STEP).max(least).max(LEAST_STEP);
    let step = i64::try_from(step).unwrap_or(i64::MAX / SECOND) * SECOND;
    // Whole seconds, since that is how times are told.
    let points = most * SECOND;
    let needed = (to - from + points - 1) / points * SECOND;
    Ok(Query {
        from,
        to,
        step: step.max(needed),
        metrics: metrics(query)?,
        group_by: group_by(query)?,
        only: only(query)?,
        clusters: scope.clusters().cloned(),
    })
}

/// A time, and the name it was given by.
fn time(query: &ListQuery, name: &'static str, other: &'static str) -> ApiResult<(Option<i64>, &'static str)> {
    let name = if query.text(name).is_some() { name } else { other };
    let Some(text) = query.text(name) else {
        return Ok((None, name));
    };
    // A plus that was not escaped has become a space.
    let time: Timestamp = text
        .replace(' ', "+")
        .parse()
        .map_err(|_| ApiError::value(name, text, Wanted::Time))?;
    Ok((Some(time.millis()), name))
}

fn metrics(query: &ListQuery) -> ApiResult<Vec<&'static Metric>> {
    let names = query.texts("metrics");
    let metric = |name: &&str| Metric::named(name).ok_or_else(|| ApiError::value("metrics", name, Wanted::Metric));
    if names.is_empty() {
        return Err(ApiError::value("metrics", "", Wanted::Metric));
    }
    names.iter().map(metric).collect()
}

fn group_by(query: &ListQuery) -> ApiResult<Vec<String>> {
    let label = |name: &str| match is_label(name) {
        true => Ok(name.to_owned()),
        false => Err(ApiError::value("groupBy", name, Wanted::Label)),
    };
    query.texts("groupBy").into_iter().map(label).collect()
}

/// `label:value` pairs. `app` has one value here, which OCP and its clients spell in several ways.
fn only(query: &ListQuery) -> ApiResult<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    for text in query.texts("labels") {
        match text.split_once(':') {
            Some(("app", _)) => {}
            Some((name, value)) if is_label(name) => pairs.push((name.to_owned(), value.to_owned())),
            _ => return Err(ApiError::value("labels", text, Wanted::Labels)),
        }
    }
    Ok(pairs)
}
