//! What operators ask of a program that runs unattended.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use evaltasks_chain::Subtensor;
use evaltasks_core::competition::Subnet;
use evaltasks_hub::{HubSettings, downloaded_bytes};

use crate::http::Server;
use crate::operate::{
    Folders, ListenArguments, Live, LogArguments, Site, SiteParts, Validator, Versions,
};
use crate::validator::OnView;

/// What it shows of itself, and what it logs.
#[derive(Args)]
pub struct OperateArguments {
    #[command(flatten)]
    listen: ListenArguments,
    #[command(flatten)]
    log: LogArguments,
}

/// What is shown.
pub struct Shown<'a> {
    /// Folder of the state.
    pub folder: &'a Path,
    /// The competitions.
    pub subnet: &'a Subnet,
    /// Where models are.
    pub hub: HubSettings,
    /// What the validator is doing.
    pub live: &'a Arc<Live>,
    /// Who it is.
    pub validator: Validator,
    /// What runs the models.
    pub backend: String,
}

impl OperateArguments {
    /// Logs from now on.
    pub fn log(&self) -> Result<()> {
        Ok(self.log.start()?)
    }

    /// Serves, if that was asked for, until the server is dropped.
    pub fn serve(&self, shown: Shown<'_>) -> Result<Option<Server>> {
        let folder = shown.folder.to_owned();
        Ok(self.listen.serve(|| Site::new(&folder, shown.into_parts()))?)
    }
}

impl Shown<'_> {
    fn into_parts(self) -> SiteParts {
        let folders = Folders {
            state: self.folder.to_owned(),
            models: self.hub.cache,
            models_quota_bytes: self.hub.quota,
        };
        SiteParts {
            subnet: Arc::new(self.subnet.clone()),
            live: Arc::clone(self.live),
            validator: self.validator,
            versions: Versions {
                engine: env!("CARGO_PKG_VERSION").to_owned(),
                backend: self.backend,
            },
            disk: Box::new(move || {
                folders.measure(folders.models.as_deref().map(downloaded_bytes))
            }),
        }
    }
}

/// Shows every view of the chain, and the node that is connected.
pub fn watch(live: &Arc<Live>, chain: Option<Arc<Subtensor>>) -> OnView {
    let live = Arc::clone(live);
    if let Some(chain) = chain {
        live.ask_for_node(move || chain.endpoint().map(|endpoint| endpoint.url().to_owned()));
    }
    Box::new(move |view| {
        live.head(view.metagraph.block, Some(view.rules.next_epoch_block));
    })
}
