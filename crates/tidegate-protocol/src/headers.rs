//! `PublicationHeaders`: the NATS headers of a publication that clients may get.

/// Names and values, in order. They share one text, because a publication with headers nearly always has few, and each
/// allocation takes time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicationHeaders {
    /// For each header `name:value` and a line end. Names have no colons, and neither names nor values have line ends.
    lines: String,
}

impl PublicationHeaders {
    /// Adds a header. `name` must be the name of a NATS header. In the value, line ends become blanks.
    pub fn push(&mut self, name: &str, value: &str) {
        debug_assert!(!name.contains([':', '\n']), "{name:?} is no name");
        self.lines.reserve(name.len() + value.len() + 2);
        self.lines.push_str(name);
        self.lines.push(':');
        if value.contains('\n') {
            self.lines.push_str(&value.replace('\n', " "));
        } else {
            self.lines.push_str(value);
        }
        self.lines.push('\n');
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Each header: its name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.split_terminator('\n').filter_map(|line| line.split_once(':'))
    }

    /// The bytes that they need.
    pub fn size(&self) -> usize {
        self.lines.len()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for PublicationHeaders {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = Self::default();
        pairs.into_iter().for_each(|(name, value)| headers.push(name.as_ref(), value.as_ref()));
        headers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_has_the_headers_that_were_added(
            pairs in prop::collection::vec(("[!-9;-~]{1,8}", "[^\n]{0,12}"), 0..6),
        ) {
            let headers: PublicationHeaders = pairs.iter().map(|(name, value)| (name, value)).collect();
            let expected: Vec<_> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
            prop_assert_eq!(headers.iter().collect::<Vec<_>>(), expected);
            prop_assert_eq!(headers.is_empty(), pairs.is_empty());
        }
    }

    #[test]
    fn a_line_end_in_a_value_makes_no_other_header() {
        let headers: PublicationHeaders = [("a", "1\nb:2"), ("c", "")].into_iter().collect();
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("a", "1 b:2"), ("c", "")]);
    }
}
