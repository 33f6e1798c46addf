//! "Did you mean": finds the known word that is closest to an unknown one.

/// Longer words are no typing mistakes, and comparing them would take time.
const LONGEST: usize = 64;

/// The known word that is closest to an unknown one, if any is close enough.
pub fn closest_word<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    if unknown.len() > LONGEST {
        return None;
    }
    let unknown = unknown.to_lowercase();
    let allowed = (unknown.chars().count() / 3).clamp(1, 3);
    let near = known.iter().map(|word| (distance(&unknown, word), *word));
    near.filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// The beginning of a help text: suggests the closest word, if there is one.
pub fn did_you_mean(unknown: &str, known: &[&str]) -> String {
    closest_word(unknown, known).map_or_else(String::new, |word| format!("did you mean \"{word}\"? "))
}

/// The number of letters to insert, remove, replace or swap with a neighbour.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in right.iter().enumerate() {
            let replaced = last[j] + usize::from(from != to);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == right[j - 1] && left[i - 1] == *to {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let cases = [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("listen", "listen", 0),
            ("lsiten", "listen", 1),
            ("liste", "listen", 1),
            ("listenn", "listen", 1),
            ("Listen", "listen", 1),
            ("kitten", "sitting", 3),
            ("ключ", "ключи", 1),
        ];
        for (left, right, expected) in cases {
            assert_eq!(distance(left, right), expected, "{left} {right}");
            assert_eq!(distance(right, left), expected, "{right} {left}");
        }
    }
}
