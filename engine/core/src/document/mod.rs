//! YAML documents that people write, read so that every problem is found at
//! once and has a place.
//!
//! `tree` parses text into nodes with byte spans and replaces aliases within a
//! budget. `deserialize` hands the nodes to serde. The types that a file
//! consists of wrap each value in a [`Field`], which records what is wrong
//! with it and lets the rest be read. JSON is YAML, so it is read the same way.

mod deserialize;
mod field;
mod number;
mod problem;
mod scalar;
mod text;
mod tree;
mod units;

pub use field::{Config, Entries, Field, Given, Place};
pub use number::{Fraction, NonNegative, Positive, Real, Whole};
pub use problem::{Problem, Severity, Span};
pub use text::{Name, PathText, Sha256, Text};
pub use units::{Bytes, ParameterCount, Seconds, parse_time};

pub(crate) use problem::{Problems, did_you_mean, quote, shown};
pub(crate) use tree::{Content, Node, parse as tree};

use std::path::Path;
use std::rc::Rc;

use serde::de::DeserializeOwned;

use crate::limits;

/// A document and where it came from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Path or name, as problems shall show it.
    pub name: &'a str,
    /// The whole text.
    pub text: &'a str,
    /// What relative paths in the text are relative to.
    pub directory: &'a Path,
}

impl Source<'_> {
    /// The line that a span begins on, from 1.
    pub(crate) fn line(&self, span: Span) -> usize {
        let before = self.text.get(..span.start).unwrap_or_default();
        before.bytes().filter(|byte| *byte == b'\n').count() + 1
    }
}

/// What a document says, and everything that is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked<T> {
    /// None when any problem is an error.
    pub value: Option<T>,
    /// By position in the text.
    pub problems: Vec<Problem>,
}

/// The deserialised document and its tree, as far as they could be read.
pub(crate) struct Read<T> {
    pub value: Field<T>,
    pub tree: Option<Rc<Node>>,
}

/// Reads a document, recording all problems of form.
pub(crate) fn read<T: DeserializeOwned>(text: &str, problems: &Problems) -> Read<T> {
    if text.len() as u64 > limits::MAX_DOCUMENT_BYTES {
        problems.error(
            Span::default(),
            format!("the file has {} bytes, more than {}", text.len(), limits::MAX_DOCUMENT_BYTES),
            None,
        );
        return Read { value: Field::Invalid, tree: None };
    }
    let tag = |tag: &str| format!("the tag {} has no meaning here", quote(tag));
    let Some(tree) = tree::parse(text, problems, tag) else {
        return Read { value: Field::Invalid, tree: None };
    };
    let value = deserialize::root(&tree, problems);
    Read { value, tree: Some(tree) }
}
