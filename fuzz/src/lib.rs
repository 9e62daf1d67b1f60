//! Fuzz drivers as plain functions: libFuzzer, corpus replay and proptest call the same code.
//!
//! Each takes any bytes, feeds them to an entry point that the programs use for bytes from
//! outside, and panics if something that must always hold does not.
#![expect(clippy::unwrap_used, reason = "a panic is what a driver reports by")]

mod config;
mod frame;
mod headscale;
mod http;
mod login;
mod map;
mod record;
mod relays;
mod shard;
mod stun;

pub use config::{bridge_config, relay_config};
pub use frame::frame_decode;
pub use headscale::headscale_answer;
pub use http::upgrade_request;
pub use login::{client_info, login_server};
pub use map::derp_map;
pub use record::tls_record;
pub use relays::{relay_event, relay_registration};
pub use shard::shard_script;
pub use stun::stun_message;
