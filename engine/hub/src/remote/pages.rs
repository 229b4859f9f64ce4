//! Which pages of a dataset a round reads, as the reference validator draws
//! them.

use evaltasks_core::competition::{ConfigRule, DatasetRules};
use evaltasks_core::limits::{MAX_ROWS_PER_PAGE, MAX_ROWS_PER_TASK};
use evaltasks_core::random::{CPythonRandom, Seed, draw_config_pages, draw_pages};
use evaltasks_core::source::{Drawn, DrawnPage};

use super::DatasetFault;
use super::server::{Answered, ConfigSize, PageAsk, Server};
use crate::HubError;
use crate::draw::bytes_left;
use crate::limits::MAX_DRAWN_BYTES;
use crate::members::Members;

/// Configuration that `all_but_default` leaves out.
const DEFAULT: &str = "default";

/// A page to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Page {
    config: String,
    start: u64,
    length: u64,
}

impl Server<'_> {
    /// What `rules` draw from a dataset of the hub.
    ///
    /// Of all configurations, pages are drawn by [`draw_config_pages`]; of one,
    /// by [`draw_pages`] from as many rows as the rules say, else as there are.
    ///
    /// # Errors
    /// When the server fails, when it has another commit than the pinned one or
    /// changes it between pages, and when more is drawn than may be.
    pub fn draw(
        &self,
        dataset: &str,
        revision: Option<&str>,
        rules: &DatasetRules,
        seed: &Seed,
    ) -> Result<Drawn, HubError> {
        let is_commit =
            |text: &str| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(branch) = revision.filter(|revision| !is_commit(revision)) {
            let (dataset, revision) = (dataset.to_owned(), branch.to_owned());
            return Err(DatasetFault::Branch { dataset, revision }.into());
        }
        let is_pinned = revision.is_some();
        let mut at = revision.map(str::to_owned);
        let pages = self.pages(dataset, rules, seed, &mut at)?;
        let rows: u64 = pages.iter().map(|page| page.length).fold(0, u64::saturating_add);
        let limit = MAX_ROWS_PER_TASK as u64;
        if rows > limit {
            return Err(HubError::TooManyDrawn { rows, limit });
        }
        let members = Members::new(rules);
        let mut left = MAX_DRAWN_BYTES;
        let mut drawn = Drawn::default();
        for Page { config, start, length } in pages {
            let ask = PageAsk { dataset, config: &config, split: &rules.split, start, length };
            let known = at.as_deref();
            let Answered { content, revision } = self.page(&ask, known, &members)?;
            follow(dataset, &mut at, revision, is_pinned)?;
            left = bytes_left(left, &content)?;
            let rows = content.len() as u64;
            drawn.pages.push(DrawnPage { config: Some(config), start, rows });
            drawn.rows.extend(content);
        }
        if drawn.rows.is_empty() {
            let what = "rows in the pages that were drawn".to_owned();
            let (dataset, found) = (dataset.to_owned(), "fewer".to_owned());
            return Err(DatasetFault::Nothing { dataset, what, found }.into());
        }
        drawn.revision = at;
        Ok(drawn)
    }

    fn pages(
        &self,
        dataset: &str,
        rules: &DatasetRules,
        seed: &Seed,
        at: &mut Option<String>,
    ) -> Result<Vec<Page>, DatasetFault> {
        let length = u64::from(rules.rows_per_page);
        let mut random = CPythonRandom::new(seed);
        if let (ConfigRule::One(config), Some(rows), Some(pages)) =
            (&rules.configs, rules.rows, rules.pages)
        {
            let starts = draw_pages(&mut random, rows, pages as usize)?;
            return Ok(one_config(config, starts, length));
        }
        let is_pinned = at.is_some();
        let Answered { content: sizes, revision } =
            self.sizes(dataset, &rules.split, at.as_deref())?;
        follow(dataset, at, revision, is_pinned)?;
        let wanted = wanted(dataset, rules, &sizes)?;
        let rows: Vec<u64> = wanted.iter().map(|size| size.rows).collect();
        let all = || wanted.iter().flat_map(all_pages).collect();
        match (&rules.configs, rules.pages) {
            (_, None) => Ok(all()),
            (ConfigRule::AllButDefault, Some(pages)) => {
                let drawn = draw_config_pages(&mut random, &rows, pages as usize, length)?;
                let page = |page: &evaltasks_core::random::ConfigPage| {
                    let config = wanted.get(page.config)?.config.clone();
                    Some(Page { config, start: page.offset, length })
                };
                Ok(drawn.pages.iter().filter_map(page).collect())
            }
            (ConfigRule::One(config), Some(pages)) => {
                let available = rows.first().copied().unwrap_or(0);
                if u64::from(pages).saturating_mul(length) >= available {
                    return Ok(all());
                }
                let starts = draw_pages(&mut random, available, pages as usize)?;
                Ok(one_config(config, starts, length))
            }
        }
    }
}

fn one_config(config: &str, starts: Vec<u64>, length: u64) -> Vec<Page> {
    let page = |start| Page { config: config.to_owned(), start, length };
    starts.into_iter().map(page).collect()
}

/// The configurations that the rules mean.
fn wanted<'a>(
    dataset: &str,
    rules: &DatasetRules,
    sizes: &'a [ConfigSize],
) -> Result<Vec<&'a ConfigSize>, DatasetFault> {
    let (wanted, what): (Vec<_>, String) = match &rules.configs {
        ConfigRule::AllButDefault => (
            sizes.iter().filter(|size| size.config != DEFAULT).collect(),
            format!("configuration but {DEFAULT:?}"),
        ),
        ConfigRule::One(config) => (
            sizes.iter().filter(|size| size.config == *config).collect(),
            format!("configuration {config:?}"),
        ),
    };
    if !wanted.is_empty() {
        return Ok(wanted);
    }
    let names: Vec<String> =
        sizes.iter().take(8).map(|size| format!("{:?}", size.config)).collect();
    Err(DatasetFault::Nothing {
        dataset: dataset.to_owned(),
        what: format!("{what} with a split {:?}", rules.split),
        found: if names.is_empty() { "none".to_owned() } else { names.join(", ") },
    })
}

/// All of a configuration, in pages as large as may be.
fn all_pages(size: &&ConfigSize) -> Vec<Page> {
    // More are refused by their number of rows.
    const MOST: usize = MAX_ROWS_PER_TASK / MAX_ROWS_PER_PAGE as usize + 1;
    let starts = (0..size.rows).step_by(MAX_ROWS_PER_PAGE as usize).take(MOST);
    let page = |start| Page {
        config: size.config.clone(),
        start,
        length: MAX_ROWS_PER_PAGE.min(size.rows - start),
    };
    starts.map(page).collect()
}

/// All rows must be of one commit: the pinned one, else that of the first
/// answer.
fn follow(
    dataset: &str,
    at: &mut Option<String>,
    found: Option<String>,
    is_pinned: bool,
) -> Result<(), DatasetFault> {
    let Some(wanted) = &*at else {
        *at = found;
        return Ok(());
    };
    // A server that does not say is believed where nothing is pinned.
    if found.as_ref() == Some(wanted) || (found.is_none() && !is_pinned) {
        return Ok(());
    }
    let (dataset, wanted) = (dataset.to_owned(), wanted.clone());
    Err(DatasetFault::Revision { dataset, wanted, found })
}
