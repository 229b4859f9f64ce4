//! Plugins that a competition file names.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::KnownTask;
use super::config::place_in_config;
use super::file::{PluginLimitsSection, PluginSection};
use super::location::{self, Named};
use super::resolve::Context;
use crate::document::{Bytes, Field, Given, Severity, Whole, quote};
use crate::plugin::PluginLimits;

/// A plugin as a competition names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PluginReference {
    /// Where it is.
    pub location: PluginLocation,
    /// Its digest in hexadecimal, when pinned; what has an address always is.
    pub sha256: Option<String>,
    /// What it may use.
    pub limits: PluginLimits,
}

/// Where a plugin is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum PluginLocation {
    /// A file on this machine, made absolute against the file that named it.
    Local(PathBuf),
    /// The address of a file: https, or http on this machine.
    Url(String),
}

impl fmt::Display for PluginLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PluginLocation::Local(path) => write!(f, "{}", path.display()),
            PluginLocation::Url(url) => write!(f, "{url}"),
        }
    }
}

/// What somebody who can read files says of a plugin: what it is, nothing when
/// nobody looked, or why it is of no use.
pub type FindPlugin<'a> = dyn Fn(&PluginReference) -> Result<Option<KnownTask>, PluginProblem> + 'a;

/// What is to be said of a plugin in the file that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginProblem {
    /// Whether the file is of use nevertheless.
    pub severity: Severity,
    /// What of the plugin is wrong.
    pub part: PluginPart,
    /// What is wrong with it.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A part of what a file says about a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginPart {
    /// Where it is.
    Path,
    /// Its digest.
    Sha256,
}

/// Why text names no plugin, and what to write instead.
pub(super) struct BadLocation {
    problem: &'static str,
    hint: &'static str,
}

/// What a path says about where a plugin is.
pub(super) fn locate(text: &str, directory: &Path) -> Result<PluginLocation, BadLocation> {
    match location::parse(text, directory) {
        Some(Named::Local(path)) => Ok(PluginLocation::Local(path)),
        Some(Named::Repository(_)) => Err(BadLocation {
            problem: "is a repository, and a plugin is one file",
            hint: "give the address of the file in it, `https://...`; a local path begins with \
                   `./`, `../` or `/`",
        }),
        None if text.contains("://") => {
            check_url(text).map(|()| PluginLocation::Url(text.to_owned()))
        }
        None => Err(BadLocation {
            problem: "is neither a path nor an address",
            hint: "a path begins with `./`, `../` or `/`, an address with `https://`",
        }),
    }
}

fn check_url(text: &str) -> Result<(), BadLocation> {
    let bad = |problem, hint| Err(BadLocation { problem, hint });
    let malformed = "is no address of a file";
    let (is_https, rest) = match text.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        _ => return bad("is no address that a plugin can come from", "write `https://...`"),
    };
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&byte);
    if !rest.bytes().all(allowed) {
        let hint = "write other characters as `%` and two hexadecimal digits, and no `#`";
        return bad(malformed, hint);
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        let hint = "leave out what is before the `@`: everybody can read this file";
        return bad("holds a name or password", hint);
    }
    let Some(is_this_machine) = host(authority) else {
        return bad(malformed, "write `https://`, a host, and the path of the file there");
    };
    if path.is_empty() {
        return bad(malformed, "the path of the file on the host is missing");
    }
    if !is_https && !is_this_machine {
        return bad("could be another file once it arrives", "write `https://`");
    }
    Ok(())
}

/// Whether the host of an authority is this machine; none when it is no host.
fn host(authority: &str) -> Option<bool> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => {
            authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
        }
    };
    if let Some(port) = port {
        port.parse::<u16>().ok()?;
    }
    let address = host.parse::<IpAddr>();
    let is_name = host.starts_with(|first: char| first.is_ascii_alphanumeric())
        && host.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
    let is_loopback = address.as_ref().is_ok_and(IpAddr::is_loopback);
    (is_name || address.is_ok()).then_some(host == "localhost" || is_loopback)
}

/// The plugin that a task names; none when anything is wrong with it.
pub(super) fn reference(
    context: &Context<'_>,
    given: &Given<PluginSection>,
) -> Option<PluginReference> {
    let PluginSection { path, sha256, limits } = &given.value;
    let problems = context.problems;
    let at = problems.required(path, "path", given.place);
    let location = at.and_then(|path| {
        let located = locate(&path.value.0, context.source.directory);
        let fault = |BadLocation { problem, hint }| {
            let message = format!("{} {problem}", quote(&path.value.0));
            problems.error(path.place.value, message, Some(hint.to_owned()));
        };
        located.map_err(fault).ok()
    });
    let limits = self::limits(context, limits, given);
    let sha256 = match (sha256, &location, at) {
        (Field::Absent, Some(location), Some(path)) => {
            unpinned(context, location, path.place.value)
        }
        _ => sha256.optional(|given| Some(given.value.0.clone())),
    };
    Some(PluginReference { location: location?, sha256: sha256?, limits: limits? })
}

/// Says that a plugin has no digest; none when it must have one.
fn unpinned(
    context: &Context<'_>,
    location: &PluginLocation,
    at: crate::document::Span,
) -> Option<Option<String>> {
    let hint = Some("`evaltasks plugin lock FILE` adds the digest of the file".to_owned());
    match location {
        PluginLocation::Local(_) => {
            let message = "the plugin is not pinned: another file may take its place";
            context.problems.warning(at, message, hint);
            Some(None)
        }
        PluginLocation::Url(_) => {
            let message = "the plugin is not pinned: its address may lead to another file tomorrow";
            context.problems.error(at, message, hint);
            None
        }
    }
}

/// What a plugin may use; none when any limit is invalid or over the ceiling.
fn limits(
    context: &Context<'_>,
    section: &Field<PluginLimitsSection>,
    plugin: &Given<PluginSection>,
) -> Option<PluginLimits> {
    let limits = section.optional(|given| given_limits(&given.value))?.unwrap_or_default();
    let at = section.given().map_or(plugin.place, |given| given.place);
    let mut fits = true;
    for (name, value, most) in context.known.ceiling.iter().flat_map(|most| limits.over(most)) {
        fits = false;
        let at = place_in_config(context, at, &format!("/{name}")).value;
        let message =
            format!("the limit `{name}` is {value}, over the operator's ceiling of {most}");
        let hint = format!("lower it, or allow more by `--plugin-ceiling {name}={value}`");
        context.problems.error(at, message, Some(hint));
    }
    fits.then_some(limits)
}

/// The defaults, but for what a file gives; none when any of that is invalid.
fn given_limits(section: &PluginLimitsSection) -> Option<PluginLimits> {
    let default = PluginLimits::DEFAULT;
    let number = |field: &Field<Whole<1, { u64::MAX }>>, default| {
        field.optional(|given| Some(given.value.get())).map(|value| value.unwrap_or(default))
    };
    let bytes = |field: &Field<Bytes>, default| {
        field.optional(|given| Some(given.value.0)).map(|value| value.unwrap_or(default))
    };
    Some(PluginLimits {
        fuel_per_row: number(&section.fuel_per_row, default.fuel_per_row)?,
        call_time_ms: number(&section.call_time_ms, default.call_time_ms)?,
        memory_bytes: bytes(&section.memory_bytes, default.memory_bytes)?,
        output_bytes: bytes(&section.output_bytes, default.output_bytes)?,
        memories: number(&section.memories, default.memories)?,
        tables: number(&section.tables, default.tables)?,
        table_elements: number(&section.table_elements, default.table_elements)?,
        instances: number(&section.instances, default.instances)?,
        requests_per_row: number(&section.requests_per_row, default.requests_per_row)?,
        tokens_per_request: number(&section.tokens_per_request, default.tokens_per_request)?,
        bytes_per_request: bytes(&section.bytes_per_request, default.bytes_per_request)?,
        state_bytes: bytes(&section.state_bytes, default.state_bytes)?,
        rounds: number(&section.rounds, default.rounds)?,
        log_bytes: bytes(&section.log_bytes, default.log_bytes)?,
    })
}

/// What is known of a plugin; what is wrong with it is reported where the file
/// names it.
pub(super) fn describe(
    context: &Context<'_>,
    reference: &PluginReference,
    section: &Field<PluginSection>,
) -> Option<KnownTask> {
    let PluginProblem { severity, part, message, hint } =
        match (context.known.find_plugin)(reference) {
            Ok(known) => return known,
            Err(problem) => problem,
        };
    let given = section.given()?;
    let path = given.value.path.given().map_or(given.place, |path| path.place);
    let at = match part {
        PluginPart::Path => path,
        PluginPart::Sha256 => given.value.sha256.given().map_or(path, |sha256| sha256.place),
    };
    match severity {
        Severity::Error => context.problems.error(at.value, message, hint),
        Severity::Warning => context.problems.warning(at.value, message, hint),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plugin_may_come_from() {
        let rows = [
            ("./a.wasm", Ok("/here/a.wasm")),
            ("../a.wasm", Ok("/here/../a.wasm")),
            ("./https://a/b", Ok("/here/https:/a/b")),
            ("https://example.org/a.wasm", Ok("https://example.org/a.wasm")),
            ("https://example.org:8443/a%20b?c=d&e", Ok("https://example.org:8443/a%20b?c=d&e")),
            ("https://[2001:db8::1]/a", Ok("https://[2001:db8::1]/a")),
            ("http://localhost:80/a", Ok("http://localhost:80/a")),
            ("http://127.0.0.1:9/a", Ok("http://127.0.0.1:9/a")),
            ("http://127.1.2.3/a", Ok("http://127.1.2.3/a")),
            ("http://[::1]:9/a", Ok("http://[::1]:9/a")),
            ("http://example.org/a", Err("could be another file")),
            ("http://localhost.example.org/a", Err("could be another file")),
            ("http://10.0.0.1/a", Err("could be another file")),
            ("http://[::2]/a", Err("could be another file")),
            ("ftp://example.org/a", Err("is no address that a plugin")),
            ("HTTPS://example.org/a", Err("is no address that a plugin")),
            ("file:///a.wasm", Err("is no address that a plugin")),
            ("https://me:secret@example.org/a", Err("holds a name or password")),
            ("https://example.org", Err("is no address of a file")),
            ("https://example.org/", Err("is no address of a file")),
            ("https:///a", Err("is no address of a file")),
            ("https://exa_mple/a", Err("is no address of a file")),
            ("https://example.org:port/a", Err("is no address of a file")),
            ("https://example.org:70000/a", Err("is no address of a file")),
            ("https://[::1/a", Err("is no address of a file")),
            ("https://[::1]x/a", Err("is no address of a file")),
            ("https://example.org/a b", Err("is no address of a file")),
            ("https://example.org/a#b", Err("is no address of a file")),
            ("https://exämple.org/a", Err("is no address of a file")),
            ("https://?/a", Err("is no address of a file")),
            ("organisation/name", Err("is a repository")),
            ("a.wasm", Err("is neither a path nor an address")),
        ];
        for (text, expected) in rows {
            let found = locate(text, Path::new("/here"));
            match (found, expected) {
                (Ok(location), Ok(expected)) => assert_eq!(location.to_string(), expected),
                (Err(fault), Err(expected)) => {
                    assert!(fault.problem.starts_with(expected), "{text}: {}", fault.problem);
                }
                (found, _) => panic!("{text}: {:?}", found.is_ok()),
            }
        }
    }
}
