//! Documents that commands are given.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Result;
use evaltasks_core::competition::{
    Known, KnownTask, Score, Submission, Subnet, check_scores, check_submissions, check_with,
};
use evaltasks_core::document::{Checked, Problem, Severity, Source};
use evaltasks_core::simulation::{Simulation, check_simulation, is_simulation};

use super::plugins::Tasks;
use crate::document::read_document;
use crate::operate::say;
use crate::round::reason;

/// A document with errors, which have been shown.
#[derive(Debug, thiserror::Error)]
#[error("use {}: it has {errors} {}", path.display(), if *errors == 1 { "error" } else { "errors" })]
pub struct Unusable {
    path: PathBuf,
    errors: usize,
}

/// Reads a competition file that names no plugin by id, for its rules alone:
/// its plugins are not looked at.
pub fn subnet(path: &Path) -> Result<Subnet> {
    let tasks = KnownTask::native();
    let known = Known { read_file: &read_task_file, ..Known::by_id(&tasks) };
    read(path, |source| check_with(source, &known))
}

/// Reads a competition file for a round with these tasks.
pub fn subnet_with(path: &Path, tasks: &Tasks) -> Result<Subnet> {
    read(path, |source| tasks.check_for_round(source))
}

/// Reads a file of submissions.
pub fn submissions(path: &Path, subnet: &Subnet) -> Result<Vec<Submission>> {
    read(path, |source| check_submissions(source, subnet))
}

/// Reads a file of scores.
pub fn scores(path: &Path, subnet: &Subnet) -> Result<Vec<Score>> {
    read(path, |source| check_scores(source, subnet))
}

/// Reads a simulation file.
pub fn simulation(path: &Path) -> Result<Simulation> {
    read(path, |source| check_simulation(source, &competition_rules))
}

/// The competitions of a file that a simulation names, for their rules alone.
fn competition_rules(path: &Path) -> Result<Subnet, String> {
    let text = read_task_file(path)?;
    let tasks = KnownTask::native();
    let known = Known { read_file: &read_task_file, ..Known::by_id(&tasks) };
    let checked = with_source(path, &text, |source| check_with(source, &known));
    checked.value.ok_or_else(|| {
        format!("use {}: it has errors, which `evaltasks check` shows", path.display())
    })
}

/// Checks a document without showing its problems; none are left out.
pub fn check_file(path: &Path, tasks: &Tasks) -> (String, Vec<Problem>) {
    match read_document(path) {
        Err(error) => (String::new(), vec![error.problem()]),
        Ok(text) => {
            let problems = with_source(path, &text, |source| match is_simulation(source.text) {
                true => check_simulation(source, &competition_rules).problems,
                false => tasks.check(source).problems,
            });
            (text, problems)
        }
    }
}

/// The text of a task file that a document names.
pub fn read_task_file(path: &Path) -> Result<String, String> {
    read_document(path).map_err(|error| reason(&error))
}

/// Whether a stream of this process shows colours, see <https://no-color.org>.
pub fn colours(stream: &impl IsTerminal) -> bool {
    let set = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !set
}

/// What a document says. All problems are shown when it is of no use; what is
/// merely odd is for `evaltasks check` to show.
fn read<T>(path: &Path, check: impl Fn(&Source) -> Checked<T>) -> Result<T> {
    let text = read_document(path)?;
    let Checked { value, problems } = with_source(path, &text, check);
    let Some(value) = value else {
        let colours = say::is_for_people() && colours(&std::io::stderr());
        for problem in &problems {
            say::report(&format!("{}\n", problem.render(&text, colours)));
        }
        let is_error = |problem: &&Problem| problem.severity == Severity::Error;
        let errors = problems.iter().filter(is_error).count();
        return Err(Unusable { path: path.to_owned(), errors }.into());
    };
    if !problems.is_empty() {
        let (file, count) = (path.display(), problems.len());
        say::warning(&format!("{file} has oddities ({count}); `evaltasks check` shows them"));
    }
    Ok(value)
}

/// Calls `check` with a document as it is referred to in problems.
pub fn with_source<T>(path: &Path, text: &str, check: impl Fn(&Source) -> T) -> T {
    // A relative path stays one if the working directory is gone; nothing but
    // the wording of later errors depends on it.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let directory = absolute.parent().unwrap_or(Path::new(""));
    check(&Source { name: &path.display().to_string(), text, directory })
}
