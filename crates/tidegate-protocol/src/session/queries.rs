//! Queries, which need no subscription: last values of channels, and statistics. All their checks are here.

use crate::error::ClientError;
use crate::error::ErrorCode;
use crate::message::Query;
use crate::message::RequestContext;
use crate::permissions::Operation;
use crate::permissions::StatsAccess;
use crate::session::Output;
use crate::session::Session;
use crate::session::checks;
use crate::session::checks::CheckError;
use crate::session::denied::Denied;
use crate::session::request_queue::QueuedRequest;
use crate::session::request_queue::RequestKind;
use crate::subject::Pattern;

impl Session {
    /// Queries last values, if the client may subscribe to all of the channels.
    pub(super) fn last_values(&mut self, request_context: Option<RequestContext>, channels: &[String]) {
        self.charge_channels(channels.len());
        let query = self.check_channels(channels).map(|channels| Query::LastValues { channels });
        self.query(request_context, query);
    }

    /// Queries statistics. A client that may see only counts gets no names.
    pub(super) fn statistics(&mut self, request_context: Option<RequestContext>) {
        let access = self.permissions().map(|permissions| permissions.stats);
        let query = access.and_then(|access| match access {
            StatsAccess::All => Ok(Query::Statistics { with_names: true }),
            StatsAccess::Counts => Ok(Query::Statistics { with_names: false }),
            StatsAccess::None => {
                self.outputs.push_back(Output::Denied(Box::new(Denied::statistics())));
                let message = "this identity may not see statistics: its role needs `stats`";
                Err(ClientError::new(ErrorCode::Forbidden, message))
            }
        });
        self.query(request_context, query);
    }

    fn query(&mut self, request_context: Option<RequestContext>, query: Result<Query, ClientError>) {
        match query {
            Ok(query) => {
                self.enqueue_request(QueuedRequest { request_context, kind: RequestKind::Query(query) })
            }
            Err(error) => self.refuse(request_context, None, error),
        }
    }

    fn check_channels(&mut self, channels: &[String]) -> Result<Vec<Pattern>, ClientError> {
        let max = self.settings.max_subscriptions;
        if channels.len() > max {
            return Err(ClientError::new(
                ErrorCode::LimitExceeded,
                format!("at most {max} channels at once"),
            ));
        }
        let permissions = self.permissions()?;
        let check_channel = |channel: &String| -> Result<Pattern, CheckError> {
            let pattern = checks::pattern(&self.settings, channel)?;
            checks::check_permission(permissions, Operation::Subscribe, &pattern)?;
            Ok(pattern)
        };
        let checked: Result<Vec<_>, CheckError> = channels.iter().map(check_channel).collect();
        checked.map_err(|error| self.note_denied(error))
    }
}
