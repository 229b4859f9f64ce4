//! Where models and datasets come from, and what they are known by.
//!
//! This crate exists to wall off file formats (text, JSONL, image folders,
//! safetensors headers) and the network: the rest of the engine sees rows,
//! files, directories and digests.
//!
//! Everything read here was made by somebody else. Files are read at checked
//! offsets rather than memory-mapped, because a mapped file that shrinks takes
//! the process with it, while a short read is an error like any other.

mod dataset;
mod digest;
mod download;
mod draw;
mod error;
mod files;
pub mod hub;
mod index;
pub mod limits;
mod media;
mod model;
pub mod net;

pub use dataset::open_dataset;
pub use digest::{FileDigest, ModelDigest, TensorDigest, digest_model};
pub use download::{Download, DownloadLimits, download, downloaded};
pub use draw::{draw_rows, rows_sha256};
pub use error::HubError;
pub use hub::{FetchProgress, Hub, HubFault, HubOptions, HubSettings};
pub use model::LocalModels;
pub use net::DownloadFault;
