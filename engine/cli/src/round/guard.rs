//! Nothing that a task or a backend does may stop the process: panics become
//! errors.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use evaltasks_core::backend::BackendError;
use evaltasks_core::source::SourceError;
use evaltasks_core::task::TaskError;

/// Calls into a task; a panic reads as [`TaskError::Internal`].
pub fn guard_task<T>(call: impl FnOnce() -> Result<T, TaskError>) -> Result<T, TaskError> {
    catch(call).unwrap_or_else(|panic| Err(TaskError::Internal(panic)))
}

/// Calls into a backend; a panic reads as [`BackendError::Engine`].
pub fn guard_backend<T>(call: impl FnOnce() -> Result<T, BackendError>) -> Result<T, BackendError> {
    catch(call).unwrap_or_else(|panic| Err(BackendError::Engine(panic)))
}

/// Draws rows; a panic reads after "failed to ...".
pub fn guard_draw<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch(call).map_err(|panic| format!("draw rows: {panic}"))
}

/// Fetches a model; a panic is an error of that model.
pub fn guard_fetch<T>(call: impl FnOnce() -> Result<T, SourceError>) -> Result<T, SourceError> {
    catch(call).unwrap_or_else(|panic| Err(format!("fetch it: {panic}").into()))
}

thread_local! {
    /// Whether a panic on this thread will be reported as an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What `call` returns, or what it panicked with. Such a panic prints nothing:
/// it is told where the error is.
fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET_HOOK: Once = Once::new();
    QUIET_HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                print(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(outer);
    result.map_err(|panic| describe_panic(&*panic))
}

fn describe_panic(panic: &(dyn Any + Send)) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message");
    format!("it panicked: {message}")
}
