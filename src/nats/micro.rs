//! The subjects of a service as ADR-32 of NATS defines them, which `nats micro` uses.

/// The name of the service whose instances are Tidegate's nodes.
pub const SERVICE: &str = "tidegate";

/// What one can ask a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Ping,
    Info,
    Stats,
}

impl Verb {
    pub const ALL: [Self; 3] = [Self::Ping, Self::Info, Self::Stats];

    /// The subjects on which the instance with this id is asked: all services, all instances, and this one alone.
    pub fn subjects(self, id: &str) -> [String; 3] {
        [format!("$SRV.{}", self.name()), self.subject_of_all(), self.subject_of(id)]
    }

    /// The subject that all instances answer.
    pub fn subject_of_all(self) -> String {
        format!("$SRV.{}.{SERVICE}", self.name())
    }

    /// The subject that one instance answers.
    pub fn subject_of(self, id: &str) -> String {
        format!("{}.{id}", self.subject_of_all())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Info => "INFO",
            Self::Stats => "STATS",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subjects_are_those_of_adr_32() {
        let subjects = ["$SRV.STATS", "$SRV.STATS.tidegate", "$SRV.STATS.tidegate.a1"];
        assert_eq!(Verb::Stats.subjects("a1"), subjects);
    }
}
