//! The REST API.

pub mod http;
