//! The hub as the operator sets it up.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use clap::Args;
use evaltasks_core::competition::is_repository;
use evaltasks_core::document::Bytes;
use evaltasks_core::source::ModelReference;
use evaltasks_hub::hub::Progress;
use evaltasks_hub::net::SystemClock;
use evaltasks_hub::{Hub, HubOptions, HubSettings};

use super::progress::Console;

/// How models of the hub are fetched.
#[derive(Args)]
pub struct HubArguments {
    /// Fetch nothing from the hub: what its cache lacks is an error. The same as
    /// HF_HUB_OFFLINE=1
    #[arg(long)]
    offline: bool,
    /// Bytes that downloaded models may take, such as 200GiB: those that were
    /// used least recently go first, never one in use, and never one that
    /// something else downloaded. No limit by default
    #[arg(long, value_name = "BYTES")]
    hub_quota: Option<Bytes>,
    /// Bytes that may be downloaded in a second, such as 50MB. No limit by
    /// default
    #[arg(long, value_name = "BYTES")]
    hub_rate: Option<Bytes>,
}

impl HubArguments {
    /// Whether `--offline` was given.
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// These arguments, and what the environment says beside them.
    pub fn settings(&self) -> HubSettings {
        let from_environment = HubSettings::from_environment();
        HubSettings {
            offline: self.offline || from_environment.offline,
            quota: self.hub_quota.map(|bytes| bytes.0),
            bytes_per_second: self.hub_rate.map(|bytes| bytes.0),
            ..from_environment
        }
    }

    /// The hub by these arguments and the environment. `console` shows how far
    /// downloads are, and `cancelled` ends them.
    pub fn hub(&self, console: Option<&Arc<Console>>, cancelled: Arc<AtomicBool>) -> Hub {
        let settings = self.settings();
        let progress: Arc<Progress> = match console.map(Arc::clone) {
            Some(console) => Arc::new(move |progress| console.fetching(progress)),
            None => Arc::new(|_| {}),
        };
        let clock = Arc::new(SystemClock::cancelled_by(Arc::clone(&cancelled)));
        Hub::new(settings, HubOptions { progress, cancelled, clock, ..HubOptions::default() })
    }
}

/// What names a model on the command line: `organisation/name@revision` on the
/// hub, and anything else a path. A path that looks like a repository begins
/// with `./`.
pub fn model_reference(argument: &str) -> ModelReference {
    match argument.split_once('@') {
        Some((repository, revision)) if is_repository(repository) => ModelReference::Repository {
            repository: repository.to_owned(),
            revision: revision.to_owned(),
        },
        _ => ModelReference::Directory(PathBuf::from(argument)),
    }
}

/// The same model by commit hash, which the hub is asked for.
pub fn pinned(hub: &Hub, model: ModelReference) -> Result<ModelReference> {
    let ModelReference::Repository { repository, revision } = model else { return Ok(model) };
    let pinned = hub.pin(&repository, Some(&revision))?;
    Ok(ModelReference::Repository { repository, revision: pinned.commit().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_argument_means() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let rows = [
            ("./models/base", None),
            ("models/base", None),
            ("./org/name@main", None),
            ("/a/b@c", None),
            ("model.gguf", None),
            ("org/name@main", Some(("org/name", "main"))),
            ("org/name@", Some(("org/name", ""))),
            (&format!("org/name@{commit}"), Some(("org/name", commit))),
        ];
        for (argument, expected) in rows {
            let expected = match expected {
                None => ModelReference::Directory(argument.into()),
                Some((repository, revision)) => ModelReference::Repository {
                    repository: repository.to_owned(),
                    revision: revision.to_owned(),
                },
            };
            assert_eq!(model_reference(argument), expected, "{argument}");
        }
    }
}
