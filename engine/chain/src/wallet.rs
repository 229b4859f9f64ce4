//! The validator's hotkey, from the wallet folder of the subnet's own tools.
//!
//! ```text
//! <wallets>/<wallet>/hotkeys/<hotkey>
//! ```
//!
//! The coldkey, which owns the stake, is never read: a validator signs with its
//! hotkey alone.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use crypto_secretbox::aead::Aead;
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};
use schnorrkel::{ExpansionMode, Keypair, MiniSecretKey, SecretKey};
use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Address;
use crate::address::AddressError;

/// Bytes of a key file.
pub const MAX_KEY_BYTES: u64 = 64 << 10;
/// How an encrypted file begins.
const ENCRYPTED: &[u8] = b"$NACL";
/// How files begin that older versions of the tools encrypted.
const ENCRYPTED_BEFORE: [&[u8]; 2] = [b"$ANSIBLE_VAULT", b"gAAAA"];
const NONCE_BYTES: usize = 24;
/// The file format's salt: the same for every file.
const SALT: [u8; 16] = [
    0x13, 0x71, 0x83, 0xdf, 0xf1, 0x5a, 0x09, 0xbc, 0x9c, 0x90, 0xb5, 0x51, 0x87, 0x39, 0xe9, 0xb1,
];
const PASSES: u32 = 8;
const MEMORY_KIB: u32 = 512 << 10;
const SR25519: u64 = 1;
/// What Substrate signs in the name of.
pub(crate) const SIGNING_CONTEXT: &[u8] = b"substrate";

/// A key that signs for one account. Its secret is wiped when it is dropped,
/// and nothing prints it.
pub struct Hotkey {
    pair: Keypair,
}

/// A password, wiped when it is dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Password(String);

impl Password {
    /// Takes the text over.
    pub fn new(text: String) -> Password {
        Password(text)
    }
}

/// A hotkey, and what its owner should know of its file.
#[derive(Debug)]
pub struct OpenedHotkey {
    /// The key.
    pub hotkey: Hotkey,
    /// The file is open to more people than its owner: its mode.
    pub readable_by_others: Option<u32>,
}

/// Why there is no key. Reads after "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// A name that is a path, or none.
    #[error("find the {what} {name:?}: a name is one part of a path")]
    Name {
        /// `wallet` or `hotkey`.
        what: &'static str,
        /// What was given.
        name: String,
    },
    /// The system does not give the file.
    #[error("read the hotkey {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no key.
    #[error("read the hotkey {}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong; never a part of the file.
        problem: String,
    },
    /// Encrypted in a way that is not read.
    #[error(
        "read the hotkey {}: it was encrypted by an old version of the tools; open it with a new one, \
         which encrypts it again",
        path.display()
    )]
    OldEncryption {
        /// The file.
        path: PathBuf,
    },
    /// Nobody said the password.
    #[error("read the hotkey {}: it is encrypted, and there is no password", path.display())]
    NoPassword {
        /// The file.
        path: PathBuf,
    },
    /// Another password.
    #[error("read the hotkey {}: the password is wrong, or the file is damaged", path.display())]
    WrongPassword {
        /// The file.
        path: PathBuf,
    },
    /// Not enough memory to make a key of a password.
    #[error(
        "read the hotkey {}: its password takes {} MiB of memory to check",
        path.display(),
        MEMORY_KIB >> 10
    )]
    Memory {
        /// The file.
        path: PathBuf,
    },
}

/// Opens a hotkey. `password` is asked only where the file is encrypted; none
/// means that nobody can say it.
///
/// # Errors
/// Names that are paths, files that are no key, keys that are not those of the
/// address beside them, and wrong passwords. No error holds a part of a secret.
pub fn open_hotkey(
    wallets: &Path,
    wallet: &str,
    hotkey: &str,
    password: impl FnOnce(&Path) -> Option<Password>,
) -> Result<OpenedHotkey, WalletError> {
    for (what, name) in [("wallet", wallet), ("hotkey", hotkey)] {
        let is_plain = Path::new(name).file_name().is_some_and(|last| last == name);
        if !is_plain {
            return Err(WalletError::Name { what, name: name.to_owned() });
        }
    }
    let path = wallets.join(wallet).join("hotkeys").join(hotkey);
    let (content, mode) = read(&path)?;
    let content = if content.starts_with(ENCRYPTED) {
        let said = password(&path).ok_or_else(|| WalletError::NoPassword { path: path.clone() })?;
        decrypt(&path, &content, &said)?
    } else if ENCRYPTED_BEFORE.iter().any(|start| content.starts_with(start)) {
        return Err(WalletError::OldEncryption { path });
    } else {
        content
    };
    let hotkey = parse(&content).map_err(|problem| WalletError::Content { path, problem })?;
    Ok(OpenedHotkey { hotkey, readable_by_others: mode })
}

impl Hotkey {
    /// The account that it signs for.
    pub fn address(&self) -> Address {
        Address(self.pair.public.to_bytes())
    }

    /// The sr25519 signature of a payload, as Substrate makes it. No two are
    /// the same.
    pub fn sign(&self, payload: &[u8]) -> [u8; 64] {
        self.pair.sign_simple(SIGNING_CONTEXT, payload).to_bytes()
    }
}

impl fmt::Debug for Hotkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hotkey({})", self.address())
    }
}

/// A key file's members; those that are not needed are not read.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(rename_all = "camelCase")]
struct KeyFile {
    secret_seed: Option<String>,
    private_key: Option<String>,
    ss58_address: Option<String>,
    crypto_type: Option<u64>,
}

fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, Option<u32>), WalletError> {
    let failed = |source| WalletError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.len() > MAX_KEY_BYTES {
        let problem = format!("it is no file of at most {MAX_KEY_BYTES} bytes");
        return Err(WalletError::Content { path: path.to_owned(), problem });
    }
    // Room for all, so that no copy stays behind where the buffer has grown.
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_KEY_BYTES as usize + 1));
    file.take(MAX_KEY_BYTES).read_to_end(&mut content).map_err(failed)?;
    Ok((content, mode_for_others(&metadata)))
}

/// The mode of a file that is open to more people than its owner.
#[cfg(unix)]
pub fn mode_for_others(metadata: &std::fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    const OTHERS: u32 = 0o077;
    let mode = metadata.permissions().mode() & 0o777;
    (mode & OTHERS != 0).then_some(mode)
}

/// Other systems have other ways.
#[cfg(not(unix))]
pub fn mode_for_others(_: &std::fs::Metadata) -> Option<u32> {
    None
}

/// `$NACL`, a nonce, and a secretbox under the Argon2i key of a password.
fn decrypt(
    path: &Path,
    content: &[u8],
    password: &Password,
) -> Result<Zeroizing<Vec<u8>>, WalletError> {
    let wrong = || WalletError::WrongPassword { path: path.to_owned() };
    let memory = |_| WalletError::Memory { path: path.to_owned() };
    let sealed = content.get(ENCRYPTED.len()..).unwrap_or_default();
    let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES).ok_or_else(wrong)?;
    let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| wrong())?;
    let mut key = Zeroizing::new([0; 32]);
    let parameters = Params::new(MEMORY_KIB, PASSES, 1, Some(key.len())).map_err(memory)?;
    Argon2::new(Algorithm::Argon2i, Version::V0x13, parameters)
        .hash_password_into(password.0.as_bytes(), &SALT, key.as_mut_slice())
        .map_err(memory)?;
    let opened = XSalsa20Poly1305::new((&*key).into()).decrypt(&nonce.into(), sealed);
    opened.map(Zeroizing::new).map_err(|_| wrong())
}

fn parse(content: &[u8]) -> Result<Hotkey, String> {
    // What the parser says may hold a part of the file.
    let file: KeyFile =
        serde_json::from_slice(content).map_err(|_| "it is no JSON of a key".to_owned())?;
    if file.crypto_type.is_some_and(|kind| kind != SR25519) {
        return Err("it is no sr25519 key, and validators have those".to_owned());
    }
    let pair = match (&file.secret_seed, &file.private_key) {
        (Some(seed), _) => MiniSecretKey::from_bytes(bytes::<32>(seed, "secretSeed")?.as_slice())
            .map(|seed| seed.expand_to_keypair(ExpansionMode::Ed25519)),
        (None, Some(key)) => SecretKey::from_bytes(bytes::<64>(key, "privateKey")?.as_slice())
            .map(SecretKey::to_keypair),
        (None, None) => return Err("it has neither `secretSeed` nor `privateKey`".to_owned()),
    };
    let hotkey = Hotkey { pair: pair.map_err(|_| "its secret is no sr25519 key".to_owned())? };
    let address: Option<Result<Address, AddressError>> =
        file.ss58_address.as_deref().map(str::parse);
    match address {
        Some(Err(error)) => Err(format!("`ss58Address`: {error}")),
        Some(Ok(address)) if address != hotkey.address() => Err(format!(
            "`ss58Address` is {address}, and its secret is that of {}",
            hotkey.address()
        )),
        _ => Ok(hotkey),
    }
}

/// `0x` and hexadecimal digits.
fn bytes<const LENGTH: usize>(text: &str, key: &str) -> Result<Zeroizing<[u8; LENGTH]>, String> {
    let mut bytes = Zeroizing::new([0; LENGTH]);
    let digits = text.strip_prefix("0x").unwrap_or(text);
    hex::decode_to_slice(digits, bytes.as_mut_slice())
        .map_err(|_| format!("`{key}` is not {LENGTH} bytes in hexadecimal"))?;
    Ok(bytes)
}
