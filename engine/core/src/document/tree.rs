//! Text to nodes with spans.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use granit_parser::{Event, Options, Parser, ScalarStyle};
use serde_json::Value;

use super::field::Place;
use super::problem::{Problems, Span, did_you_mean, quote};
use super::scalar::Scalar;
use crate::limits::{DOCUMENT_NODE_BYTES, MAX_DOCUMENT_DEPTH, MAX_DOCUMENT_EXPANDED_BYTES};

/// One value of a document.
#[derive(Debug)]
pub(crate) struct Node {
    /// Where it stands; of an alias, where its anchor's value stands.
    pub span: Span,
    pub content: Content,
    /// Bytes that it means, everything below it included.
    bytes: usize,
    /// Values within values; 1 for a scalar.
    depth: usize,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// `plain` is false for quoted and block text, which is never a number.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Rc<Node>>),
    /// Keys are unique.
    Mapping(Vec<Entry>),
    /// Already reported; whoever reads it stays silent.
    Broken,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// A scalar, never plain.
    pub key: Rc<Node>,
    pub value: Rc<Node>,
}

impl Node {
    fn new(span: Span, content: Content) -> Self {
        let mut bytes = DOCUMENT_NODE_BYTES;
        let mut depth = 0;
        let mut add = |child: &Node| {
            bytes = bytes.saturating_add(child.bytes);
            depth = depth.max(child.depth);
        };
        match &content {
            Content::Scalar { text, .. } => bytes += text.len(),
            Content::Broken => {}
            Content::Sequence(items) => items.iter().for_each(|item| add(item)),
            Content::Mapping(entries) => entries.iter().for_each(|entry| {
                add(&entry.key);
                add(&entry.value);
            }),
        }
        Node { span, content, bytes, depth: depth + 1 }
    }

    /// The value as JSON; what JSON has no number for is null.
    pub fn json(&self) -> Value {
        match &self.content {
            Content::Scalar { text, plain: false } => text.as_str().into(),
            Content::Scalar { text, plain: true } => match Scalar::plain(text) {
                Scalar::Null => Value::Null,
                Scalar::Bool(value) => value.into(),
                Scalar::Unsigned(value) => value.into(),
                Scalar::Signed(value) => value.into(),
                Scalar::Float(value) => value.into(),
                Scalar::Text(text) => text.into(),
            },
            Content::Sequence(items) => items.iter().map(|item| item.json()).collect(),
            Content::Mapping(entries) => {
                entries.iter().map(|entry| (entry.key().to_owned(), entry.value.json())).collect()
            }
            Content::Broken => Value::Null,
        }
    }

    /// The mapping that stands at a span.
    pub fn find(&self, span: Span) -> Option<&Node> {
        // Everything but the values of aliases lies within what holds it, and
        // those lie within their anchor's holder.
        if span.start < self.span.start || self.span.end < span.end {
            return None;
        }
        match &self.content {
            Content::Mapping(_) if self.span == span => Some(self),
            Content::Mapping(entries) => entries.iter().find_map(|entry| entry.value.find(span)),
            Content::Sequence(items) => items.iter().find_map(|item| item.find(span)),
            Content::Scalar { .. } | Content::Broken => None,
        }
    }

    /// Where a path of keys and indices leads from this node, which stands at
    /// `place`; as far as it leads to anything.
    pub fn descend(&self, mut place: Place, path: impl Iterator<Item = String>) -> Place {
        let mut node = self;
        for part in path {
            let next = match &node.content {
                Content::Mapping(entries) => entries
                    .iter()
                    .find(|entry| entry.key() == part)
                    .map(|entry| (&entry.value, entry.key.span)),
                Content::Sequence(items) => part
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index))
                    .map(|item| (item, item.span)),
                Content::Scalar { .. } | Content::Broken => None,
            };
            let Some((value, key)) = next else { break };
            node = value;
            place = Place { key, value: value.span };
        }
        place
    }
}

impl Entry {
    /// The key as text.
    pub fn key(&self) -> &str {
        match &self.key.content {
            Content::Scalar { text, .. } => text,
            _ => "",
        }
    }
}

/// The document's root; none when there is nothing that could be read.
///
/// Reports broken syntax, documents that are empty, too deep or too large once
/// aliases are replaced, and more than one document in the text: these end the
/// reading. Also reports duplicate keys, keys that are not text, tags (as
/// `tag_problem` words it), and
/// aliases without an anchor: these leave the rest readable.
pub(crate) fn parse(
    text: &str,
    problems: &Problems,
    tag_problem: impl Fn(&str) -> String,
) -> Option<Rc<Node>> {
    let mut options = Options::default();
    options.emit_anchor_events = true;
    options.emit_unresolved_aliases = true;
    let mut builder = Builder::new(problems);
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let at = error.marker().byte_offset().unwrap_or(text.len()).min(text.len());
                let message = format!("broken YAML: {}", error.kind());
                problems.error(Span { start: at, end: at }, message, None);
                return None;
            }
        };
        if let Some(tag) = event.tag() {
            let at = byte_span(&span.tag_span().unwrap_or(span));
            problems.error(at, tag_problem(&tag.original()), Some("remove it".to_owned()));
        }
        if builder.take(event, byte_span(&span)).is_err() || problems.is_full() {
            return None;
        }
    }
    let root = builder.root.filter(|root| !is_empty(root));
    if root.is_none() {
        problems.error(Span::default(), "the file is empty", None);
    }
    root
}

fn byte_span(span: &granit_parser::Span) -> Span {
    let bytes = span.byte_range().unwrap_or_default();
    Span { start: bytes.start, end: bytes.end }
}

fn is_empty(node: &Node) -> bool {
    matches!(&node.content, Content::Scalar { text, plain: true } if text.is_empty())
}

/// The document cannot be read further; the reason is recorded.
struct Stop;

struct Builder<'a> {
    problems: &'a Problems,
    stack: Vec<Frame>,
    /// Finished nodes by the parser's number for their anchor.
    anchors: HashMap<usize, Rc<Node>>,
    anchor_names: Vec<String>,
    root: Option<Rc<Node>>,
    /// What all nodes, aliases and merges mean so far.
    bytes: usize,
}

/// A list or mapping whose end has not been seen.
struct Frame {
    start: usize,
    anchor: usize,
    content: FrameContent,
}

enum FrameContent {
    Sequence(Vec<Rc<Node>>),
    Mapping(MappingFrame),
}

#[derive(Default)]
struct MappingFrame {
    entries: Vec<Entry>,
    keys: HashSet<String>,
    next: Next,
    merges: Vec<Rc<Node>>,
}

/// What the next node in a mapping is.
#[derive(Default)]
enum Next {
    #[default]
    Key,
    ValueOf(Rc<Node>),
    MergedMapping,
    /// The value of something that could not be a key.
    Ignored,
}

impl<'a> Builder<'a> {
    fn new(problems: &'a Problems) -> Self {
        Builder {
            problems,
            stack: Vec::new(),
            anchors: HashMap::new(),
            anchor_names: Vec::new(),
            root: None,
            bytes: 0,
        }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                self.finish(span, Content::Scalar { text: text.into_owned(), plain }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open(span, anchor, FrameContent::Sequence(Vec::new()))
            }
            Event::MappingStart(_, anchor, _) => {
                self.open(span, anchor, FrameContent::Mapping(MappingFrame::default()))
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Anchor(_, name) => {
                self.anchor_names.push(name.into_owned());
                Ok(())
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).map(Rc::clone) {
                Some(node) => {
                    self.charge(node.bytes, span)?;
                    self.place(node, span)
                }
                None => {
                    self.problems.error(span, "this alias stands inside its own anchor", None);
                    self.finish(span, Content::Broken, 0)
                }
            },
            Event::UnresolvedAlias(name) => {
                let hint = did_you_mean(&name, self.anchor_names.iter().map(String::as_str))
                    .unwrap_or_else(|| "put text that begins with `*` in quotes".to_owned());
                let message = format!("no anchor {} before this alias", quote(&name));
                self.problems.error(span, message, Some(hint));
                self.finish(span, Content::Broken, 0)
            }
            Event::DocumentStart(..) if self.root.is_some() => {
                let hint = "write it into a file of its own".to_owned();
                self.problems.error(span, "a second document in one file", Some(hint));
                Err(Stop)
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, span: Span, anchor: usize, content: FrameContent) -> Result<(), Stop> {
        self.check_depth(span, 1)?;
        self.stack.push(Frame { start: span.start, anchor, content });
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), Stop> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let span = Span { start: frame.start, end: end.end.max(frame.start) };
        let content = match frame.content {
            FrameContent::Sequence(items) => Content::Sequence(items),
            FrameContent::Mapping(mapping) => Content::Mapping(self.merge(mapping, end)?),
        };
        self.finish(span, content, frame.anchor)
    }

    /// A mapping's own entries, then those of the mappings that `<<` names
    /// whose keys are not there yet.
    fn merge(&mut self, mapping: MappingFrame, at: Span) -> Result<Vec<Entry>, Stop> {
        let MappingFrame { mut entries, mut keys, merges, .. } = mapping;
        let sources = merges.iter().flat_map(|merge| match &merge.content {
            Content::Sequence(items) => items.as_slice(),
            _ => std::slice::from_ref(merge),
        });
        for source in sources {
            self.charge(source.bytes, at)?;
            match &source.content {
                Content::Mapping(merged) => {
                    let new = merged.iter().filter(|entry| keys.insert(entry.key().to_owned()));
                    entries.extend(new.cloned());
                }
                Content::Broken => {}
                Content::Scalar { .. } | Content::Sequence(_) => {
                    let hint = "write `<<: *anchor` or `<<: [*one, *two]`".to_owned();
                    self.problems.error(source.span, "`<<` merges mappings only", Some(hint));
                }
            }
        }
        Ok(entries)
    }

    fn finish(&mut self, span: Span, content: Content, anchor: usize) -> Result<(), Stop> {
        let own_bytes = match &content {
            Content::Scalar { text, .. } => text.len(),
            _ => 0,
        };
        self.charge(DOCUMENT_NODE_BYTES + own_bytes, span)?;
        let node = Rc::new(Node::new(span, content));
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.place(node, span)
    }

    /// Puts a node into the list or mapping that it stands in. `at` is where
    /// it stands, which for an alias is not where its value stands.
    fn place(&mut self, node: Rc<Node>, at: Span) -> Result<(), Stop> {
        self.check_depth(at, node.depth)?;
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame { content: FrameContent::Sequence(items), .. }) => items.push(node),
            Some(Frame { content: FrameContent::Mapping(mapping), .. }) => {
                mapping.take(node, at, self.problems);
            }
        }
        Ok(())
    }

    fn check_depth(&self, at: Span, below: usize) -> Result<(), Stop> {
        if self.stack.len() + below <= MAX_DOCUMENT_DEPTH {
            return Ok(());
        }
        let message = format!("values stand more than {MAX_DOCUMENT_DEPTH} levels deep");
        self.problems.error(at, message, None);
        Err(Stop)
    }

    fn charge(&mut self, bytes: usize, at: Span) -> Result<(), Stop> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= MAX_DOCUMENT_EXPANDED_BYTES {
            return Ok(());
        }
        let message = format!(
            "with its aliases replaced, the file has more than {MAX_DOCUMENT_EXPANDED_BYTES} bytes"
        );
        self.problems.error(at, message, Some("repeat fewer anchors".to_owned()));
        Err(Stop)
    }
}

impl MappingFrame {
    fn take(&mut self, node: Rc<Node>, at: Span, problems: &Problems) {
        self.next = match std::mem::take(&mut self.next) {
            Next::Key => self.key(&node, at, problems),
            Next::Ignored => Next::Key,
            Next::MergedMapping => {
                self.merges.push(node);
                Next::Key
            }
            Next::ValueOf(key) => {
                self.entries.push(Entry { key, value: node });
                Next::Key
            }
        };
    }

    fn key(&mut self, node: &Node, at: Span, problems: &Problems) -> Next {
        let Content::Scalar { text, plain } = &node.content else {
            if !matches!(node.content, Content::Broken) {
                problems.error(at, "a key must be text", None);
            }
            return Next::Ignored;
        };
        if *plain && text == "<<" {
            return Next::MergedMapping;
        }
        if self.keys.insert(text.clone()) {
            let content = Content::Scalar { text: text.clone(), plain: false };
            return Next::ValueOf(Rc::new(Node::new(at, content)));
        }
        let message = format!("the key {} is given twice", quote(text));
        problems.error(at, message, Some("only one of them can count: remove the other".into()));
        Next::Ignored
    }
}
