//! The ECS RPC front over axum: what unmodified Alibaba Cloud ECS clients call.
//!
//! What must always hold
//! 1. Over TCP only signed requests are acted on; through the control socket the caller is the operator.
//! 2. No request ends the daemon: everything a stranger sends has a bound (`limits`), a panic in an
//!    action is one `InternalError`.
//! 3. Codes and statuses are exactly those of the ECS reference (`status`): clients show them and act on
//!    them.
//! 4. Answers come in JSON or XML from one tree (`tree`); XML is only ever written, never read.
//!
//! The way of a request: `server` (connection) -> `answer` (body, format, envelope) -> `request`
//! (parameters) -> `gate` (signature, nonce) -> `actions` (one file per group) -> `cloud`.
//!
//! Left to others: rules and states (`cloud`), binding sockets and the mode of the control socket (`cli`).

mod actions;
mod addresses;
mod answer;
mod audit;
mod audit_log;
mod bucket;
mod client;
mod deadline_io;
mod exposition;
mod format;
mod front;
mod gate;
mod limits;
mod metering;
mod nonce;
mod nonce_journal;
mod openapi;
mod parameters;
mod probes;
mod refusal;
mod request;
mod response;
mod server;
mod signature;
mod status;
mod throttle;
mod tls;
mod tree;

pub use audit_log::AuditPlace;
pub use front::{Front, OpenFront};
pub use limits::{Limits, PerKey};
pub use server::serve;
pub use tls::Tls;
