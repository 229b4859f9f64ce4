//! The keys of those who are there from the start, and wallets of them for the
//! tools that sign.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use schnorrkel::{ExpansionMode, Keypair, MiniSecretKey};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::Address;

/// Name of the hotkey in each wallet.
pub const HOTKEY: &str = "default";

/// A key that everybody can make who knows the seed: worth nothing but here.
#[derive(Clone)]
pub struct DevelopmentKey {
    seed: [u8; 32],
    pair: Keypair,
}

/// Why there is no wallet. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The system does not write it.
    #[error("write the wallet file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Never for any seed that is known.
    #[error("make the key {name}")]
    Seed {
        /// Whose.
        name: String,
    },
}

impl DevelopmentKey {
    /// The key of a name in the network of a seed.
    ///
    /// # Errors
    /// Never for any seed that is known.
    pub fn new(network: &str, name: &str) -> Result<DevelopmentKey, KeysError> {
        let seed: [u8; 32] = Sha256::new_with_prefix(b"evaltasks development key 1\0")
            .chain_update(network)
            .chain_update([0])
            .chain_update(name)
            .finalize()
            .into();
        let secret = MiniSecretKey::from_bytes(&seed);
        let secret = secret.map_err(|_| KeysError::Seed { name: name.to_owned() })?;
        Ok(DevelopmentKey { seed, pair: secret.expand_to_keypair(ExpansionMode::Ed25519) })
    }

    /// Whom it signs for.
    pub fn address(&self) -> Address {
        Address(self.pair.public.to_bytes())
    }

    /// The content of a key file; `secret` says whether it can sign.
    fn file(&self, secret: bool) -> String {
        let hex = |bytes: &[u8]| format!("0x{}", hex::encode(bytes));
        let address = self.address();
        let mut file = json!({
            "accountId": hex(&address.0),
            "publicKey": hex(&address.0),
            "ss58Address": address.to_string(),
            "cryptoType": 1,
        });
        if secret {
            file["secretSeed"] = hex(&self.seed).into();
            file["privateKey"] = hex(&self.pair.secret.to_bytes()).into();
        }
        file.to_string()
    }
}

/// Writes a wallet as the subnet's tools do: `<folder>/<name>`, with a coldkey
/// and a hotkey [`HOTKEY`] that no password protects.
///
/// # Errors
/// When the system does not write it.
pub fn write_wallet(
    folder: &Path,
    name: &str,
    coldkey: &DevelopmentKey,
    hotkey: &DevelopmentKey,
) -> Result<(), KeysError> {
    let wallet = folder.join(name);
    let hotkeys = wallet.join("hotkeys");
    fs::create_dir_all(&hotkeys)
        .map_err(|source| KeysError::Write { path: hotkeys.clone(), source })?;
    let files = [
        (wallet.join("coldkey"), coldkey.file(true)),
        (wallet.join("coldkeypub.txt"), coldkey.file(false)),
        (hotkeys.join(HOTKEY), hotkey.file(true)),
        (hotkeys.join(format!("{HOTKEY}pub.txt")), hotkey.file(false)),
    ];
    for (path, content) in files {
        write_private(&path, &content).map_err(|source| KeysError::Write { path, source })?;
    }
    Ok(())
}

/// Writes a file that only its owner reads.
fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    io::Write::write_all(&mut options.open(path)?, content.as_bytes())
}
