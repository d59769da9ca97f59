//! What asks a server from the command line. [`contexts`] keeps where servers are and with which access keys they are asked;
//! [`sign`] signs a request as OCP documents it; [`Client`] sends one and reads the envelope.
//!
//! It knows no route and no type of the API: what is asked is told by its caller.

pub mod client;
pub mod contexts;
pub mod sign;

pub use client::{Client, ClientError, Credentials};
pub use contexts::{Context, Contexts, ContextsError};
