//! The demonstration's best model and its tokenizer against transformers in
//! `f64` and the Python tokenizer library.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use evaltasks_core::backend::{Backend, RunControl, Tokenizer};
use evaltasks_core::host::Ragged;
use evaltasks_core::model::ModelConstraints;
use evaltasks_core::task::{Answer, Generate, Loglikelihood, Operation, Part, Prompt, Text};
use evaltasks_inference::{
    BackendOptions, CandleBackend, DeviceChoice, HuggingFaceTokenizer, Instructions, MemoryLimit,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    model: String,
    sequences: Vec<Sequence>,
    tokenizer_cases: Vec<TokenizerCase>,
}

#[derive(Deserialize)]
struct Sequence {
    tokens: Vec<u32>,
    token_losses: Vec<f64>,
    prompt_length: usize,
    greedy_continuation: Vec<u32>,
}

#[derive(Deserialize)]
struct TokenizerCase {
    text: String,
    tokens: Vec<u32>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn reference() -> Reference {
    let path = root().join("tests/fixtures/tiny-reference.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn tokenizer() -> Arc<HuggingFaceTokenizer> {
    Arc::new(HuggingFaceTokenizer::open(&root().join("competitions/demo/tokenizer")).unwrap())
}

fn answers(operations: &[Operation]) -> Vec<Answer> {
    answers_with(tokenizer(), operations)
}

fn answers_with(tokenizer: Arc<dyn Tokenizer>, operations: &[Operation]) -> Vec<Answer> {
    let options = BackendOptions {
        device: DeviceChoice::Cpu,
        threads: 2,
        instructions: Instructions::detect(),
        memory: MemoryLimit::Free,
    };
    let backend = CandleBackend::new(options).unwrap();
    let directory = root().join("competitions/demo/models").join(reference().model);
    let constraints = ModelConstraints::default();
    let control = RunControl::default();
    let checkpoint = backend.inspect(&directory).unwrap();
    let mut model = backend.load(&checkpoint, &constraints, tokenizer, &control).unwrap();
    model.run(&operations.iter().collect::<Vec<_>>(), &control).unwrap()
}

fn logprob(answer: &Answer) -> f64 {
    match answer {
        Answer::Spans(spans) => spans[0].logprob,
        other => panic!("{other:?}"),
    }
}

#[test]
fn texts_have_the_tokens_of_the_python_library() {
    let tokenizer = tokenizer();
    let cases = reference().tokenizer_cases;
    assert!(!cases.is_empty());
    for case in cases {
        let found = tokenizer.encode(std::slice::from_ref(&case.text), true).unwrap();
        assert_eq!(found.data, case.tokens, "{:?}", case.text);
        let decoded: u64 = tokenizer.byte_count(&case.tokens).unwrap();
        let plain = tokenizer.decode(&found).unwrap();
        assert_eq!(decoded, plain[0].len() as u64, "bytes of {:?}", case.text);
    }
}

#[test]
fn losses_and_greedy_text_are_those_of_transformers() {
    let sequences = reference().sequences;
    let operations: Vec<Operation> = sequences
        .iter()
        .flat_map(|sequence| {
            let prompt = sequence.tokens[..sequence.prompt_length].to_vec();
            let count = sequence.greedy_continuation.len() as u32;
            [
                Operation::TokenLoss(sequence.tokens.clone()),
                Operation::GenerateUntil(Generate {
                    prompt: Prompt::Raw(vec![Part::Tokens(prompt)]),
                    min_tokens: count,
                    max_tokens: count,
                    stop: Vec::new(),
                    temperature: 0.0,
                    top_p: 1.0,
                    samples: 1,
                    extra: String::new(),
                }),
            ]
        })
        .collect();
    for (pair, sequence) in answers(&operations).chunks(2).zip(&sequences) {
        let [Answer::Spans(spans), Answer::Texts(texts)] = pair else { panic!("{pair:?}") };
        assert_eq!(spans[0].per_token.len(), sequence.token_losses.len());
        for (found, expected) in spans[0].per_token.iter().zip(&sequence.token_losses) {
            assert!((f64::from(*found) + expected).abs() < 1e-4, "{found} {expected}");
        }
        assert_eq!(texts[0].tokens, sequence.greedy_continuation);
    }
}

/// What is asked in one request shares the context's computation; what is
/// asked apart does not. The bits are the same.
#[test]
fn shared_contexts_change_nothing() {
    let context = "It was a dark evening, and the whole party were assembled in the drawing-room, ";
    let choices = ["when the door opened.", "when the", " x", "int main(void){ return 0; }"];
    let ask = |choices: &[&str]| {
        Operation::Loglikelihood(Loglikelihood {
            context: Prompt::Raw(vec![Part::Text(context.to_owned())]),
            continuations: choices.iter().map(|&text| Part::Text(text.to_owned())).collect(),
            per_token: true,
        })
    };
    let together = answers(&[ask(&choices)]);
    let Answer::Spans(together) = &together[0] else { panic!("{together:?}") };
    assert_eq!(together.len(), choices.len());
    for (span, choice) in together.iter().zip(choices) {
        let alone = answers(&[ask(&[choice])]);
        let Answer::Spans(alone) = &alone[0] else { panic!("{alone:?}") };
        assert_eq!(span, &alone[0], "{choice}");
        assert!(span.logprob < 0.0 && span.tokens > 0);
    }
}

/// What a model cannot do fails that request alone, with the reason.
#[test]
fn requests_that_cannot_be_answered_say_why() {
    let generate = |max_tokens| {
        Operation::GenerateUntil(Generate {
            prompt: Prompt::Raw(vec![Part::Tokens(vec![5, 6])]),
            min_tokens: 0,
            max_tokens,
            stop: Vec::new(),
            temperature: 0.0,
            top_p: 1.0,
            samples: 1,
            extra: String::new(),
        })
    };
    let cases = [
        (Operation::TokenLoss(vec![1, 99_999]), "token 99999 is outside the model's vocabulary"),
        (Operation::TokenLoss(vec![1]), "fewer than two tokens"),
        (Operation::TokenLoss(vec![1; 257]), "longer than the 256 that the model reads"),
        (generate(256), "256 tokens are asked for"),
        (generate(u32::MAX), "the limit is"),
    ];
    let mut operations: Vec<Operation> = cases.iter().map(|(asked, _)| asked.clone()).collect();
    operations.push(Operation::TokenLoss(vec![1, 2, 3]));
    let found = answers(&operations);
    for (answer, (_, expected)) in found.iter().zip(&cases) {
        let Answer::Failed(reason) = answer else { panic!("{answer:?}") };
        assert!(reason.contains(expected), "{reason}");
    }
    assert!(logprob(&found[cases.len()]) < 0.0, "the others are answered");
}

/// Windows of a document that fits are one; of a longer one every token counts
/// once.
#[test]
fn rolling_windows_count_every_token_once() {
    let tokens: Vec<u32> = reference().sequences[0].tokens.clone();
    let long: Vec<u32> = tokens.iter().cycle().take(3 * 256 + 17).copied().collect();
    let rolling = |ids: &[u32]| Operation::LoglikelihoodRolling(Part::Tokens(ids.to_vec()));
    let with_prefix: Vec<u32> = std::iter::once(0).chain(tokens.iter().copied()).collect();
    let found = answers(&[rolling(&tokens), Operation::TokenLoss(with_prefix), rolling(&long)]);
    assert_eq!(logprob(&found[0]).to_bits(), logprob(&found[1]).to_bits());
    let Answer::Spans(spans) = &found[2] else { panic!("{found:?}") };
    assert_eq!(spans[0].tokens as usize, long.len());
}

/// A request for `count` tokens after the first sequence's prompt.
fn generate(count: u32, temperature: f32, top_p: f32, samples: u32, stop: &[&str]) -> Operation {
    let sequence = reference().sequences.swap_remove(0);
    let prompt = sequence.tokens[..sequence.prompt_length].to_vec();
    Operation::GenerateUntil(Generate {
        prompt: Prompt::Raw(vec![Part::Tokens(prompt)]),
        min_tokens: 0,
        max_tokens: count,
        stop: stop.iter().map(|&text| text.to_owned()).collect(),
        temperature,
        top_p,
        samples,
        extra: String::new(),
    })
}

fn texts(answer: &Answer) -> &[Text] {
    match answer {
        Answer::Texts(texts) => texts,
        other => panic!("{other:?}"),
    }
}

/// The same request draws the same, alone or among more prompts than run at
/// once; samples differ; a nucleus of one token is the greedy text.
#[test]
fn sampled_texts_depend_on_their_request_alone() {
    let sampled = generate(12, 1.0, 0.95, 4, &[]);
    let alone = answers(std::slice::from_ref(&sampled));
    let mut crowd: Vec<Operation> =
        (1..60).map(|n| generate(n % 7 + 1, 0.5, 0.9, 1, &[])).collect();
    crowd.push(sampled);
    let together = answers(&crowd);
    assert_eq!(together.last(), alone.first());
    let samples = texts(&alone[0]);
    assert_eq!(samples.len(), 4);
    for (index, sample) in samples.iter().enumerate() {
        assert!(samples[..index].iter().all(|other| other.tokens != sample.tokens));
    }
    let found = answers(&[generate(12, 0.0, 1.0, 1, &[]), generate(12, 1.0, 0.0, 1, &[])]);
    assert_eq!(texts(&found[0])[0].tokens, texts(&found[1])[0].tokens);
}

/// A stop text ends the text where it begins, though it spans two tokens.
#[test]
fn stop_texts_span_tokens() {
    let whole = answers(&[generate(12, 0.0, 1.0, 1, &[])]);
    let whole = &texts(&whole[0])[0];
    let mut ids = Ragged::default();
    ids.push(&whole.tokens[..4]);
    ids.push(&whole.tokens[4..6]);
    let [before, after] = tokenizer().decode(&ids).unwrap().try_into().unwrap();
    // From the last character of one token to the first of the next.
    let last = before.chars().last().unwrap();
    let stop: String = std::iter::once(last).chain(after.chars().take(1)).collect();
    let at = whole.text.find(&stop).unwrap();
    let stopped = answers(&[generate(12, 0.0, 1.0, 1, &[&stop])]);
    let stopped = &texts(&stopped[0])[0];
    assert_eq!((stopped.text.as_str(), stopped.finish.as_str()), (&whole.text[..at], "stop"));
    assert!(stopped.tokens.len() < whole.tokens.len());
}

/// A tokenizer whose end of sequence reads as a text that the model writes
/// with other tokens.
struct SpelledEnd(Arc<HuggingFaceTokenizer>, String);

impl Tokenizer for SpelledEnd {
    fn digest(&self) -> &str {
        self.0.digest()
    }
    fn vocabulary_size(&self) -> u32 {
        self.0.vocabulary_size()
    }
    fn encode(&self, texts: &[String], special: bool) -> Result<Ragged, String> {
        self.0.encode(texts, special)
    }
    fn decode(&self, ids: &Ragged) -> Result<Vec<String>, String> {
        self.0.decode(ids)
    }
    fn byte_count(&self, ids: &[u32]) -> Result<u64, String> {
        self.0.byte_count(ids)
    }
    fn beginning_of_sequence(&self) -> Option<u32> {
        self.0.beginning_of_sequence()
    }
    fn end_of_sequence(&self) -> Option<u32> {
        self.0.end_of_sequence()
    }
    fn end_of_sequence_text(&self) -> Option<String> {
        Some(self.1.clone())
    }
}

/// The end-of-sequence text joins the stops, as in lm-evaluation-harness.
#[test]
fn texts_end_where_the_end_of_sequence_is_spelled() {
    assert_eq!(tokenizer().end_of_sequence_text().as_deref(), Some("<|endoftext|>"));
    let request = [generate(12, 0.0, 1.0, 1, &[])];
    let whole = texts(&answers(&request)[0])[0].text.clone();
    let at = whole.char_indices().nth(9).unwrap().0;
    let end: String = whole[at..].chars().take(3).collect();
    let cut = answers_with(Arc::new(SpelledEnd(tokenizer(), end.clone())), &request);
    let cut = &texts(&cut[0])[0];
    let expected = &whole[..whole.find(&end).unwrap()];
    assert_eq!((cut.text.as_str(), cut.finish.as_str()), (expected, "stop"));
}
