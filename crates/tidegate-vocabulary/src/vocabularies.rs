//! `Vocabularies`: the vocabularies of a node that are loaded from files. When one is loaded again and has changed, the
//! clients that are connected keep the version that they connected to.

use std::sync::Arc;
use std::sync::Weak;

use tidegate_protocol::dialect::Render;
use tidegate_protocol::dialect::Rendered;
use tidegate_protocol::frame::Format;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::publication::Publication;
use tidegate_protocol::renderers::Renderers;
use tidegate_protocol::scratch::Scratch;

use crate::model::CompiledVocabulary;

/// Which of the endpoints with a vocabulary from a file: they count from 1, in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VocabularyPlace(pub u16);

/// All vocabularies of a node that come from files, by number: the versions that new clients use, and the earlier ones.
/// A version keeps its number for as long as the node runs.
#[derive(Clone, Debug, Default)]
pub struct Vocabularies(Arc<[Numbered]>);

#[derive(Clone, Debug)]
struct Numbered {
    version: Version,
    /// Where it is in the configuration, or the version that has replaced it. `None` if no endpoint has its name any more.
    place: Option<VocabularyPlace>,
}

#[derive(Clone, Debug)]
enum Version {
    /// The one for new clients.
    Current(Arc<CompiledVocabulary>),
    Earlier(Arc<EarlierVersion>),
}

/// A version that only connected clients use. It is freed with the last of them.
#[derive(Debug)]
struct EarlierVersion {
    name: Box<str>,
    vocabulary: Weak<CompiledVocabulary>,
}

impl Vocabularies {
    /// Numbers vocabularies from 1, in the order of the configuration.
    pub fn new(vocabularies: Vec<Arc<CompiledVocabulary>>) -> Self {
        let places = (1..).map(VocabularyPlace);
        let numbered = vocabularies.into_iter().zip(places);
        Self(numbered.map(|(vocabulary, place)| Numbered::current(vocabulary, place)).collect())
    }

    /// The vocabularies after the configuration was loaded again. Those that are the same keep their number, the others
    /// get new ones. `None` if there are no more numbers.
    pub fn reloaded(&self, vocabularies: &[Arc<CompiledVocabulary>]) -> Option<Self> {
        let mut all: Vec<_> = self.0.iter().map(Numbered::earlier).collect();
        for (vocabulary, place) in vocabularies.iter().zip((1..).map(VocabularyPlace)) {
            let is_unchanged = |(at, numbered): &(usize, &Numbered)| {
                matches!(&numbered.version, Version::Current(own) if own.is_same_as(vocabulary))
                    && matches!(all[*at].version, Version::Earlier(_))
            };
            match self.0.iter().enumerate().find(is_unchanged) {
                Some((at, Numbered { version, .. })) => {
                    all[at] = Numbered { version: version.clone(), place: Some(place) };
                }
                None => all.push(Numbered::current(Arc::clone(vocabulary), place)),
            }
        }
        for numbered in &mut all {
            if let Version::Earlier(earlier) = &numbered.version {
                numbered.place = successor(&earlier.name, numbered.place, vocabularies);
            }
        }
        // The largest number is the test dialect's.
        (all.len() < usize::from(u16::MAX)).then(|| Self(all.into()))
    }

    /// The version for new clients of this endpoint, and its number.
    pub fn at(&self, place: VocabularyPlace) -> Option<(VocabularyId, &Arc<CompiledVocabulary>)> {
        self.numbered().find_map(|(id, Numbered { version, place: own })| match version {
            Version::Current(vocabulary) if *own == Some(place) => Some((id, vocabulary)),
            Version::Current(_) | Version::Earlier(_) => None,
        })
    }

    /// The numbers of all versions of this endpoint's vocabulary.
    pub fn versions_at(&self, place: VocabularyPlace) -> impl Iterator<Item = VocabularyId> {
        self.numbered().filter(move |(_, numbered)| numbered.place == Some(place)).map(|(id, _)| id)
    }

    /// The endpoint of a version. `None` if no endpoint has a vocabulary of this name any more.
    pub fn place_of(&self, id: VocabularyId) -> Option<VocabularyPlace> {
        self.numbered_as(id)?.place
    }

    /// The version with this number. `None` if there is none, or it is an earlier one that no client uses any more.
    pub fn get(&self, id: VocabularyId) -> Option<Arc<CompiledVocabulary>> {
        match &self.numbered_as(id)?.version {
            Version::Current(vocabulary) => Some(Arc::clone(vocabulary)),
            Version::Earlier(earlier) => earlier.vocabulary.upgrade(),
        }
    }

    /// The versions for new clients.
    pub fn current(&self) -> impl Iterator<Item = &Arc<CompiledVocabulary>> {
        self.0.iter().filter_map(|numbered| match &numbered.version {
            Version::Current(vocabulary) => Some(vocabulary),
            Version::Earlier(_) => None,
        })
    }

    /// Renderers for their publications and for those of the native protocol.
    pub fn renderers(&self) -> Renderers {
        Renderers::new(self.0.iter().map(|numbered| match &numbered.version {
            Version::Current(vocabulary) => Arc::clone(vocabulary) as Arc<dyn Render>,
            Version::Earlier(earlier) => Arc::clone(earlier) as _,
        }))
    }

    fn numbered(&self) -> impl Iterator<Item = (VocabularyId, &Numbered)> {
        (1..).map(VocabularyId).zip(self.0.iter())
    }

    fn numbered_as(&self, id: VocabularyId) -> Option<&Numbered> {
        self.0.get(usize::from(id.0).checked_sub(1)?)
    }
}

impl Numbered {
    fn current(vocabulary: Arc<CompiledVocabulary>, place: VocabularyPlace) -> Self {
        Self { version: Version::Current(vocabulary), place: Some(place) }
    }

    /// The same, for clients that are connected.
    fn earlier(&self) -> Self {
        let version = match &self.version {
            Version::Current(vocabulary) => Version::Earlier(Arc::new(EarlierVersion {
                name: vocabulary.name.clone(),
                vocabulary: Arc::downgrade(vocabulary),
            })),
            earlier @ Version::Earlier(_) => earlier.clone(),
        };
        Self { version, place: self.place }
    }
}

/// The place of the vocabulary that replaces the one with this name: its own place, or else the first with its name.
fn successor(
    name: &str,
    place: Option<VocabularyPlace>,
    vocabularies: &[Arc<CompiledVocabulary>],
) -> Option<VocabularyPlace> {
    let places = (1..).map(VocabularyPlace);
    let same_name = vocabularies.iter().zip(places).filter(|(vocabulary, _)| *vocabulary.name == *name);
    let mut found = same_name.map(|(_, place)| place);
    let first = found.next()?;
    place.filter(|place| found.any(|other| other == *place)).or(Some(first))
}

impl Render for EarlierVersion {
    fn dialect_name(&self) -> &str {
        &self.name
    }

    fn publication(
        &self,
        format: Format,
        channel: &str,
        publication: &Publication,
        scratch: &mut Scratch,
    ) -> Rendered {
        match self.vocabulary.upgrade() {
            Some(vocabulary) => vocabulary.publication(format, channel, publication, scratch),
            // Its last client has gone.
            None => Rendered::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::compile;

    fn vocabulary(name: &str, message: &str) -> Arc<CompiledVocabulary> {
        let file = format!(
            "name = \"{name}\"\n[[path]]\nname = \"main\"\npath = \"/{name}\"\n[[receive]]\nwhen = {{ do = \"watch\" }}\n\
             do = \"subscribe\"\nchannel = \"x.*\"\n[[deliver]]\npattern = \"x.*\"\nsend = {{ {message} = \"{{data}}\" }}\n"
        );
        Arc::new(compile(&file).unwrap().vocabulary)
    }

    const FIRST: VocabularyPlace = VocabularyPlace(1);
    const SECOND: VocabularyPlace = VocabularyPlace(2);

    fn ids(vocabularies: &Vocabularies, place: VocabularyPlace) -> Vec<u16> {
        vocabularies.versions_at(place).map(|id| id.0).collect()
    }

    #[test]
    fn what_has_changed_gets_a_new_number_and_the_rest_keeps_its_own() {
        let all = Vocabularies::new(vec![vocabulary("a", "one"), vocabulary("b", "one")]);
        assert_eq!((ids(&all, FIRST), ids(&all, SECOND)), (vec![1], vec![2]));
        let same = all.reloaded(&[vocabulary("a", "one"), vocabulary("b", "one")]).unwrap();
        assert!(Arc::ptr_eq(same.at(SECOND).unwrap().1, all.at(SECOND).unwrap().1));
        assert_eq!(same.current().count(), 2);
        // The endpoints have changed places, too.
        let changed = same.reloaded(&[vocabulary("b", "two"), vocabulary("a", "one")]).unwrap();
        assert_eq!((ids(&changed, FIRST), ids(&changed, SECOND)), (vec![2, 3], vec![1]));
        assert_eq!(changed.at(FIRST).unwrap().0, VocabularyId(3));
        assert_eq!(changed.place_of(VocabularyId(2)), Some(FIRST));
        let removed = changed.reloaded(&[vocabulary("a", "one")]).unwrap();
        assert_eq!((ids(&removed, FIRST), ids(&removed, SECOND)), (vec![1], vec![]));
        assert_eq!(removed.place_of(VocabularyId(3)), None);
        let back = removed.reloaded(&[vocabulary("a", "one"), vocabulary("b", "two")]).unwrap();
        assert_eq!(ids(&back, SECOND), [2, 3, 4]);
    }

    #[test]
    fn two_endpoints_with_the_same_vocabulary_have_a_number_each() {
        let two = [vocabulary("a", "one"), vocabulary("a", "one")];
        let all = Vocabularies::new(two.to_vec()).reloaded(&two).unwrap();
        assert_eq!((ids(&all, FIRST), ids(&all, SECOND)), (vec![1], vec![2]));
        let changed = all.reloaded(&[vocabulary("a", "one"), vocabulary("a", "two")]).unwrap();
        assert_eq!((ids(&changed, FIRST), ids(&changed, SECOND)), (vec![1], vec![2, 3]));
    }

    #[test]
    fn an_earlier_version_renders_for_its_clients_and_is_freed_with_the_last() {
        let before = Vocabularies::new(vec![vocabulary("a", "one")]);
        let client = before.get(VocabularyId(1));
        let all = before.reloaded(&[vocabulary("a", "two")]).unwrap();
        drop(before);
        assert!(all.get(VocabularyId(1)).is_some() && all.get(VocabularyId(2)).is_some());
        assert_eq!(all.renderers().dialect_name(VocabularyId(1)), "a");
        drop(client);
        assert!(all.get(VocabularyId(1)).is_none());
        assert!(all.get(VocabularyId(0)).is_none() && all.get(VocabularyId(3)).is_none());
    }

    #[test]
    fn numbers_do_not_start_again() {
        let numbered = |version: &Arc<EarlierVersion>| Numbered {
            version: Version::Earlier(Arc::clone(version)),
            place: None,
        };
        let version = Arc::new(EarlierVersion { name: "a".into(), vocabulary: Weak::new() });
        let full = Vocabularies((1..u16::MAX).map(|_| numbered(&version)).collect());
        assert!(full.reloaded(&[]).is_some());
        assert!(full.reloaded(&[vocabulary("a", "one")]).is_none());
    }
}
