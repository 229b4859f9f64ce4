//! The next model is fetched while the one before it is at work.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use evaltasks_core::source::{ModelReference, ModelSource, SourceError};
use evaltasks_hub::{HubError, HubFault};

/// Models that wait for their turn, beside the one that is being fetched.
const QUEUE: usize = 1;

/// What became of fetching one model.
pub type Fetched = Result<PathBuf, SourceError>;

/// Runs something that takes models one after the other, by their place among
/// `models`; those that are none are left out. What it gets does not depend on
/// how long anything takes.
pub fn with_prefetch<T>(
    source: &dyn ModelSource,
    models: &[Option<&ModelReference>],
    max_bytes: Option<u64>,
    run: impl FnOnce(&dyn Fn(usize) -> Fetched) -> T,
) -> T {
    let is_remote = |model: &ModelReference| matches!(model, ModelReference::Repository { .. });
    let remote: Vec<(usize, &ModelReference)> = models
        .iter()
        .enumerate()
        .filter_map(|(index, model)| Some((index, model.filter(|model| is_remote(model))?)))
        .collect();
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(QUEUE);
        let ahead = remote.clone();
        scope.spawn(move || {
            for (index, model) in ahead {
                // Nobody hears any more when the round has ended.
                if sender.send((index, source.fetch(model, max_bytes))).is_err() {
                    return;
                }
            }
        });
        let fetch = |index: usize| {
            let Some(model) = models.get(index).copied().flatten() else {
                return Err("fetch a model that is not there".into());
            };
            if !is_remote(model) {
                return source.fetch(model, max_bytes);
            }
            match next(source, &receiver, index) {
                // Room for two may be lacking where there is room for one.
                Some(Err(error)) if is_quota(&error) => source.fetch(model, max_bytes),
                Some(fetched) => fetched,
                None => source.fetch(model, max_bytes),
            }
        };
        run(&fetch)
    })
}

/// The model at a place; those before it that nobody asked for are given back.
fn next(
    source: &dyn ModelSource,
    receiver: &Receiver<(usize, Fetched)>,
    index: usize,
) -> Option<Fetched> {
    loop {
        match receiver.recv().ok()? {
            (found, fetched) if found == index => return Some(fetched),
            (_, Ok(path)) => source.release(&path),
            (_, Err(_)) => {}
        }
    }
}

fn is_quota(error: &SourceError) -> bool {
    let error = error.downcast_ref::<HubError>();
    matches!(error, Some(HubError::Hub { source, .. }) if matches!(**source, HubFault::Quota { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    /// Tells what is fetched and released.
    struct Telling(Mutex<Sender<String>>);

    impl Telling {
        fn tell(&self, text: String) {
            let _ = self.0.lock().unwrap().send(text);
        }
    }

    impl ModelSource for Telling {
        fn fetch(&self, model: &ModelReference, _max_bytes: Option<u64>) -> Fetched {
            let name = match model {
                ModelReference::Directory(path) => path.display().to_string(),
                ModelReference::Repository { repository, .. } => repository.clone(),
            };
            self.tell(format!("fetch {name}"));
            if name == "bad" { Err("fetch it".into()) } else { Ok(name.into()) }
        }

        fn fetch_tokenizer(&self, _repository: &str, _revision: Option<&str>) -> Fetched {
            Err("there is none".into())
        }

        fn release(&self, path: &Path) {
            self.tell(format!("release {}", path.display()));
        }
    }

    fn repository(name: &str) -> ModelReference {
        ModelReference::Repository { repository: name.to_owned(), revision: String::new() }
    }

    #[test]
    fn the_next_model_comes_while_one_is_at_work() {
        const LONG: Duration = Duration::from_secs(60);
        let (sender, heard) = channel();
        let source = Telling(Mutex::new(sender));
        let models = [repository("a"), repository("b"), repository("bad"), repository("d")];
        let local = ModelReference::Directory("local".into());
        let [a, b, bad, d] = &models;
        let all = [Some(a), None, Some(b), Some(&local), Some(bad), Some(d)];
        with_prefetch(&source, &all, None, |fetch| {
            assert_eq!(fetch(0).unwrap(), Path::new("a"));
            // `a` is at work, and `b` comes all the same.
            assert_eq!(heard.recv_timeout(LONG).unwrap(), "fetch a");
            assert_eq!(heard.recv_timeout(LONG).unwrap(), "fetch b");
            assert_eq!(fetch(2).unwrap(), Path::new("b"));
            assert_eq!(fetch(3).unwrap(), Path::new("local"));
            assert_eq!(fetch(4).unwrap_err().to_string(), "fetch it");
            assert_eq!(fetch(5).unwrap(), Path::new("d"));
            assert!(fetch(1).is_err() && fetch(9).is_err());
        });
    }

    #[test]
    fn what_nobody_asks_for_is_given_back_or_left() {
        let (sender, heard) = channel();
        let source = Telling(Mutex::new(sender));
        let models = [repository("a"), repository("b"), repository("c"), repository("d")];
        let all: Vec<_> = models.iter().map(Some).collect();
        with_prefetch(&source, &all, None, |fetch| {
            assert_eq!(fetch(1).unwrap(), Path::new("b"));
        });
        drop(source);
        let heard: Vec<String> = heard.iter().collect();
        assert!(heard.contains(&"release a".to_owned()), "{heard:?}");
    }
}
