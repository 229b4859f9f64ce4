//! The engine's side of one worker.

use std::collections::VecDeque;
use std::io::{self, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use evaltasks_core::backend::{BackendError, RunControl};

use super::WorkerOptions;
use super::frame::{self, Order, Report};

/// Reports that wait to be heard.
const MAX_WAITING_REPORTS: usize = 64;
/// Orders that wait to be written, beside the one that the worker reads.
const MAX_WAITING_ORDERS: usize = 1;
/// Bytes of a worker's last words that are kept.
const MAX_LAST_WORDS_BYTES: usize = 4096;
/// What Rust says when it gets no memory.
const NO_MEMORY: &str = "memory allocation of ";
/// Looks at whether a process has ended whose pipes are closed.
const LOOKS_AT_AN_END: u32 = 100;
/// Time between two looks at whether the run may go on.
const LOOK_TIME: Duration = Duration::from_millis(20);

/// A worker that listens. Dropped, it is ended.
pub struct Process {
    child: Child,
    orders: Option<SyncSender<Vec<u8>>>,
    reports: Receiver<io::Result<Report>>,
    last_words: Option<JoinHandle<String>>,
    max_silence: Duration,
}

impl Process {
    /// Starts a worker.
    pub fn start(options: &WorkerOptions) -> Result<Process, BackendError> {
        let mut child = Command::new(&options.program)
            .args(&options.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| engine(format!("start a process for the model: {error}")))?;
        let (Some(orders), Some(reports), Some(words)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(engine("start a process for the model: it has no pipes".to_owned()));
        };
        let (say, hear) = sync_channel(MAX_WAITING_REPORTS);
        thread::spawn(move || pass_on(reports, &say));
        let (order, ordered) = sync_channel(MAX_WAITING_ORDERS);
        thread::spawn(move || write_all(orders, &ordered));
        let last_words = Some(thread::spawn(move || last_words(words)));
        let max_silence = options.max_silence;
        Ok(Process { child, orders: Some(order), reports: hear, last_words, max_silence })
    }

    /// Gives an order, and waits for what is reported of it.
    ///
    /// # Errors
    /// What the worker could not do; that it ended, hung or spoke nonsense, and
    /// how; that the run may not go on. In all but the first case the worker is
    /// ended.
    pub fn ask(&mut self, order: &Order, control: &RunControl) -> Result<Report, BackendError> {
        let order = frame::frame(order)
            .map_err(|error| engine(format!("give the model's process an order: {error}")))?;
        // A worker may be slow to read it, or never do: it is written elsewhere.
        // The other end may be gone: its last words say more than the pipe.
        let given = self.orders.as_ref().map(|orders| orders.try_send(order));
        if !matches!(given, Some(Ok(()))) {
            return Err(self.obituary());
        }
        let mut heard = Instant::now();
        loop {
            match self.reports.recv_timeout(LOOK_TIME) {
                Ok(Ok(Report::Progress(progress))) => {
                    control.report(progress);
                    heard = Instant::now();
                }
                Ok(Ok(Report::Failed(error))) => return Err(error),
                Ok(Ok(report)) => return Ok(report),
                Ok(Err(error)) => {
                    self.end();
                    return Err(engine(format!("the model's process spoke nonsense: {error}")));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.obituary()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Err(error) = control.check() {
                self.end();
                return Err(error);
            }
            if heard.elapsed() > self.max_silence {
                self.end();
                let seconds = self.max_silence.as_secs_f64();
                return Err(engine(format!("the model's process was silent for {seconds} s")));
            }
        }
    }

    /// How the worker ended, with its last words.
    fn obituary(&mut self) -> BackendError {
        self.orders = None;
        // Pipes close a little before a process has ended, if it has.
        let status = (0..LOOKS_AT_AN_END).find_map(|look| {
            if look > 0 {
                thread::sleep(LOOK_TIME);
            }
            self.child.try_wait().ok().flatten()
        });
        self.end();
        let words = self.last_words.take().and_then(|thread| thread.join().ok());
        let words = words.unwrap_or_default();
        if words.contains(NO_MEMORY) {
            return engine("the model's process ran out of its memory".to_owned());
        }
        let ended = status.map_or_else(|| "closed its pipes".to_owned(), how);
        let last = words.trim().lines().last().unwrap_or_default();
        let said = if last.is_empty() { String::new() } else { format!(", and said: {last}") };
        engine(format!("the model's process {ended}{said}"))
    }

    fn end(&mut self) {
        self.orders = None;
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a status means to people.
fn how(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        const KILLED: i32 = 9;
        return match signal {
            KILLED => "was killed, as happens when memory is short".to_owned(),
            signal => format!("crashed with signal {signal}"),
        };
    }
    status.code().map_or_else(|| "ended".to_owned(), |code| format!("ended with status {code}"))
}

fn engine(what: String) -> BackendError {
    BackendError::Engine(what)
}

/// Writes orders until there are no more, or nobody reads them.
fn write_all(mut to: ChildStdin, orders: &Receiver<Vec<u8>>) {
    while let Ok(order) = orders.recv() {
        if to.write_all(&order).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

fn pass_on(reports: ChildStdout, say: &SyncSender<io::Result<Report>>) {
    let mut reports = BufReader::new(reports);
    loop {
        let report = frame::read(&mut reports);
        let is_last = report.is_err();
        let Some(report) = report.transpose() else { return };
        if say.send(report).is_err() || is_last {
            return;
        }
    }
}

/// The end of what a worker writes to its standard error.
fn last_words(mut words: ChildStderr) -> String {
    let mut kept = VecDeque::new();
    let mut buffer = [0; 1024];
    while let Ok(read) = words.read(&mut buffer) {
        if read == 0 {
            break;
        }
        kept.extend(&buffer[..read]);
        kept.drain(..kept.len().saturating_sub(MAX_LAST_WORDS_BYTES));
    }
    String::from_utf8_lossy(kept.make_contiguous()).into_owned()
}
