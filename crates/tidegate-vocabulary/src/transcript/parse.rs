//! Parses the text of a transcript.

use crate::transcript::Action;
use crate::transcript::LineError;
use crate::transcript::ShellInput;
use crate::transcript::Step;
use crate::transcript::Transcript;
use crate::transcript::TranscriptError;
use crate::transcript::default_settings;
use crate::transcript::head::Head;
use crate::transcript::line::Line;
use crate::transcript::line::action;

impl Transcript {
    /// Parses a transcript.
    pub fn parse(text: &str) -> Result<Self, TranscriptError> {
        let mut lines = text.lines().zip(1..).map(|(text, number)| (number, text.trim_end()));
        let title = lines.next().and_then(|(_, first)| first.strip_prefix("# "));
        let title = title.ok_or(TranscriptError { line: 1, error: LineError::NoTitle })?;
        let mut transcript = Self {
            title: title.to_owned(),
            settings: default_settings(),
            personas: Vec::new(),
            target: "/ws".to_owned(),
            connect: None,
            switches: Vec::new(),
            steps: Vec::new(),
        };
        let mut head = Head::default();
        for (number, text) in lines {
            let at = |error| TranscriptError { line: number, error };
            match action(text).map_err(at)? {
                Line::Nothing => {}
                Line::Action(action) => transcript.steps.push(Step { line: number, action }),
                Line::Declaration(_) if !transcript.steps.is_empty() => {
                    return Err(at(LineError::LateDeclaration));
                }
                Line::Declaration(text) => head.declare(number, text, &mut transcript).map_err(at)?,
            }
        }
        head.finish(&mut transcript)?;
        transcript.check_personas()?;
        Ok(transcript)
    }

    fn check_personas(&self) -> Result<(), TranscriptError> {
        for Step { line, action } in &self.steps {
            if let Action::Input(ShellInput::Authenticated { persona } | ShellInput::Narrowed { persona }) =
                action
                && self.persona(persona).is_none()
            {
                let error = LineError::UnknownIdentity { name: persona.clone() };
                return Err(TranscriptError { line: *line, error });
            }
        }
        Ok(())
    }
}
