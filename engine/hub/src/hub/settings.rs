//! How the hub is to be used, as the environment says.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::limits;

const ENDPOINT: &str = "https://huggingface.co";

/// Where the hub is and where its files are kept.
///
/// The names of variables and files are those of the Python library, so that
/// what is set for one holds for both.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// Address of the hub, without a slash at its end: `HF_ENDPOINT`.
    pub endpoint: String,
    /// `HF_TOKEN`, or what the token file holds.
    pub token: Option<Token>,
    /// Folder of files by repository: `HF_HUB_CACHE`, else `hub` in `HF_HOME`;
    /// none when there is not even a home directory.
    pub cache: Option<PathBuf>,
    /// Whether the net must be left alone: `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// Bytes that files downloaded here may take; see [`Hub`](super::Hub).
    pub quota: Option<u64>,
    /// Files that are downloaded at once.
    pub connections: usize,
    /// Bytes that may come in a second, over all connections.
    pub bytes_per_second: Option<u64>,
}

/// What the hub knows a user by. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(...)")
    }
}

impl HubSettings {
    /// The settings of this process.
    pub fn from_environment() -> HubSettings {
        HubSettings::from_variables(|name| match std::env::var_os(name) {
            // A service may have no HOME; the system knows the user's all the same.
            None if name == "HOME" => std::env::home_dir().map(PathBuf::into_os_string),
            value => value,
        })
    }

    /// The settings by these variables; an empty one counts as none.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> HubSettings {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| given(name).and_then(|value| value.into_string().ok());
        let home = given("HOME").map(PathBuf::from);
        let path = |name: &str| {
            let value = given(name)?;
            Some(expand(with_variables(&value, &given), home.as_deref()))
        };
        let is_set = |name: &str| {
            let value = text(name).unwrap_or_default().to_ascii_uppercase();
            matches!(value.as_str(), "1" | "ON" | "YES" | "TRUE")
        };

        let user_cache = path("XDG_CACHE_HOME").or(home.as_ref().map(|home| home.join(".cache")));
        let hub_home = path("HF_HOME").or(user_cache.map(|cache| cache.join("huggingface")));
        let in_hub_home = |name: &str| hub_home.as_ref().map(|home| home.join(name));
        let cache = path("HF_HUB_CACHE").or(path("HUGGINGFACE_HUB_CACHE")).or(in_hub_home("hub"));
        let token_file = path("HF_TOKEN_PATH").or(in_hub_home("token"));
        let token = text("HF_TOKEN")
            .or(text("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| token_file.as_deref().and_then(read_token))
            .filter(|_| !is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN"));
        // As the Python library does it: line feeds are nobody's, wherever they are.
        let cleaned = |token: String| token.replace(['\r', '\n'], "").trim().to_owned();
        let token = token.map(cleaned).filter(|token| !token.is_empty());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        HubSettings {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token.map(Token),
            cache,
            offline: is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE"),
            quota: None,
            connections: limits::HUB_CONNECTIONS,
            bytes_per_second: None,
        }
    }
}

/// A path with variables in place of `$NAME` and `${NAME}`, as the Python library
/// reads it; one that is not set stays as it is.
fn with_variables(value: &OsStr, variable: &impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let Some(text) = value.to_str() else { return value.into() };
    let mut parts = text.split('$');
    let mut path = OsString::from(parts.next().unwrap_or_default());
    for part in parts {
        let is_name = |character: char| character == '_' || character.is_ascii_alphanumeric();
        let braced = part.strip_prefix('{').and_then(|part| part.split_once('}'));
        let (name, rest) = braced.unwrap_or_else(|| {
            part.split_at(part.find(|character| !is_name(character)).unwrap_or(part.len()))
        });
        match Some(name).filter(|name| !name.is_empty()).and_then(variable) {
            Some(value) => path.extend([value.as_os_str(), rest.as_ref()]),
            None => path.extend(["$".as_ref(), part.as_ref() as &OsStr]),
        }
    }
    path.into()
}

/// A path with the home directory in place of `~`.
fn expand(path: PathBuf, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

fn read_token(path: &Path) -> Option<String> {
    let mut token = String::new();
    File::open(path).ok()?.take(limits::MAX_TOKEN_BYTES).read_to_string(&mut token).ok()?;
    Some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Variables, then endpoint, token, cache and whether it is offline.
    type Row = (
        &'static [(&'static str, &'static str)],
        &'static str,
        Option<&'static str>,
        Option<&'static str>,
        bool,
    );

    #[test]
    fn what_variables_mean() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        let hf_home = folder.path().to_str().unwrap();
        let hub = "https://huggingface.co";
        let rows: &[Row] = &[
            (&[], hub, None, None, false),
            (&[("HOME", "/h")], hub, None, Some("/h/.cache/huggingface/hub"), false),
            (
                &[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")],
                hub,
                None,
                Some("/x/huggingface/hub"),
                false,
            ),
            (&[("HOME", "/h"), ("HF_HOME", "~/hf")], hub, None, Some("/h/hf/hub"), false),
            (&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")], hub, None, Some("/c"), false),
            (&[("A", "/a"), ("HF_HOME", "$A/${A}b$/$C")], hub, None, Some("/a//ab$/$C/hub"), false),
            (&[("HF_TOKEN", "hf_a\r\nb\n")], hub, Some("hf_ab"), None, false),
            (&[("HF_HOME", "FOLDER")], hub, Some("hf_file"), Some("FOLDER/hub"), false),
            (
                &[("HF_HOME", "FOLDER"), ("HF_TOKEN", " hf_own ")],
                hub,
                Some("hf_own"),
                Some("FOLDER/hub"),
                false,
            ),
            (
                &[("HF_HOME", "FOLDER"), ("HF_TOKEN", "")],
                hub,
                Some("hf_file"),
                Some("FOLDER/hub"),
                false,
            ),
            (
                &[("HF_HOME", "FOLDER"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")],
                hub,
                None,
                Some("FOLDER/hub"),
                false,
            ),
            (
                &[("HF_ENDPOINT", "http://127.0.0.1:8/"), ("HF_HUB_OFFLINE", "yes")],
                "http://127.0.0.1:8",
                None,
                None,
                true,
            ),
            (&[("HF_HUB_OFFLINE", "0")], hub, None, None, false),
        ];
        for (variables, endpoint, token, cache, offline) in rows {
            let found = HubSettings::from_variables(|name| {
                let (_, value) = variables.iter().find(|(given, _)| *given == name)?;
                Some(value.replace("FOLDER", hf_home).into())
            });
            let found_cache =
                found.cache.map(|path| path.to_str().unwrap().replace(hf_home, "FOLDER"));
            let found_token = found.token.map(|token| token.0);
            assert_eq!(
                (
                    found.endpoint.as_str(),
                    found_token.as_deref(),
                    found_cache.as_deref(),
                    found.offline
                ),
                (*endpoint, *token, *cache, *offline),
                "{variables:?}"
            );
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        assert!(!format!("{:?}", Token("hf_secret".to_owned())).contains("secret"));
    }
}
