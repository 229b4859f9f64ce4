use std::fs;
use std::path::Path;

use super::limits::{MAX_MODELS, PIECE_BYTES};
use super::{LocalHub, LocalHubError};
use crate::http::client::{ask, say};
use crate::http::{Listen, Server};

const LISTEN: &str = "127.0.0.1:0";

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// One model, and what no model is made of.
fn models(folder: &Path) {
    write(
        folder,
        &[
            ("a/config.json", "{}"),
            ("a/model.safetensors", "the weights"),
            ("a/notes/ü b.md", "notes"),
            ("a/.hidden", "hidden"),
            ("secret", "secret"),
            ("nothing/README.md", ""),
            ("no name/model.safetensors", ""),
            (".git/model.safetensors", ""),
        ],
    );
}

fn serve(hub: LocalHub, address: &str, publicly: bool) -> Result<Server, LocalHubError> {
    hub.serve(Listen { address: address.parse().unwrap(), publicly, option: "--publicly" })
}

fn names(hub: &LocalHub) -> Vec<&str> {
    hub.models().map(|model| model.repository()).collect()
}

#[test]
fn what_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    models(folder.path());
    let hub = LocalHub::open(folder.path(), None).unwrap();
    let commit = hub.models().next().unwrap().commit().to_owned();
    let server = serve(hub, LISTEN, false).unwrap();
    let sha = format!("\"sha\":\"{commit}\"");
    // Of `printf '{}' | git hash-object --stdin`, and of sha256sum.
    let blob = "9e26dfeeb6e641a33dae4961196235bdb965b21b";
    let sha256 = "f38329d231164082b94f28edf29bff349b44403e09fc4057d65b31051f4ae6b5";
    let api = "/api/models/local/a";
    let weights = "/local/a/resolve/main/model.safetensors";
    let at_commit = |path: &str| path.replace("main", &commit);
    let known = format!("If-Range: \"{sha256}\"\r\nRange: bytes=4-\r\n");
    let other = "If-Range: \"other\"\r\nRange: bytes=4-\r\n";
    // Method, path, headers; status, in the headers, in the body or the whole of it.
    type Row<'a> = (&'a str, &'a str, &'a str, u16, &'a str, &'a str);
    let rows: &[Row<'_>] = &[
        ("GET", api, "", 200, "content-type: application/json", &sha),
        ("GET", &format!("{api}/revision/main"), "", 200, &commit, &sha),
        (
            "GET",
            &format!("{api}/revision/{commit}"),
            "",
            200,
            &commit,
            "\"rfilename\":\"notes/ü b.md\"",
        ),
        (
            "GET",
            &format!("{api}/tree/{commit}?recursive=true"),
            "",
            200,
            "",
            &format!("\"oid\":\"{blob}\""),
        ),
        (
            "GET",
            &format!("{api}/tree/main"),
            "",
            200,
            "",
            &format!("\"lfs\":{{\"oid\":\"{sha256}\",\"pointerSize\":127,\"size\":11}}"),
        ),
        ("GET", weights, "", 200, "content-length: 11\r\n", "the weights"),
        ("GET", &at_commit(weights), "", 200, &format!("x-repo-commit: {commit}"), "the weights"),
        ("HEAD", weights, "", 200, "content-length: 11\r\n", ""),
        ("HEAD", weights, "", 200, &format!("etag: \"{sha256}\""), ""),
        ("GET", weights, "Range: bytes=4-6\r\n", 206, "content-range: bytes 4-6/11\r\n", "wei"),
        ("GET", weights, "Range: bytes=4-6\r\n", 206, "content-length: 3\r\n", "wei"),
        ("GET", weights, "Range: bytes=-2\r\n", 206, "content-range: bytes 9-10/11\r\n", "ts"),
        ("GET", weights, "Range: bytes=11-\r\n", 416, "content-range: bytes */11\r\n", ""),
        ("GET", weights, &known, 206, "content-range: bytes 4-10/11\r\n", "weights"),
        ("GET", weights, other, 200, "accept-ranges: bytes", "the weights"),
        ("GET", "/local/a/resolve/main/config.json", "", 200, &format!("etag: \"{blob}\""), "{}"),
        ("GET", "/local/a/resolve/main/notes/%C3%BC%20b.md", "", 200, "", "notes"),
        (
            "GET",
            "/api/models/local/b",
            "",
            404,
            "x-error-code: reponotfound",
            "{\"error\":\"there is no such repository\"}",
        ),
        ("GET", "/api/models/other/a", "", 404, "x-error-code: reponotfound", "\"error\""),
        (
            "GET",
            "/local/nothing/resolve/main/README.md",
            "",
            404,
            "x-error-code: reponotfound",
            "\"error\"",
        ),
        (
            "GET",
            "/api/models/local/a/revision/v1",
            "",
            404,
            "x-error-code: revisionnotfound",
            "\"error\"",
        ),
        (
            "GET",
            "/local/a/resolve/v1/config.json",
            "",
            404,
            "x-error-code: revisionnotfound",
            "\"error\"",
        ),
        (
            "GET",
            "/local/a/resolve/main/nothing",
            "",
            404,
            "x-error-code: entrynotfound",
            "\"error\"",
        ),
        (
            "GET",
            "/local/a/resolve/main/.hidden",
            "",
            404,
            "x-error-code: entrynotfound",
            "\"error\"",
        ),
        ("GET", "/local/a/resolve/main/notes", "", 404, "x-error-code: entrynotfound", "\"error\""),
        (
            "GET",
            "/local/a/resolve/main/../secret",
            "",
            404,
            "x-error-code: entrynotfound",
            "\"error\"",
        ),
        (
            "GET",
            "/local/a/resolve/main/%2e%2e/secret",
            "",
            404,
            "x-error-code: entrynotfound",
            "\"error\"",
        ),
        (
            "GET",
            "/local/a/resolve/main/..%2Fsecret",
            "",
            404,
            "x-error-code: entrynotfound",
            "\"error\"",
        ),
        (
            "GET",
            "/local/a/resolve/main//etc/passwd",
            "",
            404,
            "x-error-code: entrynotfound",
            "\"error\"",
        ),
        ("GET", "/local/a/resolve/main/%FF", "", 400, "", ""),
        ("GET", "/", "", 404, "", "{\"error\":\"there is nothing at /\"}"),
        ("POST", api, "", 405, "", "only GET and HEAD"),
        ("PUT", weights, "", 405, "", "only GET and HEAD"),
        ("GET", weights, "Content-Length: 1\r\n", 413, "", "requests have no body here"),
    ];
    for (method, path, headers, status, in_head, body) in rows {
        let answer = ask(server.address(), method, path, headers);
        let what = format!("{method} {path} {headers}\n{}\n\n{}", answer.head, answer.body);
        assert_eq!(answer.status, *status, "{what}");
        assert!(answer.head.contains(&in_head.to_ascii_lowercase()), "{in_head}: {what}");
        let is_file = matches!(status, 200 | 206 | 416) && path.contains("/resolve/");
        assert!(if is_file { answer.body == *body } else { answer.body.contains(body) }, "{what}");
    }
    let elsewhere =
        format!("GET {weights} HTTP/1.1\r\nHost: hub.example\r\nConnection: close\r\n\r\n");
    assert_eq!(say(server.address(), elsewhere.as_bytes()).status, 421);
}

#[test]
fn files_are_read_when_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let content = "weights ".repeat(PIECE_BYTES / 2);
    write(folder.path(), &[("a/model.safetensors", &content), ("a/config.json", "{}")]);
    let server = serve(LocalHub::open(folder.path(), None).unwrap(), LISTEN, false).unwrap();
    let path = "/local/a/resolve/main/model.safetensors";
    assert!(ask(server.address(), "GET", path, "").body == content);
    let start = PIECE_BYTES - 3;
    let part = ask(server.address(), "GET", path, &format!("Range: bytes={start}-\r\n"));
    assert!(part.body == content[start..]);
    // A digest that was told is of no other content.
    write(folder.path(), &[("a/model.safetensors", &content[1..])]);
    for method in ["GET", "HEAD"] {
        assert_eq!(ask(server.address(), method, path, "").status, 409, "{method}");
    }
    let config = ask(server.address(), "GET", "/local/a/resolve/main/config.json", "");
    assert_eq!((config.status, config.body.as_str()), (200, "{}"));
}

#[test]
fn which_folders_are_models() {
    let folder = tempfile::tempdir().unwrap();
    models(folder.path());
    write(folder.path(), &[("b/a.gguf", ""), ("tokenizer/tokenizer.json", "{}")]);
    let open = |models: &str, tokenizer: Option<&str>| {
        let tokenizer = tokenizer.map(|name| folder.path().join(name));
        LocalHub::open(&folder.path().join(models), tokenizer.as_deref())
    };
    assert_eq!(names(&open("", None).unwrap()), ["local/a", "local/b"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        symlink(folder.path().join("a"), folder.path().join("linked")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        symlink("../b/a.gguf", folder.path().join("outside/a.gguf")).unwrap();
        assert_eq!(names(&open("", None).unwrap()), ["local/a", "local/b"]);
    }
    // With the tokenizer it is another content, where there was none.
    let commits = |tokenizer| {
        let hub = open("", tokenizer).unwrap();
        hub.models().map(|model| model.commit().to_owned()).collect::<Vec<_>>()
    };
    let (without, with) = (commits(None), commits(Some("tokenizer")));
    assert_ne!(without[0], with[0]);
    assert_eq!(without[1], with[1]);
    let rows = [
        ("a", None, "serve the models in FOLDER/a: no folder in it is a model"),
        ("c", None, "serve the models in FOLDER/c"),
        ("secret", None, "serve the models in FOLDER/secret"),
        ("", Some("a"), "use the tokenizer in FOLDER/a"),
        ("", Some("c"), "read FOLDER/c"),
    ];
    for (models, tokenizer, expected) in rows {
        let error = open(models, tokenizer).unwrap_err().to_string();
        let error = error.replace(&folder.path().display().to_string(), "FOLDER");
        assert_eq!(error, expected, "{models} {tokenizer:?}");
    }
    for number in 0..MAX_MODELS {
        write(folder.path(), &[(&format!("many/{number}/a.gguf"), "")]);
    }
    assert_eq!(names(&open("many", None).unwrap()).len(), MAX_MODELS);
    write(folder.path(), &[("many/more/a.gguf", "")]);
    assert!(matches!(open("many", None), Err(LocalHubError::TooMany(_))));
}

#[test]
fn other_machines_need_the_operators_word() {
    let folder = tempfile::tempdir().unwrap();
    models(folder.path());
    let start =
        |publicly| serve(LocalHub::open(folder.path(), None).unwrap(), "0.0.0.0:0", publicly);
    let refused = start(false).err().unwrap().to_string();
    let expected = "listen on 0.0.0.0:0: other machines reach this address, and there is no \
                    password; --publicly allows it";
    assert_eq!(refused, expected);
    assert_ne!(start(true).unwrap().address().port(), 0);
}
