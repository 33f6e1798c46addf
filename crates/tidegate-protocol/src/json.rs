//! Reading JSON text without building values: fields by path, elements, members and strings.

pub mod list;
pub mod paths;

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::DeserializeSeed;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::value::RawValue;

use crate::payload::is_json;

/// One step of a path into JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The field of an object.
    field: Box<str>,
    /// The element of an array, from 0, if the step is a number.
    element: Option<usize>,
}

impl Step {
    /// The step for a field or element with this name.
    pub fn read(name: &str) -> Self {
        Self { field: name.into(), element: name.parse().ok() }
    }

    pub fn name(&self) -> &str {
        &self.field
    }
}

/// The part of `json` at a path, as written. If a member occurs twice, the last one counts.
pub fn find<'j>(json: &'j str, steps: &[Step]) -> Option<&'j str> {
    steps.iter().try_fold(json, |json, step| {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        step.deserialize(&mut deserializer).ok().flatten().map(RawValue::get)
    })
}

impl<'j> DeserializeSeed<'j> for &Step {
    type Value = Option<&'j RawValue>;

    fn deserialize<D: Deserializer<'j>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'j> Visitor<'j> for &Step {
    type Value = Option<&'j RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Text<'_>>()? {
            if key.0 == *self.field {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'j>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let mut at = 0;
        while let Some(element) = list.next_element::<&RawValue>()? {
            if Some(at) == self.element {
                found = Some(element);
            }
            at += 1;
        }
        Ok(found)
    }
}

/// A string, such as a member's name; borrowed if it has no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'t>(#[serde(borrow)] pub(super) Cow<'t, str>);

/// The content of a JSON string.
pub fn text(json: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(json).ok().map(|text| text.0)
}

/// The elements of an array, each as written. `None` if it is not an array.
pub fn elements(json: &str) -> Option<Vec<&str>> {
    let elements: Vec<&RawValue> = serde_json::from_str(json).ok()?;
    Some(elements.into_iter().map(RawValue::get).collect())
}

/// Whether arrays and objects are nested deeper than `levels`. The text need not be JSON.
pub fn is_deeper_than(text: &str, levels: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > levels {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// An array of strings.
pub fn list<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let mut list = String::from("[");
    for text in texts {
        if list.len() > 1 {
            list.push(',');
        }
        list += &string(text);
    }
    list + "]"
}

/// A JSON string.
pub fn string(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// The text itself if it is JSON, otherwise the text as a JSON string.
pub fn json_or_string(text: &str) -> String {
    if is_json(text) { text.to_owned() } else { string(text) }
}

pub fn is_number(text: &str) -> bool {
    text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) && is_json(text)
}

/// The members of an object in order, each with its value as written. `None` if it is not an object.
pub fn members(json: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    struct ObjectVisitor;
    impl<'j> Visitor<'j> for ObjectVisitor {
        type Value = Vec<(Cow<'j, str>, &'j str)>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((key, value)) = map.next_entry::<Text<'j>, &RawValue>()? {
                members.push((key.0, value.get()));
            }
            Ok(members)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let members = deserializer.deserialize_map(ObjectVisitor).ok()?;
    deserializer.end().ok().map(|()| members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'j>(json: &'j str, path: &str) -> Option<&'j str> {
        find(json, &path.split('.').map(Step::read).collect::<Vec<_>>())
    }

    #[test]
    fn a_part_is_found_as_it_is_written() {
        let json = r#"{"a":{"b":[1.50,{"c":"\u00e9"}],"0":true},"x y":null,"d":1,"d":2,"k\u0065y":3}"#;
        for (path, part) in [
            ("a.b.0", Some("1.50")),
            ("a.b.1.c", Some(r#""\u00e9""#)),
            ("a.0", Some("true")),
            ("x y", Some("null")),
            ("d", Some("2")),
            ("key", Some("3")),
            ("a.b", Some(r#"[1.50,{"c":"\u00e9"}]"#)),
            ("a.b.2", None),
            ("a.b.c", None),
            ("d.e", None),
            ("x y.z", None),
            ("nothing", None),
        ] {
            assert_eq!(at(json, path), part, "{path}");
        }
    }

    #[test]
    fn depth_counts_arrays_and_objects_outside_strings() {
        let nested = |levels: usize| format!("{}1{}", "[{\"a\":".repeat(levels), "}]".repeat(levels));
        assert!(!is_deeper_than(&nested(32), 64) && is_deeper_than(&nested(33), 64));
        assert!(!is_deeper_than(&"[],{},".repeat(1000), 1));
        let brackets = "[".repeat(100);
        for text in [
            format!("[\"{brackets}\"]"),
            format!("[\"\\\"{brackets}\"]"),
            format!("[\"\\\\\",\"{brackets}\"]"),
        ] {
            assert!(!is_deeper_than(&text, 1), "{text}");
        }
        assert!(is_deeper_than(&format!("[\"\\\\\"{brackets}]"), 50));
    }

    #[test]
    fn invalid_json_has_no_parts() {
        for text in ["", "{", "{\"a\":1", "[1", "nul", "{a:1}"] {
            assert_eq!(at(text, "a"), None, "{text}");
        }
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(at(&deep, "0").is_some(), "one step does not need a deep stack");
    }

    #[test]
    fn texts_become_json_and_back() {
        assert_eq!(list(["a", "\"", ""].into_iter()), r#"["a","\"",""]"#);
        assert_eq!(list(std::iter::empty()), "[]");
        assert_eq!(text(r#""\u00e9\n""#).as_deref(), Some("é\n"));
        assert_eq!(text("1"), None);
        assert_eq!(
            [json_or_string("1"), json_or_string("a b"), json_or_string("")],
            ["1", "\"a b\"", "\"\""]
        );
        let numbers = ["1", "-1.5e3", "0"].map(is_number);
        assert_eq!((numbers, ["01", "a", "", "\"1\"", "NaN", "1 2"].map(is_number)), ([true; 3], [false; 6]));
    }

    #[test]
    fn members_come_in_order() {
        let found = members(r#" {"b":[1, 2],"a":"x"} "#).unwrap();
        assert_eq!(found, [("b".into(), "[1, 2]"), ("a".into(), "\"x\"")]);
        for text in ["[]", "1", "{", "{} {}", "\"{}\""] {
            assert_eq!(members(text), None, "{text}");
        }
    }
}
