//! A runtime as its metadata tells it: everything is found and encoded by name.

use parity_scale_codec::Encode;
use subxt::dynamic::Value;
use subxt::ext::frame_decode::{self, extrinsics::ExtrinsicOwned};
use subxt::ext::frame_metadata::v16::RuntimeMetadataV16;
use subxt::ext::scale_value::{Composite, ValueDef, scale};
use subxt::metadata::Metadata;

use super::metadata;
use crate::local::EpochSchedule;
use crate::names::field_names;

/// Which runtime made a block, and how it reads and writes bytes.
#[derive(Debug)]
pub struct Runtime {
    source: RuntimeMetadataV16,
    metadata: Metadata,
    encoded: [(u32, Vec<u8>); 3],
    version: Value,
    /// Rises with every upgrade.
    pub spec_version: u32,
    /// Rises when calls change.
    pub transaction_version: u32,
}

/// What a runtime does not have, or cannot write. Reads after "failed to ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The metadata is none.
    #[error("read the runtime's metadata: {reason}")]
    Metadata {
        /// Why.
        reason: String,
    },
    /// Something that is looked up by name is not there.
    #[error("find the {kind} {path} in the runtime's metadata")]
    Missing {
        /// What it is.
        kind: &'static str,
        /// Where it should be.
        path: String,
    },
    /// A value is not of the type that the metadata has.
    #[error("encode {path}: {reason}")]
    Encode {
        /// What.
        path: String,
        /// Why not.
        reason: String,
    },
    /// Bytes that are not of the type that the metadata has.
    #[error("decode {path}: {reason}")]
    Decode {
        /// What.
        path: String,
        /// Why not.
        reason: String,
    },
}

impl RuntimeError {
    pub(super) fn missing(kind: &'static str, parent: &str, name: &str) -> RuntimeError {
        RuntimeError::Missing { kind, path: format!("{parent}.{name}") }
    }
}

impl Runtime {
    /// That of the real chain, with blocks as far apart as is said, and what
    /// clients of stateful epochs look for where there are such.
    pub fn finney(block_time_ms: u64, schedule: EpochSchedule) -> Result<Runtime, RuntimeError> {
        let mut source = metadata::finney()?;
        if schedule == EpochSchedule::SinceLast {
            metadata::add_stateful_epochs(&mut source)?;
        }
        metadata::set_constant(&mut source, "Aura", "SlotDuration", block_time_ms.encode())?;
        let half = (block_time_ms / 2).encode();
        metadata::set_constant(&mut source, "Timestamp", "MinimumPeriod", half)?;
        Runtime::new(source)
    }

    fn new(source: RuntimeMetadataV16) -> Result<Runtime, RuntimeError> {
        let encoded = metadata::encoded_versions(&source);
        let metadata = Metadata::from_v16(source.clone())
            .map_err(|error| RuntimeError::Metadata { reason: error.to_string() })?;
        let version = constant(&metadata, "System", "Version")?;
        let number = |name| -> Result<u32, RuntimeError> {
            field(&version, name)
                .and_then(Value::as_u128)
                .and_then(|number| u32::try_from(number).ok())
                .ok_or_else(|| RuntimeError::missing("field", "System.Version", name))
        };
        let (spec_version, transaction_version) =
            (number("spec_version")?, number("transaction_version")?);
        Ok(Runtime { source, metadata, encoded, version, spec_version, transaction_version })
    }

    /// The next version of this runtime, whose calls have other indices.
    pub fn upgraded(&self) -> Result<Runtime, RuntimeError> {
        let mut source = self.source.clone();
        metadata::upgrade(&mut source)?;
        let mut version = self.version.clone();
        if let ValueDef::Composite(Composite::Named(fields)) = &mut version.value {
            let next = [
                ("spec_version", self.spec_version + 1),
                ("transaction_version", self.transaction_version + 1),
            ];
            for (name, number) in next {
                let fields = fields.iter_mut().filter(|(one, _)| one == name);
                fields.for_each(|(_, value)| *value = Value::u128(number.into()));
            }
        }
        let ty = find_constant(&self.metadata, "System", "Version")?.ty();
        let encoded = self.encode(ty, &version, "System.Version")?;
        metadata::set_constant(&mut source, "System", "Version", encoded)?;
        Runtime::new(source)
    }

    /// The types and items, as the client library has them.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// What names and versions the runtime has, by field.
    pub fn version(&self) -> &Value {
        &self.version
    }

    /// The versions of metadata that can be had.
    pub fn metadata_versions(&self) -> impl Iterator<Item = u32> + '_ {
        self.encoded.iter().map(|(version, _)| *version)
    }

    /// The metadata in one version.
    pub fn encoded_metadata(&self, version: u32) -> Option<&[u8]> {
        let mut versions = self.encoded.iter();
        versions.find(|(one, _)| *one == version).map(|(_, bytes)| bytes.as_slice())
    }

    /// Where a value lies in storage.
    pub fn storage_key(
        &self,
        pallet: &str,
        entry: &str,
        keys: &[Value],
    ) -> Result<Vec<u8>, RuntimeError> {
        let types = self.metadata.types();
        frame_decode::storage::encode_storage_key(
            pallet,
            entry,
            keys.to_vec(),
            &self.metadata,
            types,
        )
        .map_err(|error| unencodable(format!("the key of {pallet}.{entry}"), error))
    }

    /// The bytes of a value in storage.
    pub fn storage_value(
        &self,
        pallet: &str,
        entry: &str,
        value: &Value,
    ) -> Result<Vec<u8>, RuntimeError> {
        let ty = self
            .metadata
            .pallet_by_name(pallet)
            .and_then(|one| one.storage())
            .and_then(|storage| storage.entry_by_name(entry))
            .map(|entry| entry.value_ty())
            .ok_or_else(|| RuntimeError::missing("storage", pallet, entry))?;
        self.encode(ty, value, &format!("{pallet}.{entry}"))
    }

    /// Whether storage has an item.
    pub fn has_storage(&self, pallet: &str, entry: &str) -> bool {
        let storage = self.metadata.pallet_by_name(pallet).and_then(|one| one.storage());
        storage.and_then(|storage| storage.entry_by_name(entry)).is_some()
    }

    /// What a runtime API was called with.
    pub fn api_arguments(
        &self,
        api: &str,
        method: &str,
        mut bytes: &[u8],
    ) -> Result<Vec<Value>, RuntimeError> {
        let found = self.api(api, method)?;
        let path = || format!("the arguments of {api}.{method}");
        found.inputs().map(|input| self.decode_from(input.id, &mut bytes, path)).collect()
    }

    /// What a runtime API returns.
    pub fn api_result(
        &self,
        api: &str,
        method: &str,
        value: &Value,
    ) -> Result<Vec<u8>, RuntimeError> {
        let ty = self.api(api, method)?.output_ty();
        self.encode(ty, value, &format!("the result of {api}.{method}"))
    }

    /// The names of the fields of what a runtime API returns, within an option.
    pub fn api_result_fields(&self, api: &str, method: &str) -> Result<Vec<String>, RuntimeError> {
        self.api(api, method)?;
        field_names(&self.metadata, api, method)
            .ok_or_else(|| RuntimeError::missing("fields of the result of", api, method))
    }

    fn api(
        &self,
        api: &str,
        method: &str,
    ) -> Result<subxt::metadata::RuntimeApiMethodMetadata<'_>, RuntimeError> {
        let api_found = self.metadata.runtime_api_trait_by_name(api);
        api_found
            .and_then(|one| one.method_by_name(method))
            .ok_or_else(|| RuntimeError::missing("runtime API", api, method))
    }

    /// The error of a pallet, as the dispatch of a call returns it.
    pub fn module_error(&self, pallet: &str, error: &str) -> Result<Value, RuntimeError> {
        let missing = || RuntimeError::missing("error", pallet, error);
        let found = self.metadata.pallet_by_name(pallet).ok_or_else(missing)?;
        let mut variants = found.error_variants().ok_or_else(missing)?.iter();
        let variant = variants.find(|one| one.name == error).ok_or_else(missing)?;
        let fields = [
            ("index", Value::u128(found.error_index().into())),
            ("error", Value::from_bytes([variant.index, 0, 0, 0])),
        ];
        let module = Value::named_composite(fields);
        Ok(Value::unnamed_variant("Module", [module]))
    }

    /// The bytes of a call.
    pub fn call(
        &self,
        pallet: &str,
        call: &str,
        arguments: Vec<(&str, Value)>,
    ) -> Result<Vec<u8>, RuntimeError> {
        let call = Value::named_variant(call, arguments);
        let outer = Value::unnamed_variant(pallet, [call]);
        self.encode(self.metadata.outer_enums().call_enum_ty(), &outer, "a call")
    }

    /// An extrinsic, taken apart; its length comes first.
    pub fn extrinsic(&self, bytes: &[u8]) -> Result<ExtrinsicOwned<u32>, RuntimeError> {
        let cursor = &mut &*bytes;
        let types = self.metadata.types();
        let decoded = frame_decode::extrinsics::decode_extrinsic(cursor, &self.metadata, types);
        let decoded = decoded.map_err(|error| RuntimeError::Decode {
            path: "the extrinsic".to_owned(),
            reason: error.to_string(),
        })?;
        if !cursor.is_empty() {
            let reason = format!("{} bytes are left over", cursor.len());
            return Err(RuntimeError::Decode { path: "the extrinsic".to_owned(), reason });
        }
        Ok(decoded.into_owned())
    }

    /// A value of a type from all of these bytes.
    pub fn decode(&self, ty: u32, mut bytes: &[u8], path: &str) -> Result<Value, RuntimeError> {
        self.decode_from(ty, &mut bytes, || path.to_owned())
    }

    fn decode_from(
        &self,
        ty: u32,
        bytes: &mut &[u8],
        path: impl Fn() -> String,
    ) -> Result<Value, RuntimeError> {
        scale::decode_as_type(bytes, ty, self.metadata.types())
            .map(Value::remove_context)
            .map_err(|error| RuntimeError::Decode { path: path(), reason: error.to_string() })
    }

    /// The bytes of a value of a type.
    pub fn encode(&self, ty: u32, value: &Value, path: &str) -> Result<Vec<u8>, RuntimeError> {
        let mut bytes = Vec::new();
        scale::encode_as_type(value, ty, self.metadata.types(), &mut bytes)
            .map_err(|error| unencodable(path.to_owned(), error))?;
        Ok(bytes)
    }
}

fn unencodable(path: String, error: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::Encode { path, reason: error.to_string() }
}

fn find_constant<'a>(
    metadata: &'a Metadata,
    pallet: &str,
    name: &str,
) -> Result<&'a subxt::metadata::ConstantMetadata, RuntimeError> {
    let found = metadata.pallet_by_name(pallet).and_then(|one| one.constant_by_name(name));
    found.ok_or_else(|| RuntimeError::missing("constant", pallet, name))
}

fn constant(metadata: &Metadata, pallet: &str, name: &str) -> Result<Value, RuntimeError> {
    let found = find_constant(metadata, pallet, name)?;
    scale::decode_as_type(&mut found.value(), found.ty(), metadata.types())
        .map(Value::remove_context)
        .map_err(|error| RuntimeError::Decode {
            path: format!("{pallet}.{name}"),
            reason: error.to_string(),
        })
}

/// A named field of a value.
pub fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match &value.value {
        ValueDef::Composite(Composite::Named(fields)) => {
            fields.iter().find(|(one, _)| one == name).map(|(_, value)| value)
        }
        _ => None,
    }
}
