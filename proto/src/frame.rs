//! Length-prefixed postcard frames.
//!
//! A frame is a little-endian `u32` length, then that many bytes of postcard. The reader refuses a length over
//! its bound *before* it reads the body, so a hostile peer can make it neither allocate nor wait for more than
//! the bound. Written over [`embedded_io`] traits, so framing is tested without a socket, and so that PID 1,
//! which allocates nothing after boot, can use the same code with its own fixed buffer.

use embedded_io::{Read, Write};
use serde::{Serialize, de::DeserializeOwned};

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError<E: core::fmt::Debug> {
    /// the transport failed while reading a frame: {0:?}
    #[error("the transport failed while reading a frame: {0:?}")]
    Read(E),
    /// the transport failed while writing a frame: {0:?}
    #[error("the transport failed while writing a frame: {0:?}")]
    Write(E),
    /// the peer closed the connection in the middle of a frame
    #[error("the peer closed the connection in the middle of a frame")]
    Truncated,
    /// the frame is larger than its bound
    #[error("a frame of {length} bytes is over the bound of {bound}")]
    TooLong {
        /// Length asked for, in bytes.
        length: usize,
        /// Bound of this stream, in bytes.
        bound: usize,
    },
    /// the bytes of the frame are not the message that was expected
    #[error("the frame does not hold the message that was expected: {0}")]
    Decode(postcard::Error),
    /// the message cannot be encoded
    #[error("the message cannot be encoded: {0}")]
    Encode(postcard::Error),
}

/// Writes `message` as one frame, using `scratch` to encode it; a message over `scratch.len() - 4` is refused.
pub fn write<W: Write, T: Serialize>(
    writer: &mut W,
    message: &T,
    scratch: &mut [u8],
) -> Result<(), FrameError<W::Error>> {
    let total = encode(message, scratch).map_err(|error| match error {
        FrameError::Encode(cause) => FrameError::Encode(cause),
        _ => FrameError::TooLong { length: scratch.len(), bound: scratch.len() },
    })?;
    writer.write_all(&scratch[..total]).map_err(FrameError::Write)?;
    writer.flush().map_err(FrameError::Write)
}

/// Encodes `message` as one frame into `buffer`; returns how many bytes it takes, prefix included.
pub fn encode<T: Serialize>(
    message: &T,
    buffer: &mut [u8],
) -> Result<usize, FrameError<core::convert::Infallible>> {
    let bound = buffer.len();
    let Some((prefix, body)) = buffer.split_first_chunk_mut::<4>() else {
        return Err(FrameError::TooLong { length: 4, bound });
    };
    let length = postcard::to_slice(message, body).map_err(FrameError::Encode)?.len();
    let Ok(short) = u32::try_from(length) else {
        return Err(FrameError::TooLong { length, bound });
    };
    *prefix = short.to_le_bytes();
    Ok(length + 4)
}

/// Encodes `message` as one frame in a vector, refusing one whose body is over `bound`.
pub fn encode_vec<T: Serialize>(
    message: &T,
    bound: usize,
) -> Result<Vec<u8>, FrameError<core::convert::Infallible>> {
    let body = postcard::to_stdvec(message).map_err(FrameError::Encode)?;
    match u32::try_from(body.len()) {
        Ok(length) if body.len() <= bound => {
            let mut frame = Vec::with_capacity(body.len() + 4);
            frame.extend_from_slice(&length.to_le_bytes());
            frame.extend_from_slice(&body);
            Ok(frame)
        }
        _ => Err(FrameError::TooLong { length: body.len(), bound }),
    }
}

/// Reads one frame into `buffer`, whose length is the bound, and decodes it; `None` when the peer closed
/// cleanly between two frames.
pub fn read<R: Read, T: DeserializeOwned>(
    reader: &mut R,
    buffer: &mut [u8],
) -> Result<Option<T>, FrameError<R::Error>> {
    let mut prefix = [0; 4];
    if !fill(reader, &mut prefix, true)? {
        return Ok(None);
    }
    let length = u32::from_le_bytes(prefix) as usize;
    let bound = buffer.len();
    let Some(body) = buffer.get_mut(..length) else {
        return Err(FrameError::TooLong { length, bound });
    };
    fill(reader, body, false)?;
    postcard::from_bytes(body).map(Some).map_err(FrameError::Decode)
}

/// Takes one whole frame off the front of `bytes`, if it is all there: the message and how many bytes it took.
/// For event loops, which collect bytes as they come.
pub fn take<T: DeserializeOwned>(
    bytes: &[u8],
    bound: usize,
) -> Result<Option<(T, usize)>, FrameError<core::convert::Infallible>> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*prefix) as usize;
    if length > bound {
        return Err(FrameError::TooLong { length, bound });
    }
    let Some(body) = rest.get(..length) else {
        return Ok(None);
    };
    let message = postcard::from_bytes(body).map_err(FrameError::Decode)?;
    Ok(Some((message, length + 4)))
}

/// Fills `bytes`; `false` when the stream ended before the first byte and `may_end` allows it.
fn fill<R: Read>(reader: &mut R, bytes: &mut [u8], may_end: bool) -> Result<bool, FrameError<R::Error>> {
    let mut filled = 0;
    while filled < bytes.len() {
        match reader.read(&mut bytes[filled..]).map_err(FrameError::Read)? {
            0 if filled == 0 && may_end => return Ok(false),
            0 => return Err(FrameError::Truncated),
            count => filled += count,
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut wire = Vec::new();
        let mut scratch = [0; 64];
        write(&mut wire, &(7_u32, "seven"), &mut scratch).unwrap();
        let mut buffer = [0; 64];
        let read_back: Option<(u32, String)> = read(&mut wire.as_slice(), &mut buffer).unwrap();
        assert_eq!(read_back, Some((7, "seven".to_owned())));
    }

    #[test]
    fn a_length_over_the_bound_is_refused_before_the_body_is_read() {
        let wire = u32::MAX.to_le_bytes();
        let mut buffer = [0; 16];
        let refused = read::<_, u8>(&mut wire.as_slice(), &mut buffer);
        assert!(matches!(refused, Err(FrameError::TooLong { bound: 16, .. })));
        assert!(matches!(take::<u8>(&wire, 16), Err(FrameError::TooLong { bound: 16, .. })));
    }

    #[test]
    fn every_truncation_of_a_frame_is_an_error_or_a_wait_and_never_a_message() {
        let frame = encode_vec(&"a sentence", 64).unwrap();
        for length in 1..frame.len() {
            let mut buffer = [0; 64];
            assert!(read::<_, String>(&mut &frame[..length], &mut buffer).is_err());
            assert!(take::<String>(&frame[..length], 64).unwrap().is_none());
        }
    }

    #[test]
    fn a_clean_end_between_frames_is_not_an_error() {
        assert!(read::<_, u8>(&mut &[][..], &mut [0; 8]).unwrap().is_none());
    }

    #[test]
    fn a_message_that_does_not_fit_is_refused_by_the_writer() {
        assert!(encode(&[1_u8; 32], &mut [0; 16]).is_err());
        assert!(encode(&1_u8, &mut [0; 3]).is_err());
        assert!(encode_vec(&vec![0_u8; 100], 64).is_err());
    }
}
