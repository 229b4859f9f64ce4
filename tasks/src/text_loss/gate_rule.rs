//! The sanity gate's rule, on tokens alone. The same task as a plugin, in
//! `plugins/examples/text_loss`, is compiled with this very file.

/// Tokens of each prompt at most.
pub const PROMPT_TOKENS: usize = 100;
/// Tokens that are generated after each.
pub const GENERATED_TOKENS: u32 = 20;
/// Names of the measures: equal positions, and how often the most frequent
/// token of each text occurs.
pub const MEASURES: [&str; 3] = ["gate_equal_tokens", "gate_repeats_first", "gate_repeats_second"];
/// Said when there are not two sequences to make prompts of.
pub const TOO_FEW: &str =
    "the sanity gate needs two sequences, and the texts fill one; draw more rows";

const FAILING_EQUAL_TOKENS: f64 = 10.0;
const MAX_REPEATS: f64 = 10.0;

/// The values of [`MEASURES`] for two generated texts.
pub fn measure(first: &[u32], second: &[u32]) -> [f64; 3] {
    let equal = first.iter().zip(second).filter(|(a, b)| a == b).count();
    [equal, most_repeats(first), most_repeats(second)].map(|count| count as f64)
}

/// Why a model with these values is out; none when it passes.
pub fn fault([equal, first, second]: [f64; 3]) -> Option<String> {
    if equal >= FAILING_EQUAL_TOKENS {
        return Some(format!(
            "two prompts were continued alike, {equal} of {GENERATED_TOKENS} tokens; \
             fewer than {FAILING_EQUAL_TOKENS} may be equal"
        ));
    }
    (first.min(second) > MAX_REPEATS).then(|| {
        format!(
            "two continuations of {GENERATED_TOKENS} tokens hold one token {first} and {second} \
             times; one of them may hold it more than {MAX_REPEATS} times"
        )
    })
}

/// How often the most frequent token occurs.
fn most_repeats(tokens: &[u32]) -> usize {
    let occurrences = |token| tokens.iter().filter(|&other| other == token).count();
    tokens.iter().map(occurrences).max().unwrap_or(0)
}
