use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// What the net waits by; tests have one of their own, and do not wait.
pub trait Clock: Debug + Send + Sync {
    /// Time since some moment in the past.
    fn now(&self) -> Duration;
    /// The date.
    fn date(&self) -> SystemTime;
    /// Waits.
    fn wait(&self, time: Duration);
}

/// How soon it is seen that nobody waits any more.
const CANCELLED_SEEN_AFTER: Duration = Duration::from_millis(100);

/// The clock of this machine.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    cancelled: Arc<AtomicBool>,
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::cancelled_by(Arc::default())
    }
}

impl SystemClock {
    /// One whose waits end once this is true.
    pub fn cancelled_by(cancelled: Arc<AtomicBool>) -> SystemClock {
        SystemClock { start: Instant::now(), cancelled }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn date(&self) -> SystemTime {
        SystemTime::now()
    }

    fn wait(&self, time: Duration) {
        let start = Instant::now();
        while !self.cancelled.load(Ordering::SeqCst) {
            let left = time.saturating_sub(start.elapsed());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(CANCELLED_SEEN_AFTER));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_it_is_cancelled() {
        let cancelled = Arc::new(AtomicBool::new(false));
        let clock = SystemClock::cancelled_by(Arc::clone(&cancelled));
        clock.wait(Duration::from_millis(1));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| clock.wait(Duration::from_secs(3600)));
            cancelled.store(true, Ordering::SeqCst);
            waiting.join().unwrap();
        });
        clock.wait(Duration::MAX);
    }
}
