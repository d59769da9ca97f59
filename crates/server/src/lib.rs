//! The REST API.

pub mod auth;
pub mod http;
pub mod pki;
pub mod state_dir;
