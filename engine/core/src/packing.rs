//! Documents cut into the sequences that a model reads.

use std::num::NonZeroUsize;

/// How documents share sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Documents follow one another, each with one end-of-sequence token, and
    /// the stream is cut; an incomplete last sequence is dropped.
    Joined,
    /// Every document starts a sequence; its last one is filled with
    /// end-of-sequence tokens, and a document that fits exactly gets none.
    Padded,
}

/// Sequences of exactly `sequence_length` tokens.
///
/// An end-of-sequence token within a document ends it there, and the rest is
/// a document of its own; [`Packing::Joined`] gives the same either way.
///
/// Source: the subnet 9 validator's loader, `pack_samples` true and false.
/// Its batches are the whole chunks of `batch_size` sequences.
pub fn pack<'a>(
    documents: impl IntoIterator<Item = &'a [u32]>,
    end_of_sequence: u32,
    sequence_length: NonZeroUsize,
    packing: Packing,
) -> Vec<Vec<u32>> {
    let length = sequence_length.get();
    let mut stream = Vec::new();
    for document in documents {
        match packing {
            Packing::Joined => {
                stream.extend_from_slice(document);
                stream.push(end_of_sequence);
            }
            Packing::Padded => {
                for part in document.split(|&token| token == end_of_sequence) {
                    stream.extend_from_slice(part);
                    stream.resize(stream.len().next_multiple_of(length), end_of_sequence);
                }
            }
        }
    }
    stream.chunks_exact(length).map(<[u32]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::Packing::{Joined, Padded};
    use super::*;

    fn check(documents: &[&[u32]], packing: Packing, expected: &[[u32; 3]]) {
        let length = NonZeroUsize::new(3).unwrap();
        let packed = pack(documents.iter().copied(), 0, length, packing);
        assert_eq!(packed, expected, "{documents:?} {packing:?}");
    }

    #[test]
    fn documents_become_sequences() {
        check(&[], Joined, &[]);
        check(&[&[1, 2]], Joined, &[[1, 2, 0]]);
        check(&[&[1, 2, 3]], Joined, &[[1, 2, 3]]);
        check(&[&[1], &[], &[2, 3]], Joined, &[[1, 0, 0], [2, 3, 0]]);
        check(&[&[1, 0, 2, 3]], Joined, &[[1, 0, 2]]);
        check(&[], Padded, &[]);
        check(&[&[1, 2]], Padded, &[[1, 2, 0]]);
        check(&[&[1, 2, 3], &[], &[4]], Padded, &[[1, 2, 3], [4, 0, 0]]);
        check(&[&[1, 0, 2, 3]], Padded, &[[1, 0, 0], [2, 3, 0]]);
        check(&[&[1, 0]], Padded, &[[1, 0, 0]]);
    }
}
