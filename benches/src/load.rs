//! The load generator behind `derp-load`: clients of a DERP or STUN server that send at a known
//! pace, verify every packet, and measure what that costs the server.
//!
//! ```text
//! cli -> scenario -> trial -> engine (a thread) -> link (a client) -> the server
//!                      |        pace, payload, tally
//!                      +-> meter (the server's process) -> figure -> record -> compare, report
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`cli`] | the commands of the program |
//! | [`quantity`] | rates, sizes and durations as people write them |
//! | [`target`], [`trust`] | the server, and how it is known |
//! | [`channel`], [`login`], [`link`] | one client: TLS, upgrade and login, socket |
//! | [`logins`] | many logins at a time |
//! | [`pace`], [`payload`], [`tally`] | when a packet is due, what is in it, what became of it |
//! | [`workload`], [`engine`], [`arrival`] | what a thread plays, how, and what comes of it |
//! | [`run`], [`trial`] | the time line, and one trial on it |
//! | [`scenario`] | what can be measured |
//! | [`meter`], [`machine`] | what a process costs, and on what machine |
//! | [`figure`], [`record`] | the figures, and a line of JSON for each measurement |
//! | [`compare`], [`report`] | two servers in turn; pages of plots and tables |
//! | [`failure`] | why a run has no result |
//! | [`progress`], [`stop`] | the moving line, and Ctrl-C |
//!
//! Does: run on one core beside the server, and say how much of it that took. It shares the
//! protocol's core with our server (`derp`, `stun`), and none of its shell.
//! Method and traps: `docs/benchmarking.md`.

mod alarm;
pub mod arrival;
pub mod channel;
pub mod cli;
pub mod compare;
pub mod engine;
pub mod failure;
pub mod figure;
pub mod link;
pub mod login;
pub mod logins;
pub mod machine;
pub mod meter;
pub mod pace;
pub mod payload;
pub mod progress;
pub mod quantity;
pub mod record;
pub mod report;
pub mod run;
pub mod scenario;
pub mod stop;
pub mod tally;
pub mod target;
pub mod trial;
pub mod trust;
pub mod workload;
