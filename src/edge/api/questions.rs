//! Questions as callers put them, as the desk takes them.
//!
//! What enters: request messages. What leaves: filters, ids, places in lists; or INVALID_ARGUMENT with what to send instead.
//! Promise: a page is never larger than [`MAX_PAGE`]. Absent on purpose: answers.

use prost_types::Timestamp;
use tonic::Status;

use super::proto;
use crate::{
    edge::{TemplatePlace, WhichIncidents, WhichTemplates},
    engine::{correlate::IncidentId, tenant::Tenant, text::TemplateKey},
};

/// Entries of a page where nothing is said.
const USUAL_PAGE: usize = 100;
/// Entries of a page at most.
const MAX_PAGE: usize = 1000;

/// Which incidents are asked for.
pub fn which_incidents(request: &proto::ListIncidentsRequest) -> Result<WhichIncidents, Status> {
    let state = proto::IncidentState::try_from(request.state)
        .map_err(|_| Status::invalid_argument(format!("state: {} is none; send 0 for all", request.state)))?;
    let all = state == proto::IncidentState::Unspecified;
    Ok(WhichIncidents {
        open: all || state == proto::IncidentState::Open,
        closed: all || state == proto::IncidentState::Closed,
        merged: all || state == proto::IncidentState::Merged,
        service: given(&request.service),
        since_unix_nano: unix_nano("since", request.since.as_ref())?,
        until_unix_nano: unix_nano("until", request.until.as_ref())?,
        min_severity_number: request.min_severity_number,
        unannounced: request.include_unannounced,
        text_contains: given(&request.text_contains),
        tenant: request.tenant.clone(),
    })
}

/// Which templates are asked for.
pub fn which_templates(request: &proto::ListTemplatesRequest) -> WhichTemplates {
    WhichTemplates {
        service: given(&request.service),
        text_contains: given(&request.text_contains),
        flagged_only: request.flagged_only,
        tenant: request.tenant.clone(),
    }
}

/// An id as people write it.
pub fn incident_id(text: &str) -> Result<IncidentId, Status> {
    text.parse()
        .map_err(|why: crate::engine::correlate::NotAnId| Status::invalid_argument(why.to_string()))
}

/// How many entries the page has.
pub fn page_size(asked: i32) -> Result<usize, Status> {
    match usize::try_from(asked) {
        Ok(0) => Ok(USUAL_PAGE),
        Ok(size) => Ok(size.min(MAX_PAGE)),
        Err(_) => Err(Status::invalid_argument(format!(
            "page_size: {asked} is less than nothing; send 0 for {USUAL_PAGE}"
        ))),
    }
}

/// Where the page of incidents begins: the token is the last id of the page before.
pub fn incident_place(token: &str) -> Result<Option<IncidentId>, Status> {
    let place = given(token).map(|token| token.parse());
    place.transpose().map_err(|_| no_token(token))
}

/// The token of the page behind this template.
pub fn template_token((first_seen_unix_nano, key, tenant): &TemplatePlace) -> String {
    match tenant {
        Tenant::Named(name) => format!("{first_seen_unix_nano:016x}{:016x}n{name}", key.0),
        Tenant::Overflow => format!("{first_seen_unix_nano:016x}{:016x}o", key.0),
    }
}

/// Where the page of templates begins.
pub fn template_place(token: &str) -> Result<Option<TemplatePlace>, Status> {
    let read = |token: &str| {
        let number = |at: std::ops::Range<usize>| u64::from_str_radix(token.get(at)?, 16).ok();
        let tenant = match token.get(32..33)? {
            "n" => Tenant::named(token.get(33..)?),
            _ => Tenant::Overflow,
        };
        Some((number(0..16)?, TemplateKey(number(16..32)?), tenant))
    };
    match given(token) {
        None => Ok(None),
        Some(token) => read(&token).map(Some).ok_or_else(|| no_token(&token)),
    }
}

/// A token that no page gave.
pub fn no_token(token: &str) -> Status {
    let token: String = token.chars().take(64).collect();
    Status::invalid_argument(format!(
        "page_token: `{token}` was given by no page; send the next_page_token of the page before, or nothing"
    ))
}

/// A text that says something.
pub fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A time in Unix nanoseconds; `field` names it in the complaint.
pub fn unix_nano(field: &str, time: Option<&Timestamp>) -> Result<Option<u64>, Status> {
    let Some(time) = time else { return Ok(None) };
    let nanos = u64::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let seconds = u64::try_from(time.seconds).ok();
    let unix_nano = seconds
        .zip(nanos)
        .and_then(|(seconds, nanos)| seconds.checked_mul(1_000_000_000)?.checked_add(nanos));
    match unix_nano {
        Some(unix_nano) => Ok(Some(unix_nano)),
        None => Err(Status::invalid_argument(format!(
            "{field}: no time between 1970 and 2554; send seconds since 1970 and nanos below 1,000,000,000"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_place() {
        for tenant in [Tenant::default(), Tenant::named("acmé-o"), Tenant::Overflow] {
            let place = (1_731_924_000_000_000_000, TemplateKey(u64::MAX), tenant);
            assert!(template_place(&template_token(&place)).is_ok_and(|read| read == Some(place)));
        }
        for wrong in ["x", "zzzzzzzzzzzzzzzz0000000000000000n", "é"] {
            assert!(template_place(wrong).is_err(), "{wrong}");
            assert!(incident_place(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn senseless_questions_are_refused() {
        assert!(page_size(-1).is_err());
        assert!(page_size(1_000_000).is_ok_and(|size| size == MAX_PAGE));
        let since = |seconds, nanos| proto::ListIncidentsRequest {
            since: Some(Timestamp { seconds, nanos }),
            ..Default::default()
        };
        assert!(which_incidents(&since(-1, 0)).is_err());
        assert!(which_incidents(&since(1, -1)).is_err());
        assert!(which_incidents(&since(i64::MAX, 0)).is_err());
        assert!(which_incidents(&since(1, 5)).is_ok_and(|which| which.since_unix_nano == Some(1_000_000_005)));
        let state = proto::ListIncidentsRequest {
            state: 9,
            ..Default::default()
        };
        assert!(which_incidents(&state).is_err());
    }
}
