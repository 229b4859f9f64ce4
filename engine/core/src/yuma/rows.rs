//! Matrices of which few entries are not 0: by row, the column and the value.

use super::Fixed;

/// The entries of one neuron, by uid.
pub type Row = Vec<(u16, Fixed)>;

/// Entries as the chain stores them, by uid.
pub fn sorted<'a>(entries: impl Iterator<Item = &'a (u16, u16)>) -> Row {
    let mut row: Row = entries.map(|&(uid, number)| (uid, number.into())).collect();
    row.sort_unstable_by_key(|entry| entry.0);
    row
}

/// Scaled to sum 1, where the sum is above 0.
pub fn normalize(values: &mut [Fixed]) {
    let sum: Fixed = values.iter().copied().sum();
    if sum > Fixed::ZERO {
        values.iter_mut().for_each(|value| *value = *value / sum);
    }
}

/// The sum of the entries of a row.
pub fn row_sum(row: &Row) -> Fixed {
    row.iter().map(|&(_, value)| value).sum()
}

/// Each row scaled to sum 1.
pub fn normalize_rows(rows: &mut [Row]) {
    for row in rows {
        let sum = row_sum(row);
        row.iter_mut().for_each(|(_, value)| *value = *value / sum);
    }
}

/// Each column scaled to sum 1.
pub fn normalize_columns(rows: &mut [Row]) {
    scale_columns(rows, |sum, value| sum + value);
}

/// Each column scaled so that its largest entry is 1.
pub fn max_upscale_columns(rows: &mut [Row]) {
    scale_columns(rows, Fixed::max);
}

/// Each column divided by what `fold` makes of its entries.
fn scale_columns(rows: &mut [Row], fold: fn(Fixed, Fixed) -> Fixed) {
    let mut scales = vec![Fixed::ZERO; rows.len()];
    for &(column, value) in rows.iter().flatten() {
        let scale = &mut scales[usize::from(column)];
        *scale = fold(*scale, value);
    }
    for (column, value) in rows.iter_mut().flatten() {
        *value = *value / scales[usize::from(*column)];
    }
}

/// For each column the sum over rows of `factor * value`.
pub fn weighted_column_sums(rows: &[Row], factors: &[Fixed]) -> Vec<Fixed> {
    let mut sums = vec![Fixed::ZERO; rows.len()];
    for (row, &factor) in rows.iter().zip(factors) {
        for &(column, value) in row {
            let sum = &mut sums[usize::from(column)];
            *sum = *sum + factor * value;
        }
    }
    sums
}

/// For each row the sum over columns of `factor * value`.
pub fn weighted_row_sums(rows: &[Row], factors: &[Fixed]) -> Vec<Fixed> {
    let sum = |row: &Row| {
        row.iter().map(|&(column, value)| factors[usize::from(column)] * value).sum::<Fixed>()
    };
    rows.iter().map(sum).collect()
}

/// The entries of two rows side by side, 0 where one has none; by column.
pub fn paired<'a>(
    one: &'a Row,
    other: &'a Row,
) -> impl Iterator<Item = (u16, Fixed, Fixed)> + use<'a> {
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    std::iter::from_fn(move || {
        let columns = [one.peek().map(|entry| entry.0), other.peek().map(|entry| entry.0)];
        let column = columns.into_iter().flatten().min()?;
        let value = |entry: Option<&(u16, Fixed)>| entry.map_or(Fixed::ZERO, |entry| entry.1);
        let first = value(one.next_if(|entry| entry.0 == column));
        Some((column, first, value(other.next_if(|entry| entry.0 == column))))
    })
}
