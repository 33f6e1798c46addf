//! `Ticket`: a one-time credential for one connect, in place of a token. A page sends its token to `POST /v1/ticket`, and
//! puts the ticket into a URL, where a token must not be.
//!
//! Nodes keep the token under a hash of the ticket, encrypted with a key that only the ticket yields. So NATS, which
//! carries it from node to node, never has a credential that can be used.

use std::fmt;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use aws_lc_rs::aead::AES_256_GCM;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::aead::Nonce;
use aws_lc_rs::aead::UnboundKey;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use crate::config::secret::Secret;

/// The size of a ticket in bytes: 256 random bits.
const BYTES: usize = 32;
/// Its length as text.
const TEXT_LENGTH: usize = 43;
/// What is hashed before a ticket, so that its two hashes say nothing about each other.
const ID_CONTEXT: &[u8] = b"tidegate ticket id\0";
const KEY_CONTEXT: &[u8] = b"tidegate ticket key\0";

/// A ticket. `Debug` never prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket([u8; BYTES]);

/// The name under which a ticket is kept: its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TicketId([u8; digest::SHA256_OUTPUT_LEN]);

/// What a ticket holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TicketGrant {
    /// The token or API key that the ticket replaces. It is verified again when the ticket is used, so that its expiry
    /// and its revocation count.
    pub credential: Secret,
    /// Whether the credential came in a cookie.
    pub from_cookie: bool,
    /// The origin of the page that asked for the ticket. `None`: a program did.
    pub origin: Option<String>,
    /// The time since 1970 at which the ticket ends.
    pub expires: Duration,
}

impl Ticket {
    /// A new ticket from the system's random numbers.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The ticket with this text. `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != TEXT_LENGTH {
            return None;
        }
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }

    /// The text for a URL: base64url without padding.
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub fn id(&self) -> TicketId {
        TicketId(self.hash(ID_CONTEXT))
    }

    /// Encrypts a grant, so that only this ticket opens it. `None` if that fails.
    pub fn seal(&self, grant: &TicketGrant) -> Option<Vec<u8>> {
        let expires = u64::try_from(grant.expires.as_millis()).ok()?;
        let plain = json!({
            "credential": grant.credential.expose(),
            "from_cookie": grant.from_cookie,
            "origin": grant.origin,
            "expires_ms": expires,
        });
        let mut sealed = plain.to_string().into_bytes();
        let id = self.id();
        self.key()?.seal_in_place_append_tag(nonce(), Aad::from(id.0), &mut sealed).ok()?;
        Some(sealed)
    }

    /// Decrypts a grant. `None` if this ticket did not seal it.
    pub fn open(&self, mut sealed: Vec<u8>) -> Option<TicketGrant> {
        let id = self.id();
        let plain = self.key()?.open_in_place(nonce(), Aad::from(id.0), &mut sealed).ok()?;
        let plain: Value = serde_json::from_slice(plain).ok()?;
        Some(TicketGrant {
            credential: Secret::new(plain.get("credential")?.as_str()?),
            from_cookie: plain.get("from_cookie")?.as_bool()?,
            origin: plain.get("origin")?.as_str().map(str::to_owned),
            expires: Duration::from_millis(plain.get("expires_ms")?.as_u64()?),
        })
    }

    fn key(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, &self.hash(KEY_CONTEXT)).ok().map(LessSafeKey::new)
    }

    fn hash(&self, context: &[u8]) -> [u8; digest::SHA256_OUTPUT_LEN] {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(context);
        hash.update(&self.0);
        let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(hash.finish().as_ref());
        bytes
    }
}

/// Each key encrypts one text only, so the nonce need not differ.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

impl TicketId {
    /// The key in the bucket that nodes share.
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl TicketGrant {
    /// Whether the ticket has ended at `now`.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now.duration_since(UNIX_EPOCH).unwrap_or_default() >= self.expires
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ticket(***)")
    }
}

impl fmt::Debug for TicketId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TicketId({})", self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> TicketGrant {
        TicketGrant {
            credential: Secret::new("a.secret.token"),
            from_cookie: true,
            origin: Some("https://app.example.com".to_owned()),
            expires: Duration::from_secs(100),
        }
    }

    #[test]
    fn tok_03_only_the_ticket_opens_what_it_has_sealed() {
        let [one, other] = [Ticket::random().unwrap(), Ticket::random().unwrap()];
        let sealed = one.seal(&grant()).unwrap();
        assert_eq!(one.open(sealed.clone()), Some(grant()));
        assert_eq!(other.open(sealed.clone()), None);
        let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(!holds(&sealed, "secret"), "it is not encrypted");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(one.open(changed), None, "byte {at}");
        }
        assert_eq!(one.open(sealed[1..].to_vec()), None);
        assert_eq!(one.open(Vec::new()), None);
    }

    #[test]
    fn the_text_of_a_ticket_is_parsed_and_other_texts_are_not() {
        let ticket = Ticket::random().unwrap();
        let text = ticket.text();
        assert_eq!((text.len(), Ticket::parse(&text)), (TEXT_LENGTH, Some(ticket.clone())));
        assert_ne!(Ticket::random().unwrap(), ticket);
        for other in
            ["", &text[1..], &format!("{text}A"), &format!("{}+", &text[1..]), &format!("{}=", &text[1..])]
        {
            assert_eq!(Ticket::parse(other), None, "{other:?}");
        }
        // The last character has two bits too many, which must be zero: one ticket has one text.
        let twin = format!("{}B", &Ticket([0; BYTES]).text()[1..]);
        assert_eq!(Ticket::parse(&twin), None);
        assert_eq!(format!("{ticket:?}"), "Ticket(***)");
        assert!(!format!("{:?}{}", ticket.id(), ticket.id().text()).contains(&text));
    }

    #[test]
    fn tok_03_a_ticket_ends_at_its_time() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        assert!(!grant().is_expired(at(99_999)));
        assert!(grant().is_expired(at(100_000)));
    }
}
