//! The REST API in OCP's words.
//!
//! One request: [`router`] → [`http::envelope`] (trace id, language, time) → [`auth`] (who is it) → [`api`] (read it, ask
//! the fleet, show the answer) → the envelope again. Everything is put together in [`server`].
//!
//! | room | is for |
//! |---|---|
//! | [`server`], [`running`], [`options`] | starting and stopping |
//! | [`address`], [`connections`], [`tls`], [`redirect`] | where it is reached, by how many at a time, its certificate, and the way to HTTPS |
//! | [`router`], [`routes`], [`api`], [`task_view`], [`event_view`], [`masking`] | the routes, and what is shown |
//! | [`openapi`] | the document of all routes, made from their declarations |
//! | [`http`] | envelope, error sentences, bodies, paths, lists |
//! | [`auth`] | users, passwords, signatures, and who may do what |
//! | [`pki`], [`renewal`], [`agents`] | the enrolment authority, certificates in time, and calls to agents |
//! | [`bootstrap`] | machines that get their agents over SSH |
//! | [`ob_probe`] | what OceanBase servers answer |
//! | [`peers`] | the other servers on the database |
//! | [`metrics`], [`health`] | what operators and their machines ask of the server itself |
//! | [`collector`] | what agents measure of their proxies |
//! | [`retention`], [`tidying`] | what is cleared away now and then |
//! | [`state_dir`], [`founding`] | what is kept on disk beside the database, and what all servers have in common |

pub mod address;
pub mod agents;
pub mod api;
pub mod app;
pub mod audit;
pub mod auth;
pub mod bootstrap;
pub mod collector;
pub mod connections;
pub mod event_view;
pub mod founding;
pub mod health;
pub mod http;
pub mod masking;
pub mod metrics;
pub mod ob_probe;
pub mod openapi;
pub mod options;
pub mod peers;
pub mod pki;
pub mod redirect;
pub mod renewal;
pub mod retention;
pub mod router;
pub mod routes;
pub mod running;
pub mod server;
pub mod state_dir;
pub mod task_view;
pub mod tidying;
pub mod tls;

pub use options::Options;
pub use running::Running;
pub use server::{Server, ServerError, location};
pub use tls::TlsFiles;
