//! What a client may know without listening: last values of channels, and statistics. Every check of it is here.

use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::message::Query;
use crate::message::RequestContext;
use crate::permissions::Operation;
use crate::permissions::StatsAccess;
use crate::session::Session;
use crate::session::checks;
use crate::session::orders::Order;
use crate::session::orders::Waiting;
use crate::subject::Pattern;

impl Session {
    /// Asks for last values, if the client may subscribe to all of the channels.
    pub(super) fn last_values(&mut self, asked: Option<RequestContext>, channels: &[String]) {
        self.charge_channels(channels.len());
        let query = self.readable(channels).map(|channels| Query::LastValues { channels });
        self.query(asked, query);
    }

    /// Asks for statistics, as far as the client may see them: who may see counts only is shown no names.
    pub(super) fn statistics(&mut self, asked: Option<RequestContext>) {
        let access = self.permissions().map(|permissions| permissions.stats);
        let query = access.and_then(|access| match access {
            StatsAccess::All => Ok(Query::Statistics { with_names: true }),
            StatsAccess::Counts => Ok(Query::Statistics { with_names: false }),
            StatsAccess::None => {
                let words = "this identity may not see figures: its role needs `stats`";
                Err(ClientError::new(ErrorCode::Forbidden, words))
            }
        });
        self.query(asked, query);
    }

    fn query(&mut self, asked: Option<RequestContext>, query: Result<Query, ClientError>) {
        match query {
            Ok(query) => self.order(Waiting { asked, order: Order::Query(query) }),
            Err(refusal) => self.refuse(asked, None, refusal),
        }
    }

    fn readable(&self, channels: &[String]) -> Result<Vec<Pattern>, ClientError> {
        let max = self.settings.max_subscriptions;
        if channels.len() > max {
            return Err(ClientError::new(
                ErrorCode::LimitExceeded,
                format!("at most {max} channels at once"),
            ));
        }
        let permissions = self.permissions()?;
        let readable = |channel: &String| {
            let pattern = checks::pattern(&self.settings, channel)?;
            checks::permit(permissions, Operation::Subscribe, &pattern)?;
            Ok(pattern)
        };
        channels.iter().map(readable).collect()
    }
}
