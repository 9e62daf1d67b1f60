//! The connections that access decisions are about.

use derp::key::NodePublic;

/// Who is connected, and how to end that: the shards, in the program.
pub(crate) trait Connections: Send + Sync + 'static {
    /// How many parts the connected keys come in; a key is always in the same part.
    fn parts(&self) -> usize;

    /// The keys of one part, as they are now.
    fn keys(&self, part: usize) -> Vec<NodePublic>;

    /// Closes all connections of these keys, those that were handed over before included. Does
    /// not wait for that.
    fn close(&self, keys: &[NodePublic]);
}
