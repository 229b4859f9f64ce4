//! Names that metadata give.

use scale_info::TypeDef;
use subxt::metadata::Metadata;

/// The names of the fields of what a function of a runtime API may return, in
/// their order; none where there is no such function, or it returns no optional
/// type with fields.
pub fn field_names(metadata: &Metadata, api: &str, function: &str) -> Option<Vec<String>> {
    let method = metadata.runtime_api_trait_by_name(api)?.method_by_name(function)?;
    let types = metadata.types();
    let TypeDef::Variant(option) = &types.resolve(method.output_ty())?.type_def else {
        return None;
    };
    let some = option.variants.iter().find(|variant| variant.name == "Some")?;
    let TypeDef::Composite(fields) = &types.resolve(some.fields.first()?.ty.id)?.type_def else {
        return None;
    };
    Some(fields.fields.iter().filter_map(|field| field.name.clone()).collect())
}
