//! Frame streams, as the relay and as a client read them.

use derp::client::Session;
use derp::frame::{Reader, Step, decode, encode};

/// Frames are decoded without a panic, encode back to their bytes, and a client sees the same
/// wherever the stream is cut.
///
/// # Panics
///
/// If one of these does not hold.
pub fn frame_decode(data: &[u8]) {
    for reader in [Reader::Server, Reader::Client] {
        let mut rest = data;
        while let Ok(step) = decode(rest, reader) {
            match step {
                Step::Frame { frame, used } => {
                    let mut out = Vec::new();
                    encode(frame.kind, &[frame.body], &mut out);
                    assert_eq!(out, rest[..used]);
                    rest = &rest[used..];
                }
                Step::Skip { discard } => {
                    let here = usize::try_from(discard).unwrap().min(rest.len());
                    rest = &rest[here..];
                }
                Step::NeedMore { until } => {
                    assert!(until > rest.len());
                    break;
                }
            }
        }
    }
    let whole = client_sees(data, data.len().max(1));
    assert_eq!(client_sees(data, 1), whole);
    assert_eq!(client_sees(data, 7), whole);
}

/// What a client makes of a stream that comes in pieces, and how it ends.
fn client_sees(data: &[u8], piece: usize) -> (Vec<String>, Option<String>) {
    let (mut session, mut seen) = (Session::new(), Vec::new());
    for mut bytes in data.chunks(piece) {
        loop {
            match session.on_bytes(&mut bytes) {
                Ok(Some(event)) => seen.push(format!("{event:?}")),
                Ok(None) => break,
                Err(error) => return (seen, Some(error.to_string())),
            }
        }
    }
    (seen, None)
}
