use super::{CPythonRandom, RandomError};

/// Duplicates after which no further page is drawn.
const MAX_DUPLICATE_PAGES: u32 = 100;

/// Pages drawn from the configurations of a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigPages {
    /// The row that the first page of every configuration starts at.
    pub initial_offset: u64,
    /// The pages, in the order drawn; fewer than wanted when the dataset has
    /// too few.
    pub pages: Vec<ConfigPage>,
}

/// A page of one configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigPage {
    /// Index of the configuration.
    pub config: usize,
    /// First row.
    pub offset: u64,
}

/// First rows of `pages` pages of a dataset with one configuration: each is
/// `randint(1, rows)`, repetitions included.
///
/// Source: the subnet 9 validator's loaders with a fixed number of rows.
pub fn draw_pages(
    random: &mut CPythonRandom,
    rows: u64,
    pages: usize,
) -> Result<Vec<u64>, RandomError> {
    (0..pages).map(|_| random.randint(1, rows).ok_or(RandomError::NoRows)).collect()
}

/// Pages over all configurations, given their rows in the dataset's order.
///
/// One offset `randint(0, rows_per_page - 1)`; then for each page a `choice`
/// of the configurations, and in it
/// `offset + randint(0, (rows - offset + 1) // rows_per_page - 1) * rows_per_page`.
/// A page that was drawn before does not count; after a hundred of those the
/// drawing ends early.
///
/// Source: the subnet 9 validator's FineWeb loaders.
pub fn draw_config_pages(
    random: &mut CPythonRandom,
    rows_by_config: &[u64],
    pages: usize,
    rows_per_page: u64,
) -> Result<ConfigPages, RandomError> {
    let configs: Vec<(usize, u64)> = rows_by_config.iter().copied().enumerate().collect();
    let last_offset = rows_per_page.checked_sub(1).ok_or(RandomError::NoRows)?;
    let initial_offset = random.randint(0, last_offset).ok_or(RandomError::NoRows)?;
    let mut drawn = Vec::new();
    let mut duplicates = 0;
    while drawn.len() < pages && duplicates < MAX_DUPLICATE_PAGES {
        let &(config, rows) = random.choice(&configs).ok_or(RandomError::NoConfigs)?;
        let page_count = rows.saturating_add(1).saturating_sub(initial_offset) / rows_per_page;
        let number = page_count
            .checked_sub(1)
            .and_then(|last| random.randint(0, last))
            .ok_or(RandomError::ConfigTooSmall { config, rows, rows_per_page, initial_offset })?;
        // Cannot overflow: it is a row of the configuration, or the one after.
        let page = ConfigPage { config, offset: initial_offset + number * rows_per_page };
        if drawn.contains(&page) {
            duplicates += 1;
        } else {
            drawn.push(page);
        }
    }
    Ok(ConfigPages { initial_offset, pages: drawn })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;

    #[test]
    fn too_little_data_is_an_error_and_not_a_panic() {
        let too_small = |rows| RandomError::ConfigTooSmall {
            config: 0,
            rows,
            rows_per_page: 50,
            initial_offset: 24,
        };
        let rows: [(&[u64], u64, RandomError); 5] = [
            (&[], 50, RandomError::NoConfigs),
            (&[100], 0, RandomError::NoRows),
            (&[0], 50, too_small(0)),
            (&[10], 50, too_small(10)),
            (&[72], 50, too_small(72)),
        ];
        for (configs, rows_per_page, expected) in rows {
            let mut random = CPythonRandom::new(&Seed::from(0));
            let drawn = draw_config_pages(&mut random, configs, 2, rows_per_page);
            assert_eq!(drawn, Err(expected), "{configs:?}");
        }
        let mut random = CPythonRandom::new(&Seed::from(0));
        assert_eq!(draw_pages(&mut random, 0, 1), Err(RandomError::NoRows));
    }

    #[test]
    fn no_page_is_drawn_twice_nor_beyond_the_last_row() {
        for (configs, wanted) in [(&[120, 60][..], 10), (&[30], 10)] {
            for seed in 0..20 {
                let mut random = CPythonRandom::new(&Seed::from(seed));
                let drawn = draw_config_pages(&mut random, configs, wanted, 10).unwrap();
                let first = drawn.initial_offset;
                let there: u64 = configs.iter().map(|rows| (rows + 1 - first) / 10).sum();
                assert_eq!(drawn.pages.len() as u64, there.min(wanted as u64));
                for (index, page) in drawn.pages.iter().enumerate() {
                    assert!(!drawn.pages[..index].contains(page), "{page:?}");
                    assert!(page.offset + 10 <= configs[page.config] + 1, "{page:?}");
                    assert_eq!(page.offset % 10, first);
                }
            }
        }
    }
}
