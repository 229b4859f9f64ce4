//! The answers of a result, as a journal.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use evaltasks_core::results::SampleRecord;
use evaltasks_core::source::SourceError;
use evaltasks_core::state::{
    Reading, Record, RecordedAnswer, RequestDigest, Respondent, StateStore, request_digest,
};
use evaltasks_core::task::{Answer, Request, Response};
use sha2::{Digest, Sha256};

use super::Sample;
use crate::report::{ReportError, SampleLines};

/// Answers by model and request.
#[derive(Default)]
pub struct Recorded {
    answers: HashMap<(String, RequestDigest), Answer>,
    /// How each model reads requests, by competition and uid.
    readers: HashMap<(String, u16), (String, Reading)>,
    /// Under which the answers of each row are.
    rows: BTreeMap<RowKey, Vec<(String, RequestDigest)>>,
}

/// Competition, task, uid, row.
type RowKey = (String, String, u16, u32);

impl Recorded {
    /// Rows of this model may come.
    pub fn expect(&mut self, competition: &str, uid: u16, model_sha256: &str, reading: Reading) {
        let reader = (model_sha256.to_owned(), reading);
        self.readers.insert((competition.to_owned(), uid), reader);
    }

    /// Reads the rows of one task of one competition.
    pub fn read(
        &mut self,
        folder: &Path,
        competition: &str,
        task: &str,
    ) -> Result<(), ReportError> {
        let mut lines = SampleLines::open(folder, task)?;
        while let Some(record) = lines.next_sample()? {
            if record.competition == competition {
                self.add(record);
            }
        }
        Ok(())
    }

    fn add(&mut self, record: SampleRecord) {
        let SampleRecord { competition, task, uid, row, requests, responses, .. } = record;
        let key = (competition, task, uid, row);
        let reader = self.readers.get(&(key.0.clone(), uid));
        let mut digests = Vec::new();
        if let Some((model, reading)) = reader {
            for (Request { operation, .. }, Response { answer, .. }) in
                requests.iter().zip(responses)
            {
                // What a blob held is not recorded: it is computed again.
                let Some(digest) = request_digest(operation, reading, |_| None) else { continue };
                let key = (model.clone(), digest);
                digests.push(key.clone());
                self.answers.insert(key, answer);
            }
        }
        self.rows.insert(key, digests);
    }

    /// Rows that were read.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Forgets the answers to the rows that are to be computed; gives how many
    /// rows those are. They are those of the smallest digests, so that they
    /// depend on the seed and on nothing else.
    pub fn forget(&mut self, sample: &Sample) -> usize {
        let (count, seed) = match sample {
            Sample::All => {
                self.answers.clear();
                return self.rows.len();
            }
            Sample::Rows(count, seed) => (*count, seed),
        };
        let digest = |(competition, task, uid, row): &RowKey| -> [u8; 32] {
            Sha256::digest(format!("{seed}\0{competition}\0{task}\0{uid}\0{row}")).into()
        };
        let mut order: Vec<_> = self.rows.iter().map(|(key, own)| (digest(key), own)).collect();
        order.sort_unstable_by_key(|(digest, _)| *digest);
        order.truncate(count);
        for key in order.iter().flat_map(|(_, digests)| digests.iter()) {
            self.answers.remove(key);
        }
        order.len()
    }
}

impl StateStore for Recorded {
    fn answers(
        &self,
        of: &Respondent,
        requests: &[RequestDigest],
    ) -> Result<Vec<Option<RecordedAnswer>>, SourceError> {
        let find = |request: &RequestDigest| {
            let answer = self.answers.get(&(of.model_sha256.clone(), *request))?.clone();
            Some(RecordedAnswer { answer, cost: Duration::ZERO })
        };
        Ok(requests.iter().map(find).collect())
    }

    /// What is computed is to be compared, not to be kept.
    fn record(&self, _of: &Respondent, _answers: &[Record<'_>]) -> Result<(), SourceError> {
        Ok(())
    }
}
