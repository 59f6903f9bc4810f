//! The Jinja that chat templates are written in, as transformers sets it up.
//!
//! Python's methods on strings, lists and maps, `raise_exception`, `strftime_now`, a `tojson` that
//! escapes nothing, loop controls, and `{% generation %}` tags, which only mark the assistant's part
//! and are taken out here.

use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::json::Json;

/// Deepest indentation of `tojson`, in spaces; templates use 2 or 4.
const MAX_INDENT: usize = 16;

/// An environment with everything but the template and its budget.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(syntax.expect("the delimiters are the usual ones"));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |why: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, why))
    });
    environment.set_formatter(|out, state, value| {
        // As Python writes them.
        match (value.is_none(), bool::try_from(value.clone())) {
            (true, _) => out.write_str("None")?,
            (_, Ok(true)) if value.kind() == minijinja::value::ValueKind::Bool => {
                out.write_str("True")?;
            }
            (_, Ok(false)) if value.kind() == minijinja::value::ValueKind::Bool => {
                out.write_str("False")?;
            }
            _ => return minijinja::escape_formatter(out, state, value),
        }
        Ok(())
    });
    environment
}

/// An error on one line, without the template's source around it.
pub(super) fn shown(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text.replace('\n', " ")
}

/// JSON as templates see it, objects in their order.
pub(super) fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(yes) => Value::from(*yes),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Value::from(whole),
            (None, Some(whole)) => Value::from(whole),
            (None, None) => Value::from(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(value).collect(),
        Json::Object(fields) => {
            Value::from_pairs(fields.iter().map(|(key, item)| (key.clone(), value(item))))
        }
    }
}

/// Turns `{% generation %}` into a block that does nothing, which keeps the tags' effect on white space.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let Some(length) = rest[open..].find("%}") else {
            break;
        };
        let (before, tag) = (&rest[..open], &rest[open + 2..open + length]);
        out.push_str(before);
        let inner = tag.trim_matches(['-', '+']);
        let replaced = match inner.trim() {
            "generation" => tag.replace("generation", "if true"),
            "endgeneration" => tag.replace("endgeneration", "endif"),
            _ => tag.to_owned(),
        };
        out.push_str("{%");
        out.push_str(&replaced);
        out.push_str("%}");
        rest = &rest[open + length + 2..];
    }
    out.push_str(rest);
    out
}

/// Python's `json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)`, by default without escapes.
fn to_json(value: &Value, args: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = args.get("indent")?;
    let ascii: Option<bool> = args.get("ensure_ascii")?;
    args.assert_all_used()?;
    let failed = |e: serde_json::Error| {
        Error::new(ErrorKind::BadSerialization, "cannot be written as JSON").with_source(e)
    };
    let mut out = Vec::new();
    match indent {
        Some(indent) => {
            let spaces = " ".repeat(indent.min(MAX_INDENT));
            let formatter = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, formatter))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut out, Spaced)),
    }
    .map_err(failed)?;
    let text = String::from_utf8_lossy(&out).into_owned();
    Ok(Value::from(match ascii.unwrap_or(false) {
        true => escaped(&text),
        false => text,
    }))
}

/// JSON in ASCII alone.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut units = [0; 2];
    for letter in text.chars() {
        match letter.is_ascii() {
            true => out.push(letter),
            false => {
                let units = letter.encode_utf16(&mut units);
                out.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
            }
        }
    }
    out
}

/// A space after each comma and colon, as Python writes JSON.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        match first {
            true => Ok(()),
            false => writer.write_all(b", "),
        }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        self.begin_array_value(writer, first)
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(civil::Date);

impl Date {
    /// Today in UTC.
    pub fn today() -> Self {
        Self(TimeZone::UTC.to_datetime(Timestamp::now()).date())
    }

    /// A day by its number, 0 being 1 January 1970.
    pub fn from_days(days: u32) -> Self {
        Self(civil::date(1970, 1, 1) + jiff::Span::new().days(days))
    }

    /// Formats as `strftime` does; the time of day is midnight.
    fn format(self, format: &str) -> Result<String, Error> {
        let midnight = self.0.to_datetime(civil::Time::midnight());
        strtime::format(format, midnight).map_err(|why| {
            let why = format!("strftime_now({format:?}): {why}");
            Error::new(ErrorKind::InvalidOperation, why)
        })
    }
}

/// `strftime_now(format)` on a fixed day.
pub(super) fn strftime_function(date: Date) -> Value {
    Value::from_function(move |_: &State, format: String| date.format(&format))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_names_and_numbers() {
        let format = "%A %a %d %B %b %m %Y %y %%";
        let shown = |days| Date::from_days(days).format(format).unwrap();
        assert_eq!(shown(0), "Thursday Thu 01 January Jan 01 1970 70 %");
        assert_eq!(shown(11_016), "Tuesday Tue 29 February Feb 02 2000 00 %");
        assert_eq!(shown(20_779), "Sunday Sun 22 November Nov 11 2026 26 %");
        assert!(Date::from_days(0).format("%Q").is_err());
        assert!(Date::today() > Date::from_days(20_000));
    }

    #[test]
    fn generation_tags_leave_the_white_space_as_it_was() {
        let source = "a {%- generation -%} b {% endgeneration %}\nc {% if x %}{% endif %}";
        let out = without_generation_tags(source);
        assert_eq!(
            out,
            "a {%- if true -%} b {% endif %}\nc {% if x %}{% endif %}"
        );
        assert_eq!(
            without_generation_tags("no tags {{ x }}"),
            "no tags {{ x }}"
        );
        assert_eq!(without_generation_tags("open {% tag"), "open {% tag");
    }
}
