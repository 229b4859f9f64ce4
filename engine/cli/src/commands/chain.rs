//! The chain and the wallet as the operator names them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use evaltasks_chain::{
    Endpoint, Hotkey, OpenedHotkey, Password, Subtensor, SubtensorOptions, mode_for_others,
    open_hotkey,
};

use crate::operate::say;

/// Holds the password of an encrypted hotkey.
pub const PASSWORD_VARIABLE: &str = "EVALTASKS_WALLET_PASSWORD";
/// Names a file that holds it, such as a credential of the system's.
const PASSWORD_FILE_VARIABLE: &str = "EVALTASKS_WALLET_PASSWORD_FILE";
/// Bytes of such a file.
const MAX_PASSWORD_BYTES: u64 = 4096;
/// Where wallets are, below the user's home.
const WALLETS: &str = ".bittensor/wallets";

/// Where the chain is, and who signs.
#[derive(Args)]
pub struct ChainArguments {
    /// Node of the chain: finney, test, archive, local, or a wss:// URL; a ws://
    /// URL of this machine, too. Name several to go on with the next when one
    /// fails
    #[arg(long = "network", value_name = "NETWORK", default_value = "finney")]
    networks: Vec<String>,
    /// Take plain ws:// URLs of other machines, too. Whoever is in between can
    /// then change what the chain says
    #[arg(long)]
    plain_ws: bool,
    /// Number of the subnet
    #[arg(long, value_name = "N")]
    netuid: Option<u16>,
    /// Number of the subnet's mechanism that is read and that weights are set in;
    /// most subnets have one, 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    mechanism: u8,
    /// Name of the wallet
    #[arg(long, value_name = "NAME", default_value = "default")]
    wallet_name: String,
    /// Name of the hotkey in the wallet. Nothing else of the wallet is read. The
    /// password of an encrypted one is asked for, or is in
    /// EVALTASKS_WALLET_PASSWORD, or in the file that
    /// EVALTASKS_WALLET_PASSWORD_FILE names
    #[arg(long, value_name = "NAME", default_value = "default")]
    wallet_hotkey: String,
    /// Folder of the wallets; by default ~/.bittensor/wallets
    #[arg(long, value_name = "DIR")]
    wallet_path: Option<PathBuf>,
}

impl ChainArguments {
    /// The subnet's number, if it was named.
    pub fn netuid(&self) -> Option<u16> {
        self.netuid
    }

    /// The network, as the command line names it.
    pub fn network(&self) -> &str {
        self.networks.first().map_or("", String::as_str)
    }

    /// The subnet on the chain. Nothing is connected yet.
    ///
    /// `netuid` is the subnet where the command line names none, as one of a
    /// competition file.
    pub fn subtensor(&self, netuid: Option<u16>, hotkey: Option<Hotkey>) -> Result<Subtensor> {
        let Some(netuid) = self.netuid.or(netuid) else {
            bail!("find the subnet: name it by --netuid, or in the competition file");
        };
        let endpoint = |text: &String| match self.plain_ws {
            true => Endpoint::plain(text),
            false => text.parse(),
        };
        let endpoints: Result<Vec<Endpoint>, _> = self.networks.iter().map(endpoint).collect();
        Ok(Subtensor::new(SubtensorOptions {
            endpoints: endpoints?,
            netuid,
            mechanism: self.mechanism,
            version_key: None,
            hotkey,
        })?)
    }

    /// The key that signs. Its password is asked for where it has one.
    pub fn hotkey(&self) -> Result<Hotkey> {
        let wallets = match &self.wallet_path {
            Some(path) => path.clone(),
            None => {
                let home = std::env::var_os("HOME").context("find the wallets: HOME is not set")?;
                PathBuf::from(home).join(WALLETS)
            }
        };
        let OpenedHotkey { hotkey, readable_by_others } =
            open_hotkey(&wallets, &self.wallet_name, &self.wallet_hotkey, password)?;
        if let Some(mode) = readable_by_others {
            let hotkeys = wallets.join(&self.wallet_name).join("hotkeys");
            warn_of_readers("hotkey", &hotkeys.join(&self.wallet_hotkey), mode);
        }
        Ok(hotkey)
    }
}

/// From the environment, from the file that it names, or from whoever sits at
/// the terminal.
fn password(path: &Path) -> Option<Password> {
    if let Ok(password) = std::env::var(PASSWORD_VARIABLE) {
        return Some(Password::new(password));
    }
    if let Some(file) = std::env::var_os(PASSWORD_FILE_VARIABLE) {
        let read = password_in(Path::new(&file));
        return read
            .inspect_err(|error| say::warning(&format!("the file of the password: {error}")))
            .ok();
    }
    let prompt = format!("Password of {}: ", path.display());
    rpassword::prompt_password(prompt).ok().map(Password::new)
}

/// The first line of a file.
fn password_in(path: &Path) -> std::io::Result<Password> {
    let mut text = String::new();
    let file = File::open(path)?;
    if let Some(mode) = mode_for_others(&file.metadata()?) {
        warn_of_readers("password", path, mode);
    }
    file.take(MAX_PASSWORD_BYTES).read_to_string(&mut text)?;
    let end = text.find(['\r', '\n']).unwrap_or(text.len());
    text.truncate(end);
    Ok(Password::new(text))
}

fn warn_of_readers(what: &str, path: &Path, mode: u32) {
    let path = path.display();
    say::warning(&format!(
        "others can read the {what} {path} (mode {mode:03o}): `chmod 600 {path}` keeps them out"
    ));
}
