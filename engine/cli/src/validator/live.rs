//! The tasks side by side, on a chain that others make.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use evaltasks_core::chain::SubnetView;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::limits::{MAX_TASK_REST_SECONDS, TASK_REST_SECONDS};
use super::{Task, TurnError, Validator};
use crate::round::reason;

/// How soon it is seen that the operator ends the validator.
pub const CANCELLED_SEEN_AFTER: Duration = Duration::from_millis(200);

/// How long turns in progress are waited for at the end.
const LONGEST_FAREWELL: Duration = Duration::from_secs(20);

/// A view that all tasks share; none before the first.
type Shared = Option<Arc<SubnetView>>;

/// Takes all turns that are due at the newest block, and gives that block.
///
/// # Errors
/// When the chain cannot be read, and those that going on would make worse.
pub fn once(validator: &Validator) -> Result<u64, TurnError> {
    let block = validator.chain.block().map_err(TurnError::Chain)?;
    let view = read(validator, block)?;
    validator.take_turns(&view)?;
    Ok(view.metagraph.block)
}

/// Runs until the operator ends it, or the chain is at the block `until`.
///
/// # Errors
/// Those that going on would make worse.
pub fn live(
    validator: &Arc<Validator>,
    poll_interval: Duration,
    until: Option<u64>,
) -> Result<(), TurnError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .map_err(|error| TurnError::Blocked(format!("start the tasks: {error}")))?;
    let ended = runtime.block_on(all(validator, poll_interval, until));
    // A thread that has not ended by now is left alone.
    runtime.shutdown_background();
    ended
}

async fn all(
    validator: &Arc<Validator>,
    poll_interval: Duration,
    until: Option<u64>,
) -> Result<(), TurnError> {
    let (views, seen) = watch::channel(Shared::None);
    // Counts what was done, so that the others look again.
    let (work, _) = watch::channel(0_u64);
    let work = Arc::new(work);
    let mut tasks = JoinSet::new();
    for task in Task::ALL {
        let (validator, seen, work) = (Arc::clone(validator), seen.clone(), Arc::clone(&work));
        tasks.spawn(run(validator, *task, seen, work));
    }
    let ended = tokio::select! {
        ended = follow(validator, &views, poll_interval, until) => ended,
        () = cancelled(validator) => Ok(()),
        ended = first_fault(&mut tasks) => ended,
    };
    // No task begins another turn; those at one go to the end of it, or of
    // their patience.
    validator.cancelled.store(true, Ordering::SeqCst);
    drop(views);
    let _ = timeout(LONGEST_FAREWELL, first_fault(&mut tasks)).await;
    ended
}

/// Waits for all tasks, or for the first that ends with a fault.
async fn first_fault(tasks: &mut JoinSet<Result<(), TurnError>>) -> Result<(), TurnError> {
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(ended) => ended?,
            Err(error) => return Err(TurnError::Blocked(format!("run a task: {error}"))),
        }
    }
    Ok(())
}

async fn cancelled(validator: &Validator) {
    while !validator.is_cancelled() {
        sleep(CANCELLED_SEEN_AFTER).await;
    }
}

/// Shows the tasks every new block.
async fn follow(
    validator: &Arc<Validator>,
    views: &watch::Sender<Shared>,
    poll_interval: Duration,
    until: Option<u64>,
) -> Result<(), TurnError> {
    let mut faults = 0_u32;
    loop {
        let reader = Arc::clone(validator);
        let known = views.borrow().as_ref().map(|view| view.metagraph.block);
        let newer = tokio::task::spawn_blocking(move || read_newer(&reader, known)).await;
        match newer.unwrap_or_else(|error| Err(TurnError::Blocked(error.to_string()))) {
            Ok(Some(view)) => {
                faults = 0;
                let block = view.metagraph.block;
                views.send_replace(Some(Arc::new(view)));
                if until.is_some_and(|until| block >= until) {
                    return Ok(());
                }
            }
            Ok(None) => faults = 0,
            Err(error) => {
                let noter = Arc::clone(validator);
                let reason = format!("failed to {}", reason(&error));
                let note = move || noter.failed(Task::Follow, known.unwrap_or(0), &reason);
                let _ = tokio::task::spawn_blocking(note).await;
                faults = faults.saturating_add(1);
            }
        }
        sleep(if faults == 0 { poll_interval } else { poll_interval.max(backoff(faults)) }).await;
    }
}

/// The newest block, if it is another one than `known`. One that is older is
/// that of a node that lags behind: nothing was undone.
fn read_newer(validator: &Validator, known: Option<u64>) -> Result<Option<SubnetView>, TurnError> {
    let block = validator.chain.block().map_err(TurnError::Chain)?;
    if known.is_some_and(|known| block <= known) {
        return Ok(None);
    }
    read(validator, block).map(Some)
}

fn read(validator: &Validator, block: u64) -> Result<SubnetView, TurnError> {
    let view = validator.chain.view(block).map_err(TurnError::Chain)?;
    (validator.on_view)(&view);
    Ok(view)
}

/// One task, for as long as the validator works. A turn that panics is a fault
/// like any other.
async fn run(
    validator: Arc<Validator>,
    task: Task,
    mut views: watch::Receiver<Shared>,
    work: Arc<watch::Sender<u64>>,
) -> Result<(), TurnError> {
    let mut done = work.subscribe();
    let mut panics = 0_u32;
    loop {
        let view = views.borrow_and_update().clone();
        done.borrow_and_update();
        let mut worked = false;
        if let Some(view) = view {
            let (turner, block) = (Arc::clone(&validator), view.metagraph.block);
            match tokio::task::spawn_blocking(move || turner.turn(task, &view)).await {
                Ok(Ok(did)) => (worked, panics) = (did, 0),
                Ok(Err(TurnError::Cancelled)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(error) => {
                    panics = panics.saturating_add(1);
                    let reason = format!("its turn panicked: {}", panic_text(error));
                    let noter = Arc::clone(&validator);
                    let note = move || noter.failed(task, block, &reason);
                    let _ = tokio::task::spawn_blocking(note).await;
                    sleep(backoff(panics)).await;
                }
            }
        }
        if worked {
            work.send_modify(|count| *count = count.wrapping_add(1));
            continue;
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return Ok(()) },
            _ = done.changed() => {}
        }
    }
}

/// 1, 2, 4, ... times [`TASK_REST_SECONDS`].
pub fn backoff(faults: u32) -> Duration {
    let doubled = TASK_REST_SECONDS.saturating_mul(1 << faults.saturating_sub(1).min(16));
    Duration::from_secs(doubled.min(MAX_TASK_REST_SECONDS))
}

fn panic_text(error: tokio::task::JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "it was ended".to_owned() };
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without a word".to_owned())
}
