//! The Python library that models of the hub are shared with.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The library as it downloads for a user.
pub struct PythonHub<'a> {
    /// Python that has it; see [`python_with_hub`].
    pub python: &'a str,
    /// Address of the hub.
    pub endpoint: &'a str,
    /// Where it keeps files.
    pub cache: &'a Path,
    /// Whether it must leave the net alone.
    pub offline: bool,
}

impl PythonHub<'_> {
    /// Downloads a repository at a revision, and says where its files are; only
    /// those of these names, if any are given.
    pub fn download(&self, repository: &str, revision: &str, names: &[&str]) -> PathBuf {
        let script = "import sys, huggingface_hub as h\n\
                      repository, revision, *names = sys.argv[1:]\n\
                      print(h.snapshot_download(repository, revision=revision, allow_patterns=names or None))";
        let output = Command::new(self.python)
            .args(["-c", script, repository, revision])
            .args(names)
            .env("HF_ENDPOINT", self.endpoint)
            .env("HF_HUB_CACHE", self.cache)
            .env("HF_HOME", self.cache.join("home"))
            .env("HF_HUB_OFFLINE", if self.offline { "1" } else { "0" })
            .env("HF_HUB_DISABLE_XET", "1")
            .env("HF_HUB_DISABLE_TELEMETRY", "1")
            .env("HF_HUB_DISABLE_UPDATE_CHECK", "1")
            .env_remove("HF_TOKEN")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}", text(&output.stderr));
        PathBuf::from(text(&output.stdout).lines().last().unwrap().trim())
    }
}

/// Python with `huggingface_hub`. Without it the test is skipped, unless
/// `REQUIRE_HUGGINGFACE_HUB` is set.
pub fn python_with_hub() -> Option<String> {
    let python = "python3".to_owned();
    let has = Command::new(&python).args(["-c", "import huggingface_hub"]).output();
    if has.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    assert!(
        std::env::var_os("REQUIRE_HUGGINGFACE_HUB").is_none_or(|value| value.is_empty()),
        "REQUIRE_HUGGINGFACE_HUB is set, and {python} has no huggingface_hub"
    );
    None
}
