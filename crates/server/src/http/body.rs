//! JSON bodies: bounded, strict, and with errors that name the member, or all of them ([`faults`]).

mod faults;

use std::time::Duration;

use axum::{
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
};
use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::{
    error::ApiError,
    fault::{Expected, Fault},
};

/// Bytes a JSON body may have: several thousand host ids, or a page of parameters.
pub const LIMIT: usize = 1 << 20;
/// Room for the multipart borders and the other parts around a file of the largest size.
pub const MULTIPART_ROOM: u64 = 64 * 1024;
/// Time between two chunks of an upload.
pub const CHUNK_PATIENCE: Duration = Duration::from_secs(30);
/// Time a JSON body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
const JSON: &str = "application/json";

/// A JSON body that has to be there.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// A JSON body that may be left out: then `T::default()`. `Content-Type` may be left out too.
#[derive(Debug)]
pub struct OptionalJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()).unwrap_or(false) {
            return Err(ApiError::fault(Fault::ContentType(JSON)));
        }
        let bytes = read(request, state).await?;
        parse(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let json = is_json(request.headers()).unwrap_or(true);
        let bytes = read(request, state).await?;
        if bytes.trim_ascii().is_empty() {
            return Ok(Self(T::default()));
        }
        if !json {
            return Err(ApiError::fault(Fault::ContentType(JSON)));
        }
        let body: Option<T> = parse(&bytes)?;
        Ok(Self(body.unwrap_or_default()))
    }
}

/// Whether a body is JSON by its `Content-Type`; `None` when there is none.
pub fn is_json(headers: &HeaderMap) -> Option<bool> {
    let value = headers.get(CONTENT_TYPE)?;
    let essence = value
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    Some(essence.eq_ignore_ascii_case(JSON) || essence.to_ascii_lowercase().ends_with("+json"))
}

/// A whole body. The router's body limit is [`LIMIT`]; beyond it axum refuses the body with 413.
///
/// # Errors
/// 413; 400 when it does not arrive in time.
pub async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    let read = tokio::time::timeout(PATIENCE, Bytes::from_request(request, state)).await;
    let read = read.map_err(|_| ApiError::fault(Fault::BodyBroken))?;
    read.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::fault(Fault::TooLarge(LIMIT as u64)),
        _ => ApiError::fault(Fault::BodyBroken),
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.inner());
        // To the parser an object in the place of a word is no JSON, where that begins otherwise than it wants.
        let is_json = !error.is_data() && serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
        let first = match is_json && path != "." {
            true => Fault::WrongMember {
                member: path,
                expected: Expected::Other,
            },
            false => fault(&path, error),
        };
        let others = match first.field() {
            Some(field) => faults::besides::<T>(bytes, field),
            None => Vec::new(),
        };
        ApiError::fault(first).and(others)
    })?;
    json.end().map_err(|error| ApiError::fault(not_json(&error)))?;
    Ok(value)
}

fn not_json(error: &serde_json::Error) -> Fault {
    Fault::NotJson {
        line: error.line(),
        column: error.column(),
        cut_short: error.is_eof(),
    }
}

/// Tells what the parser found apart. Its messages are the only place that has the names of unknown and missing members,
/// and what was expected. What was given may be a password in the wrong place, so it is not told.
fn fault(path: &str, error: &serde_json::Error) -> Fault {
    if !error.is_data() {
        return not_json(error);
    }
    let reason = error.to_string();
    let quoted = |prefix: &str| Some(reason.strip_prefix(prefix)?.split('`').next()?.to_owned());
    let parent = if path == "." { "" } else { path };
    let below = |name: String| match parent {
        "" => name,
        _ if parent == name || parent.ends_with(&format!(".{name}")) => parent.to_owned(),
        _ => format!("{parent}.{name}"),
    };
    if let Some(name) = quoted("unknown field `") {
        return Fault::UnknownMember(below(name));
    }
    if let Some(name) = quoted("missing field `") {
        return Fault::MissingMember(below(name));
    }
    if let Some(name) = quoted("duplicate field `") {
        return Fault::RepeatedMember(below(name));
    }
    let member = if parent.is_empty() { "body" } else { parent };
    Fault::WrongMember {
        member: member.to_owned(),
        expected: expected(&reason),
    }
}

/// Reads `…, expected u16 at line 1 column 8`.
fn expected(reason: &str) -> Expected {
    // What was given comes before it, and may hold anything.
    let Some((_, expected)) = reason.rsplit_once(", expected ") else {
        return Expected::Other;
    };
    let expected = expected
        .rsplit_once(" at line ")
        .map_or(expected, |(expected, _)| expected);
    let words: Vec<String> = expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    match expected {
        _ if !words.is_empty() => Expected::OneOf(words),
        "a string" | "a borrowed string" | "string" => Expected::Text,
        "a boolean" => Expected::Bool,
        "a sequence" => Expected::List,
        "a map" => Expected::Object,
        _ if expected.starts_with("at most ") => {
            let most = expected.split(' ').nth(2).and_then(|most| most.parse().ok());
            most.map_or(Expected::List, Expected::AtMost)
        }
        "i64" => Expected::Integer(i64::MIN.into(), i64::MAX.into()),
        "u64" => Expected::Integer(0, u64::MAX.into()),
        "u32" => Expected::Integer(0, u32::MAX.into()),
        "u16" => Expected::Integer(0, u16::MAX.into()),
        "a nonzero u16" => Expected::Integer(1, u16::MAX.into()),
        _ if expected.starts_with("struct ") => Expected::Object,
        _ => Expected::Other,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use obfleet_wire::obproxy::{CreateObproxyCluster, UpgradeObproxy};

    use super::*;
    use crate::http::language::Language;

    fn field<T: DeserializeOwned>(json: &str) -> String {
        let Err(error) = parse::<T>(json.as_bytes()) else {
            panic!("{json} is fine")
        };
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
        let body = error.body(Language::English);
        let field = body.sub_errors.first().map(|sub| sub.field.clone()).unwrap_or_default();
        assert!(body.message.contains(&field), "{}", body.message);
        field
    }

    #[test]
    fn errors_name_the_member() {
        assert_eq!(field::<UpgradeObproxy>(r#"{"shortRpmNam":"x"}"#), "shortRpmNam");
        assert_eq!(field::<UpgradeObproxy>(r#"{"shortRpmName":7}"#), "shortRpmName");
        assert_eq!(field::<CreateObproxyCluster>("{}"), "name");
        assert_eq!(
            field::<CreateObproxyCluster>(r#"{"name":"a","obproxyInstallParam":{"hostIds":[1,"x"]}}"#),
            "obproxyInstallParam.hostIds[1]"
        );
        assert_eq!(
            field::<CreateObproxyCluster>(r#"{"name":"a","obproxyInstallParam":{"hostIds":[],"colour":1}}"#),
            "obproxyInstallParam.colour"
        );
        assert_eq!(
            field::<CreateObproxyCluster>(r#"{"name":"a","obproxyInstallParam":{}}"#),
            "obproxyInstallParam.hostIds"
        );
        assert_eq!(field::<CreateObproxyCluster>(r#"{"name":"a","name":"b"}"#), "name");
        for given in ["{}", "[]", "{\"RS_LIST\":1}", "{\"RS_LIST\":1,\"b\":2}", "7"] {
            let body = format!(r#"{{"name":"a","workMode":{given}}}"#);
            let field = field::<CreateObproxyCluster>(&body);
            assert_eq!(field.split('.').next(), Some("workMode"), "{given}");
        }
        assert_eq!(field::<UpgradeObproxy>("[7]"), "[0]");
        assert_eq!(field::<UpgradeObproxy>("7"), "body");
    }

    #[test]
    fn a_value_in_the_wrong_place_is_not_repeated() {
        let error = parse::<CreateObproxyCluster>(br#"{"name":"a","port":"s3cret"}"#).unwrap_err();
        let message = error.body(Language::English).message;
        assert!(
            message.contains("port") && message.contains("from 0 to 65535") && !message.contains("s3cret"),
            "{message}"
        );
    }

    #[test]
    fn what_a_member_has_to_be_is_told_in_the_readers_language() {
        for (json, english, chinese) in [
            (r#"{"name":7}"#, "name must be a text", "name 应为字符串"),
            (
                r#"{"name":"a","port":70000}"#,
                "port must be an integer from 0 to 65535",
                "port 应为 0 至 65535 之间的整数",
            ),
            (
                r#"{"name":"a","workMode":"NONE, expected `X`"}"#,
                "workMode must be one of CONFIG_URL, RS_LIST",
                "workMode 应为以下之一：CONFIG_URL、RS_LIST",
            ),
            (
                r#"{"name":"a","obLinks":{}}"#,
                "obLinks must be a list",
                "obLinks 应为数组",
            ),
            (
                r#"{"name":"a","obproxyInstallParam":"x, expected u16"}"#,
                "obproxyInstallParam must be an object",
                "obproxyInstallParam 应为对象",
            ),
            (r#"{"name":"a","name":"b"}"#, "name is there twice", "name 重复"),
            ("7", "body must be an object", "body 应为对象"),
            (
                "{\"name\":",
                "ends too early at line 1, column 8",
                "第 1 行第 8 列内容不完整",
            ),
            (
                "{\"name\"\n?",
                "goes wrong at line 2, column 1",
                "第 2 行第 1 列格式错误",
            ),
        ] {
            let error = parse::<CreateObproxyCluster>(json.as_bytes()).unwrap_err();
            let said = error.body(Language::English).message;
            assert!(said.contains(english), "{json}: {said}");
            let said = error.body(Language::Chinese).message;
            assert!(said.contains(chinese) && !said.contains("expected"), "{json}: {said}");
        }
    }

    #[test]
    fn what_is_no_json_is_told_apart() {
        for text in ["{", "x", r#"{"shortRpmName":"a"} trailing"#, ""] {
            let error = parse::<UpgradeObproxy>(text.as_bytes()).unwrap_err();
            let body = error.body(Language::English);
            assert!(
                body.message.contains("not JSON") && body.code == 10003,
                "{text}: {}",
                body.message
            );
        }
    }

    #[tokio::test]
    async fn an_optional_body_may_be_left_out() {
        let ask = async |content_type: Option<&str>, text: &str| {
            let mut request = Request::post("/").body(Body::from(text.to_owned())).unwrap();
            if let Some(value) = content_type {
                request.headers_mut().insert(CONTENT_TYPE, value.parse().unwrap());
            }
            let answer = OptionalJson::<UpgradeObproxy>::from_request(request, &()).await;
            answer
                .map(|body| body.0.short_rpm_name)
                .map_err(|error| error.status().as_u16())
        };
        assert_eq!(ask(None, "").await, Ok(None));
        assert_eq!(ask(Some("application/json"), " \n").await, Ok(None));
        assert_eq!(ask(Some("application/x-www-form-urlencoded"), "").await, Ok(None));
        assert_eq!(ask(None, "null").await, Ok(None));
        assert_eq!(ask(None, r#"{"shortRpmName":"a"}"#).await, Ok(Some("a".into())));
        assert_eq!(
            ask(Some("application/json;charset=UTF-8"), r#"{"shortRpmName":"a"}"#).await,
            Ok(Some("a".into()))
        );
        assert_eq!(ask(Some("text/plain"), r#"{"shortRpmName":"a"}"#).await, Err(415));
        assert_eq!(ask(None, "nothing").await, Err(400));
        assert_eq!(ask(None, &" ".repeat(3 << 20)).await, Err(413));
    }
}
