//! Which competitions run at a block, and who takes part.

use evaltasks_core::competition::{Competition, Submission, Subnet};

use super::{Plan, RoundError};

/// The competition that was asked for, else those that the schedule has at the
/// plan's block.
pub fn competitions<'a>(plan: &Plan<'a>) -> Result<Vec<&'a Competition>, RoundError> {
    competitions_of(plan.subnet, plan.block, plan.only)
}

/// The competition that is named, else those that the schedule has at a block.
///
/// # Errors
/// When there is none.
pub fn competitions_of<'a>(
    subnet: &'a Subnet,
    block: u64,
    only: Option<&str>,
) -> Result<Vec<&'a Competition>, RoundError> {
    let all = &subnet.competitions;
    if let Some(wanted) = only {
        let found = all.iter().find(|one| one.key == wanted || one.id.to_string() == wanted);
        return found.map(|one| vec![one]).ok_or_else(|| {
            let known: Vec<_> = all.iter().map(|one| format!("{} ({})", one.key, one.id)).collect();
            RoundError::UnknownCompetition { wanted: wanted.to_owned(), known: known.join(", ") }
        });
    }
    let active = subnet.competitions_at(block);
    if active.is_empty() {
        let first = subnet.schedule.first().map_or(0, |entry| entry.from_block);
        return Err(RoundError::NothingScheduled { block, first });
    }
    Ok(active)
}

/// Everything submitted to a competition, the earliest first. No two share a
/// uid, so the order is the same however the submissions were given.
pub fn submissions<'a>(
    submissions: &'a [Submission],
    competition: &Competition,
) -> Vec<&'a Submission> {
    let mut entered: Vec<_> = submissions
        .iter()
        .filter(|one| one.competition.as_ref().is_none_or(|key| *key == competition.key))
        .collect();
    entered.sort_by_key(|one| (one.block, one.extrinsic_index, one.uid));
    entered
}

/// The first block at which a submission counts.
pub fn counts_from(submission: &Submission, competition: &Competition) -> u64 {
    submission.block.saturating_add(competition.evaluation.delay_blocks)
}

/// The first block at which the schedule has a competition and all of
/// `submissions` count.
pub fn default_block(subnet: &Subnet, submissions: &[Submission]) -> u64 {
    let scheduled = subnet.schedule.first().map(|entry| entry.from_block);
    let counting = subnet.competitions.iter().flat_map(|competition| {
        self::submissions(submissions, competition)
            .into_iter()
            .map(|submission| counts_from(submission, competition))
    });
    counting.chain(scheduled).max().unwrap_or(0)
}
