//! Paths on this machine and repositories of the hub.

use std::path::{Component, Path, PathBuf};

use super::Location;
use super::resolve::Context;
use crate::document::{Field, Given, PathText, Text, quote};

/// What one entry of a file names, before any revision.
pub(crate) enum Named {
    /// Made absolute against the file's directory.
    Local(PathBuf),
    /// `organisation/name`.
    Repository(String),
}

/// A local path begins with `./`, `../` or `/`; anything else must be a
/// repository. So what a path means does not depend on which files exist.
pub(crate) fn parse(text: &str, directory: &Path) -> Option<Named> {
    let local = text.starts_with(['/', '.'])
        && matches!(
            Path::new(text).components().next(),
            Some(Component::RootDir | Component::CurDir | Component::ParentDir)
        );
    if local {
        let joined = directory.join(text);
        let without_dots = joined.components().filter(|part| *part != Component::CurDir).collect();
        return Some(Named::Local(without_dots));
    }
    is_repository(text).then(|| Named::Repository(text.to_owned()))
}

/// Whether text is `organisation/name` in the hub's alphabet.
pub fn is_repository(text: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
            && !part.contains("..")
    };
    text.split_once('/').is_some_and(|(organisation, name)| is_part(organisation) && is_part(name))
}

/// Whether text is a commit hash: 40 hexadecimal digits.
pub fn is_commit_hash(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The place that `path` and `revision` name. Warns of a revision that may
/// move, and of one that has no effect.
pub(super) fn pinned(
    context: &Context<'_>,
    path: &Given<PathText>,
    revision: &Field<Text>,
) -> Option<Location> {
    let problems = context.problems;
    match named(context, path)? {
        Named::Local(path) => {
            if let Some(revision) = revision.given() {
                problems.warning(
                    revision.place.key,
                    "`revision` has no effect on a local path",
                    None,
                );
            }
            Some(Location::Local(path))
        }
        Named::Repository(repository) => {
            match revision {
                Field::Absent => problems.warning(
                    path.place.value,
                    format!("{} is not pinned: its content may change", quote(&repository)),
                    Some("add `revision:` with a commit hash".to_owned()),
                ),
                Field::Given(revision) if !is_commit_hash(&revision.value.0) => problems.warning(
                    revision.place.value,
                    format!("{} is not a commit hash: it may move", quote(&revision.value.0)),
                    Some("give all 40 hexadecimal digits".to_owned()),
                ),
                Field::Invalid | Field::Given(_) => {}
            }
            let revision = revision.value().map(|revision| revision.0.clone());
            Some(Location::Hub { repository, revision })
        }
    }
}

/// What a path names; an error when it names nothing.
pub(super) fn named(context: &Context<'_>, path: &Given<PathText>) -> Option<Named> {
    let named = parse(&path.value.0, context.source.directory);
    if named.is_none() {
        let message = format!("{} is neither a path nor a repository", quote(&path.value.0));
        let hint = "a path begins with `./`, `../` or `/`; a repository is `organisation/name`";
        context.problems.error(path.place.value, message, Some(hint.to_owned()));
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_means() {
        let rows = [
            ("./data/prose", Some("local /here/data/prose")),
            ("../data", Some("local /here/../data")),
            ("./a/./b", Some("local /here/a/b")),
            (".", Some("local /here")),
            ("/data/prose", Some("local /data/prose")),
            ("Xenova/gpt-4", Some("repository Xenova/gpt-4")),
            (
                "HuggingFaceFW/fineweb-edu-score-2",
                Some("repository HuggingFaceFW/fineweb-edu-score-2"),
            ),
            ("gpt2", None),
            ("data/prose/a.txt", None),
            (".hidden/file", None),
            ("~/models", None),
            ("a/..", None),
            ("a/b..c", None),
            ("a/b?x=1", None),
            ("", None),
        ];
        for (text, expected) in rows {
            let found = parse(text, Path::new("/here")).map(|named| match named {
                Named::Local(path) => format!("local {}", path.display()),
                Named::Repository(repository) => format!("repository {repository}"),
            });
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
