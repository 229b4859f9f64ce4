//! The sanity gate: a model that generates the same text for everything, or
//! one token over and over, is out, however low its loss.
//!
//! From the first 100 tokens of two sequences, 20 tokens each are generated
//! greedily. A model fails when 10 or more positions of the two are equal, or
//! when in both one token occurs more than 10 times.
//!
//! Source: the Python validator's `check_for_reasonable_output`.

use evaltasks_core::task::{
    Answer, Ask, Generate, Measure, Operation, Part, Prompt, Request, TaskError,
};

use super::GATE;

const PROMPT_TOKENS: usize = 100;
const GENERATED_TOKENS: u32 = 20;
const FAILING_EQUAL_TOKENS: usize = 10;
const MAX_REPEATS: usize = 10;

const EQUAL_TOKENS: &str = "gate_equal_tokens";
const REPEATS: [&str; 2] = ["gate_repeats_first", "gate_repeats_second"];

/// The gate's row, from the first two sequences.
pub(super) fn ask(sequences: &[Vec<u32>]) -> Result<Ask, TaskError> {
    let [first, second, ..] = sequences else {
        let advice = "the sanity gate needs two sequences, and the texts fill one; draw more rows";
        return Err(TaskError::Data(advice.to_owned()));
    };
    let requests = [first, second].into_iter().zip(0..).map(|(sequence, key)| {
        let tokens = sequence.iter().copied().take(PROMPT_TOKENS).collect();
        let operation = Operation::GenerateUntil(Generate {
            prompt: Prompt::Raw(vec![Part::Tokens(tokens)]),
            min_tokens: GENERATED_TOKENS,
            max_tokens: GENERATED_TOKENS,
            stop: Vec::new(),
            temperature: 0.0,
            top_p: 1.0,
            samples: 1,
            extra: String::new(),
        });
        Request { key, operation }
    });
    Ok(Ask { state: GATE.to_vec(), requests: requests.collect() })
}

/// How alike and how repetitive the two texts are.
pub(super) fn measure(answers: &[&Answer]) -> Result<Vec<Measure>, TaskError> {
    let [first, second] = answers else {
        return Err(TaskError::Internal(format!("{} answers of 2", answers.len())));
    };
    let (first, second) = (generated(first)?, generated(second)?);
    let equal = first.iter().zip(second).filter(|(a, b)| a == b).count();
    let counts = [equal, most_repeats(first), most_repeats(second)];
    let names = [EQUAL_TOKENS].into_iter().chain(REPEATS);
    let measures = names.zip(counts).map(|(name, count)| Measure {
        name: name.to_owned(),
        value: count as f64,
        weight: 1.0,
    });
    Ok(measures.collect())
}

/// Whether a model's samples pass.
pub(super) fn check(samples: &[Vec<Measure>]) -> Result<(), TaskError> {
    let find = |name: &str| {
        let measure = samples.iter().flatten().find(|measure| measure.name == name);
        // Without the row, nothing says that the model is sane.
        measure
            .map(|measure| measure.value)
            .ok_or_else(|| TaskError::Internal(format!("the gate's row has no {name}")))
    };
    let equal = find(EQUAL_TOKENS)?;
    if equal >= FAILING_EQUAL_TOKENS as f64 {
        return Err(TaskError::Disqualified(format!(
            "two prompts were continued alike, {equal} of {GENERATED_TOKENS} tokens; \
             fewer than {FAILING_EQUAL_TOKENS} may be equal"
        )));
    }
    let [first, second] = [find(REPEATS[0])?, find(REPEATS[1])?];
    if first.min(second) > MAX_REPEATS as f64 {
        return Err(TaskError::Disqualified(format!(
            "two continuations of {GENERATED_TOKENS} tokens hold one token {first} and {second} \
             times; one of them may hold it more than {MAX_REPEATS} times"
        )));
    }
    Ok(())
}

fn generated(answer: &Answer) -> Result<&[u32], TaskError> {
    match answer {
        Answer::Texts(texts) => match texts.as_slice() {
            [text] if text.tokens.len() == GENERATED_TOKENS as usize => Ok(&text.tokens),
            [text] => Err(TaskError::Internal(format!(
                "{} tokens were generated of {GENERATED_TOKENS}",
                text.tokens.len()
            ))),
            texts => Err(TaskError::Internal(format!("{} texts were generated of 1", texts.len()))),
        },
        _ => Err(TaskError::Internal("generation was answered with something else".to_owned())),
    }
}

/// How often the most frequent token occurs.
fn most_repeats(tokens: &[u32]) -> usize {
    let occurrences = |token| tokens.iter().filter(|&other| other == token).count();
    tokens.iter().map(occurrences).max().unwrap_or(0)
}
