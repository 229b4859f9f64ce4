//! A backend, a tokenizer and a task whose every answer is a pure function, for
//! tests of rounds. A model is a directory with a `fake.json`, see [`FakeModel`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use evaltasks_core::backend::{Backend, BackendError, Model, Progress, RunControl, Tokenizer};
use evaltasks_core::competition::TaskReference;
use evaltasks_core::host::{Host, Ragged};
use evaltasks_core::model::{Checkpoint, ModelConstraints, NormLimits, Violation};
use evaltasks_core::source::SourceError;
use evaltasks_core::task::{
    Answer, Ask, Info, Measure, Metric, Operation, Plan, Request, Response, Source, Span, Step,
    Task, TaskError,
};
use serde::{Deserialize, Serialize};

/// What a directory's `fake.json` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FakeModel {
    /// The loss on every token.
    pub loss: f64,
    /// For constraints.
    pub parameters: u64,
    /// What goes wrong.
    pub fault: Fault,
}

/// What goes wrong with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    None,
    PanicsInInspect,
    PanicsInLoad,
    PanicsInRun,
    LacksAnswers,
    AnswersNan,
    AnswersLabels,
    /// So often, then it works.
    EngineFails(u32),
    /// Every time.
    TimesOut,
    TaskPanics,
    TaskDisqualifies,
    TaskMeasuresNan,
    TaskAsksForever,
    TaskIsNegative,
    TaskSkipsAll,
}

impl FakeModel {
    /// Writes the model, with tensors that only depend on itself.
    pub fn write(&self, directory: &Path) {
        std::fs::create_dir_all(directory).unwrap();
        let json = serde_json::to_string(self).unwrap();
        let header =
            format!(r#"{{"t":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#, json.len());
        let mut tensors = (header.len() as u64).to_le_bytes().to_vec();
        tensors.extend(header.bytes().chain(json.bytes()));
        std::fs::write(directory.join("fake.json"), &json).unwrap();
        std::fs::write(directory.join("model.safetensors"), tensors).unwrap();
    }

    fn read(directory: &Path) -> Result<Self, BackendError> {
        let file = directory.join("fake.json");
        let text = std::fs::read_to_string(&file)
            .map_err(|_| BackendError::Model("there is no fake.json".into()))?;
        serde_json::from_str(&text).map_err(|error| BackendError::Model(error.to_string()))
    }
}

/// See the module.
#[derive(Default)]
pub struct FakeBackend {
    /// How often a model was loaded.
    pub loads: AtomicU32,
    /// How often models were run.
    pub runs: Arc<AtomicU32>,
    /// How many operations were answered.
    pub computed: Arc<AtomicU32>,
    /// Part of the version that answers are recorded under.
    pub revision: u32,
}

impl Backend for FakeBackend {
    fn version(&self) -> String {
        "fake 1".to_owned()
    }

    fn answers_version(&self) -> String {
        format!("fake 1, revision {}", self.revision)
    }

    fn inspect(&self, directory: &Path) -> Result<Checkpoint, BackendError> {
        let model = FakeModel::read(directory)?;
        if model.fault == Fault::PanicsInInspect {
            panic!("inspect went wrong");
        }
        Ok(Checkpoint {
            directory: directory.to_owned(),
            architecture: "FakeForCausalLM".to_owned(),
            parameters: model.parameters,
            bytes: 1,
            dtypes: vec!["bfloat16".to_owned()],
            vocabulary_size: Some(257),
            sequence_length: None,
        })
    }

    fn norm_violations(
        &self,
        checkpoint: &Checkpoint,
        limits: &NormLimits,
        _control: &RunControl,
    ) -> Result<Vec<Violation>, BackendError> {
        // The loss stands in for the one norm.
        let norm = FakeModel::read(&checkpoint.directory)?.loss;
        let violation = Violation {
            what: "norm".to_owned(),
            found: norm.to_string(),
            allowed: limits.hard.to_string(),
        };
        Ok((norm > limits.hard).then_some(violation).into_iter().collect())
    }

    fn load(
        &self,
        checkpoint: &Checkpoint,
        _constraints: &ModelConstraints,
        _tokenizer: Arc<dyn Tokenizer>,
        control: &RunControl,
    ) -> Result<Box<dyn Model>, BackendError> {
        control.check()?;
        let model = FakeModel::read(&checkpoint.directory)?;
        let loads = self.loads.fetch_add(1, Ordering::SeqCst);
        match model.fault {
            Fault::PanicsInLoad => panic!("load went wrong"),
            Fault::EngineFails(times) if loads < times => {
                Err(BackendError::Engine("the device is busy".to_owned()))
            }
            Fault::TimesOut => Err(BackendError::TimeLimit { limit_seconds: 1.0 }),
            _ => {
                let (runs, computed) = (Arc::clone(&self.runs), Arc::clone(&self.computed));
                Ok(Box::new(LoadedFake { model, runs, computed }))
            }
        }
    }
}

struct LoadedFake {
    model: FakeModel,
    runs: Arc<AtomicU32>,
    computed: Arc<AtomicU32>,
}

impl Model for LoadedFake {
    fn run(
        &mut self,
        operations: &[&Operation],
        control: &RunControl,
    ) -> Result<Vec<Answer>, BackendError> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let answers = self.model.run(operations, control)?;
        self.computed.fetch_add(answers.len() as u32, Ordering::SeqCst);
        Ok(answers)
    }
}

impl FakeModel {
    fn run(
        &self,
        operations: &[&Operation],
        control: &RunControl,
    ) -> Result<Vec<Answer>, BackendError> {
        control.check()?;
        if self.fault == Fault::PanicsInRun {
            panic!("run went wrong");
        }
        for operation in 0..operations.len() {
            control.report(Progress { operation, done_tokens: 1, total_tokens: 1 });
        }
        let mut answers: Vec<Answer> = operations
            .iter()
            .map(|operation| {
                let Operation::TokenLoss(tokens) = operation else {
                    return Answer::Failed("only token loss is known".to_owned());
                };
                let scored = tokens.len().saturating_sub(1) as u32;
                // Differs from row to row, the same for every model.
                let spread = f64::from(tokens.iter().sum::<u32>() % 7) / 100.0;
                let logprob = -(self.loss + spread) * f64::from(scored);
                Answer::Spans(vec![Span {
                    logprob: if self.fault == Fault::AnswersNan { f64::NAN } else { logprob },
                    tokens: scored,
                    bytes: scored,
                    greedy: false,
                    per_token: Vec::new(),
                }])
            })
            .collect();
        match self.fault {
            Fault::LacksAnswers => drop(answers.pop()),
            Fault::AnswersLabels => answers.fill(Answer::Labels(Vec::new())),
            _ => {}
        }
        Ok(answers)
    }
}

/// One id per byte, under any name.
pub struct Bytes(String);

impl Tokenizer for Bytes {
    fn digest(&self) -> &str {
        &self.0
    }
    fn vocabulary_size(&self) -> u32 {
        257
    }
    fn encode(&self, texts: &[String], _special: bool) -> Result<Ragged, String> {
        let mut ids = Ragged::default();
        for text in texts {
            ids.push(&text.bytes().map(u32::from).collect::<Vec<_>>());
        }
        Ok(ids)
    }
    fn decode(&self, _ids: &Ragged) -> Result<Vec<String>, String> {
        Err("not needed".to_owned())
    }
    fn byte_count(&self, ids: &[u32]) -> Result<u64, String> {
        Ok(ids.len() as u64)
    }
    fn beginning_of_sequence(&self) -> Option<u32> {
        None
    }
    fn end_of_sequence(&self) -> Option<u32> {
        Some(256)
    }
}

/// Opens [`Bytes`] by the name of the place, unless that is `missing`.
pub fn open_tokenizer(path: &Path) -> Result<Arc<dyn Tokenizer>, SourceError> {
    if path.ends_with("missing") {
        return Err("there is none".into());
    }
    let name = path.file_name().unwrap_or_default();
    Ok(Arc::new(Bytes(name.to_string_lossy().into_owned())))
}

/// Finds [`FakeTask`] by any name.
pub fn find_task(_reference: &TaskReference) -> Result<Arc<dyn Task>, String> {
    Ok(Arc::new(FakeTask))
}

/// Asks for the loss of its template and every row's JSON, `rounds` times. Goes
/// wrong as its configuration says, or as the model's answers do.
pub struct FakeTask;

/// The configuration of [`FakeTask`].
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    rounds: u8,
    #[serde(default)]
    fault: String,
    #[serde(default)]
    template: String,
}

impl Config {
    fn read(config: &str) -> Result<Self, TaskError> {
        serde_json::from_str(config).map_err(|error| TaskError::Config(error.to_string()))
    }
}

impl Task for FakeTask {
    fn describe(&self) -> Info {
        Info {
            id: "fake".to_owned(),
            version: "1.0.0".to_owned(),
            summary: String::new(),
            config_schema: "{}".to_owned(),
            operations: vec!["token_loss".to_owned()],
            max_rounds: 3,
        }
    }

    fn prepare(&self, config: &str) -> Result<Plan, TaskError> {
        Config::read(config)?;
        let source = Source {
            dataset: String::new(),
            revision: None,
            split: "test".to_owned(),
            columns: Vec::new(),
        };
        Ok(Plan { sources: vec![source], rows: None })
    }

    fn build(
        &self,
        host: &dyn Host,
        config: &str,
        start: u32,
        count: u32,
    ) -> Result<Vec<Step>, TaskError> {
        let config = Config::read(config)?;
        match config.fault.as_str() {
            "build panics" => panic!("build went wrong"),
            "no rows" => return Ok(Vec::new()),
            "too many rows" => return Ok(vec![Step::Skip(String::new()); count as usize + 1]),
            "no data" => return Err(TaskError::Data("a column is missing".to_owned())),
            "log" => host.log(1, "a word from the task"),
            _ => {}
        }
        let rows = host.rows(0, start, count).map_err(TaskError::Data)?;
        rows.into_iter()
            .map(|row| {
                let ids = host
                    .encode(&[config.template.clone() + &row], false)
                    .map_err(TaskError::Data)?;
                Ok(ask(config.rounds.max(1), ids.data))
            })
            .collect()
    }

    fn score(
        &self,
        _host: &dyn Host,
        _config: &str,
        state: &[u8],
        responses: &[Response],
    ) -> Result<Step, TaskError> {
        let [Response { answer: Answer::Spans(spans), .. }] = responses else {
            return Err(TaskError::Internal(format!("{} responses", responses.len())));
        };
        let loss = -spans[0].logprob / f64::from(spans[0].tokens);
        let rounds_left = state[0] - 1;
        if rounds_left > 0 {
            return Ok(ask(rounds_left, vec![1, 2, 3 * u32::from(rounds_left)]));
        }
        // Faults of the task with one model, told by its loss.
        match fault_of(loss) {
            Fault::TaskPanics => panic!("score went wrong"),
            Fault::TaskDisqualifies => Err(TaskError::Disqualified("it repeats itself".to_owned())),
            Fault::TaskAsksForever => Ok(ask(1, vec![1, 2])),
            Fault::TaskSkipsAll => Ok(Step::Skip("no reference".to_owned())),
            Fault::TaskMeasuresNan => Ok(done(f64::NAN)),
            Fault::TaskIsNegative => Ok(done(-1.0)),
            _ => Ok(done(loss)),
        }
    }

    fn aggregate(&self, _config: &str, samples: &[Vec<Measure>]) -> Result<Vec<Metric>, TaskError> {
        let rows = samples.len() as f64;
        Ok(vec![Metric {
            name: "loss".to_owned(),
            value: samples.iter().flatten().map(|measure| measure.value).sum::<f64>() / rows,
            stderr: Some(0.5),
            higher_is_better: false,
            samples: samples.len() as u32,
        }])
    }
}

fn ask(rounds_left: u8, tokens: Vec<u32>) -> Step {
    let request = Request { key: 7, operation: Operation::TokenLoss(tokens) };
    Step::Ask(Ask { state: vec![rounds_left], requests: vec![request] })
}

fn done(value: f64) -> Step {
    Step::Done(vec![Measure { name: "loss".to_owned(), value, weight: 1.0 }])
}

/// Losses by which a model asks [`FakeTask`] to go wrong.
const TASK_FAULTS: [(f64, Fault); 6] = [
    (101.0, Fault::TaskPanics),
    (102.0, Fault::TaskDisqualifies),
    (103.0, Fault::TaskMeasuresNan),
    (104.0, Fault::TaskAsksForever),
    (105.0, Fault::TaskIsNegative),
    (106.0, Fault::TaskSkipsAll),
];

fn fault_of(loss: f64) -> Fault {
    let found = TASK_FAULTS.iter().find(|(marked, _)| (loss - marked).abs() < 0.5);
    found.map_or(Fault::None, |(_, fault)| *fault)
}

/// A model with a loss and a fault, in a folder of its own below `root`.
pub fn model(root: &Path, name: &str, loss: f64, fault: Fault) -> PathBuf {
    let marked = TASK_FAULTS.iter().find(|(_, of)| *of == fault).map_or(loss, |(loss, _)| *loss);
    let directory = root.join(name);
    FakeModel { loss: marked, parameters: 1000, fault }.write(&directory);
    directory
}
