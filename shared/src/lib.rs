//! Types of soramode's control socket: JSON-RPC 2.0, one message per line.
//!
//! No I/O by default. Ids and limits are checked while a line is parsed, so parsed values can be
//! relied on. The feature `codec` adds the line codec and an async client, the feature `sora-api` a
//! client of Sora's HTTP API. The feature `schema` derives JSON Schemas and the OpenRPC document; no
//! shipped program has it.
//!
//! This is the client library for Rust: `client::Client` with the feature `codec`. Those for Python and Node.js are in `clients/`.

pub mod access;
pub mod actor;
pub mod announce;
#[cfg(feature = "sora-api")]
pub mod certificates;
#[cfg(feature = "webhook")]
pub mod chat;
#[cfg(feature = "codec")]
pub mod client;
pub mod cluster;
#[cfg(feature = "codec")]
pub mod codec;
#[cfg(feature = "sora-api")]
mod crypto;
pub mod decision;
pub mod delivery;
pub mod discover;
pub mod end;
pub mod envelope;
pub mod error;
pub mod event;
#[cfg(feature = "sora-api")]
pub mod http_client;
pub mod id;
pub mod mode;
pub mod node;
pub mod notice_text;
pub mod number;
#[cfg(feature = "schema")]
pub mod openrpc;
pub mod or_pending;
pub mod plan;
mod plan_event;
mod plan_steps;
pub mod planted_fault;
pub mod reply;
pub mod request;
pub mod reservation;
pub mod session;
#[cfg(feature = "codec")]
pub mod small_file;
pub mod socket_path;
pub mod sora;
#[cfg(feature = "sora-api")]
pub mod sora_api;
pub mod subscribe;
pub mod text;
pub mod time;
pub mod version;
pub mod wait;
#[cfg(feature = "webhook")]
pub mod webhook;
mod wire_enum;
