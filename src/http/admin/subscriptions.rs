//! `GET /subscriptions`: the channels in use on this node, and how busy they are.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::join_all;
use serde_json::Value;
use serde_json::json;
use tidegate_protocol::subject::Pattern;
use tokio::sync::oneshot;
use tokio::time::sleep;
use warp::reply::Reply as _;
use warp::reply::Response;

use crate::http::admin::access::Admin;
use crate::http::admin::class::class_object;
use crate::http::admin::parameters::ListPage;
use crate::http::admin::parameters::bad;
use crate::http::admin::parameters::millis;
use crate::http::admin::parameters::parameters;
use crate::http::admin::parameters::unknown;
use crate::http::problem::Problem;
use crate::lane::LaneRequest;
use crate::lane::counts::FeedActivity;
use crate::shard::channels::ChannelFilter;
use crate::shard::job::ShardJob;

/// The time between the two samples of a rate.
const SAMPLE: Duration = Duration::from_secs(1);
/// Channels in one request to a lane, which handles it in one turn.
const CHANNELS: usize = 256;
/// The channels whose rates are compared: those with the most subscriptions.
const RATED: usize = 11_000;

/// What a request asks for.
#[derive(Debug, PartialEq)]
struct SubscriptionsQuery {
    filter: ChannelFilter,
    sort: ChannelSort,
    page: ListPage,
}

/// Which channels come first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum ChannelSort {
    /// Those with the most subscriptions.
    #[default]
    Subscriptions,
    /// Those with the most publications in a second.
    Rate,
}

/// A channel of the answer.
struct ListedChannel {
    channel: Pattern,
    subscriptions: usize,
    /// Publications in a second; `None` without a feed.
    rate: Option<f64>,
    /// When the last one came.
    last: Option<Instant>,
}

/// What the lanes know about a channel: `None` if none has a feed of it.
type Activities = Vec<Option<FeedActivity>>;

/// The channels that a query selects.
struct Found {
    /// With their subscriptions, the most first.
    channels: Vec<(Pattern, usize)>,
    subscriptions: usize,
    /// Whether no channel that is left out could have more subscriptions.
    exact: bool,
    /// Whether no channel is left out.
    is_whole: bool,
}

/// A page of the channels that the query selects.
pub(super) async fn answer(admin: &Admin, query: Option<&str>) -> Result<Response, Problem> {
    let SubscriptionsQuery { filter, sort, page } = SubscriptionsQuery::parse(query.unwrap_or_default())?;
    let most = match sort {
        ChannelSort::Subscriptions => page.most(),
        ChannelSort::Rate => RATED,
    };
    let Found { mut channels, subscriptions, exact, is_whole } = find(admin, filter, most).await?;
    if sort == ChannelSort::Subscriptions {
        channels = page.of(channels).collect();
    }
    let (mut channels, now, elapsed) = sample(admin, channels).await?;
    if sort == ChannelSort::Rate {
        let rate = |channel: &ListedChannel| channel.rate.unwrap_or_default();
        channels.sort_by(|one, other| rate(other).total_cmp(&rate(one)));
        channels = page.of(channels).collect();
    }
    let view = admin.view.get();
    let channels = channels.iter().map(|ListedChannel { channel, subscriptions, rate, last }| {
        json!({
            "channel": channel.as_str(),
            "class": class_object(&view.classes, channel),
            "subscriptions": subscriptions,
            "rate_per_s": rate,
            "last_age_ms": last.map(|last| millis(now.saturating_duration_since(last))),
        })
    });
    let body = json!({
        "node": &*admin.node.name,
        "subscriptions": subscriptions,
        "exact": match sort {
            ChannelSort::Subscriptions => exact,
            ChannelSort::Rate => is_whole,
        },
        "limit": page.limit,
        "offset": page.offset,
        "sample_ms": millis(elapsed),
        "channels": channels.collect::<Vec<Value>>(),
    });
    Ok(warp::reply::json(&body).into_response())
}

/// Measures the rates of these channels. Also returns when, and for how long.
async fn sample(
    admin: &Admin,
    channels: Vec<(Pattern, usize)>,
) -> Result<(Vec<ListedChannel>, Instant, Duration), Problem> {
    let names: Vec<Pattern> = channels.iter().map(|(channel, _)| channel.clone()).collect();
    let (started, before) = (Instant::now(), activities(admin, &names).await?);
    if !names.is_empty() {
        sleep(SAMPLE).await;
    }
    let (now, after) = (Instant::now(), activities(admin, &names).await?);
    let elapsed = now.saturating_duration_since(started);
    let samples = before.into_iter().zip(after);
    let listed = channels.into_iter().zip(samples).map(|((channel, subscriptions), (before, after))| {
        let rate = before.zip(after).map(|(before, after)| after.rate_since(before, elapsed));
        let last = after.and_then(|after| after.last).map(Instant::from);
        ListedChannel { channel, subscriptions, rate, last }
    });
    Ok((listed.collect(), now, elapsed))
}

/// The channels with the most subscriptions on all shards. Each shard lists its own `most`; then all count what any has
/// listed.
async fn find(admin: &Admin, filter: ChannelFilter, most: usize) -> Result<Found, Problem> {
    let filter = Arc::new(filter);
    let (mut listed, mut subscriptions, mut unlisted) = (BTreeSet::new(), 0, 0);
    for shard in admin.shards.iter() {
        let ask = |answer| ShardJob::ListChannels { filter: Arc::clone(&filter), most, answer };
        let list = shard.run(ask).await.ok_or_else(Problem::overloaded)?;
        listed.extend(list.most);
        subscriptions += list.subscriptions;
        unlisted += list.unlisted;
    }
    let listed: Arc<[Pattern]> = listed.into_iter().collect();
    let mut counts = vec![0; listed.len()];
    for shard in admin.shards.iter() {
        let ask = |answer| ShardJob::CountSubscriptions { channels: Arc::clone(&listed), answer };
        let counted = shard.run(ask).await.ok_or_else(Problem::overloaded)?;
        counts.iter_mut().zip(counted).for_each(|(sum, count)| *sum += count);
    }
    let mut channels: Vec<(Pattern, usize)> = listed.iter().cloned().zip(counts).collect();
    // The last subscription may have ended meanwhile.
    channels.retain(|(_, count)| *count > 0);
    channels.sort_by_key(|(_, count)| Reverse(*count));
    let is_whole = unlisted == 0 && channels.len() <= most;
    channels.truncate(most);
    let exact = unlisted == 0 || channels.last().is_some_and(|(_, fewest)| *fewest >= unlisted);
    Ok(Found { channels, subscriptions, exact, is_whole })
}

/// What the lanes know about these channels.
async fn activities(admin: &Admin, channels: &[Pattern]) -> Result<Activities, Problem> {
    let mut all = Activities::new();
    for chunk in channels.chunks(CHANNELS) {
        let chunk: Arc<[Pattern]> = chunk.into();
        let answers = admin.node.lanes.iter().map(|lane| {
            let (answer, activities) = oneshot::channel();
            let request = LaneRequest::Activity { channels: Arc::clone(&chunk), answer };
            let sent = lane.try_send(request).is_ok();
            async move { if sent { activities.await.ok() } else { None } }
        });
        let mut known: Activities = vec![None; chunk.len()];
        for of_lane in join_all(answers).await {
            let of_lane = of_lane.ok_or_else(Problem::overloaded)?;
            known.iter_mut().zip(of_lane).for_each(|(known, of_lane)| *known = known.or(of_lane));
        }
        all.extend(known);
    }
    Ok(all)
}

impl SubscriptionsQuery {
    fn parse(query: &str) -> Result<Self, Problem> {
        let (filter, sort, page) = Default::default();
        let mut parsed = Self { filter, sort, page };
        let Self { filter, sort, page } = &mut parsed;
        for parameter in parameters(query) {
            let (name, value) = parameter?;
            match name.as_str() {
                "prefix" => filter.prefix = Some(value),
                "pattern" => {
                    let pattern = Pattern::parse(&value);
                    filter.pattern = Some(pattern.map_err(|error| bad(format!("`pattern`: {error}")))?);
                }
                "sort" => {
                    *sort = match value.as_str() {
                        "subscriptions" => ChannelSort::Subscriptions,
                        "rate" => ChannelSort::Rate,
                        _ => return Err(bad("`sort` is neither `subscriptions` nor `rate`")),
                    }
                }
                name if page.take(name, &value)? => {}
                _ => return Err(unknown(&name, "prefix, pattern, sort, limit, offset")),
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_conditions_and_a_page() {
        let parse = |query| SubscriptionsQuery::parse(query).unwrap();
        let page = ListPage { limit: 100, offset: 0 };
        let sort = ChannelSort::Subscriptions;
        let none = SubscriptionsQuery { filter: ChannelFilter::default(), sort, page };
        assert_eq!(parse(""), none);
        let filter = ChannelFilter {
            prefix: Some("prices.A".to_owned()),
            pattern: Some(Pattern::parse("prices.*").unwrap()),
        };
        let query = "prefix=prices.A&pattern=prices.*&sort=rate&limit=1000&offset=10000";
        let (sort, page) = (ChannelSort::Rate, ListPage { limit: 1000, offset: 10_000 });
        assert_eq!(parse(query), SubscriptionsQuery { filter, sort, page });
        assert_eq!(parse("sort=subscriptions"), none);
        for (query, words) in [
            ("channel=a", "use prefix, pattern, sort, limit, offset"),
            ("pattern=a..b", "`pattern`: "),
            ("sort=listeners", "neither `subscriptions` nor `rate`"),
            ("limit=1001", "from 1 to 1000"),
            ("offset=10001", "from 0 to 10000"),
        ] {
            let problem = SubscriptionsQuery::parse(query).unwrap_err();
            assert!(problem.detail.contains(words), "{query}: {}", problem.detail);
        }
    }
}
