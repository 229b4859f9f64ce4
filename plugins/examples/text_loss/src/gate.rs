//! The sanity gate; its rule is the engine's own file.

use super::*;
use rule::{GENERATED_TOKENS, MEASURES, PROMPT_TOKENS, TOO_FEW};

#[path = "../../../../tasks/src/text_loss/gate_rule.rs"]
mod rule;

pub(super) fn ask(sequences: &[Vec<u32>]) -> Result<Step<State>, Error> {
    let [first, second, ..] = sequences else {
        return Err(Error::Data(TOO_FEW.to_owned()));
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
    Ok(Step::ask(State::Gate, requests))
}

pub(super) fn measures(responses: &[Response]) -> Result<Vec<Measure>, Error> {
    let [first, second] = [text(responses, 0)?, text(responses, 1)?];
    let values = rule::measure(&first.tokens, &second.tokens);
    Ok(MEASURES.iter().zip(values).map(|(name, value)| Measure::new(name, value)).collect())
}

pub(super) fn check(samples: &[Vec<Measure>]) -> Result<(), Error> {
    let find = |name| {
        let found = metrics::values(name, samples).next();
        found.ok_or_else(|| Error::Internal(format!("the gate's row has no {name}")))
    };
    let [equal, first, second] = MEASURES;
    match rule::fault([find(equal)?, find(first)?, find(second)?]) {
        Some(fault) => Err(Error::Disqualified(fault)),
        None => Ok(()),
    }
}
