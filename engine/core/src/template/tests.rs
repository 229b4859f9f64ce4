use super::*;

fn context(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

fn render(source: &str, json: &str) -> Result<String, String> {
    let template = Template::parse(source, Style::Task).map_err(|error| reason(&error))?;
    template.render(&context(json)).map_err(|error| reason(&error))
}

#[test]
fn values_are_written_as_python_writes_them() {
    // By jinja2 3.1 with StrictUndefined and keep_trailing_newline.
    let doc = r#"{"t": "it's", "l": ["a", "b's", "q\"'"], "n": null, "b": true, "i": 3, "f": 1.0,
        "e": 1e-7, "big": 1e16, "m": {"z": 1, "a": [true, null]}, "s": "a\u00a0\n\\b\u200b"}"#;
    for (source, expected) in [
        ("{{t}}\n", "it's\n"),
        ("{{l}}", r#"['a', "b's", 'q"\'']"#),
        ("{{n}} {{b}} {{i}} {{f}} {{e}} {{big}}", "None True 3 1.0 1e-07 1e+16"),
        ("{{m}}", "{'z': 1, 'a': [True, None]}"),
        ("{{[s]}}", r"['a\xa0\n\\b\u200b']"),
        ("{{(i,)}} {{(i, b)}}", "(3,) (3, True)"),
        ("{% if b %}\n yes{% endif %}", "\n yes"),
        ("{{l.index(\"b's\")}}", "1"),
        ("{{t.split(\"'\")[-1]}}", "s"),
        ("{{' a  b '.split()|join('+')}}", "a+b"),
        ("{{' a b  c '.split(none, 1)}}", "['a', 'b  c ']"),
        ("{{' a b  c '.rsplit(none, 1)}}", "[' a b', 'c']"),
        ("{{'x-y-z'.rsplit('-', 1)}}", "['x-y', 'z']"),
        ("{{' x\x1c'.strip()}}|{{'xyx'.strip('x')}}", "x|y"),
        ("{{'a\\r\\nb\\u2028c'.splitlines()}}", "['a', 'b', 'c']"),
        ("{{'a=b=c'.partition('=')}}", "('a', '=', 'b=c')"),
        ("{{'-5'.zfill(4)}}{{'a'.ljust(3, '.')}}{{'a'.rjust(3)}}", "-005a..  a"),
    ] {
        assert_eq!(render(source, doc).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn a_template_that_cannot_be_rendered_says_why() {
    for (source, expected) in [
        ("{{ missing }}", "undefined"),
        ("{% if missing %}{% endif %}", "undefined"),
        ("{{ t.missing }}", "undefined"),
        ("{{ t", "syntax error"),
        ("{% include 'other' %}", "template not found"),
        ("{{ ['a'].index('b') }}", "the list does not have the item"),
        ("{{ 'a'.split('') }}", "the separator is empty"),
        ("{{ t.nothing() }}", "unknown method"),
        ("{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}", "fuel"),
        (
            "{% set ns = namespace(x='a') %}{% for i in range(90) %}{% set ns.x = ns.x ~ ns.x %}\
             {% endfor %}",
            "fuel",
        ),
        ("{{ 'a' * 99000000 }}", "fuel"),
        ("{{ 'a'.ljust(99000000000) }}", "fuel"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion limit"),
    ] {
        let error = render(source, r#"{"t": "x"}"#).unwrap_err();
        assert!(error.contains(expected), "{source}: {error}");
    }
    let long = " ".repeat(MAX_TEMPLATE_BYTES + 1);
    assert!(render(&long, "{}").unwrap_err().contains("a template has at most"));
}

#[test]
fn chat_templates_drop_white_space_around_tags() {
    let source =
        "  {% for m in ms %}\n{{ m }}\n  {% endfor %}\n{{ missing }}{% if missing %}{% endif %}";
    let template = Template::parse(source, Style::Chat).unwrap();
    assert_eq!(template.render(&context(r#"{"ms": ["a", "b"]}"#)).unwrap(), "a\nb\n");
}

#[test]
fn literals_are_read_as_python_reads_them() {
    // By ast.literal_eval; none where it raises.
    let cases: &[(&str, Option<&str>)] = &[
        ("['a', \"b\"]", Some("['a', 'b']")),
        ("['''it's\nok''', 'a' 'b', ]", Some(r#"["it's\nok", 'ab']"#)),
        (r"['\x41\u00e9\101\q\'', r'\n']", Some(r#"["AéA\\q'", '\\n']"#)),
        ("(1, -2.5, 1e3, True, None)", Some("(1, -2.5, 1000.0, True, None)")),
        ("(1)", Some("1")),
        ("(1,)", Some("(1,)")),
        ("[]", Some("[]")),
        ("{'b': 1, 'a': [2]}", Some("{'b': 1, 'a': [2]}")),
        ("  [1]", Some("[1]")),
        ("[1, 2", None),
        ("[1 2]", None),
        ("[,]", None),
        ("[a]", None),
        ("'a\nb'", None),
        ("[007]", None),
        ("['\\ud800']", None),
        ("True1", None),
        ("[1]]", None),
        ("", None),
    ];
    for (source, expected) in cases {
        let value = python::literal(source).map(|value| python::text(&Value::from(vec![value])));
        let expected = expected.map(|expected| format!("[{expected}]"));
        assert_eq!(value, expected, "{source}");
    }
    assert!(python::literal(&"[".repeat(100_000)).is_none());
}

#[test]
fn words_are_split_as_python_splits_them() {
    for (text, count) in [("", 1), ("a", 1), ("a b", 2), (" a\n\nb ", 4), (" ", 2), ("a\x1cb", 2)] {
        assert_eq!(python::split_spaces(text).count(), count, "{text:?}");
    }
}
