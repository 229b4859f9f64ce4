use std::fmt::Debug;
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

/// The clock of this machine.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn date(&self) -> SystemTime {
        SystemTime::now()
    }

    fn wait(&self, time: Duration) {
        thread::sleep(time);
    }
}
