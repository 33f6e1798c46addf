//! Parses TOML into nodes that know their places.

use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

use crate::node::Node;
use crate::node::Table;
use crate::node::Value;
use crate::place::LineIndex;
use crate::place::Place;
use crate::quote::plain;

/// Why a text is not TOML, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The reason. It repeats nothing of the text except names of keys.
    pub message: String,
    pub place: Place,
}

impl ParseError {
    fn new(words: &str, place: Place) -> Self {
        Self { message: format!("it is not TOML: {}", plain(words)), place }
    }
}

/// Parses a whole file into a node with the table of all its keys.
pub fn parse(text: &str) -> Result<Node, ParseError> {
    let lines = LineIndex::of(text);
    let read = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        ParseError::new(error.message(), lines.place(at))
    })?;
    Ok(Node { value: Value::Table(table(read.get_ref(), &lines)?), origin: None, place: None })
}

fn table(table: &DeTable<'_>, lines: &LineIndex<'_>) -> Result<Table, ParseError> {
    let entries = table.iter().map(|(key, value)| {
        let place = lines.place(key.span().start);
        Ok((key.get_ref().to_string(), node(value, place, lines)?))
    });
    entries.collect::<Result<_, ParseError>>().map(Table)
}

fn node(value: &Spanned<DeValue<'_>>, place: Place, lines: &LineIndex<'_>) -> Result<Node, ParseError> {
    let broken = |words| ParseError::new(words, lines.place(value.span().start));
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            let whole = i64::from_str_radix(number.as_str(), number.radix());
            Value::Whole(whole.map_err(|_| broken("the number is too large"))?)
        }
        DeValue::Float(number) => {
            let parsed = number.as_str().parse::<f64>().ok();
            let finite = parsed.filter(|float| !float.is_infinite() || number.as_str().contains("inf"));
            Value::Float(finite.ok_or_else(|| broken("the number is too large"))?)
        }
        DeValue::Boolean(truth) => Value::Boolean(*truth),
        DeValue::Datetime(time) => Value::Time(time.to_string()),
        DeValue::Array(list) => {
            let elements = list.iter().map(|element| node(element, lines.place(element.span().start), lines));
            Value::List(elements.collect::<Result<_, ParseError>>()?)
        }
        DeValue::Table(inner) => Value::Table(table(inner, lines)?),
    };
    Ok(Node { value, origin: None, place: Some(place) })
}

#[cfg(test)]
mod tests;
