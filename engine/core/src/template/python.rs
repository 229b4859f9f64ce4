//! Values as Python writes and reads them.

use minijinja::Value;
use minijinja::value::{Tuple, ValueKind};

/// Values within values that are read or written.
const MAX_DEPTH: usize = 32;

/// What Python's `str` gives: a text as it is, `True`, `None`, `['a', 'b']`.
pub fn text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => {
            let mut out = String::new();
            write_repr(&mut out, value, 0);
            out
        }
    }
}

/// White space to Python: Unicode's, and four control characters.
pub fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// Whether Python sees a list or a tuple.
pub fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// What Python's `isinstance(value, int)` holds for: whole numbers and
/// booleans.
pub fn integer(value: &Value) -> Option<i64> {
    let whole = value.is_integer() || value.kind() == ValueKind::Bool;
    value.as_i64().filter(|_| whole)
}

/// The pieces of `re.split(r"\s+", text)`: empty ones at the edges count.
pub fn split_spaces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let current = rest?;
        match current.find(is_space) {
            Some(at) => {
                rest = Some(current[at..].trim_start_matches(is_space));
                Some(&current[..at])
            }
            None => rest.take(),
        }
    })
}

fn write_repr(out: &mut String, value: &Value, depth: usize) {
    if depth > MAX_DEPTH {
        out.push_str("...");
        return;
    }
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
        ValueKind::Number => {
            out.push_str(&f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float));
        }
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            let mut count = 0;
            for item in value.try_iter().into_iter().flatten() {
                if count > 0 {
                    out.push_str(", ");
                }
                write_repr(out, &item, depth + 1);
                count += 1;
            }
            if value.is_tuple() && count == 1 {
                out.push(',');
            }
            out.push(close);
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(out, &key, depth + 1);
                out.push_str(": ");
                write_repr(out, &value.get_item(&key).unwrap_or_default(), depth + 1);
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
}

/// The shortest digits that read back as the number. Rust switches to
/// exponents where Python does, and writes them without sign and zero.
fn float(number: f64) -> String {
    if !number.is_finite() {
        return number.to_string().to_lowercase();
    }
    let text = format!("{number:?}");
    match text.split_once('e') {
        None => text,
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

fn write_quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if character == quote => {
                out.push('\\');
                out.push(quote);
            }
            _ if is_printable(character) => out.push(character),
            _ => match u32::from(character) {
                code @ 0..=0xff => out.push_str(&format!("\\x{code:02x}")),
                code @ 0x100..=0xffff => out.push_str(&format!("\\u{code:04x}")),
                code => out.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    out.push(quote);
}

/// `str.isprintable` but for characters that are not assigned.
fn is_printable(character: char) -> bool {
    let invisible = matches!(character,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' | '\u{f0000}'..='\u{10ffff}');
    character == ' ' || !(character.is_control() || character.is_whitespace() || invisible)
}

/// What Python's `ast.literal_eval` reads: numbers, texts, `True`, `False`,
/// `None`, lists, tuples and dictionaries. None for anything else.
pub fn literal(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text.trim_start_matches([' ', '\t']) };
    let value = reader.value(0)?;
    reader.skip_space();
    reader.rest.is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        self.eat(token)
    }

    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.skip_space();
        match self.rest.chars().next()? {
            '[' => {
                self.eat("[");
                Some(Value::from(self.items("]", depth)?.0))
            }
            '(' => {
                self.eat("(");
                let (mut items, comma) = self.items(")", depth)?;
                match items.len() {
                    // Parentheses without a comma only group.
                    1 if !comma => items.pop(),
                    _ => Some(Value::from(Tuple::from(items))),
                }
            }
            '{' => {
                self.eat("{");
                self.pairs(depth)
            }
            '\'' | '"' => self.strings(),
            'r' | 'R' | 'u' | 'U' if self.starts_string() => self.strings(),
            '0'..='9' | '.' | '-' | '+' => self.number(),
            _ => self.word(),
        }
    }

    /// Items up to a closing bracket, and whether a comma was seen.
    fn items(&mut self, close: &str, depth: usize) -> Option<(Vec<Value>, bool)> {
        let mut items = Vec::new();
        let mut comma = false;
        loop {
            if self.take(close) {
                return Some((items, comma));
            }
            if !items.is_empty() && !comma {
                return None;
            }
            items.push(self.value(depth + 1)?);
            let more = self.take(",");
            comma |= more;
            if !more {
                return self.take(close).then_some((items, comma));
            }
        }
    }

    fn pairs(&mut self, depth: usize) -> Option<Value> {
        let mut pairs = Vec::new();
        loop {
            if self.take("}") {
                return Some(Value::from_pairs(pairs));
            }
            let key = self.value(depth + 1)?;
            if !self.take(":") {
                return None;
            }
            pairs.push((key, self.value(depth + 1)?));
            if !self.take(",") {
                return self.take("}").then(|| Value::from_pairs(pairs));
            }
        }
    }

    fn word(&mut self) -> Option<Value> {
        let words = [("None", Value::from(())), ("True", true.into()), ("False", false.into())];
        let (word, value) = words.into_iter().find(|(word, _)| self.rest.starts_with(word))?;
        self.eat(word);
        let ends = !self.rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        ends.then_some(value)
    }

    fn number(&mut self) -> Option<Value> {
        let end = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+'));
        let length = self.rest.find(end).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        let (sign, magnitude) = match digits.strip_prefix('-') {
            Some(magnitude) => ("-", magnitude),
            None => ("", digits.strip_prefix('+').unwrap_or(digits)),
        };
        if magnitude.bytes().all(|byte| byte.is_ascii_digit()) {
            // Python reads no leading zeros but those of zero itself.
            let zeros = magnitude.len() > 1 && magnitude.starts_with('0');
            if zeros && magnitude.bytes().any(|byte| byte != b'0') {
                return None;
            }
            return format!("{sign}{magnitude}").parse::<i128>().ok().map(Value::from);
        }
        let allowed = |byte: u8| byte.is_ascii_digit() || b".eE+-".contains(&byte);
        if !magnitude.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            || !magnitude.bytes().all(allowed)
        {
            return None;
        }
        format!("{sign}{magnitude}").parse::<f64>().ok().map(Value::from)
    }

    fn starts_string(&self) -> bool {
        self.rest.chars().nth(1).is_some_and(|c| c == '\'' || c == '"')
    }

    /// One text, or several side by side, which are one.
    fn strings(&mut self) -> Option<Value> {
        let mut text = String::new();
        loop {
            text.push_str(&self.string()?);
            self.skip_space();
            let first = self.rest.chars().next();
            let prefixed = matches!(first, Some('r' | 'R' | 'u' | 'U')) && self.starts_string();
            if !prefixed && !matches!(first, Some('\'' | '"')) {
                return Some(Value::from(text));
            }
        }
    }

    fn string(&mut self) -> Option<String> {
        let raw = self.eat("r") || self.eat("R");
        if !raw && !self.eat("u") {
            self.eat("U");
        }
        let quotes = ["'''", "\"\"\"", "'", "\""];
        let quote = quotes.into_iter().find(|quote| self.rest.starts_with(quote))?;
        self.eat(quote);
        let mut text = String::new();
        loop {
            if self.eat(quote) {
                return Some(text);
            }
            let character = self.rest.chars().next()?;
            self.rest = &self.rest[character.len_utf8()..];
            match character {
                '\\' if raw => {
                    let next = self.rest.chars().next()?;
                    self.rest = &self.rest[next.len_utf8()..];
                    text.extend(['\\', next]);
                }
                '\\' => self.escape(&mut text)?,
                '\n' if quote.len() == 1 => return None,
                _ => text.push(character),
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Option<()> {
        let character = self.rest.chars().next()?;
        self.rest = &self.rest[character.len_utf8()..];
        let simple = match character {
            '\n' => return Some(()),
            '\\' | '\'' | '"' => character,
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'x' => self.code(2)?,
            'u' => self.code(4)?,
            'U' => self.code(8)?,
            // A name of a character needs Unicode's table of names.
            'N' => return None,
            '0'..='7' => {
                let mut code = character.to_digit(8)?;
                for _ in 0..2 {
                    let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    self.rest = &self.rest[1..];
                    code = code * 8 + digit;
                }
                char::from_u32(code)?
            }
            _ => {
                text.push('\\');
                character
            }
        };
        text.push(simple);
        Some(())
    }

    fn code(&mut self, digits: usize) -> Option<char> {
        let (code, rest) = self.rest.split_at_checked(digits)?;
        self.rest = rest;
        if !code.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        char::from_u32(u32::from_str_radix(code, 16).ok()?)
    }
}
