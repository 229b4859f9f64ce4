//! The real chain's metadata: unpacked, changed, and told in three versions.

use std::io::Read;

use flate2::read::GzDecoder;
use parity_scale_codec::{Decode, Encode};
use scale_info::form::PortableForm;
use scale_info::{
    Path, PortableType, Type, TypeDef, TypeDefComposite, TypeDefPrimitive, TypeDefTuple,
    TypeDefVariant, TypeParameter, Variant,
};
use subxt::ext::frame_metadata::{
    META_RESERVED, RuntimeMetadata, RuntimeMetadataPrefixed, v14, v15, v16,
};

use super::runtime::RuntimeError;

/// What `Metadata_metadata_at_version(16)` of the chain returns at version 393
/// of its runtime, without the option and the length around it.
const FINNEY: &[u8] = include_bytes!("../../metadata/finney-spec393.scale.gz");
/// Bytes of it, unpacked, at the most.
const MAX_METADATA_BYTES: u64 = 4 << 20;

/// The metadata of the real chain.
pub fn finney() -> Result<v16::RuntimeMetadataV16, RuntimeError> {
    let unreadable = |reason: String| RuntimeError::Metadata { reason };
    let mut bytes = Vec::new();
    GzDecoder::new(FINNEY)
        .take(MAX_METADATA_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(error.to_string()))?;
    let decoded = RuntimeMetadataPrefixed::decode(&mut &bytes[..])
        .map_err(|error| unreadable(error.to_string()))?;
    match decoded.1 {
        RuntimeMetadata::V16(metadata) => Ok(metadata),
        other => Err(unreadable(format!("it is of version {}", other.version()))),
    }
}

/// Replaces the value of a constant.
pub fn set_constant(
    metadata: &mut v16::RuntimeMetadataV16,
    pallet: &str,
    name: &str,
    value: Vec<u8>,
) -> Result<(), RuntimeError> {
    let pallets = &mut metadata.pallets;
    let constants = pallets.iter_mut().filter(|one| one.name == pallet);
    let mut constants = constants.flat_map(|one| &mut one.constants);
    let constant = constants
        .find(|constant| constant.name == name)
        .ok_or_else(|| RuntimeError::missing("constant", pallet, name))?;
    constant.value = value;
    Ok(())
}

/// Adds what runtimes since the middle of 2026 have of epochs, which clients of
/// those ask for: three numbers of a subnet, which consensus it has, and when the
/// next epoch is.
pub fn add_stateful_epochs(metadata: &mut v16::RuntimeMetadataV16) -> Result<(), RuntimeError> {
    add_next_epoch(metadata)?;
    let types = &mut metadata.types.types;
    let variant = |(index, name): (u8, &str)| Variant {
        name: name.to_owned(),
        fields: vec![],
        index,
        docs: vec![],
    };
    let consensus = types.len() as u32;
    let variants = (0..).zip(["Yuma", "Null"]).map(variant).collect();
    let path = ["pallet_subtensor", "epoch", "EpochConsensus"].map(str::to_owned);
    let ty = Type {
        path: Path::from_segments_unchecked(path),
        type_params: vec![],
        type_def: TypeDef::Variant(TypeDefVariant { variants }),
        docs: vec![],
    };
    types.push(PortableType { id: consensus, ty });

    let pallets = metadata.pallets.iter_mut();
    let mut storages = pallets.filter_map(|pallet| pallet.storage.as_mut());
    let missing = || RuntimeError::missing("storage", "SubtensorModule", LIKE);
    let entries = &mut storages
        .find(|storage| storage.prefix == "SubtensorModule")
        .ok_or_else(missing)?
        .entries;
    // One that is a number of a subnet already.
    let like = entries.iter().find(|entry| entry.name == LIKE).cloned().ok_or_else(missing)?;
    for name in ["LastEpochBlock", "PendingEpochAt", "SubnetEpochIndex"] {
        let docs = Vec::new();
        entries.push(v16::StorageEntryMetadata { name: name.to_owned(), docs, ..like.clone() });
    }
    let v16::StorageEntryType::Map { hashers, key, .. } = like.ty.clone() else {
        return Err(missing());
    };
    let ty = v16::StorageEntryType::Map { hashers, key, value: consensus.into() };
    let name = "SubnetEpochConsensus".to_owned();
    entries.push(v16::StorageEntryMetadata { name, ty, default: vec![0], docs: vec![], ..like });
    Ok(())
}

/// Adds the function that says when the next epoch is.
fn add_next_epoch(metadata: &mut v16::RuntimeMetadataV16) -> Result<(), RuntimeError> {
    const API: &str = "SubnetInfoRuntimeApi";
    let missing = || RuntimeError::missing("runtime API", API, "get_metagraph");
    let is_number =
        |one: &&PortableType| matches!(one.ty.type_def, TypeDef::Primitive(TypeDefPrimitive::U64));
    let types = &metadata.types.types;
    let number = types.iter().find(is_number).map(|one| one.id).ok_or_else(missing)?;
    let is_option = |one: &&PortableType| {
        let of = one.ty.type_params.first().and_then(|one| one.ty);
        one.ty.path.segments == ["Option"] && of.is_some_and(|of| of.id == number)
    };
    let option = types.iter().find(is_option).map(|one| one.id).ok_or_else(missing)?;
    let mut apis = metadata.apis.iter_mut();
    let methods = &mut apis.find(|api| api.name == API).ok_or_else(missing)?.methods;
    let like = methods.iter().find(|method| method.name == "get_metagraph");
    let like = like.cloned().ok_or_else(missing)?;
    let name = "get_next_epoch_start_block".to_owned();
    methods.push(v16::RuntimeApiMethodMetadata {
        name,
        output: option.into(),
        docs: vec![],
        ..like
    });
    Ok(())
}

/// A number of a subnet that the runtime has.
const LIKE: &str = "BlocksSinceLastStep";

/// What a runtime upgrade changes, as one that reads by position would notice.
pub fn upgrade(metadata: &mut v16::RuntimeMetadataV16) -> Result<(), RuntimeError> {
    // The calls of a pallet change places: every index is one higher.
    let calls = metadata
        .pallets
        .iter()
        .find(|pallet| pallet.name == "SubtensorModule")
        .and_then(|pallet| pallet.calls.as_ref())
        .map(|calls| calls.ty.id)
        .ok_or_else(|| RuntimeError::missing("pallet", "SubtensorModule", "calls"))?;
    let mut types = metadata.types.types.iter_mut();
    if let Some(calls) = types.find(|one| one.id == calls)
        && let TypeDef::Variant(calls) = &mut calls.ty.type_def
    {
        for call in &mut calls.variants {
            call.index = call.index.wrapping_add(1);
        }
    }
    Ok(())
}

/// The whole metadata in every version that clients ask for, newest first.
pub fn encoded_versions(metadata: &v16::RuntimeMetadataV16) -> [(u32, Vec<u8>); 3] {
    let encode = |one| RuntimeMetadataPrefixed(META_RESERVED, one).encode();
    [
        (16, encode(RuntimeMetadata::V16(metadata.clone()))),
        (15, encode(RuntimeMetadata::V15(to_v15(metadata)))),
        (14, encode(RuntimeMetadata::V14(to_v14(metadata)))),
    ]
}

/// A type identifier as metadata has it.
type TypeId = <PortableForm as scale_info::form::Form>::Type;

/// A registry with types that newer metadata has no need of.
struct Registry(scale_info::PortableRegistry);

impl Registry {
    fn add(&mut self, ty: Type<PortableForm>) -> TypeId {
        let id = self.0.types.len() as u32;
        self.0.types.push(PortableType { id, ty });
        id.into()
    }

    fn add_tuple(&mut self, fields: impl IntoIterator<Item = TypeId>) -> TypeId {
        let tuple = TypeDef::Tuple(TypeDefTuple::new_portable(fields));
        self.add(Type { path: Path::default(), type_params: vec![], type_def: tuple, docs: vec![] })
    }

    fn add_empty(&mut self, path: &[&str], parameters: &[(&str, TypeId)]) -> TypeId {
        let segments = path.iter().map(|&segment| segment.to_owned());
        let parameter =
            |&(name, ty): &(&str, TypeId)| TypeParameter::new_portable(name.to_owned(), Some(ty));
        self.add(Type {
            path: Path::from_segments_unchecked(segments),
            type_params: parameters.iter().map(parameter).collect(),
            type_def: TypeDef::Composite(TypeDefComposite { fields: vec![] }),
            docs: vec![],
        })
    }

    /// The tuple of all extensions, which older metadata names.
    fn add_extra(&mut self, metadata: &v16::RuntimeMetadataV16) -> TypeId {
        self.add_tuple(metadata.extrinsic.transaction_extensions.iter().map(|one| one.ty))
    }

    fn add_runtime(&mut self) -> TypeId {
        self.add_empty(&["node_subtensor_runtime", "Runtime"], &[])
    }
}

fn to_v15(metadata: &v16::RuntimeMetadataV16) -> v15::RuntimeMetadataV15 {
    let mut types = Registry(metadata.types.clone());
    let extrinsic = &metadata.extrinsic;
    let extra_ty = types.add_extra(metadata);
    let ty = types.add_runtime();
    let extension =
        |one: &v16::TransactionExtensionMetadata<PortableForm>| v15::SignedExtensionMetadata {
            identifier: one.identifier.clone(),
            ty: one.ty,
            additional_signed: one.implicit,
        };
    let pallet = |one: &v16::PalletMetadata<PortableForm>| v15::PalletMetadata {
        name: one.name.clone(),
        storage: one.storage.as_ref().map(storage),
        calls: one.calls.as_ref().map(|calls| v15::PalletCallMetadata { ty: calls.ty }),
        event: one.event.as_ref().map(|event| v15::PalletEventMetadata { ty: event.ty }),
        constants: one.constants.iter().map(constant).collect(),
        error: one.error.as_ref().map(|error| v15::PalletErrorMetadata { ty: error.ty }),
        index: one.index,
        docs: one.docs.clone(),
    };
    let method =
        |one: &v16::RuntimeApiMethodMetadata<PortableForm>| v15::RuntimeApiMethodMetadata {
            name: one.name.clone(),
            inputs: one.inputs.clone(),
            output: one.output,
            docs: one.docs.clone(),
        };
    let api = |one: &v16::RuntimeApiMetadata<PortableForm>| v15::RuntimeApiMetadata {
        name: one.name.clone(),
        methods: one.methods.iter().map(method).collect(),
        docs: one.docs.clone(),
    };
    v15::RuntimeMetadataV15 {
        pallets: metadata.pallets.iter().map(pallet).collect(),
        extrinsic: v15::ExtrinsicMetadata {
            version: EXTRINSIC_VERSION,
            address_ty: extrinsic.address_ty,
            call_ty: extrinsic.call_ty,
            signature_ty: extrinsic.signature_ty,
            extra_ty,
            signed_extensions: extrinsic.transaction_extensions.iter().map(extension).collect(),
        },
        ty,
        apis: metadata.apis.iter().map(api).collect(),
        outer_enums: metadata.outer_enums.clone(),
        custom: metadata.custom.clone(),
        types: types.0,
    }
}

fn to_v14(metadata: &v16::RuntimeMetadataV16) -> v14::RuntimeMetadataV14 {
    let mut types = Registry(metadata.types.clone());
    let extrinsic = &metadata.extrinsic;
    let extra = types.add_extra(metadata);
    let ty = types.add_runtime();
    let extrinsic_ty = types.add_empty(
        &["sp_runtime", "generic", "unchecked_extrinsic", "UncheckedExtrinsic"],
        &[
            ("Address", extrinsic.address_ty),
            ("Call", extrinsic.call_ty),
            ("Signature", extrinsic.signature_ty),
            ("Extra", extra),
        ],
    );
    let extension =
        |one: &v16::TransactionExtensionMetadata<PortableForm>| v14::SignedExtensionMetadata {
            identifier: one.identifier.clone(),
            ty: one.ty,
            additional_signed: one.implicit,
        };
    let pallet = |one: &v16::PalletMetadata<PortableForm>| v14::PalletMetadata {
        name: one.name.clone(),
        storage: one.storage.as_ref().map(storage),
        calls: one.calls.as_ref().map(|calls| v14::PalletCallMetadata { ty: calls.ty }),
        event: one.event.as_ref().map(|event| v14::PalletEventMetadata { ty: event.ty }),
        constants: one.constants.iter().map(constant).collect(),
        error: one.error.as_ref().map(|error| v14::PalletErrorMetadata { ty: error.ty }),
        index: one.index,
    };
    v14::RuntimeMetadataV14 {
        pallets: metadata.pallets.iter().map(pallet).collect(),
        extrinsic: v14::ExtrinsicMetadata {
            ty: extrinsic_ty,
            version: EXTRINSIC_VERSION,
            signed_extensions: extrinsic.transaction_extensions.iter().map(extension).collect(),
        },
        ty,
        types: types.0,
    }
}

/// Of signed extrinsics.
const EXTRINSIC_VERSION: u8 = 4;

fn storage(
    one: &v16::PalletStorageMetadata<PortableForm>,
) -> v14::PalletStorageMetadata<PortableForm> {
    let entry = |one: &v16::StorageEntryMetadata<PortableForm>| v14::StorageEntryMetadata {
        name: one.name.clone(),
        modifier: one.modifier.clone(),
        ty: one.ty.clone(),
        default: one.default.clone(),
        docs: one.docs.clone(),
    };
    v14::PalletStorageMetadata {
        prefix: one.prefix.clone(),
        entries: one.entries.iter().map(entry).collect(),
    }
}

fn constant(
    one: &v16::PalletConstantMetadata<PortableForm>,
) -> v14::PalletConstantMetadata<PortableForm> {
    v14::PalletConstantMetadata {
        name: one.name.clone(),
        ty: one.ty,
        value: one.value.clone(),
        docs: one.docs.clone(),
    }
}
