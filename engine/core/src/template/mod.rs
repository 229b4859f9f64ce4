//! Jinja templates, rendered within limits and as Python's Jinja2 renders them.
//!
//! Templates come from task configurations and from tokenizers, so a template
//! may be hostile: it sees nothing but the values that it is given, loads no
//! other template, and its work and memory are bounded by [`FUEL`].
//!
//! What differs from Jinja2 is the library's own: `docs/tasks.md` lists it.

mod methods;
pub mod python;

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Output, State, UndefinedBehavior};

pub use minijinja::value::Kwargs;
pub use minijinja::{Error, ErrorKind, Value};

use crate::limits::{MAX_TEMPLATE_BYTES, MAX_TEXT_BYTES_PER_REQUEST};

/// What one rendering may use: about one for an instruction, and one for 64
/// bytes of data that it makes.
pub const FUEL: u64 = 1 << 20;
/// Templates within templates: loops, conditions, macros.
const MAX_RECURSION: usize = 128;
/// Name of the one template in an environment.
const NAME: &str = "template";

/// How white space around tags is kept, and what an unknown name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As lm-evaluation-harness renders prompts: all white space is kept, and
    /// an unknown name is an error (`StrictUndefined`).
    Task,
    /// As transformers renders chat templates: the first line break after a
    /// tag and the indentation before it go, and an unknown name is empty.
    Chat,
}

/// A template that was read once and can be rendered often.
#[derive(Clone, Debug)]
pub struct Template(Environment<'static>);

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, and on which line.
    pub fn parse(source: &str, style: Style) -> Result<Self, Error> {
        Self::parse_with(source, style, |_| {})
    }

    /// Reads a template that sees what `extend` adds to its environment.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_with(
        source: &str,
        style: Style,
        extend: impl FnOnce(&mut Environment<'static>),
    ) -> Result<Self, Error> {
        let mut environment = environment(style)?;
        extend(&mut environment);
        if source.len() > MAX_TEMPLATE_BYTES {
            let message = format!("a template has at most {MAX_TEMPLATE_BYTES} bytes");
            return Err(Error::new(ErrorKind::SyntaxError, message));
        }
        environment.add_template_owned(NAME, source.to_owned())?;
        Ok(Template(environment))
    }

    /// The text that the template makes of the members of `context`.
    ///
    /// # Errors
    /// An unknown name, a wrong operation, or more work than [`FUEL`] or more
    /// text than [`MAX_TEXT_BYTES_PER_REQUEST`].
    pub fn render(&self, context: &Value) -> Result<String, Error> {
        let mut output = Bounded(Vec::new());
        self.0.get_template(NAME)?.render_captured_to(context.clone(), &mut output)?;
        // What was written were whole texts.
        Ok(String::from_utf8(output.0).unwrap_or_default())
    }

    /// The value of an expression under the template's rules, such as a list.
    ///
    /// # Errors
    /// As [`Self::parse`] and [`Self::render`].
    pub fn evaluate(&self, expression: &str, context: &Value) -> Result<Value, Error> {
        self.0.compile_expression_owned(expression.to_owned())?.eval(context.clone())
    }
}

/// The innermost reason of an error with its line, in one line.
pub fn reason(error: &Error) -> String {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    reason.replace(&format!(" (in {NAME}:"), " (line ").replace(" (in <expression>:", " (line ")
}

fn environment(style: Style) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let chat = style == Style::Chat;
    let syntax = SyntaxConfig::builder()
        .trim_blocks(chat)
        .lstrip_blocks(chat)
        .keep_trailing_newline(!chat)
        .build()?;
    environment.set_syntax(syntax);
    environment.set_undefined_behavior(match style {
        Style::Task => UndefinedBehavior::Strict,
        Style::Chat => UndefinedBehavior::Lenient,
    });
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_formatter(format);
    environment.set_unknown_method_callback(methods::call);
    Ok(environment)
}

/// Writes a value as Python's `str` does; an unknown name writes nothing.
fn format(output: &mut Output, _: &mut State, value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Ok(());
    }
    match value.as_str() {
        Some(text) => output.write_str(text)?,
        None => output.write_str(&python::text(value))?,
    }
    Ok(())
}

/// Takes so much text and no more.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > MAX_TEXT_BYTES_PER_REQUEST.saturating_sub(self.0.len()) {
            let message = format!("a text has at most {MAX_TEXT_BYTES_PER_REQUEST} bytes");
            return Err(io::Error::other(message));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
