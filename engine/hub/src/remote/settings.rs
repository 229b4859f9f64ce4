use std::path::PathBuf;

/// Where data comes from, and on whose behalf.
#[derive(Clone)]
pub struct DataSettings {
    /// Address of the datasets server.
    pub rows_server: String,
    /// Address of the hub.
    pub hub: String,
    /// Token for both.
    pub token: Option<String>,
    /// Whether the net must be left alone: what is not kept here is an error.
    pub offline: bool,
    /// For texts in buckets of Amazon S3.
    pub aws: Option<AwsKeys>,
    /// Folder in which rows are kept, and the bytes that it may have.
    pub cache: Option<(PathBuf, u64)>,
}

/// The token stays a secret.
impl std::fmt::Debug for DataSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataSettings")
            .field("rows_server", &self.rows_server)
            .field("hub", &self.hub)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// Keys that requests to Amazon S3 are signed with.
#[derive(Clone)]
pub struct AwsKeys {
    /// `AWS_ACCESS_KEY_ID`.
    pub id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret: String,
    /// `AWS_SESSION_TOKEN`, for keys that expire.
    pub session: Option<String>,
    /// `AWS_REGION`, where a bucket's address does not say.
    pub region: Option<String>,
}

/// The secret stays one.
impl std::fmt::Debug for AwsKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwsKeys").field("id", &self.id).finish_non_exhaustive()
    }
}

const ROWS_SERVER: &str = "https://datasets-server.huggingface.co";

impl DataSettings {
    /// What the variables of the environment say: `HF_DATASETS_SERVER`, and the
    /// keys of Amazon S3. The hub's address and token are found where those of
    /// models are.
    pub fn new(
        hub: String,
        token: Option<String>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let keys = given("AWS_ACCESS_KEY_ID").zip(given("AWS_SECRET_ACCESS_KEY"));
        let region = given("AWS_REGION").or_else(|| given("AWS_DEFAULT_REGION"));
        let session = given("AWS_SESSION_TOKEN");
        let rows_server = given("HF_DATASETS_SERVER").unwrap_or_else(|| ROWS_SERVER.to_owned());
        DataSettings {
            rows_server: rows_server.trim_end_matches('/').to_owned(),
            hub: hub.trim_end_matches('/').to_owned(),
            token,
            offline: false,
            aws: keys.map(|(id, secret)| AwsKeys { id, secret, session, region }),
            cache: None,
        }
    }
}
