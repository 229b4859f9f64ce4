//! The world of a plugin: what it may call, and what it may take.

use std::sync::mpsc::{self, Sender};

use evaltasks_core::host::{Host, Ragged};
use evaltasks_core::plugin::PluginLimits;
use wasmtime::component::{Linker, LinkerInstance};
use wasmtime::{Error, ResourceLimiter, Result, StoreContextMut, Trap};

use crate::bindings::evaltasks::task::types as wit;
use crate::error::Fault;
use crate::limits::{
    FUEL_PER_BYTE, FUEL_PER_HOST_CALL, FUEL_PER_TOKENIZED_BYTE, FUEL_PER_WORD, MAX_SAID_BYTES,
};

/// What belongs to one instance.
pub struct State {
    host: Option<HostLink>,
    limits: PluginLimits,
    /// Bytes of all memories; they never shrink.
    pub memory_bytes: u64,
    table_elements: u64,
    log_bytes_left: u64,
    /// The last message of level 0.
    pub said: Option<String>,
}

impl State {
    /// Without a host, only logging works.
    pub fn new(host: Option<HostLink>, limits: PluginLimits) -> State {
        let log_bytes_left = limits.log_bytes;
        State { host, limits, memory_bytes: 0, table_elements: 0, log_bytes_left, said: None }
    }
}

/// Leads from the thread of a plugin to the host on the thread that called it.
#[derive(Clone)]
pub struct HostLink(Sender<HostJob>);

/// Something to be asked of the host.
pub type HostJob = Box<dyn FnOnce(&dyn Host) + Send>;

impl HostLink {
    /// Sends jobs to whoever serves the other end.
    pub fn new(jobs: Sender<HostJob>) -> HostLink {
        HostLink(jobs)
    }

    fn ask<R: Send + 'static>(
        &self,
        job: impl FnOnce(&dyn Host) -> R + Send + 'static,
    ) -> Result<R> {
        let (answer, answered) = mpsc::sync_channel(1);
        let job: HostJob = Box::new(move |host| {
            // Nobody waits any more when the plugin's thread has ended.
            let _ = answer.send(job(host));
        });
        let gone = || Error::new(Fault::Runtime("the host is gone".to_owned()));
        self.0.send(job).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())
    }
}

/// Whether something that is capped in sum may grow from `current` to
/// `desired`; `total` is what there is of it in the whole instance.
fn may_grow(
    total: &mut u64,
    limit: u64,
    what: &'static str,
    (current, desired): (usize, usize),
    maximum: Option<usize>,
) -> Result<bool> {
    if maximum.is_some_and(|maximum| desired > maximum) {
        return Ok(false);
    }
    let grown = total.saturating_add(desired.saturating_sub(current) as u64);
    if grown > limit {
        return Err(Error::new(Fault::Limit { what, limit }));
    }
    *total = grown;
    Ok(true)
}

impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        let (total, limit) = (&mut self.memory_bytes, self.limits.memory_bytes);
        may_grow(total, limit, "bytes of memory", (current, desired), maximum)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        let (total, limit) = (&mut self.table_elements, self.limits.table_elements);
        may_grow(total, limit, "elements of tables", (current, desired), maximum)
    }

    fn instances(&self) -> usize {
        count(self.limits.instances)
    }
    fn tables(&self) -> usize {
        count(self.limits.tables)
    }
    fn memories(&self) -> usize {
        count(self.limits.memories)
    }
}

fn count(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

type Caller<'a> = StoreContextMut<'a, State>;

/// Takes fuel for work that the host does for a plugin, so that it, too, ends
/// at the same place in every run.
fn charge(store: &mut Caller<'_>, units: u64) -> Result<()> {
    let left = store.get_fuel()?.checked_sub(units);
    store.set_fuel(left.unwrap_or(0))?;
    left.map(|_| ()).ok_or_else(|| Trap::OutOfFuel.into())
}

fn charge_for(store: &mut Caller<'_>, amount: usize, units: u64) -> Result<()> {
    charge(store, FUEL_PER_HOST_CALL.saturating_add((amount as u64).saturating_mul(units)))
}

fn ask<R: Send + 'static>(
    store: &Caller<'_>,
    name: &'static str,
    job: impl FnOnce(&dyn Host) -> R + Send + 'static,
) -> Result<R> {
    let host = store.data().host.as_ref().ok_or_else(|| Error::new(Fault::NoHost(name)))?;
    host.ask(job)
}

fn lengths(texts: &[String]) -> usize {
    texts.iter().map(String::len).sum()
}

/// Offers all functions of the interface `interface`, such as
/// `evaltasks:task/host@0.1.0`. A plugin may import any part of it.
pub fn link(linker: &mut Linker<State>, interface: &str) -> Result<()> {
    let mut host = linker.instance(interface)?;
    link_data(&mut host)?;
    link_text(&mut host)?;
    host.func_wrap("random", |mut store: Caller<'_>, (key, words): (String, u32)| {
        charge_for(&mut store, words as usize, FUEL_PER_WORD)?;
        Ok((ask(&store, "random", move |host| host.random(&key, words))?,))
    })?;
    host.func_wrap("permutation", |mut store: Caller<'_>, (entries,): (u32,)| {
        charge_for(&mut store, entries as usize, FUEL_PER_WORD)?;
        Ok((ask(&store, "permutation", move |host| host.permutation(entries))?,))
    })?;
    host.func_wrap("log", |mut store: Caller<'_>, (level, message): (u8, String)| {
        charge_for(&mut store, message.len(), FUEL_PER_BYTE)?;
        log(store.data_mut(), level, message)
    })
}

fn link_data(host: &mut LinkerInstance<'_, State>) -> Result<()> {
    host.func_wrap("rows", |mut store: Caller<'_>, (source, start, rows): (u32, u32, u32)| {
        charge(&mut store, FUEL_PER_HOST_CALL)?;
        let rows = ask(&store, "rows", move |host| host.rows(source, start, rows))?;
        let bytes = rows.as_deref().map_or(0, lengths);
        charge_for(&mut store, bytes, FUEL_PER_BYTE)?;
        Ok((rows,))
    })?;
    host.func_wrap("blob-read", |mut store: Caller<'_>, (id, offset, length): (u32, u32, u32)| {
        charge(&mut store, FUEL_PER_HOST_CALL)?;
        let bytes = ask(&store, "blob-read", move |host| host.blob_read(id, offset, length))?;
        charge_for(&mut store, bytes.as_ref().map_or(0, Vec::len), FUEL_PER_BYTE)?;
        Ok((bytes,))
    })?;
    host.func_wrap("blob-put", |mut store: Caller<'_>, (media, bytes): (String, Vec<u8>)| {
        charge_for(&mut store, bytes.len(), FUEL_PER_BYTE)?;
        let blob = ask(&store, "blob-put", move |host| host.blob_put(&media, &bytes))?;
        Ok((blob.map(wit::Blob::from),))
    })
}

fn link_text(host: &mut LinkerInstance<'_, State>) -> Result<()> {
    host.func_wrap("encode", |mut store: Caller<'_>, (texts, special): (Vec<String>, bool)| {
        charge_for(&mut store, lengths(&texts), FUEL_PER_TOKENIZED_BYTE)?;
        let ids = ask(&store, "encode", move |host| host.encode(&texts, special))?;
        Ok((ids.map(|Ragged { data, ends }| wit::Ragged { data, ends }),))
    })?;
    host.func_wrap("decode", |mut store: Caller<'_>, (ids,): (wit::Ragged,)| {
        charge_for(&mut store, ids.data.len(), FUEL_PER_TOKENIZED_BYTE)?;
        let ids = Ragged { data: ids.data, ends: ids.ends };
        Ok((ask(&store, "decode", move |host| host.decode(&ids))?,))
    })?;
    host.func_wrap("settings", |mut store: Caller<'_>, (): ()| {
        charge(&mut store, FUEL_PER_HOST_CALL)?;
        let settings = ask(&store, "settings", |host| host.text_settings())?;
        let (sequence_length, end_of_sequence) =
            (settings.sequence_length, settings.end_of_sequence);
        Ok((wit::TextSettings { sequence_length, end_of_sequence },))
    })
}

/// Passes a message on, as long as there are not too many of them.
fn log(state: &mut State, level: u8, message: String) -> Result<()> {
    // Charged to every message, so that empty ones end too.
    const BYTES_PER_MESSAGE: u64 = 16;
    const WARNING: u8 = 1;
    let limit = state.limits.log_bytes;
    if level == 0 {
        state.said = Some(clip(&message, MAX_SAID_BYTES));
    }
    if state.log_bytes_left == 0 {
        return Ok(());
    }
    let cost = BYTES_PER_MESSAGE.saturating_add(message.len() as u64);
    state.log_bytes_left = state.log_bytes_left.saturating_sub(cost);
    let (level, message) = if state.log_bytes_left == 0 {
        (WARNING, format!("further messages are dropped: over {limit} bytes"))
    } else {
        (level, message)
    };
    match &state.host {
        Some(host) => host.ask(move |host| host.log(level, &message)),
        None => Ok(()),
    }
}

/// The start of a text, without control characters.
pub fn clip(text: &str, max_bytes: usize) -> String {
    let end = text.floor_char_boundary(max_bytes);
    let start = text.get(..end).unwrap_or_default().replace(char::is_control, " ");
    if end < text.len() { start + "..." } else { start }
}
