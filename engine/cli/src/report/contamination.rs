//! How much of a round's data was there before.

use std::path::Path;

use evaltasks_core::contamination::{Contamination, GRAM_WORDS};
use evaltasks_core::model::group_digits;

use super::ReportError;
use super::files::write_json;
use super::text;

const FILE_NAME: &str = "contamination.json";

/// Writes `contamination.json` into `directory`, which is created when it is
/// missing. It depends on what was run before, so it stands apart from the
/// files that are the same whenever a round is run; without anything to say
/// there is none.
///
/// # Errors
/// When the file cannot be written.
pub fn write_contamination(directory: &Path, found: &[&Contamination]) -> Result<(), ReportError> {
    let path = directory.join(FILE_NAME);
    let failed = |source| ReportError::Write { path: path.clone(), source };
    std::fs::create_dir_all(directory).map_err(failed)?;
    if !found.is_empty() {
        return write_json(&path, &found);
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

/// A line for every task.
pub fn render_contamination(found: &[&Contamination]) -> String {
    let line = |one: &&Contamination| {
        let grams = match one.gram_share() {
            Some(share) => format!("{} of {GRAM_WORDS}-grams", text::percent(share)),
            None => format!("no {GRAM_WORDS}-grams"),
        };
        format!(
            "seen before: {}: {grams}, {} of {} rows\n",
            text::visible(&one.task),
            group_digits(one.rows_served_before),
            group_digits(one.rows),
        )
    };
    found.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(grams: u64, before: u64) -> Contamination {
        Contamination {
            competition: "c".to_owned(),
            task: "prose".to_owned(),
            rows: 1200,
            rows_served_before: 7,
            grams,
            grams_served_before: before,
            one_in: 1,
        }
    }

    #[test]
    fn a_line_says_it_all() {
        let (some, none) = (found(400, 14), found(0, 0));
        assert_eq!(
            render_contamination(&[&some, &none]),
            "seen before: prose: 3.5% of 13-grams, 7 of 1,200 rows\n\
             seen before: prose: no 13-grams, 7 of 1,200 rows\n"
        );
    }

    #[test]
    fn the_file_is_there_when_there_is_something_to_say() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("round");
        let path = directory.join(FILE_NAME);
        write_contamination(&directory, &[]).unwrap();
        assert!(!path.exists());
        let some = found(400, 14);
        write_contamination(&directory, &[&some]).unwrap();
        let read: Vec<Contamination> =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, [some]);
        write_contamination(&directory, &[]).unwrap();
        assert!(!path.exists());
    }
}
