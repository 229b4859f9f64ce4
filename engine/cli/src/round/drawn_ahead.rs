//! The data of the next round is drawn while one is held, where rounds follow each
//! other by themselves.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use evaltasks_core::competition::DatasetRules;
use evaltasks_core::random::Seed;
use evaltasks_core::source::{DatasetSource, Drawn, SourceError};

/// A source that may have drawn already what it is asked for. What it gives is
/// what [`DatasetSource::draw`] of the one behind it gives.
pub struct DrawnAhead {
    datasets: Arc<dyn DatasetSource>,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    /// For the round that is held.
    ready: Vec<Found>,
    /// For the one after it.
    coming: Option<Coming>,
}

struct Coming {
    seed: Seed,
    thread: JoinHandle<Vec<Found>>,
}

struct Found {
    rules: DatasetRules,
    seed: Seed,
    drawn: Drawn,
}

impl DrawnAhead {
    /// Nothing is drawn yet.
    pub fn new(datasets: Arc<dyn DatasetSource>) -> DrawnAhead {
        DrawnAhead { datasets, slots: Mutex::default() }
    }

    /// A round of this seed begins: what was drawn ahead by it is for this one, and
    /// `next` is drawn by it for the next.
    pub fn begin(&self, next: Vec<DatasetRules>, seed: &Seed) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let coming = slots.coming.take().filter(|coming| coming.seed == *seed);
        slots.ready = coming.and_then(|coming| coming.thread.join().ok()).unwrap_or_default();
        if next.is_empty() {
            return;
        }
        let (datasets, by) = (Arc::clone(&self.datasets), seed.clone());
        let draw = move || {
            // What fails now is asked for again when it is its turn.
            let found = |rules: DatasetRules| {
                let drawn = datasets.draw(&rules, &by).ok()?;
                Some(Found { rules, seed: by.clone(), drawn })
            };
            next.into_iter().filter_map(found).collect()
        };
        let thread = thread::Builder::new().name("draw ahead".to_owned()).spawn(draw);
        slots.coming = thread.ok().map(|thread| Coming { seed: seed.clone(), thread });
    }
}

impl DatasetSource for DrawnAhead {
    fn draw(&self, rules: &DatasetRules, seed: &Seed) -> Result<Drawn, SourceError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let is_meant = |found: &Found| found.rules == *rules && found.seed == *seed;
        if let Some(at) = slots.ready.iter().position(is_meant) {
            return Ok(slots.ready.swap_remove(at).drawn);
        }
        drop(slots);
        self.datasets.draw(rules, seed)
    }
}

#[cfg(test)]
mod tests {
    use evaltasks_core::competition::Location;
    use evaltasks_core::source::Row;

    use super::*;

    /// Tells what is drawn; what begins with `fails` fails the first time.
    #[derive(Default)]
    struct Counting(Mutex<Vec<String>>);

    impl DatasetSource for Counting {
        fn draw(&self, rules: &DatasetRules, seed: &Seed) -> Result<Drawn, SourceError> {
            let what = format!("{} by {seed}", rules.location);
            let mut drawn = self.0.lock().unwrap();
            drawn.push(what.clone());
            let is_first = drawn.iter().filter(|before| **before == what).count() == 1;
            if what.starts_with("fails") && is_first {
                return Err("read it".into());
            }
            Ok(Drawn { rows: vec![Row { origin: what, json: String::new() }], ..Drawn::default() })
        }
    }

    #[test]
    fn what_is_drawn_ahead_is_what_would_be_drawn() {
        let rules = |path: &str| DatasetRules::all_of(Location::Local(path.into()));
        let all = || ["a", "b", "fails"].map(rules);
        let counting = Arc::new(Counting::default());
        let ahead = DrawnAhead::new(Arc::clone(&counting) as Arc<dyn DatasetSource>);
        let draws = || std::mem::take(&mut *counting.0.lock().unwrap());
        let draw = |path: &str, seed: u64| {
            ahead.draw(&rules(path), &Seed::from(seed)).unwrap().rows[0].origin.clone()
        };
        ahead.begin(all().into(), &Seed::from(1));
        ahead.begin(Vec::new(), &Seed::from(1));
        assert_eq!(draws(), ["a by 1", "b by 1", "fails by 1"]);
        assert_eq!([draw("b", 1), draw("a", 1)], ["b by 1", "a by 1"]);
        assert_eq!(draws(), [""; 0]);
        // Once, and not by another seed; what failed is asked for again.
        assert_eq!([draw("a", 1), draw("b", 2)], ["a by 1", "b by 2"]);
        assert_eq!(draws(), ["a by 1", "b by 2"]);
        ahead.begin(all().into(), &Seed::from(1));
        ahead.begin(Vec::new(), &Seed::from(3));
        assert_eq!(draw("a", 3), "a by 3");
        counting.0.lock().unwrap().push("fails by 4".to_owned());
        assert_eq!(draw("fails", 4), "fails by 4");
    }
}
