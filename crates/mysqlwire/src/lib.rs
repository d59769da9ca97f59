//! MySQL packets, both sides: what a stand-in proxy, a small built-in database and a measuring client share.
//!
//! A packet's way through this crate: [`frame`] cuts the byte stream into packets, [`greeting`], [`login`] and [`auth`] are the
//! connection phase, [`reply`] and [`resultset`] are the answers of the command phase. [`client`] and [`server`] put these
//! together for the two ends. Only the text protocol is spoken; TLS and compression are never negotiated.

pub mod auth;
pub mod client;
mod codec;
pub mod frame;
pub mod greeting;
pub mod login;
pub mod protocol;
pub mod reply;
pub mod resultset;
pub mod server;

pub use client::{Client, ClientError, QueryResult};
pub use codec::DecodeError;
pub use frame::PacketStream;
pub use greeting::Greeting;
pub use login::Login;
pub use reply::{EofPacket, ErrPacket, OkPacket};
pub use resultset::{Column, Row};
pub use server::{Command, ServerConnection};
