/// Spreads a number over 64 bits, so that neighbours have nothing in common. Not
/// cryptographic.
///
/// Source: SplitMix64 (Steele, Lea, Flood 2014), whose next output after the
/// state `word` this is.
pub fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of the generator's reference code, seeded with
    /// 1234567.
    #[test]
    fn outputs_are_those_of_the_reference() {
        const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
        let outputs: Vec<u64> =
            (0..3).map(|step| mix(GAMMA.wrapping_mul(step).wrapping_add(1_234_567))).collect();
        assert_eq!(
            outputs,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423,]
        );
    }
}
