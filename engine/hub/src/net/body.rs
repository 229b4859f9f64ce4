//! What follows a server's headers.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use reqwest::blocking::Response;

use super::{Clock, DownloadFault, NetLimits, fault};

/// A body that is read within limits: of bytes, of time, and of the least
/// bytes in a time, so that a server that trickles does not hold anybody up.
#[derive(Debug)]
pub struct Body {
    response: Response,
    max_bytes: u64,
    limits: NetLimits,
    clock: Arc<dyn Clock>,
    started: Duration,
    received: u64,
    /// Time that was spent waiting in the current window, and what came in it.
    waited: Duration,
    came: u64,
}

impl Body {
    pub(super) fn new(
        response: Response,
        max_bytes: u64,
        limits: NetLimits,
        clock: Arc<dyn Clock>,
        started: Duration,
    ) -> Body {
        let (received, waited, came) = (0, Duration::ZERO, 0);
        Body { response, max_bytes, limits, clock, started, received, waited, came }
    }

    /// Bytes that the server announced.
    pub fn announced(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// Some more bytes; 0 at the end.
    ///
    /// # Errors
    /// When the server ends early, is too slow or sends too much.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, DownloadFault> {
        let before = self.clock.now();
        fault::check_total(&self.limits, before.saturating_sub(self.started))?;
        let read = loop {
            match self.response.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let now = self.clock.now();
        let elapsed = now.saturating_sub(self.started);
        let length = read.map_err(|error| fault::of_body(error, &self.limits, elapsed))?;
        self.received += length as u64;
        if self.received > self.max_bytes {
            return Err(DownloadFault::TooLarge { limit: self.max_bytes });
        }
        if length > 0 {
            self.keep_pace(now.saturating_sub(before), length as u64)?;
        }
        Ok(length)
    }

    fn keep_pace(&mut self, waited: Duration, came: u64) -> Result<(), DownloadFault> {
        self.waited += waited;
        self.came += came;
        if self.waited < self.limits.window {
            return Ok(());
        }
        if self.came < self.limits.min_bytes {
            let (bytes, limit_ms) = (self.limits.min_bytes, self.limits.window.as_millis());
            return Err(DownloadFault::Trickle { bytes, limit_ms });
        }
        (self.waited, self.came) = (Duration::ZERO, 0);
        Ok(())
    }

    /// All that is left of it.
    ///
    /// # Errors
    /// Those of [`Body::receive`].
    pub fn bytes(mut self) -> Result<Vec<u8>, DownloadFault> {
        const PIECE_BYTES: usize = 64 << 10;
        let mut bytes = Vec::new();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match self.receive(&mut piece)? {
                0 => return Ok(bytes),
                length => bytes.extend_from_slice(&piece[..length]),
            }
        }
    }
}

/// For readers of the standard library; the error holds a [`DownloadFault`].
impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer).map_err(io::Error::other)
    }
}
