//! What the client has to know of the chain before it has read its metadata.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use subxt::config::substrate::{DynamicHasher256, SubstrateHeader};
use subxt::config::{Config, SubstrateExtrinsicParams};
use subxt::metadata::ArcMetadata;
use subxt::tx::Signer;
use subxt::utils::{AccountId32, H256, MultiAddress, MultiSignature};

use crate::Hotkey;
use crate::limits::MAX_KEPT_RUNTIMES;

/// Types of the chain that are the same in every runtime, and the metadata of
/// the runtimes that were met last.
#[derive(Clone, Debug, Default)]
pub struct SubtensorConfig {
    /// By version of the runtime; the newest is the last.
    runtimes: Arc<Mutex<VecDeque<(u32, ArcMetadata)>>>,
}

impl Config for SubtensorConfig {
    type AccountId = AccountId32;
    type Address = MultiAddress<AccountId32, u32>;
    type Signature = MultiSignature;
    type Hasher = DynamicHasher256;
    type Header = SubstrateHeader<H256>;
    type TransactionExtensions = SubstrateExtrinsicParams<Self>;
    type AssetId = u32;

    fn metadata_for_spec_version(&self, spec_version: u32) -> Option<ArcMetadata> {
        let runtimes = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = runtimes.iter().find(|(version, _)| *version == spec_version);
        kept.map(|(_, metadata)| Arc::clone(metadata))
    }

    fn set_metadata_for_spec_version(&self, spec_version: u32, metadata: ArcMetadata) {
        let mut runtimes = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner);
        runtimes.retain(|(version, _)| *version != spec_version);
        runtimes.push_back((spec_version, metadata));
        if runtimes.len() > MAX_KEPT_RUNTIMES {
            runtimes.pop_front();
        }
    }
}

impl Signer<SubtensorConfig> for Hotkey {
    fn account_id(&self) -> AccountId32 {
        AccountId32(self.address().0)
    }

    fn sign(&self, payload: &[u8]) -> MultiSignature {
        MultiSignature::Sr25519(Hotkey::sign(self, payload))
    }
}
