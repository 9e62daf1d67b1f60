//! The sidecar of Headscale, as a library: it publishes the DERP map, and can host the relay.
//!
//! ```text
//! bridge.toml -> config -> publication -> published --+-> http::map   GET /derpmap.json, .yaml
//! relays, upstreams -----------^ (DerpMap)            +-> map_file    derp.yaml for derp.paths
//!
//! POST /register -> http::provisioning -> provisioning -> store, headscale
//! POST /verify, GET /v1/relay/events -> http::verify -> verify, relays -> headscale, store
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`bridge`] | a running bridge, and how to start one |
//! | [`addresses`] | where it listens |
//! | [`config`] | what the bridge is to do; every key, flag and variable |
//! | [`publication`] | the map kept up to date: regions of ours and of others, probes |
//! | [`published`] | the map that is published now, rendered once |
//! | [`verify`] | whether a node may use a relay |
//! | [`relays`] | relays that have registered themselves, and what they have to hear |
//! | [`map_file`] | the map as a file |
//! | [`provisioning`] | registration of machines |
//! | [`store`] | what the bridge remembers |
//! | [`headscale`] | what is asked of Headscale |
//! | [`events`] | what happened, for a file and for webhooks |
//! | [`lease`] | which of several bridges leads |
//! | [`metrics`] | what Prometheus scrapes |
//! | [`http`] | what is answered at which listener |
//! | [`enroll`] | the other end of registration: a machine that wants into the tailnet |
//! | [`headscale_file`] | Headscale's configuration, as far as it concerns its neighbours |
//! | [`doctor`] | everything tried that has to work, and what to do where it does not |
//! | [`first_setup`] | files to begin with, beside a Headscale that is there |
//! | [`self_test`] | a region tried as its clients would |
//! | [`cli`] | the commands of the program |
//!
//! What this crate never does: publish a map with a fault or without regions, answer a fault at
//! the map's listener in JSON, render a map by itself (`derp::map` has the only renderers), or
//! need Headscale to be there.

pub mod addresses;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod enroll;
pub mod events;
pub mod first_setup;
pub mod headscale;
pub mod headscale_file;
pub mod http;
pub mod lease;
pub mod map_file;
pub mod metrics;
pub mod provisioning;
pub mod publication;
pub mod published;
pub mod relays;
pub mod self_test;
pub mod store;
pub mod verify;

pub use addresses::Addresses;
pub use bridge::Bridge;
pub use config::Config;
