//! Files as bodies of answers: read piece by piece while the client receives.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::limits::{PIECE_BYTES, QUEUED_PIECES};

/// Which bytes of a file a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All of them.
    Whole,
    /// Some of them, which are there.
    Part(Range<u64>),
    /// None that is there.
    Beyond,
}

/// What a `Range` header asks for of a file of `size` bytes. Several ranges, other
/// units and what is not understood count as none at all (RFC 9110, 14.2).
pub fn asked(header: Option<&str>, size: u64) -> Asked {
    let Some((first, last)) = header
        .and_then(|header| header.strip_prefix("bytes="))
        .and_then(|range| range.trim().split_once('-'))
    else {
        return Asked::Whole;
    };
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // What has too many digits is beyond every file.
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.is_empty() => first..size,
        // The last so many.
        (None, Some(count)) if first.is_empty() => {
            let count = count.min(size);
            size - count..size
        }
        _ => return Asked::Whole,
    };
    if range.is_empty() { Asked::Beyond } else { Asked::Part(range) }
}

/// A body of some bytes of a file, which are read on a thread that may block.
pub fn body(file: File, range: Range<u64>) -> Body {
    let (sender, receiver) = channel(QUEUED_PIECES);
    let left = range.end.saturating_sub(range.start);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = send(file, range, &sender) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    Body::new(Pieces { receiver, left })
}

/// Reads and hands over, until all is there or nobody wants it.
fn send(mut file: File, range: Range<u64>, sender: &Sender<io::Result<Bytes>>) -> io::Result<()> {
    file.seek(SeekFrom::Start(range.start))?;
    let mut left = range.end.saturating_sub(range.start);
    while left > 0 {
        let mut piece = vec![0; left.min(PIECE_BYTES as u64) as usize];
        file.read_exact(&mut piece)?;
        left -= piece.len() as u64;
        if sender.blocking_send(Ok(piece.into())).is_err() {
            break;
        }
    }
    Ok(())
}

/// What is read by [`send`].
struct Pieces {
    receiver: Receiver<io::Result<Bytes>>,
    left: u64,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = self.receiver.poll_recv(context);
        if let Poll::Ready(Some(Ok(piece))) = &polled {
            self.left = self.left.saturating_sub(piece.len() as u64);
        }
        polled.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_range_asks_for() {
        let rows = [
            (None, Asked::Whole),
            (Some("bytes=0-0"), Asked::Part(0..1)),
            (Some("bytes=2-5"), Asked::Part(2..6)),
            (Some("bytes=2-"), Asked::Part(2..10)),
            (Some("bytes=9-99999999999999999999999"), Asked::Part(9..10)),
            (Some("bytes=-3"), Asked::Part(7..10)),
            (Some("bytes=-30"), Asked::Part(0..10)),
            (Some("bytes=10-"), Asked::Beyond),
            (Some("bytes=18446744073709551615-18446744073709551615"), Asked::Beyond),
            (Some("bytes=-0"), Asked::Beyond),
            (Some("bytes=5-2"), Asked::Whole),
            (Some("bytes=0-1,3-4"), Asked::Whole),
            (Some("bytes=-"), Asked::Whole),
            (Some("bytes=+1-2"), Asked::Whole),
            (Some("bytes=a-2"), Asked::Whole),
            (Some("bytes"), Asked::Whole),
            (Some("rows=1-2"), Asked::Whole),
        ];
        for (header, expected) in rows {
            assert_eq!(asked(header, 10), expected, "{header:?}");
        }
        assert_eq!(asked(Some("bytes=0-"), 0), Asked::Beyond);
    }
}
