//! A node at one block: everything is read from the same state, and by the
//! names that the metadata of the block's runtime gives.

use std::borrow::Cow;
use std::sync::Arc;

use parity_scale_codec::Encode;
use subxt::client::{ClientAtBlock, OnlineClientAtBlockImpl};
use subxt::ext::frame_decode::storage::{IntoDecodableValues, IntoEncodableValues};
use subxt::ext::scale_decode::DecodeAsType;
use subxt::metadata::Metadata;
use subxt::storage::PrefixOf;
use subxt::utils::H256;

use super::SubtensorError;
use super::config::SubtensorConfig;
use super::connection::Link;
use crate::limits::MAX_ENTRIES;
use crate::mechanism::storage_index;

/// A client for one block.
pub type BlockClient = ClientAtBlock<SubtensorConfig, OnlineClientAtBlockImpl<SubtensorConfig>>;

/// Which subnet, and which of its mechanisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Its number.
    pub netuid: u16,
    /// Number of the mechanism that weights are for; most subnets have one, 0.
    pub mechanism: u8,
}

impl Subnet {
    /// The key of what each mechanism has of its own.
    pub fn index(self) -> u16 {
        storage_index(self.netuid, self.mechanism)
    }
}

/// A subnet at one block, as one node has it.
pub struct At {
    /// The node.
    pub link: Arc<Link>,
    /// Its chain at the block.
    pub client: BlockClient,
    /// The subnet.
    pub subnet: Subnet,
}

/// The last block that is final, and its hash.
pub async fn last_final(link: &Link) -> Result<(u64, H256), SubtensorError> {
    let failed = |error| SubtensorError::read("the last block", error);
    let hash = link.methods.chain_get_finalized_head().await.map_err(failed)?;
    let header = link.methods.chain_get_header(Some(hash)).await.map_err(failed)?;
    let header = header.ok_or_else(|| no_header(hash))?;
    Ok((header.number, hash))
}

/// The newest block that the node knows, and its hash; it may not be final.
pub async fn best(link: &Link) -> Result<(u64, H256), SubtensorError> {
    let failed = |error| SubtensorError::read("the newest block", error);
    let hash = link.methods.chain_get_block_hash(None).await.map_err(failed)?;
    let hash = hash.ok_or_else(|| no_header(H256::zero()))?;
    let header = link.methods.chain_get_header(Some(hash)).await.map_err(failed)?;
    Ok((header.ok_or_else(|| no_header(hash))?.number, hash))
}

/// The hash of a block that is final.
pub async fn hash_of(link: &Link, block: u64) -> Result<H256, SubtensorError> {
    let (last, hash) = last_final(link).await?;
    if block == last {
        return Ok(hash);
    }
    if block > last {
        return Err(SubtensorError::NotFinal { block, last });
    }
    let hash = link.methods.chain_get_block_hash(Some(block.into())).await;
    let hash = hash.map_err(|error| SubtensorError::read("the hash of a block", error))?;
    hash.ok_or_else(|| SubtensorError::Malformed {
        item: format!("the hash of block {block}").into(),
        problem: "the node has none".to_owned(),
    })
}

/// The body of a block, each extrinsic in its bytes, and the block's number; none
/// where the node has none.
pub async fn body(link: &Link, hash: H256) -> Result<Option<(u64, Vec<Vec<u8>>)>, SubtensorError> {
    let found = link.methods.chain_get_block(Some(hash)).await;
    let found = found.map_err(|error| SubtensorError::read("the body of a block", error))?;
    Ok(found.map(|found| {
        let extrinsics = found.block.extrinsics.into_iter().map(|bytes| bytes.0).collect();
        (found.block.header.number, extrinsics)
    }))
}

fn no_header(hash: H256) -> SubtensorError {
    SubtensorError::Malformed {
        item: format!("the header of {hash:?}").into(),
        problem: "the node has none".to_owned(),
    }
}

impl At {
    /// The subnet at a block that is final.
    pub async fn block(link: Arc<Link>, subnet: Subnet, block: u64) -> Result<At, SubtensorError> {
        let hash = hash_of(&link, block).await?;
        At::hash(link, subnet, block, hash).await
    }

    /// The subnet at the last block that is final.
    pub async fn last_final(link: Arc<Link>, subnet: Subnet) -> Result<At, SubtensorError> {
        let (block, hash) = last_final(&link).await?;
        At::hash(link, subnet, block, hash).await
    }

    /// The subnet at a block of which both are known.
    pub async fn hash(
        link: Arc<Link>,
        subnet: Subnet,
        block: u64,
        hash: H256,
    ) -> Result<At, SubtensorError> {
        let client = link.client.at_block_hash_and_number(hash, block).await;
        let client = client.map_err(|error| SubtensorError::read("the runtime", error))?;
        Ok(At { link, client, subnet })
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.client.block_number()
    }

    /// What the runtime has.
    pub fn metadata(&self) -> &Metadata {
        self.client.metadata_ref()
    }

    /// Whether the runtime keeps such an item.
    pub fn has(&self, pallet: &str, entry: &str) -> bool {
        let pallet = self.metadata().pallet_by_name(pallet);
        let storage = pallet.as_ref().and_then(|pallet| pallet.storage());
        storage.is_some_and(|storage| storage.entry_by_name(entry).is_some())
    }

    /// A value of the chain's storage, or the runtime's default; none where
    /// there is neither.
    pub async fn value<Keys, Value>(
        &self,
        pallet: &'static str,
        entry: &'static str,
        keys: Keys,
    ) -> Result<Option<Value>, SubtensorError>
    where
        Keys: IntoEncodableValues + IntoDecodableValues,
        Value: DecodeAsType,
    {
        let storage = self.client.storage();
        let address = subxt::dynamic::storage::<Keys, Value>(pallet, entry);
        let found = storage.entry(address).map_err(|_| missing(pallet, entry))?;
        let name = || format!("{pallet}::{entry}");
        let value = found.try_fetch(keys).await;
        let value = value.map_err(|error| SubtensorError::read(name(), error))?;
        let value = value.map(|value| value.decode()).transpose();
        value.map_err(|error| malformed(name(), error))
    }

    /// Like [`At::value`], of an item that has a default in every runtime.
    pub async fn number_of<Keys>(
        &self,
        entry: &'static str,
        keys: Keys,
    ) -> Result<u64, SubtensorError>
    where
        Keys: IntoEncodableValues + IntoDecodableValues,
    {
        Ok(self.value::<_, u64>("SubtensorModule", entry, keys).await?.unwrap_or(0))
    }

    /// All entries of a map that begin with some keys; none for what cannot be
    /// decoded.
    pub async fn entries<Keys, Prefix, Value>(
        &self,
        pallet: &'static str,
        entry: &'static str,
        prefix: Prefix,
    ) -> Result<Vec<(Keys, Option<Value>)>, SubtensorError>
    where
        Keys: IntoEncodableValues + IntoDecodableValues,
        Prefix: PrefixOf<Keys>,
        Value: DecodeAsType,
    {
        let storage = self.client.storage();
        let address = subxt::dynamic::storage::<Keys, Value>(pallet, entry);
        let found = storage.entry(address).map_err(|_| missing(pallet, entry))?;
        let name = || format!("{pallet}::{entry}");
        let failed = |error| SubtensorError::read(name(), error);
        let mut stream = found.iter(prefix).await.map_err(failed)?;
        let mut entries = Vec::new();
        while let Some(item) = stream.next().await {
            if entries.len() >= MAX_ENTRIES {
                let problem = format!("there are more than {MAX_ENTRIES} entries");
                return Err(SubtensorError::Malformed { item: name().into(), problem });
            }
            let item = item.map_err(failed)?;
            let keys = item.key().and_then(|key| key.decode());
            let keys = keys.map_err(|error| malformed(name(), error))?;
            entries.push((keys, item.value().decode().ok()));
        }
        Ok(entries)
    }

    /// What a function of a runtime API answers; none where the runtime has no
    /// such function.
    pub async fn call(
        &self,
        api: &'static str,
        function: &'static str,
        arguments: &impl Encode,
    ) -> Result<Option<Answer<'_>>, SubtensorError> {
        let traits = self.metadata().runtime_api_trait_by_name(api);
        let Some(method) = traits.as_ref().and_then(|api| api.method_by_name(function)) else {
            return Ok(None);
        };
        let name = format!("{api}_{function}");
        let arguments = arguments.encode();
        let bytes = self.client.runtime_apis().call_raw(&name, Some(&arguments)).await;
        let bytes = bytes.map_err(|error| SubtensorError::read(name.clone(), error))?;
        Ok(Some(Answer { name, bytes, type_id: method.output_ty(), metadata: self.metadata() }))
    }
}

/// Bytes of a runtime API, and their type.
pub struct Answer<'a> {
    name: String,
    bytes: Vec<u8>,
    type_id: u32,
    metadata: &'a Metadata,
}

impl Answer<'_> {
    /// The answer, or the part of it that `Value` names.
    pub fn decode<Value: DecodeAsType>(&self) -> Result<Value, SubtensorError> {
        let types = self.metadata.types();
        Value::decode_as_type(&mut &self.bytes[..], self.type_id, types)
            .map_err(|error| malformed(self.name.clone(), error))
    }
}

fn missing(pallet: &str, entry: &str) -> SubtensorError {
    SubtensorError::Missing { item: format!("{pallet}::{entry}").into() }
}

/// An item that is not what its type says.
pub fn malformed(item: impl Into<Cow<'static, str>>, error: impl ToString) -> SubtensorError {
    SubtensorError::Malformed { item: item.into(), problem: error.to_string() }
}
