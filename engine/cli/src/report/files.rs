//! The files under `results/<round>/`.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use evaltasks_core::results::{
    CompetitionResult, LoggedSample, RowRecord, RunResult, RunTiming, SubmissionResult,
};
use evaltasks_core::task::Metric;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempPath};

use super::groups::group_results;
use super::samples::SampleLine;
use super::{ReportError, render_html};

/// Version of the layout of `results.json`.
const FORMAT: u32 = 1;
/// The harness' name for answers that nothing was filtered from.
pub(super) const FILTER: &str = "none";
/// What stays as it is in a file name; all else is percent-encoded.
const FILE_NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.');

/// Writes everything that a round leaves behind into `directory`, which is
/// created when it is missing:
///
/// | file | content |
/// |---|---|
/// | `samples_<task>.jsonl` | every row's requests, answers and measures |
/// | `timing.json` | when, and how long |
/// | `report.html` | the page for people |
/// | `results.json` | `result`, and every model's results as lm-evaluation-harness writes them |
///
/// Each file appears whole or not at all, and `results.json` last: a
/// directory that has it is complete. All but `timing.json` are the same
/// bytes for the same arguments.
///
/// `results.json` reads back as [`RunResult`]. Beside its keys it has `models`,
/// by competition and uid: objects with the keys `results`, `configs`,
/// `versions`, `higher_is_better`, `n-samples`, `n-shot`, `groups` (where there
/// are groups) and `config` of the harness, in
/// which a metric's key is `<name>,none`, or `<name>,<filter>` where answers
/// were filtered.
///
/// # Errors
/// When a file cannot be written, or when `samples` yields an error.
pub fn write_results<E>(
    directory: &Path,
    result: &RunResult,
    timing: &RunTiming,
    samples: impl IntoIterator<Item = Result<LoggedSample, E>>,
) -> Result<(), ReportError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    std::fs::create_dir_all(directory)
        .map_err(|source| ReportError::Write { path: directory.to_owned(), source })?;
    write_samples(directory, samples)?;
    write_json(&directory.join("timing.json"), timing)?;
    let page = render_html(result)?;
    write_whole(&directory.join("report.html"), |file| file.write_all(page.as_bytes()))?;
    write_json(&directory.join("results.json"), &ResultsFile::new(result))
}

/// Writes `rows_<task>.jsonl`: where every row of every task came from, and its
/// digest. `rows` are in the order of competitions and tasks.
///
/// # Errors
/// When a file cannot be written.
pub fn write_rows<'a>(
    directory: &Path,
    rows: impl IntoIterator<Item = &'a RowRecord>,
) -> Result<(), ReportError> {
    std::fs::create_dir_all(directory)
        .map_err(|source| ReportError::Write { path: directory.to_owned(), source })?;
    let mut by_task: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for row in rows {
        let lines = by_task.entry(&row.task).or_default();
        serde_json::to_writer(&mut *lines, row).map_err(|source| {
            let path = rows_path(directory, &row.task);
            ReportError::Serialize { path, source }
        })?;
        lines.push(b'\n');
    }
    for (task, lines) in by_task {
        write_whole(&rows_path(directory, task), |file| file.write_all(&lines))?;
    }
    Ok(())
}

fn rows_path(directory: &Path, task: &str) -> PathBuf {
    directory.join(format!("rows_{}.jsonl", utf8_percent_encode(task, FILE_NAME)))
}

/// The content of `results.json`, to be written or compared.
pub fn results_document(result: &RunResult) -> impl Serialize {
    ResultsFile::new(result)
}

/// The content of `results.json`.
#[derive(Serialize)]
struct ResultsFile<'a> {
    format: u32,
    #[serde(flatten)]
    result: &'a RunResult,
    /// By competition, then by uid.
    models: BTreeMap<&'a str, BTreeMap<u16, Harness<'a>>>,
}

impl<'a> ResultsFile<'a> {
    fn new(result: &'a RunResult) -> Self {
        let models = result.competitions.iter().map(|competition| {
            let measured = competition.submissions.iter().filter(|one| !one.tasks.is_empty());
            let models = measured.map(|one| (one.uid, Harness::new(competition, one)));
            (competition.key.as_str(), models.collect())
        });
        Self { format: FORMAT, result, models: models.collect() }
    }
}

/// One model's results as lm-evaluation-harness writes them, each by task.
#[derive(Serialize)]
struct Harness<'a> {
    results: BTreeMap<&'a str, BTreeMap<String, Value>>,
    configs: BTreeMap<&'a str, TaskConfig<'a>>,
    versions: BTreeMap<&'a str, &'a str>,
    higher_is_better: BTreeMap<&'a str, BTreeMap<&'a str, bool>>,
    #[serde(rename = "n-samples")]
    samples: BTreeMap<&'a str, SampleCount>,
    #[serde(rename = "n-shot")]
    shots: BTreeMap<&'a str, u32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    groups: BTreeMap<&'a str, BTreeMap<String, Value>>,
    config: ModelConfig<'a>,
}

/// What was asked: a value of `configs`.
#[derive(Serialize)]
struct TaskConfig<'a> {
    task: &'a str,
    dataset_path: &'a str,
    output_type: &'a str,
    num_fewshot: u32,
    metric_list: Vec<MetricName<'a>>,
    metadata: TaskVersion<'a>,
}

#[derive(Serialize)]
struct MetricName<'a> {
    metric: &'a str,
    higher_is_better: bool,
}

#[derive(Serialize)]
struct TaskVersion<'a> {
    id: &'a str,
    version: &'a str,
}

/// Rows: a value of `n-samples`.
#[derive(Serialize)]
struct SampleCount {
    original: u32,
    effective: u32,
}

/// Who was asked: `config`.
#[derive(Serialize)]
struct ModelConfig<'a> {
    model: &'a str,
    model_args: &'a str,
    model_num_parameters: Option<u64>,
    model_sha: Option<&'a str>,
}

impl<'a> Harness<'a> {
    fn new(competition: &'a CompetitionResult, submission: &'a SubmissionResult) -> Self {
        let mut harness = Self {
            results: BTreeMap::new(),
            configs: BTreeMap::new(),
            versions: BTreeMap::new(),
            higher_is_better: BTreeMap::new(),
            samples: BTreeMap::new(),
            shots: BTreeMap::new(),
            groups: group_results(competition, submission),
            config: ModelConfig {
                model: &submission.name,
                model_args: &submission.path,
                model_num_parameters: submission.parameters,
                model_sha: submission.model_sha256.as_deref(),
            },
        };
        for task in &competition.tasks {
            let Some(score) = submission.tasks.iter().find(|score| score.task == task.name) else {
                continue;
            };
            let name = task.name.as_str();
            // One entry for each name, however often it was filtered.
            let directions: BTreeMap<&str, bool> = score
                .metrics
                .iter()
                .map(|metric| (name_and_filter(&metric.name).0, metric.higher_is_better))
                .collect();
            let metric_list = directions
                .iter()
                .map(|(&metric, &higher_is_better)| MetricName { metric, higher_is_better });
            let config = TaskConfig {
                task: name,
                dataset_path: &task.dataset,
                output_type: &task.output_type,
                num_fewshot: task.num_fewshot,
                metric_list: metric_list.collect(),
                metadata: TaskVersion { id: &task.task, version: &task.version },
            };
            let count = SampleCount { original: task.rows, effective: score.rows };
            harness.results.insert(name, metrics(name, &score.metrics));
            harness.configs.insert(name, config);
            harness.versions.insert(name, &task.version);
            harness.higher_is_better.insert(name, directions);
            harness.samples.insert(name, count);
            harness.shots.insert(name, task.num_fewshot);
        }
        harness
    }
}

/// `{alias, "loss,none", "loss_stderr,none", ...}`; the harness writes `N/A`
/// where no standard error is defined.
fn metrics(task: &str, metrics: &[Metric]) -> BTreeMap<String, Value> {
    let mut object = BTreeMap::from([("alias".to_owned(), json!(task))]);
    for metric in metrics {
        let stderr = metric.stderr.map_or_else(|| json!("N/A"), |stderr| json!(stderr));
        let (name, filter) = name_and_filter(&metric.name);
        object.insert(format!("{name},{filter}"), json!(metric.value));
        object.insert(format!("{name}_stderr,{filter}"), stderr);
    }
    object
}

/// The parts of `exact_match,strict-match`; the filter of a plain name is none.
pub(super) fn name_and_filter(metric: &str) -> (&str, &str) {
    metric.split_once(',').unwrap_or((metric, FILTER))
}

/// Appends each record to its task's file, one file open at a time, and gives
/// the files their names when all are written.
fn write_samples<E>(
    directory: &Path,
    samples: impl IntoIterator<Item = Result<LoggedSample, E>>,
) -> Result<(), ReportError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut parts: BTreeMap<String, TempPath> = BTreeMap::new();
    let mut open: Option<OpenPart> = None;
    for sample in samples {
        let sample = sample.map_err(|source| ReportError::Sample(source.into()))?;
        let mut part = match open.take() {
            Some(part) if part.task == sample.record.task => part,
            other => {
                other.map_or(Ok(()), OpenPart::close)?;
                OpenPart::open(directory, &sample.record.task, &mut parts)?
            }
        };
        part.append(&sample)?;
        open = Some(part);
    }
    open.map_or(Ok(()), OpenPart::close)?;
    for (task, part) in parts {
        let path = samples_path(directory, &task);
        part.persist(&path).map_err(|error| ReportError::Write { path, source: error.error })?;
    }
    Ok(())
}

/// A task's file while lines are added to it.
struct OpenPart {
    task: String,
    path: PathBuf,
    file: BufWriter<std::fs::File>,
}

impl OpenPart {
    fn open(
        directory: &Path,
        task: &str,
        parts: &mut BTreeMap<String, TempPath>,
    ) -> Result<Self, ReportError> {
        let path = samples_path(directory, task);
        let failed = |source| ReportError::Write { path: path.clone(), source };
        let file = match parts.get(task) {
            Some(part) => OpenOptions::new().append(true).open(part).map_err(failed)?,
            None => {
                let (file, part) = temporary(directory).map_err(failed)?.into_parts();
                parts.insert(task.to_owned(), part);
                file
            }
        };
        Ok(Self { task: task.to_owned(), path, file: BufWriter::new(file) })
    }

    fn append(&mut self, sample: &LoggedSample) -> Result<(), ReportError> {
        let unserializable = |source| ReportError::Serialize { path: self.path.clone(), source };
        let line = SampleLine::new(sample).map_err(unserializable)?;
        let mut bytes = serde_json::to_vec(&line).map_err(unserializable)?;
        bytes.push(b'\n');
        let failed = |source| ReportError::Write { path: self.path.clone(), source };
        self.file.write_all(&bytes).map_err(failed)
    }

    fn close(mut self) -> Result<(), ReportError> {
        let failed = |source| ReportError::Write { path: self.path.clone(), source };
        self.file.flush().and_then(|()| self.file.get_ref().sync_all()).map_err(failed)
    }
}

/// The file of a task's rows.
pub fn samples_path(directory: &Path, task: &str) -> PathBuf {
    directory.join(format!("samples_{}.jsonl", utf8_percent_encode(task, FILE_NAME)))
}

pub(super) fn write_json(path: &Path, content: &impl Serialize) -> Result<(), ReportError> {
    let mut bytes = serde_json::to_vec_pretty(content)
        .map_err(|source| ReportError::Serialize { path: path.to_owned(), source })?;
    bytes.push(b'\n');
    write_whole(path, |file| file.write_all(&bytes))
}

/// Writes beside `path` and renames, so that no reader sees half a file.
fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>,
) -> Result<(), ReportError> {
    let replace = || -> std::io::Result<()> {
        let mut file = temporary(path.parent().unwrap_or(Path::new(".")))?;
        write(file.as_file_mut())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    replace().map_err(|source| ReportError::Write { path: path.to_owned(), source })
}

/// A new file with the permissions of any other new file.
fn temporary(directory: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".part-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The process' umask still applies.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    use evaltasks_core::results::SampleRecord;
    use evaltasks_core::task::{
        Answer, Loglikelihood, Measure, Operation, Part, Prompt, Request, Response, RowLog, Span,
    };

    use super::*;
    use crate::report::sample;

    fn record(task: &str, uid: u16, row: u32, measure: &str) -> SampleRecord {
        let span =
            Span { logprob: -7.5, tokens: 3, bytes: 11, greedy: false, per_token: vec![-2.5; 3] };
        SampleRecord {
            competition: "b3_text".to_owned(),
            task: task.to_owned(),
            uid,
            row,
            requests: vec![Request { key: 0, operation: Operation::TokenLoss(vec![1, 2, 3, 4]) }],
            responses: vec![Response { key: 0, answer: Answer::Spans(vec![span]) }],
            measures: vec![Measure { name: measure.to_owned(), value: 2.5, weight: 3.0 }],
            skipped: None,
        }
    }

    fn logged(record: SampleRecord) -> LoggedSample {
        LoggedSample { record, document: None }
    }

    fn timing() -> RunTiming {
        RunTiming {
            started_at: "2026-01-02T03:04:05Z".to_owned(),
            total_seconds: 1.5,
            steps: vec![],
            tasks: vec![],
            plugins: vec![],
        }
    }

    fn write(directory: &Path, records: Vec<SampleRecord>) {
        let samples = records.into_iter().map(logged).map(Ok::<_, Infallible>);
        write_results(directory, &sample::run(), &timing(), samples).unwrap();
    }

    fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
        entries
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, std::fs::read(entry.path()).unwrap())
            })
            .collect()
    }

    #[test]
    fn results_read_back() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), vec![]);
        let text = std::fs::read_to_string(directory.path().join("results.json")).unwrap();
        assert_eq!(serde_json::from_str::<RunResult>(&text).unwrap(), sample::run());
        let value: Value = serde_json::from_str(&text).unwrap();
        let models = value["models"]["b3_text"].as_object().unwrap();
        let uids: BTreeSet<&str> = models.keys().map(String::as_str).collect();
        assert_eq!(uids, BTreeSet::from(["12", "21", "3", "7"]), "only models that were measured");
    }

    #[test]
    fn a_model_has_the_keys_of_the_harness() {
        let competition = &sample::run().competitions[0];
        let harness = Harness::new(competition, &competition.submissions[0]);
        insta::assert_json_snapshot!(harness);
    }

    #[test]
    fn filters_are_part_of_the_keys() {
        let metric = |name: &str| Metric {
            name: name.to_owned(),
            value: 0.5,
            stderr: None,
            higher_is_better: true,
            samples: 2,
        };
        let found = metrics("sums", &[metric("f1"), metric("exact_match,strict-match")]);
        let expected = json!({
            "alias": "sums",
            "f1,none": 0.5,
            "f1_stderr,none": "N/A",
            "exact_match,strict-match": 0.5,
            "exact_match_stderr,strict-match": "N/A",
        });
        assert_eq!(json!(found), expected);
    }

    #[test]
    fn samples_read_back_from_one_file_per_task() {
        let directory = tempfile::tempdir().unwrap();
        let records = vec![
            record("prose", 3, 0, "loss"),
            record("code", 3, 0, "loss"),
            record("prose", 7, 1, "uid"),
            record("../up", 7, 0, "loss"),
        ];
        write(directory.path(), records.clone());
        let files = files(directory.path());
        let names: Vec<&String> = files.keys().collect();
        assert_eq!(
            names,
            [
                "report.html",
                "results.json",
                "samples_..%2Fup.jsonl",
                "samples_code.jsonl",
                "samples_prose.jsonl",
                "timing.json"
            ]
        );
        let read = |name: &str| -> Vec<SampleRecord> {
            let lines = std::str::from_utf8(&files[name]).unwrap().lines();
            lines.map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        assert_eq!(read("samples_prose.jsonl"), [records[0].clone(), records[2].clone()]);
        assert_eq!(read("samples_code.jsonl"), [records[1].clone()]);
        let first = std::str::from_utf8(&files["samples_code.jsonl"]).unwrap();
        insta::assert_snapshot!("sample_line", first.trim_end());
    }

    /// A row of multiple choice, as lm-evaluation-harness would write it.
    #[test]
    fn a_line_has_the_keys_of_the_harness() {
        let span =
            |logprob, greedy| Span { logprob, tokens: 1, bytes: 2, greedy, per_token: Vec::new() };
        let asked = Loglikelihood {
            context: Prompt::Raw(vec![Part::Text("Sky?".to_owned())]),
            continuations: vec![Part::Text(" blue".to_owned()), Part::Text(" red".to_owned())],
            per_token: false,
        };
        let spans = vec![span(-1.5, true), span(-12.0, false)];
        let record = SampleRecord {
            requests: vec![Request { key: 0, operation: Operation::Loglikelihood(asked) }],
            responses: vec![Response { key: 0, answer: Answer::Spans(spans) }],
            ..record("colours", 3, 0, "acc")
        };
        let log = RowLog { target: "0".to_owned(), ..RowLog::default() };
        let json = r#"{"question": "Sky?", "answers": ["blue", "red"], "right": 0}"#;
        let sample = LoggedSample { record, document: Some((json.to_owned(), log)) };
        let directory = tempfile::tempdir().unwrap();
        let samples = [Ok::<_, Infallible>(sample)];
        write_results(directory.path(), &sample::run(), &timing(), samples).unwrap();
        let line = std::fs::read_to_string(samples_path(directory.path(), "colours")).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        insta::assert_json_snapshot!(line);
    }

    #[test]
    fn a_round_writes_the_same_bytes_again() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let records = || vec![record("prose", 3, 0, "loss")];
        write(one.path(), records());
        write(one.path(), records());
        write(two.path(), records());
        assert_eq!(files(one.path()), files(two.path()));
    }

    #[test]
    fn broken_samples_leave_no_results() {
        let directory = tempfile::tempdir().unwrap();
        let samples = [Ok(logged(record("prose", 3, 0, "loss"))), Err("the journal is torn")];
        let error = write_results(directory.path(), &sample::run(), &timing(), samples);
        assert!(matches!(error, Err(ReportError::Sample(_))), "{error:?}");
        assert_eq!(files(directory.path()), BTreeMap::new());
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results");
        std::fs::write(&path, "").unwrap();
        let samples: [Result<_, Infallible>; 0] = [];
        let error = write_results(&path, &sample::run(), &timing(), samples).unwrap_err();
        assert_eq!(error.to_string(), format!("write {}", path.display()));
    }
}
