//! What miners have committed, out of the forms in which the chain keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use evaltasks_core::chain::Commitment;
use scale_decode::visitor::types::Variant;
use scale_decode::visitor::{TypeIdFor, Visitor};
use scale_decode::{DecodeAsType, IntoVisitor};
use subxt::ext::scale_decode;
use subxt::ext::scale_type_resolver::TypeResolver;
use subxt::utils::AccountId32;

use super::SubtensorError;
use super::at::{At, body, hash_of};
use super::selective::{CommitmentFields, Selected};
use crate::Address;
use crate::limits::{MAX_BODIES_PER_VIEW, MAX_KEPT_PLACES};

const PALLET: &str = "Commitments";
const ENTRY: &str = "CommitmentOf";
const CALL: &str = "set_commitment";

/// What the chain keeps for a hotkey.
#[derive(Debug, PartialEq, Eq, DecodeAsType)]
#[decode_as_type(crate_path = "scale_decode")]
pub struct Registration {
    /// Block of the latest commitment.
    block: u64,
    info: Info,
}

#[derive(Debug, PartialEq, Eq, DecodeAsType)]
#[decode_as_type(crate_path = "scale_decode")]
pub struct Info {
    fields: Vec<Data>,
}

/// One field of a commitment.
#[derive(Debug, PartialEq, Eq)]
pub enum Data {
    /// Bytes, as the miner sent them.
    Raw(Vec<u8>),
    /// A digest, a ciphertext, or nothing: the encoded form.
    Other(Vec<u8>),
}

impl Registration {
    /// The first field of bytes; where there is none, the encoded form of the
    /// first field, which names no model.
    pub fn data(self) -> Vec<u8> {
        let mut other = None;
        for field in self.info.fields {
            match field {
                Data::Raw(bytes) => return bytes,
                Data::Other(bytes) => other = other.or(Some(bytes)),
            }
        }
        other.unwrap_or_default()
    }
}

/// By the variant's name: `Raw0` to `Raw128` and `BigRaw` hold bytes.
pub struct DataVisitor<R>(PhantomData<R>);

impl IntoVisitor for Data {
    type AnyVisitor<R: TypeResolver> = DataVisitor<R>;

    fn into_visitor<R: TypeResolver>() -> DataVisitor<R> {
        DataVisitor(PhantomData)
    }
}

impl<R: TypeResolver> Visitor for DataVisitor<R> {
    type Value<'scale, 'resolver> = Data;
    type Error = scale_decode::Error;
    type TypeResolver = R;

    fn visit_variant<'scale, 'resolver>(
        self,
        value: &mut Variant<'scale, 'resolver, R>,
        _: TypeIdFor<Self>,
    ) -> Result<Data, scale_decode::Error> {
        let name = value.name();
        let length = name.strip_prefix("Raw").and_then(|length| length.parse::<usize>().ok());
        if length.is_some() || name == "BigRaw" {
            let bytes = value.fields().decode_item(Vec::<u8>::into_visitor::<R>());
            return bytes.transpose().map(|bytes| Data::Raw(bytes.unwrap_or_default()));
        }
        let start = value.bytes_from_start();
        value.skip_decoding()?;
        let length = start.len() - value.bytes_from_undecoded().len();
        Ok(Data::Other(start.get(..length).unwrap_or_default().to_vec()))
    }
}

/// Where commitments stand in their blocks, as far as it was looked up.
#[derive(Default)]
pub struct Places(Mutex<BTreeMap<Place, u32>>);

/// A block, and who committed in it.
type Place = (u64, [u8; 32]);

/// See [`SubnetView`](evaltasks_core::chain::SubnetView).
#[derive(Debug, PartialEq, Eq)]
pub struct Committed {
    /// Those that can be decoded.
    pub commitments: Vec<Commitment>,
    /// Hotkeys of the others.
    pub undecodable: Vec<String>,
}

/// What the neurons of a metagraph have committed, in their order.
///
/// `selected` has it where the runtime gives it with the metagraph; else the
/// storage is read. The chain takes nothing that its own types do not allow, so
/// that what cannot be decoded is not its miner's fault.
pub async fn commitments(
    at: &At,
    hotkeys: &[AccountId32],
    selected: Option<&Selected<'_>>,
    places: &Places,
) -> Result<Committed, SubtensorError> {
    let given = selected.and_then(|selected| selected.part::<CommitmentFields>().ok());
    let found = match given.and_then(|fields| fields.commitments) {
        Some(given) => decoded(at, given)?,
        None => stored(at).await?,
    };
    let (known, undecodable) = sorted_out(hotkeys, found)?;
    let order = places.look_up(at, &known).await;
    let commitment = |(key, registration): (&AccountId32, Registration)| Commitment {
        hotkey: Address(key.0).to_string(),
        block: registration.block,
        extrinsic_index: order.get(&(registration.block, key.0)).copied().unwrap_or(Some(0)),
        data: registration.data(),
    };
    Ok(Committed { commitments: known.into_iter().map(commitment).collect(), undecodable })
}

/// None for what cannot be decoded.
type ByHotkey = BTreeMap<[u8; 32], Option<Registration>>;

type Known<'a> = Vec<(&'a AccountId32, Registration)>;

/// Commitments of hotkeys, in their order, and the hotkeys of those that cannot
/// be decoded. When that is all of them, the runtime has another form.
fn sorted_out(
    hotkeys: &[AccountId32],
    mut found: ByHotkey,
) -> Result<(Known<'_>, Vec<String>), SubtensorError> {
    let mut known = Vec::with_capacity(hotkeys.len());
    let mut undecodable = Vec::new();
    for key in hotkeys {
        match found.remove(&key.0) {
            Some(Some(registration)) => known.push((key, registration)),
            Some(None) => undecodable.push(Address(key.0).to_string()),
            None => {}
        }
    }
    match &undecodable[..] {
        [] => {}
        some if known.is_empty() => {
            let problem = format!("none of {} can be decoded", some.len());
            let item = format!("{PALLET}::{ENTRY}").into();
            return Err(SubtensorError::Malformed { item, problem });
        }
        [first, ..] => tracing::warn!(
            hotkey = first.as_str(),
            count = undecodable.len(),
            "commitments cannot be decoded; what was known of their hotkeys stays"
        ),
    }
    Ok((known, undecodable))
}

fn decoded(at: &At, given: Vec<(AccountId32, Vec<u8>)>) -> Result<ByHotkey, SubtensorError> {
    let metadata = at.metadata();
    let pallet = metadata.pallet_by_name(PALLET);
    let entry = pallet.as_ref().and_then(|pallet| pallet.storage()?.entry_by_name(ENTRY));
    let type_id = entry
        .map(|entry| entry.value_ty())
        .ok_or(SubtensorError::Missing { item: format!("{PALLET}::{ENTRY}").into() })?;
    let registration = |(key, bytes): (AccountId32, Vec<u8>)| {
        let found = Registration::decode_as_type(&mut &bytes[..], type_id, metadata.types());
        (key.0, found.ok())
    };
    Ok(given.into_iter().map(registration).collect())
}

async fn stored(at: &At) -> Result<ByHotkey, SubtensorError> {
    let prefix = (at.subnet.netuid,);
    let entries = at.entries::<(u16, AccountId32), _, Registration>(PALLET, ENTRY, prefix).await?;
    Ok(entries.into_iter().map(|((_, key), found)| (key.0, found)).collect())
}

impl Places {
    /// The places of commitments that share their block with another: only of
    /// those can it matter. The newest blocks are looked up first, so many in a
    /// view; what is not known yet is none.
    async fn look_up(
        &self,
        at: &At,
        commitments: &[(&AccountId32, Registration)],
    ) -> BTreeMap<Place, Option<u32>> {
        let by_block = shared_blocks(commitments);
        let mut bodies = 0;
        for (&block, keys) in by_block.iter().rev() {
            if keys.iter().all(|key| self.kept().contains_key(&(block, *key))) {
                continue;
            }
            bodies += 1;
            if bodies > MAX_BODIES_PER_VIEW {
                tracing::warn!(block, "the order of commitments in older blocks is not looked up");
                break;
            }
            match places_in(at, block).await {
                Ok(found) => {
                    let mut kept = self.kept();
                    // Who has let another account sign is the last: the place of
                    // that one's extrinsic says nothing that could be checked.
                    let place = |key: &[u8; 32]| found.get(key).copied().unwrap_or(u32::MAX);
                    kept.extend(keys.iter().map(|key| ((block, *key), place(key))));
                    while kept.len() > MAX_KEPT_PLACES {
                        kept.pop_first();
                    }
                }
                Err(error) => tracing::warn!(
                    block,
                    error = &error as &dyn std::error::Error,
                    "the order of commitments in a block is not known"
                ),
            }
        }
        self.among(&by_block)
    }

    /// What is known of the places in these blocks.
    fn among(&self, blocks: &SharedBlocks) -> BTreeMap<Place, Option<u32>> {
        let kept = self.kept();
        let wanted = blocks.iter().flat_map(|(block, keys)| keys.iter().map(|key| (*block, *key)));
        wanted.map(|place| (place, kept.get(&place).copied())).collect()
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeMap<Place, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who committed in a block, by blocks.
type SharedBlocks = BTreeMap<u64, BTreeSet<[u8; 32]>>;

/// The blocks with more than one commitment.
fn shared_blocks(commitments: &[(&AccountId32, Registration)]) -> SharedBlocks {
    let mut by_block = SharedBlocks::new();
    for (key, registration) in commitments {
        by_block.entry(registration.block).or_default().insert(key.0);
    }
    by_block.retain(|_, keys| keys.len() > 1);
    by_block
}

/// Index of each hotkey's last extrinsic in a block that sets a commitment; of
/// those that set none directly, as in a batch, of their last extrinsic.
///
/// The last, because it is what the chain keeps: an earlier one that failed
/// must not give a better place.
async fn places_in(at: &At, block: u64) -> Result<BTreeMap<[u8; 32], u32>, SubtensorError> {
    let link = &at.link;
    let hash = hash_of(link, block).await?;
    let body = body(link, hash).await?;
    let (_, extrinsics) = body.ok_or_else(|| SubtensorError::Malformed {
        item: format!("the body of block {block}").into(),
        problem: "the node has none".to_owned(),
    })?;
    // By the metadata of its own block, if the node still knows them.
    let then = link.client.at_block_hash_and_number(hash, block).await;
    let client = then.as_ref().unwrap_or(&at.client);
    let extrinsics = client.extrinsics().from_bytes(extrinsics).await;
    let mut places = BTreeMap::<[u8; 32], (bool, u32)>::new();
    for extrinsic in extrinsics.iter().filter_map(Result::ok) {
        let Some(key) = extrinsic.address_bytes().and_then(account) else { continue };
        let Ok(index) = u32::try_from(extrinsic.index()) else { continue };
        let commits = extrinsic.pallet_name() == PALLET && extrinsic.call_name() == CALL;
        let place = places.entry(key).or_insert((commits, index));
        *place = (*place).max((commits, index));
    }
    Ok(places.into_iter().map(|(key, (_, index))| (key, index)).collect())
}

/// The key of an address that is one: the last 32 bytes, after a byte that says
/// so where addresses may be other things.
fn account(address: &[u8]) -> Option<[u8; 32]> {
    match address {
        [0, key @ ..] if key.len() == 32 => key.try_into().ok(),
        key => key.try_into().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subtensor::tests::metadata;

    /// Registration of a deposit, a block, and fields that are encoded already.
    fn encoded(block: u32, fields: &[&[u8]]) -> Vec<u8> {
        let count = u8::try_from(fields.len() * 4).unwrap();
        [&7_u64.to_le_bytes()[..], &block.to_le_bytes(), &[count], &fields.concat()].concat()
    }

    fn check(bytes: &[u8], expected: Option<(u64, &[u8])>) {
        let metadata = metadata();
        let pallet = metadata.pallet_by_name(PALLET).unwrap();
        let type_id = pallet.storage().unwrap().entry_by_name(ENTRY).unwrap().value_ty();
        let found = Registration::decode_as_type(&mut &bytes[..], type_id, metadata.types()).ok();
        let found = found.map(|one| (one.block, one.data()));
        assert_eq!(found, expected.map(|(block, data)| (block, data.to_vec())), "{bytes:?}");
    }

    #[test]
    fn commitments_in_all_forms() {
        let text = b"org/model";
        let raw = [&[10][..], text].concat();
        check(&encoded(5, &[&raw]), Some((5, text)));
        check(&encoded(5, &[&[0], &raw]), Some((5, text)));
        check(&encoded(5, &[&[1]]), Some((5, b"")));
        let longest = [&[129][..], &[65; 128]].concat();
        check(&encoded(u32::MAX, &[&longest]), Some((4_294_967_295, &[65; 128])));
        // 300 in the compact form is 300 * 4 + 1 in two bytes.
        let big = [&[136][..], &1201_u16.to_le_bytes(), &[66; 300]].concat();
        check(&encoded(5, &[&big]), Some((5, &[66; 300])));
        // A digest, or a ciphertext: the encoded form.
        let digest = [&[131][..], &[9; 32]].concat();
        check(&encoded(5, &[&digest]), Some((5, &digest)));
        check(&encoded(5, &[&digest, &raw]), Some((5, text)));
        let locked = [&[134][..], &[8, 1, 2], &77_u64.to_le_bytes()].concat();
        check(&encoded(5, &[&locked]), Some((5, &locked)));
        check(&encoded(5, &[]), Some((5, b"")));
        // What ends too early, and a form that nobody knows.
        check(&encoded(5, &[&raw[..5]]), None);
        check(&encoded(5, &[&[255]]), None);
        check(&[], None);
    }

    fn registration(block: u64) -> Registration {
        Registration { block, info: Info { fields: Vec::new() } }
    }

    #[test]
    fn a_commitment_that_cannot_be_decoded_is_not_withdrawn() {
        let keys = [1, 2, 3].map(|byte| AccountId32([byte; 32]));
        let found = |some: &[(u8, bool)]| {
            let entry = |&(byte, good): &(u8, bool)| ([byte; 32], good.then(|| registration(6)));
            sorted_out(&keys, some.iter().map(entry).collect())
        };
        let (known, undecodable) = found(&[(3, true), (1, false), (9, false)]).unwrap();
        assert_eq!(known, [(&keys[2], registration(6))]);
        assert_eq!(undecodable, [Address([1; 32]).to_string()]);
        let (known, undecodable) = found(&[]).unwrap();
        assert!(known.is_empty() && undecodable.is_empty());
        let all = found(&[(1, false), (2, false)]).err().unwrap().to_string();
        let expected = "read Commitments::CommitmentOf of the chain: none of 2 can be decoded";
        assert_eq!(all, expected);
    }

    #[test]
    fn a_place_that_was_not_read_is_not_the_first() {
        let keys = [1, 2, 3].map(|byte| AccountId32([byte; 32]));
        let blocks = [6, 6, 7].map(registration);
        let commitments: Vec<_> = keys.iter().zip(blocks).collect();
        let shared = shared_blocks(&commitments);
        assert_eq!(shared.keys().copied().collect::<Vec<u64>>(), [6]);
        let places = Places::default();
        let unknown = [((6, [1; 32]), None), ((6, [2; 32]), None)];
        assert_eq!(places.among(&shared), unknown.into());
        places.kept().extend([((6, [1; 32]), 2), ((6, [2; 32]), 1)]);
        let known = [((6, [1; 32]), Some(2)), ((6, [2; 32]), Some(1))];
        assert_eq!(places.among(&shared), known.into());
    }

    #[test]
    fn accounts_of_addresses() {
        let key = [3; 32];
        assert_eq!(account(&key), Some(key));
        assert_eq!(account(&[&[0][..], &key].concat()), Some(key));
        assert_eq!(account(&[&[3][..], &key].concat()), None);
        assert_eq!(account(&[0, 1, 2]), None);
    }
}
