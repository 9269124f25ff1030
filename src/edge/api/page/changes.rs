//! What happens to incidents, as server-sent events (WHATWG HTML, section 9.2): for a page that stays open.
//!
//! In: the stream of the API. Out: a body that goes on for as long as the caller listens, an event for each message, its
//! sequence as the event's id. Promises: whoever is too slow is told so by the stream itself and holds back nothing; a
//! caller that is gone is noticed within seconds. Absent on purpose: who may listen, and how many.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body::Frame;
use tokio::time::timeout;
use tonic::{Request, Status};

use super::super::{
    json,
    proto::{WatchIncidentsRequest, WatchIncidentsResponse, incidents_server::Incidents},
    service::Service,
};

/// Silence after which a comment is sent, which a connection that is gone does not take.
const COMMENT_INTERVAL: Duration = Duration::from_secs(15);

/// The stream that a request's query asks for.
///
/// # Errors
/// The query is not one, or too many listen already.
pub async fn watch(
    service: &Service,
    query: Option<&str>,
) -> Result<impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static, Status> {
    let request = asked(query.unwrap_or_default())?;
    let changes = service.watch_incidents(Request::new(request)).await?.into_inner();
    Ok(stream::unfold(changes, |mut changes| async {
        let text = match timeout(COMMENT_INTERVAL, changes.next()).await {
            Err(_) => ": nothing new\n\n".to_owned(),
            Ok(Some(Ok(change))) => event(&change)?,
            Ok(Some(Err(_)) | None) => return None,
        };
        Some((Ok(Frame::data(Bytes::from(text))), changes))
    }))
}

fn asked(query: &str) -> Result<WatchIncidentsRequest, Status> {
    let mut request = WatchIncidentsRequest::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let after = pair
            .strip_prefix("after_sequence=")
            .and_then(|number| number.parse().ok());
        let Some(after) = after else {
            return Err(Status::invalid_argument(
                "the query is `after_sequence=NUMBER`, or nothing",
            ));
        };
        request.after_sequence = Some(after);
    }
    Ok(request)
}

fn event(change: &WatchIncidentsResponse) -> Option<String> {
    let line = json::line(change).ok()?;
    Some(format!("id: {}\ndata: {line}\n\n", change.sequence))
}
