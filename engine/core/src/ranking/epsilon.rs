use crate::competition::Epsilon;

/// The fraction by which the loss of a submission of `block` is reduced
/// against later ones: `start - min(age / blocks, 1) * (start - end)`, where
/// the age is `current_block - block`, or 0 for a block to come.
pub fn epsilon_at(epsilon: &Epsilon, current_block: u64, block: u64) -> f64 {
    let age = current_block.saturating_sub(block) as f64;
    match *epsilon {
        Epsilon::Fixed(fraction) => fraction,
        Epsilon::LinearDecay { start, end, blocks } => decayed(start, end, age / blocks as f64),
    }
}

/// The fraction of a submission as old as can be.
pub fn fully_decayed_epsilon(epsilon: &Epsilon) -> f64 {
    match *epsilon {
        Epsilon::Fixed(fraction) => fraction,
        Epsilon::LinearDecay { start, end, .. } => decayed(start, end, 1.0),
    }
}

/// Not `end` itself when fully decayed, but what the source's arithmetic
/// makes of it: verdicts hang on the last bit of a strict comparison.
fn decayed(start: f64, end: f64, share_of_blocks: f64) -> f64 {
    start - share_of_blocks.min(1.0) * (start - end)
}
