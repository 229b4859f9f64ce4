//! Which examples come before a question.
//!
//! Source: lm-evaluation-harness 0.4.13, `api/samplers.py`.

use std::collections::BTreeSet;
use std::sync::Arc;

use evaltasks_core::host::Host;
use evaltasks_core::limits::{MAX_FEWSHOT_EXAMPLES, MAX_ROWS_PER_TASK};
use evaltasks_core::random::{CPythonRandom, Seed};
use evaltasks_core::task::TaskError;

use super::config::{Sampler, TaskTemplate};
use super::{EXAMPLES, QUESTIONS};
use crate::template::Doc;

/// The examples of one question after the other. One generator draws for all
/// of them, so those of a row depend on the rows before it.
pub(super) struct Shots {
    pool: Vec<Arc<Doc>>,
    count: usize,
    sampler: Sampler,
    exclude_evaluated: bool,
    random: CPythonRandom,
    columns: Arc<BTreeSet<String>>,
}

impl Shots {
    /// Before the first question.
    pub(super) fn new(
        config: &TaskTemplate,
        host: &dyn Host,
        columns: &Arc<BTreeSet<String>>,
    ) -> Result<Self, TaskError> {
        let shots = &config.fewshot_config;
        if config.num_fewshot > MAX_FEWSHOT_EXAMPLES {
            let message = format!("`num_fewshot` is above {MAX_FEWSHOT_EXAMPLES}");
            return Err(TaskError::Config(message));
        }
        let (rows, own) = match &shots.samples {
            _ if config.num_fewshot == 0 => (Vec::new(), true),
            Some(samples) => {
                let text = |sample| serde_json::to_string(sample);
                let rows: Result<Vec<String>, _> = samples.iter().map(text).collect();
                (rows.map_err(|error| TaskError::Config(error.to_string()))?, true)
            }
            None => {
                let most = MAX_ROWS_PER_TASK as u32;
                let rows = host.rows(EXAMPLES, 0, most).map_err(TaskError::Data)?;
                match rows.is_empty() {
                    false => (rows, true),
                    true => (host.rows(QUESTIONS, 0, most).map_err(TaskError::Data)?, false),
                }
            }
        };
        let doc = |(index, row): (usize, &String)| {
            let doc = Doc::parse(row, columns).map(Arc::new);
            doc.map_err(|reason| TaskError::Data(format!("the example {index} {reason}")))
        };
        let pool: Vec<Arc<Doc>> = rows.iter().enumerate().map(doc).collect::<Result<_, _>>()?;
        let exclude_evaluated = shots.exclude_evaluated.unwrap_or(!own);
        let count = config.num_fewshot as usize;
        let one_more = exclude_evaluated && count > 0 && shots.sampler == Sampler::Default;
        let needed = count + usize::from(one_more);
        if pool.len() < needed {
            let message = format!("{needed} examples are needed, {} are there", pool.len());
            return Err(TaskError::Data(message));
        }
        Ok(Shots {
            pool,
            count,
            sampler: shots.sampler,
            exclude_evaluated,
            random: CPythonRandom::new(&Seed::from(u64::from(config.fewshot_seed))),
            columns: Arc::clone(columns),
        })
    }

    /// Draws for the rows before `start`, whose examples nobody wants to see.
    pub(super) fn skip(&mut self, host: &dyn Host, start: u32) -> Result<(), TaskError> {
        if self.count == 0 || self.sampler == Sampler::FirstN {
            return Ok(());
        }
        if !self.exclude_evaluated {
            for _ in 0..start {
                self.draw(None)?;
            }
            return Ok(());
        }
        for row in host.rows(QUESTIONS, 0, start).map_err(TaskError::Data)? {
            self.draw(Doc::parse(&row, &self.columns).ok().as_ref())?;
        }
        Ok(())
    }

    /// The examples of the next question.
    pub(super) fn draw(&mut self, evaluated: Option<&Doc>) -> Result<Vec<Arc<Doc>>, TaskError> {
        if self.count == 0 {
            return Ok(Vec::new());
        }
        let evaluated = evaluated.filter(|_| self.exclude_evaluated);
        let differs = |doc: &&Arc<Doc>| evaluated.is_none_or(|one| one != doc.as_ref());
        let chosen: Vec<Arc<Doc>> = match self.sampler {
            Sampler::FirstN => self.pool.iter().filter(differs).take(self.count).cloned().collect(),
            Sampler::Default => {
                let drawn = self.count + usize::from(self.exclude_evaluated);
                let places = self.random.sample(self.pool.len(), drawn).unwrap_or_default();
                let chosen: Vec<_> =
                    places.iter().filter_map(|&place| self.pool.get(place)).collect();
                chosen.into_iter().filter(differs).take(self.count).cloned().collect()
            }
        };
        if chosen.len() == self.count {
            return Ok(chosen);
        }
        // More than one copy of the question was among them.
        let others: Vec<&Arc<Doc>> = self.pool.iter().filter(differs).collect();
        let places = match self.sampler {
            Sampler::FirstN => None,
            Sampler::Default => self.random.sample(others.len(), self.count),
        };
        let places = places.ok_or_else(|| {
            let message = format!("{} examples other than the question are needed", self.count);
            TaskError::Data(message)
        })?;
        Ok(places
            .into_iter()
            .filter_map(|place| others.get(place))
            .map(|&doc| Arc::clone(doc))
            .collect())
    }
}
