//! TLS 1.3 records past the handshake: our own record layer, where one side of it is a relay.
//!
//! Does: opens received records where they lie, seals in the place where the plaintext was
//! gathered, follows and answers key updates, and changes its own keys in time.
//! Does not: shake hands, derive secrets (rustls does both), copy plaintext, read a clock, or
//! hold received bytes; what is not a whole record stays with the caller.
//!
//! ```text
//! | 23 | 3 3 | length of the rest | plaintext ... | content type | tag (16) |
//!  HEADER_LEN                      at most 16 KiB  TAIL_LEN
//! ```
//!
//! TLS 1.2, and what is left unfinished at the hand-over, stays with rustls: [`Unbuffered`].
//! Both stand behind `shard::link`. Spec: RFC 8446, sections 4.6.3, 5 and 6; `docs/decisions/0018`.

use derp::time::Time;
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{AlertDescription, Error, ProtocolVersion};

mod fault;
#[cfg(any(test, feature = "sim"))]
pub mod fuzzing;
mod key;
mod key_update;
#[cfg(any(test, feature = "sim"))]
pub mod pair;
#[cfg(any(test, feature = "sim"))]
mod stranger;
mod unbuffered;

use key::Key;
use key_update::KeyUpdates;

pub use fault::Fault;
pub use unbuffered::Unbuffered;

/// Bytes in front of what a record protects.
pub const HEADER_LEN: usize = 5;

/// Bytes that a record of ours has behind its plaintext: content type and tag.
pub const TAIL_LEN: usize = 1 + key::TAG_LEN;

/// Most plaintext bytes in one record. Source: RFC 8446 section 5.1.
pub const MAX_PLAINTEXT: usize = 16 * 1024;

/// Most bytes behind the header of a received record. Source: RFC 8446 section 5.2.
const MAX_BODY_LEN: usize = MAX_PLAINTEXT + 256;

/// Records that are sealed under one key. AES-GCM is safe for 2^24.5 of full size; source: RFC
/// 8446 section 5.5.
const RECORDS_PER_KEY: u32 = 1 << 24;

/// Records without a byte of data that a peer may send in a row. Ours: they cost us a tag each,
/// and no honest peer sends two.
const MAX_EMPTY_RECORDS: u8 = 32;

/// What a record protects. The wire values are those of the RFC.
mod content {
    /// What ends a connection.
    pub(super) const ALERT: u8 = 21;
    /// Messages of the handshake, and after it.
    pub(super) const HANDSHAKE: u8 = 22;
    /// What the connection is for.
    pub(super) const APPLICATION_DATA: u8 = 23;
}

/// How severe an alert is. Means nothing in TLS 1.3, and is sent all the same.
mod level {
    pub(super) const WARNING: u8 = 1;
    pub(super) const FATAL: u8 = 2;
}

/// One connection's record layer.
pub struct Record {
    /// For what the peer sends.
    opener: Key,
    /// For what we send.
    sealer: Key,
    /// Knows the secrets that the next keys are made of.
    kernel: KernelConnection<ServerConnectionData>,
    key_updates: KeyUpdates,
    /// Records that may still be sealed under the key of `sealer`.
    left_to_seal: u32,
    /// Empty records since the last one with data.
    empty_records: u8,
    phase: Phase,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Both sides may send.
    Open,
    /// The peer sends nothing more.
    PeerClosed,
    /// The peer broke TLS, and has not been told.
    Failed(Fault),
    /// We have said that we send nothing more.
    Closed,
}

/// What became of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Bytes that are done with; the rest is the start of a record.
    pub used: usize,
    /// The peer sends nothing more.
    pub ended: bool,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl Record {
    /// Whether [`Record::take_over`] can go on from where `connection` is.
    ///
    /// `connection` must have had all whole records that were received, and have been written
    /// with after the last of them that was no data: rustls keeps an answer to a key update
    /// until then, does not show it, and it would be lost.
    #[must_use]
    pub fn can_take_over(connection: &UnbufferedServerConnection) -> bool {
        connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
            && !connection.is_handshaking()
            && !connection.wants_write()
    }

    /// Takes the place of rustls' record layer.
    ///
    /// # Errors
    ///
    /// Those of [`UnbufferedServerConnection::dangerous_into_kernel_connection`], and a cipher
    /// suite that is not known here; neither happens if [`Record::can_take_over`].
    pub fn take_over(connection: UnbufferedServerConnection) -> Result<Self, Error> {
        let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
        let (sealed, _) = secrets.tx;
        let sealed = u32::try_from(sealed).unwrap_or(RECORDS_PER_KEY);
        Ok(Self {
            opener: Key::new(secrets.rx)?,
            sealer: Key::new(secrets.tx)?,
            kernel,
            key_updates: KeyUpdates::default(),
            // One at least, so that the key changes behind a record as it always does.
            left_to_seal: RECORDS_PER_KEY.saturating_sub(sealed).max(1),
            empty_records: 0,
            phase: Phase::Open,
        })
    }

    /// Opens the whole records at the front of `bytes`, each in its place, and passes on where
    /// in `bytes` each one's plaintext begins, and the plaintext.
    ///
    /// What has to be said to the peer is appended to `answer`, and must be sent before anything
    /// that is sealed later. `now` is for counting key updates.
    ///
    /// # Errors
    ///
    /// The [`Fault`] of the peer; what came before it has been passed on. The connection is to be
    /// closed, with [`Record::close`] for the alert.
    pub fn open(
        &mut self,
        bytes: &mut [u8],
        now: Time,
        answer: &mut Vec<u8>,
        each: impl FnMut(usize, &[u8]),
    ) -> Result<Opened, Fault> {
        let opened = self.open_all(bytes, now, answer, each);
        if let Err(fault) = opened
            && matches!(self.phase, Phase::Open | Phase::PeerClosed)
        {
            self.phase = Phase::Failed(fault);
        }
        opened
    }

    /// Seals what `out` holds from `plaintext_at` on, where it is: at most [`MAX_PLAINTEXT`]
    /// bytes, with [`HEADER_LEN`] bytes of room in front and [`TAIL_LEN`] appended behind.
    ///
    /// No byte is copied unless `out` has to grow. Now and then an order to change keys follows,
    /// of less than 64 bytes.
    ///
    /// # Errors
    ///
    /// [`Fault::Closed`] if nothing may be sent any more, [`Fault::Internal`] if there is no room
    /// in front, or too much to seal; a caller closes.
    pub fn seal_in_place(&mut self, out: &mut Vec<u8>, plaintext_at: usize) -> Result<(), Fault> {
        self.may_send()?;
        self.sealer.seal_in_place(content::APPLICATION_DATA, out, plaintext_at)?;
        self.count_sealed(out)
    }

    /// Seals `plaintext` behind `out`, in as many records as it takes, without a copy of it.
    ///
    /// # Errors
    ///
    /// As [`Record::seal_in_place`].
    pub fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        self.may_send()?;
        for piece in plaintext.chunks(MAX_PLAINTEXT) {
            self.sealer.seal(content::APPLICATION_DATA, piece, out)?;
            self.count_sealed(out)?;
        }
        Ok(())
    }

    /// Changes our own keys: what is appended to `out` tells the peer, and is to be sent next.
    ///
    /// # Errors
    ///
    /// [`Fault::Closed`] if nothing may be sent any more, [`Fault::Internal`] if there are no keys.
    pub fn change_keys(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.may_send()?;
        self.sealer.seal(content::HANDSHAKE, &key_update::NOT_REQUESTED, out)?;
        match self.kernel.update_tx_secret().and_then(Key::new) {
            Ok(key) => self.sealer = key,
            Err(_) => {
                // The old key must not be used behind the message that ends it.
                self.phase = Phase::Closed;
                return Err(Fault::Internal);
            }
        }
        self.left_to_seal = RECORDS_PER_KEY;
        Ok(())
    }

    /// Appends what TLS says at the end to `out`: the alert for the peer's fault, or that nothing
    /// more is sent. Nothing may be sealed after it.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        let alert = match self.phase {
            Phase::Open | Phase::PeerClosed => {
                Some([level::WARNING, AlertDescription::CloseNotify.into()])
            }
            Phase::Failed(fault) => fault.alert().map(|alert| [level::FATAL, alert.into()]),
            Phase::Closed => None,
        };
        self.phase = Phase::Closed;
        if let Some(alert) = alert {
            let start = out.len();
            if self.sealer.seal(content::ALERT, &alert, out).is_err() {
                out.truncate(start);
            }
        }
    }

    fn may_send(&self) -> Result<(), Fault> {
        match self.phase {
            Phase::Open | Phase::PeerClosed => Ok(()),
            Phase::Failed(_) | Phase::Closed => Err(Fault::Closed),
        }
    }

    fn count_sealed(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.left_to_seal = self.left_to_seal.saturating_sub(1);
        if self.left_to_seal == 0 { self.change_keys(out) } else { Ok(()) }
    }

    fn open_all(
        &mut self,
        bytes: &mut [u8],
        now: Time,
        answer: &mut Vec<u8>,
        mut each: impl FnMut(usize, &[u8]),
    ) -> Result<Opened, Fault> {
        let mut used = 0;
        // Several requests in a row need one answer: ours is under way when the second comes.
        let mut new_keys_wanted = false;
        loop {
            match self.phase {
                Phase::Open => {}
                Phase::PeerClosed => {
                    used = bytes.len();
                    break;
                }
                Phase::Failed(fault) => return Err(fault),
                Phase::Closed => return Err(Fault::Closed),
            }
            let Some((header, rest)) = split_header(bytes.get_mut(used..).unwrap_or_default())
            else {
                break;
            };
            let body_len = body_len(header)?;
            let Some(body) = rest.get_mut(..body_len) else { break };
            let inner = self.opener.open(header, body)?;
            let (kind, plaintext) = split_content_type(inner)?;
            if kind != content::HANDSHAKE {
                self.key_updates.check_whole()?;
            }
            match kind {
                content::APPLICATION_DATA if !plaintext.is_empty() => {
                    self.empty_records = 0;
                    each(used + HEADER_LEN, plaintext);
                }
                content::APPLICATION_DATA => self.count_empty()?,
                content::HANDSHAKE => {
                    if let Some(request) = self.key_updates.on_content(plaintext, now)? {
                        self.follow_key_update()?;
                        new_keys_wanted |= request.wants_ours;
                    }
                }
                content::ALERT => self.on_alert(plaintext)?,
                kind => return Err(Fault::ContentType { kind }),
            }
            used += HEADER_LEN + body_len;
        }
        if new_keys_wanted {
            self.change_keys(answer)?;
        }
        Ok(Opened { used, ended: self.phase == Phase::PeerClosed })
    }

    fn follow_key_update(&mut self) -> Result<(), Fault> {
        let secret = self.kernel.update_rx_secret();
        self.opener = secret.and_then(Key::new).map_err(|_| Fault::Internal)?;
        Ok(())
    }

    fn on_alert(&mut self, alert: &[u8]) -> Result<(), Fault> {
        // The level says nothing in TLS 1.3.
        let &[_, description] = alert else { return Err(Fault::AlertLength { len: alert.len() }) };
        let description = AlertDescription::from(description);
        if description == AlertDescription::CloseNotify {
            self.phase = Phase::PeerClosed;
            Ok(())
        } else if description == AlertDescription::UserCanceled {
            // Some say so before they close, and closing is what counts.
            self.count_empty()
        } else {
            Err(Fault::Alert { description })
        }
    }

    fn count_empty(&mut self) -> Result<(), Fault> {
        self.empty_records += 1;
        if self.empty_records > MAX_EMPTY_RECORDS { Err(Fault::EmptyRecords) } else { Ok(()) }
    }
}

/// Records at the front of `bytes`, whole ones only. Tells apart what rustls has opened.
pub(super) fn count(mut bytes: &[u8]) -> usize {
    let mut records = 0;
    while let [_, _, _, high, low, rest @ ..] = bytes {
        let Some(behind) = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..) else {
            break;
        };
        bytes = behind;
        records += 1;
    }
    records
}

fn split_header(bytes: &mut [u8]) -> Option<([u8; HEADER_LEN], &mut [u8])> {
    let (header, rest) = bytes.split_first_chunk_mut::<HEADER_LEN>()?;
    Some((*header, rest))
}

/// Length of what follows a header. The version in it means nothing, but its bytes are
/// authenticated as they are.
fn body_len(header: [u8; HEADER_LEN]) -> Result<usize, Fault> {
    let [kind, _, _, high, low] = header;
    if kind != content::APPLICATION_DATA {
        return Err(Fault::RecordType { kind });
    }
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_BODY_LEN { Err(Fault::RecordLength { len }) } else { Ok(len) }
}

/// Takes padding and content type off.
fn split_content_type(inner: &[u8]) -> Result<(u8, &[u8]), Fault> {
    if inner.len() > MAX_PLAINTEXT + 1 {
        return Err(Fault::RecordLength { len: inner.len() });
    }
    let mut plaintext = inner;
    while let Some((&last, front)) = plaintext.split_last() {
        if last != 0 {
            return Ok((last, front));
        }
        plaintext = front;
    }
    Err(Fault::NoContentType)
}

#[cfg(test)]
mod tests;
