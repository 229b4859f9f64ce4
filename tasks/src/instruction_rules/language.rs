//! Which language a text is in.

use whatlang::Lang;

/// Codes of ISO 639-1 and the languages that can be told apart.
const LANGUAGES: [(&str, Lang); 44] = [
    ("af", Lang::Afr),
    ("ar", Lang::Ara),
    ("bg", Lang::Bul),
    ("bn", Lang::Ben),
    ("ca", Lang::Cat),
    ("cs", Lang::Ces),
    ("da", Lang::Dan),
    ("de", Lang::Deu),
    ("el", Lang::Ell),
    ("en", Lang::Eng),
    ("es", Lang::Spa),
    ("et", Lang::Est),
    ("fa", Lang::Pes),
    ("fi", Lang::Fin),
    ("fr", Lang::Fra),
    ("gu", Lang::Guj),
    ("he", Lang::Heb),
    ("hi", Lang::Hin),
    ("hr", Lang::Hrv),
    ("hu", Lang::Hun),
    ("id", Lang::Ind),
    ("it", Lang::Ita),
    ("ja", Lang::Jpn),
    ("kn", Lang::Kan),
    ("ko", Lang::Kor),
    ("lt", Lang::Lit),
    ("lv", Lang::Lav),
    ("ml", Lang::Mal),
    ("mr", Lang::Mar),
    ("ne", Lang::Nep),
    ("nl", Lang::Nld),
    ("pa", Lang::Pan),
    ("pl", Lang::Pol),
    ("pt", Lang::Por),
    ("ro", Lang::Ron),
    ("ru", Lang::Rus),
    ("sv", Lang::Swe),
    ("ta", Lang::Tam),
    ("te", Lang::Tel),
    ("th", Lang::Tha),
    ("tr", Lang::Tur),
    ("uk", Lang::Ukr),
    ("ur", Lang::Urd),
    ("vi", Lang::Vie),
];

/// Whether the code is one that [`is`] can tell.
pub fn is_known(code: &str) -> bool {
    of(code).is_some()
}

/// Whether the text is in the language, as `whatlang` sees it. A text without
/// letters is in every language, as in IFEval.
pub fn is(text: &str, code: &str) -> bool {
    match whatlang::detect_lang(text) {
        Some(found) => of(code) == Some(found),
        None => true,
    }
}

fn of(code: &str) -> Option<Lang> {
    LANGUAGES.iter().find(|(known, _)| *known == code).map(|&(_, language)| language)
}
