//! Where models and datasets come from, and what they are known by.
//!
//! This crate exists to wall off file formats (text, JSONL, image folders,
//! safetensors headers) and the network: the rest of the engine sees rows,
//! files, directories and digests.
//!
//! Everything read here was made by somebody else. Files are read at checked
//! offsets rather than memory-mapped, because a mapped file that shrinks takes
//! the process with it, while a short read is an error like any other.

mod copies;
mod csv_rows;
mod dataset;
mod digest;
mod download;
mod draw;
mod error;
mod files;
mod frozen;
pub mod hub;
mod index;
pub mod limits;
mod local;
mod media;
mod members;
mod model;
pub mod net;
mod parquet_rows;
mod read_at;
mod remote;
mod repository;

pub use copies::{Likeness, ModelSketch, SketchedTensor, likeness};
pub use dataset::open_dataset;
pub use digest::{
    FileDigest, Float, ModelDigest, Sketch, TensorDigest, digest_model, directory_hash,
    pretrained_hash, sketch_model,
};
pub use download::{Download, DownloadLimits, download, downloaded};
pub use draw::{draw_rows, row_sha256, rows_sha256};
pub use error::HubError;
pub use frozen::{Frozen, FrozenError, FrozenIndex, Recorder};
pub use hub::{FetchProgress, Hub, HubFault, HubOptions, HubSettings, downloaded_bytes};
pub use local::LocalDatasets;
pub use model::LocalModels;
pub use net::DownloadFault;
pub use remote::{AwsKeys, DataSettings, DatasetFault, Datasets};
