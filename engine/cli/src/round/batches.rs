//! Operations in batches, after each of which answers are recorded.

use std::ops::Range;

use evaltasks_core::backend::BatchSize;
use evaltasks_core::task::Operation;

/// Bytes of text that a token stands for, about.
const BYTES_PER_TOKEN: u64 = 4;
/// Tokens that a blob stands for, about: the patches of an image.
const TOKENS_PER_BLOB: u64 = 256;

/// Cuts operations into batches, in order, each of which has at least the
/// given size, but for the last. A function of the operations alone: where a
/// batch ends does not depend on which answers are known.
pub fn batches(operations: &[&Operation], size: BatchSize) -> Vec<Range<usize>> {
    let group = size.generations.max(1) as u64;
    let mut batches = Vec::new();
    let (mut start, mut tokens, mut texts) = (0, 0_u64, 0_u64);
    for (index, operation) in operations.iter().enumerate() {
        let more = generated_texts(operation);
        // Texts that fit into the group that was begun belong to it.
        let begun = texts % group;
        let joins = more > 0 && begun > 0 && begun + more <= group;
        if index > start && tokens >= size.tokens && !joins {
            batches.push(start..index);
            (start, tokens, texts) = (index, 0, 0);
        }
        tokens = tokens.saturating_add(about_tokens(operation));
        texts = texts.saturating_add(more);
    }
    if start < operations.len() {
        batches.push(start..operations.len());
    }
    batches
}

/// Tokens that an operation takes, about.
pub fn about_tokens(operation: &Operation) -> u64 {
    let (tokens, bytes) = operation.size();
    let given = tokens as u64 + bytes as u64 / BYTES_PER_TOKEN;
    let blobs = operation.blobs().len() as u64 * TOKENS_PER_BLOB;
    let generated = match operation {
        Operation::GenerateUntil(asked) => generated_texts(operation) * u64::from(asked.max_tokens),
        _ => 0,
    };
    given.saturating_add(blobs).saturating_add(generated).max(1)
}

fn generated_texts(operation: &Operation) -> u64 {
    match operation {
        Operation::GenerateUntil(asked) => asked.samples.max(1).into(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use evaltasks_core::task::{Generate, Part, Prompt};

    use super::*;

    fn tokens(count: usize) -> Operation {
        Operation::TokenLoss(vec![0; count])
    }

    fn generate(samples: u32) -> Operation {
        Operation::GenerateUntil(Generate {
            prompt: Prompt::Raw(vec![Part::Text("four".to_owned())]),
            min_tokens: 0,
            max_tokens: 9,
            stop: vec![],
            temperature: 0.0,
            top_p: 1.0,
            samples,
            extra: String::new(),
        })
    }

    #[test]
    fn batches_are_large_enough_and_keep_generations_together() {
        let size = |tokens, generations| BatchSize { tokens, generations };
        let rows: [(Vec<Operation>, BatchSize, &[usize]); 9] = [
            (vec![], size(5, 1), &[]),
            (vec![tokens(9)], size(5, 1), &[1]),
            (vec![tokens(2), tokens(2), tokens(2), tokens(2)], size(4, 1), &[2, 4]),
            (vec![tokens(2), tokens(1), tokens(2), tokens(2)], size(4, 1), &[3, 4]),
            (vec![tokens(1); 4], size(0, 1), &[1, 2, 3, 4]),
            (vec![tokens(1); 4], BatchSize::WHOLE, &[4]),
            // 10 tokens each.
            (vec![generate(1); 7], size(10, 3), &[3, 6, 7]),
            (vec![generate(2); 4], size(10, 3), &[1, 2, 3, 4]),
            ([vec![generate(1)], vec![tokens(1); 2]].concat(), size(10, 3), &[1, 3]),
        ];
        for (operations, size, ends) in rows {
            let operations: Vec<&Operation> = operations.iter().collect();
            let batches = batches(&operations, size);
            assert_eq!(batches.iter().map(|batch| batch.end).collect::<Vec<_>>(), ends);
            let starts: Vec<usize> = batches.iter().map(|batch| batch.start).collect();
            assert_eq!(starts, [&[0], ends].concat()[..ends.len()]);
        }
    }
}
