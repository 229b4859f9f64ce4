//! What a node's transaction pool says when it does not take an extrinsic.

use evaltasks_core::chain::ExtrinsicRefusal;

/// How the pool begins to tell a number of the runtime's own.
const CUSTOM: &str = "Custom error: ";

/// The reason that an error of the node means.
///
/// Source: `sc-rpc-api`'s `author::error` for the codes, `sp-runtime`'s
/// `transaction_validity` for the words.
pub fn rejection(code: i32, message: &str, data: Option<&str>) -> ExtrinsicRefusal {
    use ExtrinsicRefusal::*;
    match code {
        1010 | 1011 => invalid(data.unwrap_or(message)),
        1012 => Banned,
        1013 => AlreadyImported,
        1014 => PriorityTooLow,
        1016 => Dropped,
        _ => Other(short(&match data {
            Some(data) => format!("{message}: {data} ({code})"),
            None => format!("{message} ({code})"),
        })),
    }
}

fn invalid(words: &str) -> ExtrinsicRefusal {
    use ExtrinsicRefusal::*;
    if let Some(code) = words.strip_prefix(CUSTOM).and_then(|code| code.trim().parse().ok()) {
        return Custom(code);
    }
    match words {
        "Transaction is outdated" => Stale,
        "Transaction will be valid in the future" => Future,
        "Transaction has a bad signature" => BadProof,
        "Transaction has an ancient birth block" => AncientBirthBlock,
        "Inability to pay some fees (e.g. account balance too low)" => Payment,
        "Transaction would exhaust the block limits" => ExhaustsResources,
        "Transaction call is not expected" => NotAllowed("Call"),
        "Invalid signing address" => NotAllowed("BadSigner"),
        words => Other(short(words)),
    }
}

/// What a node says may be of any length.
fn short(words: &str) -> String {
    const MAX_CHARACTERS: usize = 200;
    words.chars().take(MAX_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_pool_means() {
        use ExtrinsicRefusal::*;
        let invalid = "Invalid Transaction";
        let rows = [
            (1010, invalid, Some("Custom error: 6"), Custom(6)),
            (1010, invalid, Some("Custom error: 255"), Custom(255)),
            (1010, invalid, Some("Custom error: 256"), Other("Custom error: 256".to_owned())),
            (1010, invalid, Some("Transaction is outdated"), Stale),
            (1010, invalid, Some("Transaction has a bad signature"), BadProof),
            (
                1010,
                invalid,
                Some("Inability to pay some fees (e.g. account balance too low)"),
                Payment,
            ),
            (1010, invalid, None, Other(invalid.to_owned())),
            (1012, "Transaction is temporarily banned", None, Banned),
            (1013, "Transaction Already Imported", None, AlreadyImported),
            (1014, "Priority is too low: (1 vs 2)", Some("..."), PriorityTooLow),
            (1016, "Immediately Dropped", None, Dropped),
            (-32000, "odd", Some("thing"), Other("odd: thing (-32000)".to_owned())),
            (-32000, &"a".repeat(500), None, Other("a".repeat(200))),
        ];
        for (code, message, data, expected) in rows {
            assert_eq!(rejection(code, message, data), expected, "{code} {message} {data:?}");
        }
    }
}
