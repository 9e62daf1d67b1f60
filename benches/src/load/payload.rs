//! What is in a packet: enough to tell whether it arrived, when it was due, and whether a single
//! byte of it changed.
//!
//! ```text
//! offset  size  field
//! 0       4     04 00 00 00    as in a WireGuard data packet
//! 4       4     flow           u32 little endian, where WireGuard has the receiver's index
//! 8       8     number         u64 little endian, where WireGuard has the counter
//! 16      8     due            u64 little endian, nanoseconds since the start of the run
//! 24      8     check          mixes the three fields above
//! 32      n     filler         a piece of a fixed table; which one depends on flow and number
//! ```
//!
//! Does: writes and verifies packets, the filler by comparing it with the table: that checks
//! every byte at the cost of a `memcmp`. Does not: know flows, or read a clock.

use std::sync::LazyLock;

/// Bytes in front of the filler, and so the shortest packet.
pub const MIN_LEN: usize = 32;

/// Longest packet. Source: DERP's own limit.
pub const MAX_LEN: usize = 64 * 1024;

/// The first byte of a WireGuard data packet, so that a relay takes it for data, not disco.
const KIND: [u8; 4] = [4, 0, 0, 0];

/// Different places at which a filler may begin.
const PLACES: usize = 4_096;

static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..(MAX_LEN + PLACES) as u64 / 8).flat_map(|word| mix(word).to_le_bytes()).collect()
});

/// What a packet says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Which flow it belongs to.
    pub flow: u32,
    /// Its number in the flow, from 0.
    pub number: u64,
    /// When it was due, in nanoseconds since the start of the run.
    pub due: u64,
}

/// The packet is not one of ours, or not as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet of {len} bytes has changed on its way")]
pub struct Corrupt {
    /// Bytes in the packet.
    pub len: usize,
}

impl Label {
    /// Appends a packet of `len` bytes, at least [`MIN_LEN`] and at most [`MAX_LEN`].
    pub fn write(&self, len: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&KIND);
        out.extend_from_slice(&self.flow.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.due.to_le_bytes());
        out.extend_from_slice(&self.check().to_le_bytes());
        out.extend_from_slice(self.filler(len.saturating_sub(MIN_LEN)));
    }

    /// Reads the label of `packet` and verifies every byte.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn read(packet: &[u8]) -> Result<Self, Corrupt> {
        let corrupt = Corrupt { len: packet.len() };
        let (kind, rest) = packet.split_first_chunk::<4>().ok_or(corrupt)?;
        let (flow, rest) = rest.split_first_chunk().ok_or(corrupt)?;
        let (number, rest) = rest.split_first_chunk().ok_or(corrupt)?;
        let (due, rest) = rest.split_first_chunk().ok_or(corrupt)?;
        let (check, filler) = rest.split_first_chunk().ok_or(corrupt)?;
        let label = Self {
            flow: u32::from_le_bytes(*flow),
            number: u64::from_le_bytes(*number),
            due: u64::from_le_bytes(*due),
        };
        let whole = *kind == KIND
            && u64::from_le_bytes(*check) == label.check()
            && filler == label.filler(filler.len());
        if whole { Ok(label) } else { Err(corrupt) }
    }

    fn check(&self) -> u64 {
        mix(self.due ^ mix(self.number ^ mix(self.flow.into())))
    }

    fn filler(&self, len: usize) -> &'static [u8] {
        let place = mix(self.number ^ (u64::from(self.flow) << 32)) % PLACES as u64;
        let place = usize::try_from(place).unwrap_or_default();
        TABLE.get(place..place + len).unwrap_or_default()
    }
}

/// A number that looks random and depends on every bit of `x`: the finisher of SplitMix64.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: Label = Label { flow: 3, number: 0x1_0000_0007, due: 123_456_789 };

    #[test]
    fn what_is_written_is_read_at_every_length() {
        for len in [MIN_LEN, MIN_LEN + 1, 1_400, 16_384, MAX_LEN] {
            let mut packet = Vec::new();
            LABEL.write(len, &mut packet);
            assert_eq!(packet.len(), len);
            assert_eq!(Label::read(&packet), Ok(LABEL));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let mut packet = Vec::new();
        LABEL.write(200, &mut packet);
        for at in 0..packet.len() {
            packet[at] ^= 0x10;
            assert_eq!(Label::read(&packet), Err(Corrupt { len: 200 }), "byte {at}");
            packet[at] ^= 0x10;
        }
    }

    #[test]
    fn packets_that_are_cut_or_mixed_are_noticed() {
        let mut packet = Vec::new();
        LABEL.write(1_400, &mut packet);
        let mut next = Vec::new();
        Label { number: LABEL.number + 1, ..LABEL }.write(1_400, &mut next);

        let mixed = [&packet[..700], &next[700..]].concat();
        assert_eq!(Label::read(&mixed), Err(Corrupt { len: 1_400 }));
        assert_eq!(Label::read(&packet[..MIN_LEN - 1]), Err(Corrupt { len: 31 }));
        assert_eq!(Label::read(&[]), Err(Corrupt { len: 0 }));
    }
}
