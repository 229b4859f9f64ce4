use std::sync::atomic::AtomicBool;

use super::*;

/// A worker that is a script of the shell.
fn script(text: &str) -> WorkerOptions {
    WorkerOptions {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), text.into()],
        max_silence: Duration::from_secs(60),
    }
}

fn inspect(options: &WorkerOptions, control: &RunControl) -> String {
    let order = Order::Inspect("model".into());
    let report = Process::start(options).and_then(|mut process| process.ask(&order, control));
    report.unwrap_err().to_string()
}

#[cfg(unix)]
#[test]
fn how_a_worker_ends_is_told() {
    let read = "cat > /dev/null &";
    let rows = [
        ("exit 3", "the model's process ended with status 3"),
        ("echo 'cannot do it' >&2; exit 1", "ended with status 1, and said: cannot do it"),
        ("kill -9 $$", "was killed, as happens when memory is short"),
        ("kill -11 $$", "crashed with signal 11"),
        ("echo 'memory allocation of 8 bytes failed' >&2; kill -6 $$", "ran out of its memory"),
        ("printf 'hello, engine'", "spoke nonsense: a frame of 1819043176 bytes"),
        ("printf '\\001\\000\\000\\000\\377'", "spoke nonsense: "),
        ("printf '\\005\\000\\000\\000ab'", "spoke nonsense: unexpected end of file"),
        // Nothing was asked of norms.
        ("printf '\\002\\000\\000\\000\\001\\000'; cat > /dev/null", ""),
    ];
    for (text, expected) in rows {
        if expected.is_empty() {
            let backend = WorkerBackend {
                options: script(text),
                version: String::new(),
                answers_version: String::new(),
            };
            let error = backend.inspect(Path::new("model")).unwrap_err().to_string();
            assert!(error.contains("spoke nonsense: it gave norms of weights"), "{error}");
            continue;
        }
        let found = inspect(&script(&format!("{read} {text}")), &RunControl::default());
        assert!(found.starts_with("run inference: the model's process"), "{found}");
        assert!(found.contains(expected), "{text}: {found}");
    }
}

#[cfg(unix)]
#[test]
fn a_worker_that_hangs_is_ended() {
    let hangs = script("exec sleep 1000");
    let silent = WorkerOptions { max_silence: Duration::ZERO, ..hangs.clone() };
    let limited = RunControl::default().with_time_limit(Duration::ZERO);
    let cancelled = RunControl::default().with_cancellation(Arc::new(AtomicBool::new(true)));
    let rows = [
        (&silent, RunControl::default(), "the model's process was silent for 0 s"),
        (&hangs, limited, "finish within the time limit of 0 s"),
        (&hangs, cancelled, "finish: the run was cancelled"),
    ];
    for (options, control, expected) in rows {
        let found = inspect(options, &control);
        assert!(found.contains(expected), "{found}");
    }
}

/// An order that no pipe holds is given to a worker that does not read.
#[cfg(unix)]
#[test]
fn a_worker_that_reads_nothing_is_ended() {
    let options = script("exec sleep 1000");
    let directory = "x".repeat(1 << 22);
    let control = RunControl::default().with_time_limit(Duration::ZERO);
    let mut process = Process::start(&options).unwrap();
    let found = process.ask(&Order::Inspect(directory.into()), &control).unwrap_err();
    assert_eq!(found.to_string(), "finish within the time limit of 0 s");
}

#[test]
fn a_program_that_is_not_there_is_the_engines_fault() {
    let options = WorkerOptions { program: "/nowhere/evaltasks".into(), ..script("") };
    let found = inspect(&options, &RunControl::default());
    assert!(found.contains("start a process for the model: "), "{found}");
}
