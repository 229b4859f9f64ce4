//! The sanity gate of `text_loss`; see there.

use super::*;

const PROMPT_TOKENS: usize = 100;
const GENERATED_TOKENS: u32 = 20;
const FAILING_EQUAL_TOKENS: f64 = 10.0;
const MAX_REPEATS: f64 = 10.0;
const NAMES: [&str; 3] = ["gate_equal_tokens", "gate_repeats_first", "gate_repeats_second"];

pub(super) fn ask(sequences: &[Vec<u32>]) -> Result<Step<State>, Error> {
    let [first, second, ..] = sequences else {
        return Err(Error::Data("the sanity gate needs two sequences".to_owned()));
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

pub(super) fn measures(answers: &[&Answer]) -> Result<Vec<Measure>, Error> {
    let [Answer::Texts(first), Answer::Texts(second)] = answers else {
        return Err(Error::Internal("the gate was answered otherwise".to_owned()));
    };
    let ([first], [second]) = (first.as_slice(), second.as_slice()) else {
        return Err(Error::Internal("the gate has not one text per request".to_owned()));
    };
    let (first, second) = (&first.tokens, &second.tokens);
    let equal = first.iter().zip(second).filter(|(a, b)| a == b).count();
    let repeats = |tokens: &[u32]| {
        let count = |token| tokens.iter().filter(|&other| other == token).count();
        tokens.iter().map(count).max().unwrap_or(0)
    };
    let counts = [equal, repeats(first), repeats(second)];
    let measures = NAMES.iter().zip(counts);
    Ok(measures.map(|(name, count)| Measure::new(name, count as f64)).collect())
}

pub(super) fn check(samples: &[Vec<Measure>]) -> Result<(), Error> {
    let find = |name| {
        let found = metrics::values(name, samples).next();
        found.ok_or_else(|| Error::Internal(format!("the gate's row has no {name}")))
    };
    let [equal, first, second] = [find(NAMES[0])?, find(NAMES[1])?, find(NAMES[2])?];
    if equal >= FAILING_EQUAL_TOKENS {
        return Err(Error::Disqualified(format!("{equal} tokens of two texts are equal")));
    }
    if first.min(second) > MAX_REPEATS {
        return Err(Error::Disqualified(format!(
            "two texts hold one token {first} and {second} times"
        )));
    }
    Ok(())
}
