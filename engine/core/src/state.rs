//! The journal between the stages of a round.

use crate::source::SourceError;
use crate::task::Answer;

/// Keeps what was computed, so that a round killed anywhere goes on to the
/// same bits.
pub trait StateStore: Send + Sync {
    /// A recorded answer. `model`, `request` and `backend` are digests or
    /// versions of everything that the answer depends on.
    fn answer(
        &self,
        model: &str,
        request: &str,
        backend: &str,
    ) -> Result<Option<Answer>, SourceError>;

    /// Records an answer before anything is derived from it.
    fn record_answer(
        &self,
        model: &str,
        request: &str,
        backend: &str,
        answer: &Answer,
    ) -> Result<(), SourceError>;

    /// The moving average of weights of a competition, by uid.
    fn weights(&self, competition: u32) -> Result<Vec<(u16, f32)>, SourceError>;

    /// Records the moving average of weights of a competition.
    fn record_weights(&self, competition: u32, weights: &[(u16, f32)]) -> Result<(), SourceError>;
}
