use crate::random::{Seed, words};

/// How far measured losses are from true ones.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Noise {
    /// Standard deviation of what all models share in a validator's round.
    pub shared: f64,
    /// Standard deviation of what each model has to itself.
    pub own: f64,
}

impl Noise {
    /// What a validator measures of a model in a round:
    /// `loss * (1 + shared z + own z')`, at least 0, where `z` is drawn once for
    /// the round of this seed and validator, and `z'` for each model.
    ///
    /// Models of one name have equal weights, and so equal losses.
    pub fn measured(&self, loss: f64, seed: &Seed, validator: &str, model: &str) -> f64 {
        let shared = self.shared * normal(seed, &format!("rows of {validator}"));
        let own = self.own * normal(seed, &format!("{model} on rows of {validator}"));
        (loss * (1.0 + shared + own)).max(0.0)
    }
}

/// Whether what happens with a chance in [0, 1] happens to a model in a
/// validator's round.
pub fn happens(chance: f64, seed: &Seed, validator: &str, model: &str) -> bool {
    let word = words(seed, "simulated failures", &format!("{model} at {validator}"), 1);
    word.into_iter().all(|word| uniform(word) < chance)
}

/// A draw from a distribution of mean 0 and variance 1 that is close to normal:
/// the sum of twelve uniform numbers less 6 (Irwin and Hall). It takes no
/// function that machines compute differently.
fn normal(seed: &Seed, key: &str) -> f64 {
    let words = words(seed, "simulated losses", key, 12);
    words.into_iter().map(uniform).sum::<f64>() - 6.0
}

/// In [0, 1).
fn uniform(word: u32) -> f64 {
    f64::from(word) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_as_large_as_said() {
        let noise = Noise { shared: 0.03, own: 0.04 };
        let seeds = 0..4000_u64;
        let factors: Vec<f64> =
            seeds.map(|seed| noise.measured(1.0, &Seed::from(seed), "v", "m")).collect();
        let count = factors.len() as f64;
        let mean = factors.iter().sum::<f64>() / count;
        let variance = factors.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / count;
        // sqrt(0.03^2 + 0.04^2) = 0.05; a mean of 4000 is off by 0.0008 or so.
        assert!((mean - 1.0).abs() < 0.004, "{mean}");
        assert!((variance.sqrt() - 0.05).abs() < 0.003, "{}", variance.sqrt());
    }

    #[test]
    fn what_is_shared_cancels_out() {
        let seed = Seed::from(3);
        let measured =
            |noise: Noise, validator, model| noise.measured(2.0, &seed, validator, model);
        let shared = Noise { shared: 0.1, own: 0.0 };
        assert_eq!(measured(shared, "v", "a"), measured(shared, "v", "b"));
        assert_ne!(measured(shared, "v", "a"), measured(shared, "w", "a"));
        let own = Noise { shared: 0.0, own: 0.1 };
        assert_ne!(measured(own, "v", "a"), measured(own, "v", "b"));
        assert_eq!(measured(Noise::default(), "v", "a"), 2.0);
        assert_eq!(measured(Noise { shared: 1e9, own: 1e9 }, "v", "a").min(0.0), 0.0);
    }

    #[test]
    fn chances_are_kept() {
        let happened = |chance| {
            let happens = |seed: &u64| happens(chance, &Seed::from(*seed), "v", "m");
            (0..2000).filter(happens).count()
        };
        assert_eq!((happened(0.0), happened(1.0)), (0, 2000));
        assert!((500..700).contains(&happened(0.3)), "{}", happened(0.3));
    }
}
