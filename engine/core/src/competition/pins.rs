//! Which plugins a competition file names, and where it says so.

use super::PluginLocation;
use super::file::CompetitionFile;
use super::plugins::locate;
use crate::document::{Problems, Source, Span, read};

/// A plugin that a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginPin {
    /// Where it is.
    pub location: PluginLocation,
    /// The digest that the file gives, in hexadecimal.
    pub sha256: Option<String>,
    key: Span,
    path_span: Span,
    sha256_span: Option<Span>,
}

/// The plugins that a competition file names, by their place in it; those that
/// several tasks share by an anchor come once, those that are nowhere do not.
pub fn plugin_pins(source: &Source<'_>) -> Vec<PluginPin> {
    let read = read::<CompetitionFile>(source.text, &Problems::new());
    let competitions = read.value.value().and_then(|file| file.competitions.value());
    let sections = competitions.into_iter().flat_map(|entries| &entries.0);
    let tasks = sections.filter_map(|(_, section)| section.value()?.tasks.value()).flatten();
    let plugins = tasks.filter_map(|task| task.value()?.plugin.value());
    let mut pins: Vec<PluginPin> = plugins
        .filter_map(|section| {
            let path = section.path.given()?;
            let location = locate(&path.value.0, source.directory).ok()?;
            let sha256 = section.sha256.given();
            Some(PluginPin {
                location,
                sha256: sha256.map(|given| given.value.0.clone()),
                key: path.place.key,
                path_span: path.place.value,
                sha256_span: sha256.map(|given| given.place.value),
            })
        })
        .collect();
    pins.sort_by_key(|pin| pin.path_span.start);
    pins.dedup_by_key(|pin| pin.path_span.start);
    pins
}

/// The text of a file with these digests; nothing else in it changes. `pins`
/// are those of [`plugin_pins`], each with the digest that it shall have.
pub fn with_digests(text: &str, pins: &[(PluginPin, String)]) -> String {
    let mut locked = text.to_owned();
    // From the back, so that earlier places stay where they are.
    for (pin, digest) in pins.iter().rev() {
        // YAML would take digits alone, or with one e, for a number.
        let is_number = digest.parse::<f64>().is_ok();
        let digest = if is_number { format!("\"{digest}\"") } else { digest.clone() };
        match pin.sha256_span {
            Some(span) => locked.replace_range(span.start..span.end, &digest),
            None => {
                let key = text.get(..pin.key.start).unwrap_or_default();
                let line = key.rsplit_once('\n').map_or(key, |(_, line)| line);
                let in_block = line.chars().all(|c| c == ' ' || c == '-');
                let addition = if in_block {
                    format!("\n{}sha256: {digest}", " ".repeat(line.len()))
                } else {
                    format!(", sha256: {digest}")
                };
                locked.insert_str(pin.path_span.end, &addition);
            }
        }
    }
    locked
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn pinned(text: &str) -> String {
        let source = Source { name: "", text, directory: Path::new("/here") };
        let digest = |pin: PluginPin| {
            let location = pin.location.to_string();
            let name = location.rsplit('/').next().unwrap().strip_suffix(".wasm").unwrap();
            (pin, name.repeat(64))
        };
        let pins: Vec<_> = plugin_pins(&source).into_iter().map(digest).collect();
        with_digests(text, &pins)
    }

    #[test]
    fn digests_go_where_they_belong() {
        let [a, b, old] = ["a", "b", "f"].map(|letter| letter.repeat(64));
        let rows = [
            ("plugin: {path: ./a.wasm}".to_owned(), format!("plugin: {{path: ./a.wasm, sha256: {a}}}")),
            (
                "plugin: { path: './a.wasm' }  # mine".to_owned(),
                format!("plugin: {{ path: './a.wasm', sha256: {a} }}  # mine"),
            ),
            (
                format!("plugin: {{sha256: \"{old}\", path: ./b.wasm}}"),
                format!("plugin: {{sha256: {b}, path: ./b.wasm}}"),
            ),
            (
                "plugin:   # text\n            path: ./a.wasm # here\n            limits: {rounds: 2}".to_owned(),
                format!("plugin:   # text\n            path: ./a.wasm\n            sha256: {a} # here\n            limits: {{rounds: 2}}"),
            ),
            (
                format!("plugin:\n            path: ./a.wasm\n            sha256: {old}   # old"),
                format!("plugin:\n            path: ./a.wasm\n            sha256: {a}   # old"),
            ),
            (
                "plugin: {path: https://example.org/x/b.wasm}".to_owned(),
                format!("plugin: {{path: https://example.org/x/b.wasm, sha256: {b}}}"),
            ),
            ("plugin: {path: some/repository}".to_owned(), "plugin: {path: some/repository}".to_owned()),
            ("task: text_loss".to_owned(), "task: text_loss".to_owned()),
        ];
        for (given, expected) in rows {
            let file = |plugin: &str| {
                format!(
                    "# a file\nversion: 1\ncompetitions:\n  c:\n    id: 1\n    tasks:\n      - name: t\n        {plugin}\n        weight: 1\n"
                )
            };
            assert_eq!(pinned(&file(&given)), file(&expected));
        }
    }

    #[test]
    fn a_plugin_that_tasks_share_is_pinned_once() {
        let text = "x-plugin: &p {path: ./a.wasm}\ncompetitions:\n  c:\n    tasks:\n      \
                    - {name: s, plugin: *p}\n      - {name: t, plugin: *p}\n      \
                    - {name: u, plugin: {path: ./b.wasm}}\n";
        let [a, b] = ["a", "b"].map(|letter| letter.repeat(64));
        let expected = text
            .replace("a.wasm", &format!("a.wasm, sha256: {a}"))
            .replace("b.wasm", &format!("b.wasm, sha256: {b}"));
        assert_eq!(pinned(text), expected);
        assert_eq!(pinned("[what is this"), "[what is this");
    }
}
