//! `ClassCounts`: numbers of publications, by the class of their channels.

use tidegate_protocol::class::ClassNumber;

/// Numbers of publications, for the classes that have some. Uses no memory while all are 0.
#[derive(Debug, Default)]
pub struct ClassCounts(Vec<(ClassNumber, u64)>);

impl ClassCounts {
    /// Adds publications of a class.
    pub fn add(&mut self, class: ClassNumber, publications: u64) {
        if publications == 0 {
            return;
        }
        match self.0.iter_mut().find(|(of, _)| *of == class) {
            Some((_, count)) => *count += publications,
            None => self.0.push((class, publications)),
        }
    }

    /// Whether all are 0.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All publications.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// Removes and returns the numbers, and keeps the memory for the next ones.
    pub fn drain(&mut self) -> impl Iterator<Item = (ClassNumber, u64)> {
        self.0.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_one_number_and_no_class_has_none() {
        let mut counts = ClassCounts::default();
        let [one, two] = [1, 2].map(ClassNumber);
        for (class, publications) in [(two, 3), (one, 1), (two, 4), (one, 0), (ClassNumber(3), 0)] {
            counts.add(class, publications);
        }
        assert_eq!(counts.total(), 8);
        assert_eq!(counts.drain().collect::<Vec<_>>(), [(two, 7), (one, 1)]);
        assert_eq!((counts.total(), counts.drain().count()), (0, 0));
    }
}
