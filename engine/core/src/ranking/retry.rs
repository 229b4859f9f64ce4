use super::epsilon_at;
use crate::competition::Epsilon;

/// What an earlier round found of a model, and of the winner that it was up
/// against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// The model's loss; infinite when it failed.
    pub loss: f64,
    /// Block of the winner's commitment.
    pub winner_block: u64,
    /// The winner's loss.
    pub winner_loss: f64,
}

/// Whether a model is evaluated again, given its evaluations, oldest first.
///
/// One that never had a loss is, until it failed once more often than
/// `max_retries` (1 at the source). One that had is if its last loss was below the
/// winner's, reduced by the epsilon that the winner has by now: as epsilon
/// decays, yesterday's runner-up may be today's winner.
///
/// Source: `should_retry_model` of the subnet 9 validator.
pub fn should_retry(
    evaluations: &[Evaluation],
    current_block: u64,
    epsilon: &Epsilon,
    max_retries: u32,
) -> bool {
    match evaluations.iter().rfind(|evaluation| evaluation.loss.is_finite()) {
        Some(last) => {
            let epsilon = epsilon_at(epsilon, current_block, last.winner_block);
            last.loss < last.winner_loss * (1.0 - epsilon)
        }
        None => evaluations.len() as u64 <= u64::from(max_retries),
    }
}
