//! OCP's response envelope. The server alone fills it in.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What every JSON answer is wrapped in. `data` is absent when there is none, `error` when there was none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope<T> {
    /// The answer itself.
    #[serde(skip_serializing_if = "Option::is_none", default = "none")]
    pub data: Option<T>,
    /// Time the server spent, in milliseconds.
    pub duration: u64,
    /// Why the request was refused or failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<ErrorBody>,
    /// Opaque id of the server that answered: ten hexadecimal digits.
    pub server: String,
    /// The HTTP status, repeated.
    pub status: u16,
    /// Whether the request did what it asked for.
    pub successful: bool,
    /// When the answer was made.
    pub timestamp: Timestamp,
    /// Id to find the request by in the server's log: sixteen hexadecimal digits.
    pub trace_id: String,
}

fn none<T>() -> Option<T> {
    None
}

/// The `error` member of the envelope.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// The numeric part of OCP's error code, 21002 for ODP21002.
    pub code: u32,
    /// The cause, for the log reader; never carries secrets.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub debug_message: Option<String>,
    /// What the person should read, in the language of `Accept-Language`.
    pub message: String,
    /// Fields that were wrong.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub sub_errors: Vec<SubError>,
    /// The object that is in the way, such as the task that holds a proxy.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target: Option<serde_json::Value>,
}

/// One wrong field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubError {
    /// The field's name as the client wrote it.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
    /// The object the field belongs to, such as `body` or `path`.
    pub object: String,
    /// What was given, absent when nothing was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rejected_value: Option<serde_json::Value>,
}

/// A list without paging: `{"contents":[…]}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Contents<T> {
    /// The entries.
    pub contents: Vec<T>,
}

/// One page of a list: `{"contents":[…],"page":{…}}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Paged<T> {
    /// The entries of this page.
    pub contents: Vec<T>,
    /// Where this page lies.
    pub page: Page,
}

/// Position and size of a page. `number` counts from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// This page, from 1.
    pub number: u64,
    /// Entries a page holds at most.
    pub size: u64,
    /// Entries in all.
    pub total_elements: u64,
    /// Pages in all.
    pub total_pages: u64,
}

impl<T> Paged<T> {
    /// Cuts page `number` (from 1) of `size` entries out of the whole list.
    pub fn cut(all: Vec<T>, number: u64, size: u64) -> Self {
        let total_elements = all.len() as u64;
        let skip = number.saturating_sub(1).saturating_mul(size);
        let contents = all
            .into_iter()
            .skip(usize::try_from(skip).unwrap_or(usize::MAX))
            .take(usize::try_from(size).unwrap_or(usize::MAX))
            .collect();
        Self {
            contents,
            page: Page::of(number, size, total_elements),
        }
    }

    /// The same page of what becomes of its entries.
    pub fn map<U>(self, entry: impl FnMut(T) -> U) -> Paged<U> {
        Paged {
            contents: self.contents.into_iter().map(entry).collect(),
            page: self.page,
        }
    }
}

impl Page {
    /// The page description for page `number` of `total_elements` entries, `size` a page.
    pub fn of(number: u64, size: u64, total_elements: u64) -> Self {
        Self {
            number,
            size,
            total_elements,
            total_pages: total_elements.div_ceil(size.max(1)),
        }
    }
}
