//! Where a round's time went, in lines for a terminal.

use std::collections::BTreeMap;

use evaltasks_core::model::group_digits;
use evaltasks_core::results::{FETCH, RunTiming, TaskTiming, WAIT_FOR_DATA};

use super::text;

/// Less than this is not worth a word.
const MIN_SHOWN_SECONDS: f64 = 0.05;

/// A line for every task, over all models, and one before them; nothing when
/// no model was asked.
pub fn render_timing(timing: &RunTiming) -> String {
    // Tasks stay in the order in which they were met.
    let mut order: Vec<(&str, &str)> = Vec::new();
    let mut sums: BTreeMap<(&str, &str), TaskTiming> = BTreeMap::new();
    for one in &timing.tasks {
        let key = (one.competition.as_str(), one.task.as_str());
        let sum = sums.entry(key).or_insert_with(|| {
            order.push(key);
            TaskTiming::default()
        });
        sum.seconds += one.seconds;
        sum.computed_tokens += one.computed_tokens;
        sum.computed_answers += one.computed_answers;
        sum.cached_answers += one.cached_answers;
    }
    if order.is_empty() {
        return String::new();
    }
    let inference: f64 = sums.values().map(|sum| sum.seconds).sum();
    let total = timing.total_seconds;
    let waited = |what: &str, step: &str| {
        let steps = timing.steps.iter().filter(|one| one.step == step);
        let waited: f64 = steps.map(|step| step.seconds).sum();
        if waited < MIN_SHOWN_SECONDS {
            return String::new();
        }
        format!(" and {waited:.1} s of waiting for {what}")
    };
    let waited = waited("models", FETCH) + &waited("data", WAIT_FOR_DATA);
    let mut lines = format!("{total:.1} s, of which {inference:.1} s of inference{waited}:\n");
    for key in order {
        let Some(sum) = sums.get(&key) else { continue };
        let share = if inference > 0.0 { sum.seconds / inference } else { 0.0 };
        lines += &format!(
            "  {}: {:.1} s ({}), {} tokens, {} answers computed and {} from the cache\n",
            text::visible(key.1),
            sum.seconds,
            text::percent(share),
            group_digits(sum.computed_tokens),
            group_digits(sum.computed_answers),
            group_digits(sum.cached_answers),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use evaltasks_core::results::StepTiming;

    #[test]
    fn tasks_are_added_up_over_models() {
        let task = |uid, task: &str, seconds, computed_answers| TaskTiming {
            competition: "c".to_owned(),
            uid,
            task: task.to_owned(),
            seconds,
            computed_tokens: 1000 * computed_answers,
            computed_answers,
            cached_answers: 7,
        };
        let timing = |tasks| RunTiming {
            started_at: String::new(),
            total_seconds: 9.04,
            steps: vec![],
            tasks,
            plugins: vec![],
        };
        let tasks = vec![
            task(1, "prose", 1.5, 2),
            task(1, "co\u{1b}de", 0.5, 1),
            task(2, "prose", 2.0, 3),
            task(2, "co\u{1b}de", 0.0, 0),
        ];
        insta::assert_snapshot!(render_timing(&timing(tasks)), @r"
        9.0 s, of which 4.0 s of inference:
          prose: 3.5 s (87.5%), 5,000 tokens, 5 answers computed and 14 from the cache
          co\u{1b}de: 0.5 s (12.5%), 1,000 tokens, 1 answers computed and 14 from the cache
        ");
        insta::assert_snapshot!(render_timing(&timing(vec![task(1, "prose", 0.0, 0)])), @r"
        9.0 s, of which 0.0 s of inference:
          prose: 0.0 s (0%), 0 tokens, 0 answers computed and 7 from the cache
        ");
        assert_eq!(render_timing(&timing(vec![])), "");
        let step = |step: &str, seconds| StepTiming {
            competition: "c".to_owned(),
            uid: None,
            step: step.to_owned(),
            seconds,
        };
        let waiting = RunTiming {
            steps: vec![step(FETCH, 0.25), step(WAIT_FOR_DATA, 0.3), step(FETCH, 1.0)],
            ..timing(vec![task(1, "prose", 1.5, 2)])
        };
        insta::assert_snapshot!(render_timing(&waiting), @r"
        9.0 s, of which 1.5 s of inference and 1.2 s of waiting for models and 0.3 s of waiting for data:
          prose: 1.5 s (100%), 2,000 tokens, 2 answers computed and 7 from the cache
        ");
    }
}
