//! `tidegate subject`: prints the subject of a user, for producers on nodes with `auth.user_claim`.
#![expect(clippy::print_stderr, reason = "commands print for people")]

use std::borrow::Cow;
use std::process::ExitCode;

use clap::Args;
use tidegate_protocol::permissions::is_user;
use tidegate_protocol::template::Template;

use crate::auth::user::User;
use crate::auth::user::UserEncoding;
use crate::cli::common::USAGE;
use crate::cli::output::print_line;

/// The arguments of `tidegate subject`.
#[derive(Debug, Args)]
pub struct SubjectArgs {
    /// The subject, with {sub} or {user} where the user is: 'user.{sub}.notifications'.
    template: String,
    /// The user, as in the claim that `auth.user_claim` names.
    #[arg(long, value_name = "USER")]
    user: String,
}

/// Runs the command.
pub fn run(args: &SubjectArgs) -> ExitCode {
    match subject(&args.template, &args.user) {
        Ok(subject) => {
            print_line!("{subject}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(USAGE)
        }
    }
}

/// The template with the token of this user.
fn subject(template: &str, user: &str) -> Result<String, String> {
    let template = Template::parse(template).map_err(|error| error.to_string())?;
    let user = User::new(user, UserEncoding::Encoded).ok_or(
        "no node accepts this user: a name is not empty, has no quotation marks, backslashes and control characters, and \
         takes at most 128 bytes, where each byte other than letters, digits and \"_-@:\" takes three",
    )?;
    let is_known = |placeholder: &str| is_user(placeholder) || placeholder == "user";
    if let Some(other) = template.placeholders().find(|placeholder| !is_known(placeholder)) {
        return Err(format!("only the user is known, and not {{{other}}}: write its value there"));
    }
    if template.placeholders().next().is_none() {
        return Err(
            "the subject has no place for the user: write {sub} there, as in 'user.{sub}.notifications'"
                .to_owned(),
        );
    }
    let filled = template.fill(|_| Some(Cow::Borrowed(user.token())));
    filled.map(|subject| subject.to_string()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_of_a_user_is_that_of_the_node() {
        for (template, user, expected) in [
            ("user.{sub}.notifications", "ann@example.com", "user.ann@example=2Ecom.notifications"),
            ("user.{user}.notifications", "ann@example.com", "user.ann@example=2Ecom.notifications"),
            ("user.{claims.sub}.>", "a=b", "user.a=3Db.>"),
        ] {
            assert_eq!(subject(template, user).unwrap(), expected);
        }
        for (template, user, problem) in [
            ("user.{sub}.x", "", "no node accepts this user"),
            ("user.{sub}.x", "a\nb", "no node accepts this user"),
            ("user.{team}.x", "alice", "only the user is known, and not {team}"),
            ("user.{sub", "alice", "close the placeholder"),
            ("admin.users", "alice", "no place for the user"),
        ] {
            let error = subject(template, user).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
