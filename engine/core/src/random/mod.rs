//! Randomness that every validator draws alike.
//!
//! Two generators, both functions of the round's [`Seed`] alone:
//! - [`CPythonRandom`] repeats CPython's `random`, so that this engine draws
//!   the pages and the order that the Python validators draw;
//! - [`words`] is counter-based, for everything that has no such past.

mod cpython;
mod mix;
mod pages;
mod seed;
mod words;

pub use cpython::{CPythonRandom, permutation};
pub use mix::mix;
pub use pages::{ConfigPage, ConfigPages, draw_config_pages, draw_pages};
pub use seed::{MAX_SEED_BITS, Seed};
pub use words::words;

/// Why nothing could be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RandomError {
    /// The text is not a number.
    #[error("read the seed: write decimal digits, or 0x and hexadecimal digits")]
    SeedSyntax,
    /// The number does not fit.
    #[error("read the seed: it has more than {MAX_SEED_BITS} bits")]
    SeedTooLarge,
    /// The dataset is empty.
    #[error("draw pages: the dataset has no rows")]
    NoRows,
    /// There is nothing to choose from.
    #[error("draw pages: the dataset has no configurations")]
    NoConfigs,
    /// A configuration that was chosen holds no whole page.
    #[error(
        "draw pages: configuration {config} has {rows} rows, too few for a page of \
         {rows_per_page} from row {initial_offset}; leave it out or use smaller pages"
    )]
    ConfigTooSmall {
        /// Index of the configuration.
        config: usize,
        /// Rows that it has.
        rows: u64,
        /// Rows that a page has.
        rows_per_page: u64,
        /// Row that pages start from.
        initial_offset: u64,
    },
}
