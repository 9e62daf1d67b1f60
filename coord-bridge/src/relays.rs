//! Relays that the bridge knows by their own word.

use derp::map::Node;

/// A relay that has registered itself and is heard of.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveNode {
    /// Id of its region.
    pub region_id: u64,
    /// Short name of its region, for where the configuration has none.
    pub region_code: String,
    /// Name of its region for people, for where the configuration has none.
    pub region_name: String,
    /// Where it is reached; its name is unique among all nodes.
    pub node: Node,
}
