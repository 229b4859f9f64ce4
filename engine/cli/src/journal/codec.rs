//! Answers as bytes, and what tells that they are still the same.

use evaltasks_core::state::{RequestDigest, Respondent};
use evaltasks_core::task::Answer;
use sha2::{Digest, Sha256};

/// Begins every answer; changes with the layout of [`Answer`].
const FORMAT: u8 = 1;
/// Separates these digests from every other use of SHA-256.
const DOMAIN: &[u8] = b"evaltasks recorded answer 1\0";

/// In a format in which every number is its bits.
pub fn encode(answer: &Answer) -> Option<Vec<u8>> {
    postcard::to_extend(answer, vec![FORMAT]).ok()
}

/// None for what [`encode`] does not write.
pub fn decode(bytes: &[u8]) -> Option<Answer> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => postcard::from_bytes(rest).ok(),
        _ => None,
    }
}

/// SHA-256 over an answer and all that it was recorded under.
pub fn checksum(of: &Respondent, request: &RequestDigest, cost_us: i64, answer: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(DOMAIN);
    for text in [&of.model_sha256, &of.backend] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.update(request);
    hash.update(cost_us.to_le_bytes());
    hash.update(answer);
    hash.finalize().into()
}

#[cfg(test)]
pub(super) mod tests {
    use evaltasks_core::content::Content;
    use evaltasks_core::task::{Blob, Custom, Label, Span, Text};

    use super::*;

    /// One answer of every kind, with numbers that a text would round.
    pub fn answers() -> Vec<Answer> {
        let span = |logprob, per_token: &[f32]| Span {
            logprob,
            tokens: 300,
            bytes: u32::MAX,
            greedy: true,
            per_token: per_token.to_vec(),
        };
        let media = "text/plain".to_owned();
        let blob = Blob { id: 1, length: 2, media, content: Content::default() };
        vec![
            Answer::Spans(vec![]),
            Answer::Spans(vec![
                span(-0.1 - 0.2, &[-1.0 / 3.0, -0.0, f32::MIN_POSITIVE, -1e-45]),
                span(-0.0, &[]),
            ]),
            Answer::Texts(vec![Text {
                text: "ä\0".to_owned(),
                finish: "stop".to_owned(),
                tokens: vec![0, 128, u32::MAX],
            }]),
            Answer::Labels(vec![Label { index: 7, score: 0.1 }]),
            Answer::Custom(Custom {
                kind: "transcribe".to_owned(),
                json: "{}".to_owned(),
                blobs: vec![blob],
            }),
            Answer::Failed("too long".to_owned()),
        ]
    }

    #[test]
    fn answers_come_back_bit_by_bit() {
        for answer in answers() {
            let bytes = encode(&answer).unwrap();
            // Bits, where equality of numbers is not enough: 0 and -0.
            assert_eq!(format!("{:?}", decode(&bytes).unwrap()), format!("{answer:?}"));
            for length in 0..bytes.len() {
                let cut = decode(&bytes[..length]);
                assert_ne!(cut.as_ref(), Some(&answer), "cut at {length}");
            }
            let mut other = bytes.clone();
            other[0] += 1;
            assert_eq!(decode(&other), None);
        }
    }

    /// Journals outlive programs. A difference here needs another `FORMAT`.
    #[test]
    fn the_format_stays_what_it_is() {
        let lines: Vec<String> =
            answers().iter().map(|answer| hex::encode(encode(answer).unwrap())).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
