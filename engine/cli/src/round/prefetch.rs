//! The next model is fetched while the one before it is at work, and the system
//! is asked to read it into memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;

use evaltasks_core::source::{ModelReference, ModelSource, SourceError};
use evaltasks_hub::{HubError, HubFault};

use super::guard::guard_fetch;
use crate::memory::machine_bytes;

/// Models that wait for their turn, beside the one that is being fetched.
const QUEUE: usize = 1;

/// Files of one model that are read ahead.
const MAX_FILES_AHEAD: usize = 1024;

/// At most one part in so many of the memory is for what is read ahead.
const PART_OF_MEMORY: u64 = 4;

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
    let ahead: Vec<(usize, &ModelReference)> =
        models.iter().enumerate().filter_map(|(index, model)| Some((index, (*model)?))).collect();
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(QUEUE);
        let (go_on, has_room) = channel();
        scope.spawn(move || {
            for (index, model) in ahead {
                let fetched = guard_fetch(|| source.fetch(model, max_bytes));
                if let Ok(path) = &fetched {
                    read_ahead(path);
                }
                let lacks_room = fetched.as_ref().is_err_and(is_quota);
                // Nobody hears any more when the round has ended.
                if sender.send((index, fetched)).is_err() {
                    return;
                }
                // A later one that is smaller would take the room that this one
                // is given once those before it are done with.
                if lacks_room && has_room.recv().is_err() {
                    return;
                }
            }
        });
        let fetch = |index: usize| {
            let Some(model) = models.get(index).copied().flatten() else {
                return Err("fetch a model that is not there".into());
            };
            match next(source, &receiver, &go_on, index) {
                // Room for two may be lacking where there is room for one.
                Some(Err(error)) if is_quota(&error) => {
                    let fetched = source.fetch(model, max_bytes);
                    let _ = go_on.send(());
                    fetched
                }
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
    go_on: &Sender<()>,
    index: usize,
) -> Option<Fetched> {
    loop {
        match receiver.recv().ok()? {
            (found, fetched) if found == index => return Some(fetched),
            (_, Ok(path)) => source.release(&path),
            (_, Err(error)) if is_quota(&error) => drop(go_on.send(())),
            (_, Err(_)) => {}
        }
    }
}

/// Asks for a model's files before they are needed, unless they would take the
/// memory that the model at work needs.
fn read_ahead(path: &Path) {
    let files = fs::read_dir(path)
        .map(|entries| entries.flatten().map(|entry| entry.path()).take(MAX_FILES_AHEAD).collect());
    let files: Vec<PathBuf> = files.unwrap_or_else(|_| vec![path.to_owned()]);
    let files = files.iter().filter_map(|path| {
        let bytes = fs::metadata(path).ok().filter(fs::Metadata::is_file)?.len();
        Some((path, bytes))
    });
    // Where it is not known, nothing is read ahead.
    let mut left = machine_bytes().unwrap_or(0) / PART_OF_MEMORY;
    for (path, bytes) in files {
        let Some(rest) = left.checked_sub(bytes) else { return };
        left = rest;
        will_need(path);
    }
}

#[cfg(target_os = "linux")]
fn will_need(path: &Path) {
    // It is a hint: whatever comes of it, the file can be read.
    if let Ok(file) = fs::File::open(path) {
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::WillNeed);
    }
}

#[cfg(not(target_os = "linux"))]
fn will_need(_path: &Path) {}

fn is_quota(error: &SourceError) -> bool {
    let error = error.downcast_ref::<HubError>();
    matches!(error, Some(HubError::Hub { source, .. }) if matches!(**source, HubFault::Quota { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::Mutex;
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

    /// Has room for 100, and models of so many bytes as their names say.
    struct Small(Mutex<Vec<u64>>);

    impl ModelSource for Small {
        fn fetch(&self, model: &ModelReference, _max_bytes: Option<u64>) -> Fetched {
            let ModelReference::Repository { repository, .. } = model else {
                return Err("there is none".into());
            };
            let bytes: u64 = repository.parse()?;
            let mut held = self.0.lock().unwrap();
            if held.iter().sum::<u64>() + bytes > 100 {
                let source = HubFault::Quota { bytes, quota: 100, in_use: "others" };
                return Err(Box::new(HubError::Hub {
                    what: repository.clone(),
                    source: source.into(),
                }));
            }
            held.push(bytes);
            Ok(repository.into())
        }

        fn fetch_tokenizer(&self, _repository: &str, _revision: Option<&str>) -> Fetched {
            Err("there is none".into())
        }

        fn release(&self, path: &Path) {
            let bytes: u64 = path.display().to_string().parse().unwrap();
            let mut held = self.0.lock().unwrap();
            let at = held.iter().position(|one| *one == bytes).unwrap();
            held.remove(at);
        }
    }

    /// What is small and comes later never takes the room of what is before it.
    #[test]
    fn room_goes_to_whose_turn_it_is() {
        let sizes = ["60", "80", "30", "100", "10", "90", "20"];
        let models = sizes.map(repository);
        let all: Vec<_> = models.iter().map(Some).collect();
        for skipped in 0..=sizes.len() {
            let source = Small(Mutex::default());
            with_prefetch(&source, &all, None, |fetch| {
                for (index, name) in sizes.iter().enumerate().filter(|(index, _)| *index != skipped)
                {
                    let path = fetch(index).unwrap_or_else(|error| panic!("{name}: {error}"));
                    source.release(&path);
                }
            });
        }
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
