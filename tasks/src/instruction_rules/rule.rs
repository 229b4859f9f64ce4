//! Instructions that a program can verify.

use serde_json::{Map, Value};

use super::language;
use crate::pattern::{Flags, Pattern};

/// One instruction with its settings. Names and settings are those of IFEval
/// (Zhou et al. 2023).
#[derive(Debug)]
pub enum Rule {
    /// `length_constraints:number_words`.
    NumberOfWords(Count),
    /// `length_constraints:number_sentences`.
    NumberOfSentences(Count),
    /// `length_constraints:number_paragraphs`: parted by `***`.
    NumberOfParagraphs(u64),
    /// `length_constraints:nth_paragraph_first_word`: parted by empty lines.
    FirstWordOfParagraph {
        /// How many paragraphs there are.
        paragraphs: u64,
        /// Which one counts, from 1.
        nth: usize,
        /// Its first word, in lower case.
        first_word: String,
    },
    /// `keywords:existence`: each is found, whatever its case.
    Keywords(Vec<Pattern>),
    /// `keywords:forbidden_words`: none is found as a word of its own.
    ForbiddenWords(Vec<Pattern>),
    /// `keywords:frequency`.
    KeywordFrequency(Pattern, Count),
    /// `keywords:letter_frequency`: whatever its case.
    LetterFrequency(char, Count),
    /// `language:response_language`: a code of ISO 639-1.
    Language(String),
    /// `detectable_content:number_placeholders`: at least so many `[...]`.
    Placeholders(u64),
    /// `detectable_content:postscript`.
    Postscript(Pattern),
    /// `detectable_format:number_bullet_lists`: exactly so many bullets.
    Bullets(u64),
    /// `detectable_format:number_highlighted_sections`: at least so many
    /// `*...*`.
    Highlights(u64),
    /// `detectable_format:multiple_sections`: at least so many, by their
    /// marker.
    Sections(Pattern, u64),
    /// `detectable_format:json_format`.
    Json,
    /// `detectable_format:title`: some `<<...>>`.
    Title,
    /// `detectable_format:constrained_response`: my answer is yes, no or maybe.
    YesNoMaybe,
    /// `combination:two_responses`: parted by `******`, and not the same.
    TwoResponses,
    /// `combination:repeat_prompt`: begins with this.
    RepeatPrompt(String),
    /// `startend:start_checker`, which IFEval has not: begins with this,
    /// whatever its case.
    Start(String),
    /// `startend:end_checker`: ends with this, whatever its case.
    End(String),
    /// `startend:quotation`: in double quotes as a whole.
    Quotation,
    /// `change_case:capital_word_frequency`.
    CapitalWords(Count),
    /// `change_case:english_capital`.
    EnglishCapital,
    /// `change_case:english_lowercase`.
    EnglishLowercase,
    /// `punctuation:no_comma`.
    NoComma,
}

/// A bound on a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// `less than`.
    LessThan(u64),
    /// `at least`.
    AtLeast(u64),
}

impl Count {
    /// Whether the count is within the bound.
    pub fn holds(self, count: usize) -> bool {
        match self {
            Count::LessThan(bound) => (count as u64) < bound,
            Count::AtLeast(bound) => count as u64 >= bound,
        }
    }
}

/// All names.
pub const IDS: [&str; 26] = [
    "change_case:capital_word_frequency",
    "change_case:english_capital",
    "change_case:english_lowercase",
    "combination:repeat_prompt",
    "combination:two_responses",
    "detectable_content:number_placeholders",
    "detectable_content:postscript",
    "detectable_format:constrained_response",
    "detectable_format:json_format",
    "detectable_format:multiple_sections",
    "detectable_format:number_bullet_lists",
    "detectable_format:number_highlighted_sections",
    "detectable_format:title",
    "keywords:existence",
    "keywords:forbidden_words",
    "keywords:frequency",
    "keywords:letter_frequency",
    "language:response_language",
    "length_constraints:nth_paragraph_first_word",
    "length_constraints:number_paragraphs",
    "length_constraints:number_sentences",
    "length_constraints:number_words",
    "punctuation:no_comma",
    "startend:end_checker",
    "startend:quotation",
    "startend:start_checker",
];

impl Rule {
    /// Reads an instruction from its name and settings; a setting that is null
    /// is not there.
    ///
    /// # Errors
    ///
    /// An unknown name, a setting that is missing, unknown or of the wrong
    /// kind. (IFEval draws missing settings at random; no two validators would
    /// draw alike.)
    pub fn parse(id: &str, settings: &Map<String, Value>) -> Result<Rule, String> {
        let mut read = Settings { id, left: settings.clone() };
        let rule = match id {
            "length_constraints:number_words" => {
                Rule::NumberOfWords(read.count("num_words", "relation")?)
            }
            "length_constraints:number_sentences" => {
                Rule::NumberOfSentences(read.count("num_sentences", "relation")?)
            }
            "length_constraints:number_paragraphs" => {
                Rule::NumberOfParagraphs(read.number("num_paragraphs")?)
            }
            "length_constraints:nth_paragraph_first_word" => Rule::FirstWordOfParagraph {
                paragraphs: read.number("num_paragraphs")?,
                nth: read.position("nth_paragraph")?,
                first_word: read.text("first_word")?.to_lowercase(),
            },
            "keywords:existence" => {
                Rule::Keywords(read.patterns("keywords", |keyword| keyword.to_owned())?)
            }
            "keywords:forbidden_words" => Rule::ForbiddenWords(
                read.patterns("forbidden_words", |word| format!(r"\b{word}\b"))?,
            ),
            "keywords:frequency" => {
                let keyword = read.trimmed("keyword")?;
                let count = read.count("frequency", "relation")?;
                Rule::KeywordFrequency(any_case(&keyword)?, count)
            }
            "keywords:letter_frequency" => {
                let letter = read.letter("letter")?;
                Rule::LetterFrequency(letter, read.count("let_frequency", "let_relation")?)
            }
            "language:response_language" => Rule::Language(read.language("language")?),
            "detectable_content:number_placeholders" => {
                Rule::Placeholders(read.number("num_placeholders")?)
            }
            "detectable_content:postscript" => Rule::Postscript(read.postscript()?),
            "detectable_format:number_bullet_lists" => Rule::Bullets(read.number("num_bullets")?),
            "detectable_format:number_highlighted_sections" => {
                Rule::Highlights(read.number("num_highlights")?)
            }
            "detectable_format:multiple_sections" => {
                let marker = read.trimmed("section_spliter")?;
                let pattern = Pattern::new(&format!(r"\s?{marker}\s?\d+\s?"), Flags::default())?;
                Rule::Sections(pattern, read.number("num_sections")?)
            }
            "detectable_format:json_format" => Rule::Json,
            "detectable_format:title" => Rule::Title,
            "detectable_format:constrained_response" => Rule::YesNoMaybe,
            "combination:two_responses" => Rule::TwoResponses,
            "combination:repeat_prompt" => Rule::RepeatPrompt(read.text("prompt_to_repeat")?),
            "startend:start_checker" => Rule::Start(read.text("start_phrase")?),
            "startend:end_checker" => Rule::End(read.text("end_phrase")?),
            "startend:quotation" => Rule::Quotation,
            "change_case:capital_word_frequency" => {
                Rule::CapitalWords(read.count("capital_frequency", "capital_relation")?)
            }
            "change_case:english_capital" => Rule::EnglishCapital,
            "change_case:english_lowercase" => Rule::EnglishLowercase,
            "punctuation:no_comma" => Rule::NoComma,
            unknown => return Err(format!("there is no instruction {unknown:?}")),
        };
        read.end()?;
        Ok(rule)
    }
}

fn any_case(pattern: &str) -> Result<Pattern, String> {
    Pattern::new(pattern, Flags { ignore_case: true, multiline: false })
}

/// Settings that are not read yet.
struct Settings<'a> {
    id: &'a str,
    left: Map<String, Value>,
}

impl Settings<'_> {
    fn take(&mut self, name: &str) -> Result<Value, String> {
        let value = self.left.remove(name).filter(|value| !value.is_null());
        value.ok_or_else(|| format!("{} has no {name}", self.id))
    }

    fn wrong(&self, name: &str, expected: &str) -> String {
        format!("{name} of {} is not {expected}", self.id)
    }

    fn text(&mut self, name: &str) -> Result<String, String> {
        match self.take(name)? {
            Value::String(text) if !text.is_empty() => Ok(text),
            _ => Err(self.wrong(name, "text")),
        }
    }

    fn trimmed(&mut self, name: &str) -> Result<String, String> {
        self.text(name).map(|text| crate::python::strip(&text).to_owned())
    }

    fn language(&mut self, name: &str) -> Result<String, String> {
        let code = self.text(name)?;
        if !language::is_known(&code) {
            return Err(format!("{} cannot tell the language {code:?}", self.id));
        }
        Ok(code)
    }

    /// A whole number; tables may have kept it as a float.
    fn number(&mut self, name: &str) -> Result<u64, String> {
        let value = self.take(name)?;
        let whole = |float: &f64| float.fract() == 0.0 && (0.0..=1e15).contains(float);
        let number = value.as_u64().or(value.as_f64().filter(whole).map(|float| float as u64));
        number.ok_or_else(|| self.wrong(name, "a whole number"))
    }

    fn position(&mut self, name: &str) -> Result<usize, String> {
        let number = self.number(name)?;
        let position = usize::try_from(number).ok().filter(|&position| position > 0);
        position.ok_or_else(|| self.wrong(name, "a position, counted from 1"))
    }

    fn letter(&mut self, name: &str) -> Result<char, String> {
        let text = self.text(name)?.to_lowercase();
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(letter), None) => Ok(letter),
            _ => Err(self.wrong(name, "one letter")),
        }
    }

    fn count(&mut self, name: &str, relation: &str) -> Result<Count, String> {
        let bound = self.number(name)?;
        match self.text(relation)?.as_str() {
            "less than" => Ok(Count::LessThan(bound)),
            "at least" => Ok(Count::AtLeast(bound)),
            _ => Err(self.wrong(relation, "`less than` or `at least`")),
        }
    }

    fn patterns(
        &mut self,
        name: &str,
        pattern: impl Fn(&str) -> String,
    ) -> Result<Vec<Pattern>, String> {
        let Value::Array(words) = self.take(name)? else {
            return Err(self.wrong(name, "a list"));
        };
        let compile = |word: &Value| {
            let word = word.as_str().ok_or_else(|| self.wrong(name, "a list of texts"))?;
            any_case(&pattern(word))
        };
        words.iter().map(compile).collect()
    }

    /// Found in the text's lower case.
    fn postscript(&mut self) -> Result<Pattern, String> {
        let marker = self.trimmed("postscript_marker")?;
        let pattern = match marker.as_str() {
            "P.P.S" => r"\s*p\.\s?p\.\s?s.*$".to_owned(),
            "P.S." => r"\s*p\.\s?s\..*$".to_owned(),
            other => format!(r"\s*{}.*$", other.to_lowercase()),
        };
        Pattern::new(&pattern, Flags { ignore_case: false, multiline: true })
    }

    fn end(&self) -> Result<(), String> {
        match self.left.iter().find(|(_, value)| !value.is_null()) {
            Some((name, _)) => Err(format!("{} has no setting {name}", self.id)),
            None => Ok(()),
        }
    }
}
