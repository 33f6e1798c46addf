//! Redeems a ticket: returns the credential that it holds, if this page may use it at this endpoint.

use std::time::Duration;
use std::time::SystemTime;

use warp::http::StatusCode;
use warp::http::header;

use crate::auth::ticket::Ticket;
use crate::config::secret::Secret;
use crate::http::origin::OriginPolicy;
use crate::http::origin::Sender;
use crate::http::problem::Problem;
use crate::http::problem::retry_after_seconds;
use crate::node::tickets::TicketError;
use crate::node::tickets::Tickets;

/// `Retry-After` while tickets cannot be issued or checked.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The credential of a ticket. The ticket is used up, also if the page may not use it.
pub async fn redeem(
    tickets: &Tickets,
    text: &str,
    policy: &OriginPolicy,
    sender: &Sender,
    now: SystemTime,
) -> Result<Secret, Problem> {
    let ticket = Ticket::parse(text).ok_or(TicketError::Unknown).map_err(refused)?;
    let grant = tickets.take(&ticket, now).await.map_err(refused)?;
    if grant.from_cookie && policy.cookie.is_none() {
        let detail = "the ticket was made with a cookie, and this endpoint does not accept cookies";
        return Err(unauthorized(detail.to_owned(), "ticket_from_cookie"));
    }
    let is_same_page = match (&grant.origin, sender.origin.page()) {
        (None, _) => true,
        (Some(origin), Some(page)) => origin == page.as_str(),
        // For an event stream from its own server, a browser sends no origin.
        (Some(_), None) => sender.is_same_origin(),
    };
    if !is_same_page {
        let detail = "the ticket belongs to a page of another origin: get one from the page that connects";
        return Err(unauthorized(detail.to_owned(), "ticket_of_another_origin"));
    }
    Ok(grant.credential)
}

/// A ticket's error as an HTTP response.
pub fn refused(error: TicketError) -> Problem {
    let detail = error.to_string();
    match error {
        TicketError::Unknown => unauthorized(detail, "bad_ticket"),
        TicketError::Off => {
            Problem::new(StatusCode::NOT_FOUND, "not_found", detail).with_reason("tickets_off")
        }
        TicketError::TooManyOfUser => Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail)
            .with_header(header::RETRY_AFTER, &retry_after_seconds(RETRY_AFTER).to_string()),
        TicketError::Away => unavailable(detail, "nats_unavailable"),
        TicketError::Full => unavailable(detail, "tickets_full"),
        TicketError::NoRandomNumbers => unavailable(detail, "no_random_numbers"),
    }
}

fn unavailable(detail: String, reason: &'static str) -> Problem {
    Problem::unavailable(detail, retry_after_seconds(RETRY_AFTER)).with_reason(reason)
}

fn unauthorized(detail: String, reason: &'static str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "invalid_ticket", detail)
        .with_reason(reason)
        .with_header(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")
}
