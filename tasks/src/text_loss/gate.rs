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
use super::gate_rule::{GENERATED_TOKENS, MEASURES, PROMPT_TOKENS, TOO_FEW, fault};

/// The gate's row, from the first two sequences.
pub(super) fn ask(sequences: &[Vec<u32>]) -> Result<Ask, TaskError> {
    let [first, second, ..] = sequences else {
        return Err(TaskError::Data(TOO_FEW.to_owned()));
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
    let values = super::gate_rule::measure(generated(first)?, generated(second)?);
    let measures = MEASURES.iter().zip(values).map(|(&name, value)| Measure {
        name: name.to_owned(),
        value,
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
    let [equal, first, second] = MEASURES;
    match fault([find(equal)?, find(first)?, find(second)?]) {
        Some(fault) => Err(TaskError::Disqualified(fault)),
        None => Ok(()),
    }
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
