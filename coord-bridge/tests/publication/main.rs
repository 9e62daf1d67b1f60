//! What is published while nodes, relays and other people's maps come and go.
//!
//! Rules by themselves first, without IO; then with real relays and real servers on loopback.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod accord;
#[path = "../bridge/client.rs"]
mod client;
mod compose;
mod disk;
mod embedded;
mod health;
mod nodes;
#[path = "../../../derp/relay/tests/support/quiet.rs"]
mod quiet;
mod server;
mod upstreams;

/// What `client` takes from the program under test, of which there is none here.
mod program {
    use std::time::Duration;

    /// How long anything may take before a test fails. Far beyond what it takes.
    pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
}

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use coord_bridge::relays::LiveNode;
use derp::map::{DerpMap, Node, Region};

use program::PATIENCE;

/// Waits until `is_so`, and says what it waited for where it never is.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn node(region_id: u64, name: &str) -> Node {
    Node {
        name: name.to_owned(),
        region_id,
        host_name: format!("{name}.example.org"),
        ..Node::default()
    }
}

fn region(id: u64, nodes: Vec<Node>) -> Region {
    Region { id, code: format!("r{id}"), name: format!("Region {id}"), nodes, ..Region::default() }
}

fn live(region_id: u64, name: &str) -> LiveNode {
    LiveNode {
        region_id,
        region_code: format!("live{region_id}"),
        region_name: format!("Of relay {name}"),
        node: node(region_id, name),
    }
}

fn map(regions: Vec<Region>) -> DerpMap {
    let regions = regions.into_iter().map(|region| (region.id, region)).collect();
    DerpMap { regions, ..DerpMap::default() }
}

fn names(map: &DerpMap) -> Vec<&str> {
    let nodes = map.regions.values().flat_map(|region| &region.nodes);
    nodes.map(|node| node.name.as_str()).collect()
}

const ANY: &str = "127.0.0.1:0";

fn any() -> SocketAddr {
    ANY.parse().unwrap()
}
