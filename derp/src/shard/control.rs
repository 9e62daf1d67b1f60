//! What shards say to each other, and what each does on hearing it.
//!
//! Does: keeps the owner of every key, and through it the directory, in step with connections
//! that come, go and speak.
//! Does not: carry packets; those travel in batches, and may be dropped. Messages never are.
//!
//! ```text
//! shard of the connection          owner of its key               all shards
//!   Join / Leave / Spoke  ------->  registry, directory
//!                         <-------  Standing
//!                                   key has no connection left --->  Gone
//! ```

use super::conn::{Farewell, Standing};
use super::{Conn, Shard};
use crate::frame::PEER_GONE_DISCONNECTED;
use crate::id::{ConnId, ShardId};
use crate::key::NodePublic;
use crate::limits::MAX_SOURCES;
use crate::presence::{Noted, Presence};
use crate::queue::Mark;
use crate::registry::Departure;
use crate::route::Directory;
use crate::time::Time;

/// One message between shards, or from a shard to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// To the owner of `key`: `conn` has logged in with it.
    Join {
        /// The key.
        key: NodePublic,
        /// The new connection.
        conn: ConnId,
    },
    /// To the owner of `key`: `conn` has ended.
    Leave {
        /// The key.
        key: NodePublic,
        /// The ended connection.
        conn: ConnId,
    },
    /// To the owner of `key`: `conn`, not active, has sent a frame.
    Spoke {
        /// The key.
        key: NodePublic,
        /// The connection that spoke.
        conn: ConnId,
    },
    /// To the shard of `conn`: packets for its key now come to it, or no longer do.
    Standing {
        /// The connection.
        conn: ConnId,
        /// Whether it is the active one.
        active: bool,
    },
    /// To the shard of `sender`: do not read from it while it sends to `to` only.
    PushBack {
        /// The sending connection.
        sender: ConnId,
        /// The one whose queue is nearly full.
        to: ConnId,
    },
    /// To the shard of `sender`: read from it again, if it was for `to` that it was held back.
    Resume {
        /// The sending connection.
        sender: ConnId,
        /// The one whose queue has room again.
        to: ConnId,
    },
    /// To every shard: the last connection of `key` has ended.
    Gone {
        /// The key.
        key: NodePublic,
    },
}

impl Shard {
    pub(super) fn obey(&mut self, message: Message, now: Time, directory: &impl Directory) {
        match message {
            Message::Join { key, conn } => self.on_join(key, conn, directory),
            Message::Leave { key, conn } => self.on_leave(key, conn, directory),
            Message::Spoke { key, conn } => self.on_spoke(key, conn, directory),
            Message::Standing { conn, active } => self.on_standing(conn, active),
            Message::PushBack { sender, to } => self.hold(sender, to, now),
            Message::Resume { sender, to } => self.resume(sender, to),
            Message::Gone { key } => self.on_gone(key, now, directory),
        }
    }

    fn on_join(&mut self, key: NodePublic, conn: ConnId, directory: &impl Directory) {
        let demoted = self.registry.join(key, conn);
        directory.publish(&key, Some(conn));
        if let Some(demoted) = demoted {
            self.counters.duplicate_joins += 1;
            self.post(demoted.shard, Message::Standing { conn: demoted, active: false });
        }
        self.post(conn.shard, Message::Standing { conn, active: true });
    }

    fn on_leave(&mut self, key: NodePublic, conn: ConnId, directory: &impl Directory) {
        match self.registry.leave(&key, conn) {
            Departure::Last => {
                directory.publish(&key, None);
                for shard in 0..self.setup.shards {
                    self.post(ShardId(shard), Message::Gone { key });
                }
            }
            Departure::Successor(next) => {
                directory.publish(&key, Some(next));
                self.post(next.shard, Message::Standing { conn: next, active: true });
            }
            Departure::Unnoticed => {}
        }
    }

    fn on_spoke(&mut self, key: NodePublic, conn: ConnId, directory: &impl Directory) {
        if let Some(demoted) = self.registry.spoke(&key, conn) {
            directory.publish(&key, Some(conn));
            self.post(demoted.shard, Message::Standing { conn: demoted, active: false });
        }
        // Also when it was active already: the answer lets it report again later.
        if self.registry.knows(&key, conn) {
            self.post(conn.shard, Message::Standing { conn, active: true });
        }
    }

    fn on_standing(&mut self, name: ConnId, active: bool) {
        let Some(conn) = self.slots.get_mut(name) else { return };
        conn.standing =
            if active { Standing::Active } else { Standing::Inactive { reported: false } };
        if !conn.server_info.is_empty() {
            Self::mark_ready(name.slot, conn, &mut self.ready);
        }
    }

    fn on_gone(&mut self, key: NodePublic, now: Time, directory: &impl Directory) {
        // Back already: its new connection is noted by those who hear from it, or was before.
        if directory.find(&key).is_some() {
            return;
        }
        let after = Mark::new(self.setup.seed.flow(&key), now);
        for slot in self.presence.departed(&key) {
            let Some(name) = self.slots.at(slot) else { continue };
            let Some(conn) = self.slots.get_mut(name) else { continue };
            Presence::told(&key, &mut conn.sources);
            if conn.bid_farewell(key, PEER_GONE_DISCONNECTED, after) == Noted::Overflow {
                self.counters.sources_overflowed += 1;
            }
            Self::mark_ready(slot, conn, &mut self.ready);
        }
    }
}

impl Conn {
    /// Queues a `PeerGone` behind the packets of its key that wait now, so that none follows it.
    pub(super) fn bid_farewell(&mut self, key: NodePublic, reason: u8, after: Mark) -> Noted {
        if self.farewells.len() >= MAX_SOURCES {
            return Noted::Overflow;
        }
        self.farewells.push_back(Farewell { key, reason, after });
        Noted::Yes
    }
}
