//! Limits on task plugins.

use serde::{Deserialize, Serialize};

/// What one plugin may use; a competition may set each, up to the operator's
/// ceiling.
///
/// A row that meets a limit fails. All but [`PluginLimits::call_time_ms`] are
/// met at the same place in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginLimits {
    /// Units of work for one row of `build`, `score` or `aggregate`, and for
    /// all of `describe`, `prepare` and the start of an instance; an
    /// instruction is about one unit.
    pub fuel_per_row: u64,
    /// Time for one call, in milliseconds: a backstop, should fuel not do.
    pub call_time_ms: u64,
    /// Bytes of all linear memories together.
    pub memory_bytes: u64,
    /// Bytes that one call, or one call of the host, may hand over.
    pub output_bytes: u64,
    /// Linear memories.
    pub memories: u64,
    /// Tables.
    pub tables: u64,
    /// Elements of all tables together.
    pub table_elements: u64,
    /// Core instances that the component is made of.
    pub instances: u64,
    /// Requests that one row may ask at once.
    pub requests_per_row: u64,
    /// Tokens in one request.
    pub tokens_per_request: u64,
    /// Bytes of text in one request.
    pub bytes_per_request: u64,
    /// Bytes of state that a row may carry from one round to the next.
    pub state_bytes: u64,
    /// Rounds of questions about one row.
    pub rounds: u64,
    /// Bytes of messages that one instance may log.
    pub log_bytes: u64,
}

impl PluginLimits {
    /// What a plugin gets unless its competition says otherwise.
    pub const DEFAULT: PluginLimits = PluginLimits {
        fuel_per_row: 1_000_000_000,
        call_time_ms: 30_000,
        memory_bytes: 256 << 20,
        output_bytes: 16 << 20,
        memories: 16,
        tables: 64,
        table_elements: 100_000,
        instances: 256,
        requests_per_row: crate::limits::MAX_REQUESTS_PER_ROW as u64,
        tokens_per_request: crate::limits::MAX_TOKENS_PER_REQUEST as u64,
        bytes_per_request: crate::limits::MAX_TEXT_BYTES_PER_REQUEST as u64,
        state_bytes: crate::limits::MAX_STATE_BYTES as u64,
        rounds: crate::limits::MAX_ROUNDS_PER_ROW as u64,
        log_bytes: 64 << 10,
    };

    /// The most that a competition may set unless the operator says otherwise.
    pub const CEILING: PluginLimits = PluginLimits {
        fuel_per_row: 100_000_000_000,
        call_time_ms: 600_000,
        memory_bytes: 2 << 30,
        output_bytes: 256 << 20,
        memories: 64,
        tables: 256,
        table_elements: 1_000_000,
        instances: 1024,
        log_bytes: crate::limits::MAX_LOG_BYTES as u64,
        ..PluginLimits::DEFAULT
    };

    /// Every limit by its name.
    pub fn entries(&self) -> [(&'static str, u64); 14] {
        [
            ("fuel_per_row", self.fuel_per_row),
            ("call_time_ms", self.call_time_ms),
            ("memory_bytes", self.memory_bytes),
            ("output_bytes", self.output_bytes),
            ("memories", self.memories),
            ("tables", self.tables),
            ("table_elements", self.table_elements),
            ("instances", self.instances),
            ("requests_per_row", self.requests_per_row),
            ("tokens_per_request", self.tokens_per_request),
            ("bytes_per_request", self.bytes_per_request),
            ("state_bytes", self.state_bytes),
            ("rounds", self.rounds),
            ("log_bytes", self.log_bytes),
        ]
    }

    /// The limit of that name.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut u64> {
        Some(match name {
            "fuel_per_row" => &mut self.fuel_per_row,
            "call_time_ms" => &mut self.call_time_ms,
            "memory_bytes" => &mut self.memory_bytes,
            "output_bytes" => &mut self.output_bytes,
            "memories" => &mut self.memories,
            "tables" => &mut self.tables,
            "table_elements" => &mut self.table_elements,
            "instances" => &mut self.instances,
            "requests_per_row" => &mut self.requests_per_row,
            "tokens_per_request" => &mut self.tokens_per_request,
            "bytes_per_request" => &mut self.bytes_per_request,
            "state_bytes" => &mut self.state_bytes,
            "rounds" => &mut self.rounds,
            "log_bytes" => &mut self.log_bytes,
            _ => return None,
        })
    }

    /// The limits that are over their ceilings: name, value and ceiling.
    pub fn over(&self, ceiling: &PluginLimits) -> impl Iterator<Item = (&'static str, u64, u64)> {
        let pairs = self.entries().into_iter().zip(ceiling.entries());
        let over = pairs.filter(|((_, value), (_, most))| value > most);
        over.map(|((name, value), (_, most))| (name, value, most))
    }
}

impl Default for PluginLimits {
    fn default() -> Self {
        PluginLimits::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_its_name() {
        let mut limits = PluginLimits::DEFAULT;
        for (index, (name, _)) in (1_u64..).zip(PluginLimits::DEFAULT.entries()) {
            *limits.get_mut(name).unwrap() = index;
        }
        let values = limits.entries().map(|(_, value)| value);
        assert_eq!(values.to_vec(), (1..=14).collect::<Vec<u64>>());
        // Serialisation knows each of them, and no other.
        let json = serde_json::to_value(limits).unwrap();
        let names: Vec<&String> = json.as_object().unwrap().keys().collect();
        let mut expected = limits.entries().map(|(name, _)| name);
        expected.sort_unstable();
        assert_eq!(names, expected.to_vec());
        assert_eq!(limits.get_mut("fuel"), None);
    }

    #[test]
    fn what_is_over_its_ceiling_is_named() {
        let ceiling = PluginLimits::CEILING;
        assert_eq!(PluginLimits::DEFAULT.over(&ceiling).next(), None);
        assert_eq!(ceiling.over(&ceiling).next(), None);
        assert_eq!(ceiling.over(&PluginLimits::DEFAULT).count(), 9);
        for (name, most) in ceiling.entries() {
            let mut limits = PluginLimits::DEFAULT;
            *limits.get_mut(name).unwrap() = most + 1;
            assert_eq!(limits.over(&ceiling).collect::<Vec<_>>(), [(name, most + 1, most)]);
        }
    }
}
