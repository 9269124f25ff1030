//! What people say of templates and incidents.
//!
//! What enters: requests to give, take back and list opinions. What leaves: what the desk made of them, or a status that says
//! what the caller should do. Promise: the disk is never waited for on the threads that serve. Absent on purpose: who may
//! say what; whoever reaches the API may.

use std::sync::Arc;

use tonic::{Response, Status};

use super::{answers, proto, questions};
use crate::{
    edge::{Desk, FeedbackError},
    engine::{
        feedback::{Entry, Feedback, Given, Opinion, Refused, Subject},
        tenant::Tenant,
        text::TemplateKey,
    },
};

/// Does what blocks where it may.
pub async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<Response<T>, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|gone| Err(Status::internal(gone.to_string())))
        .map(Response::new)
}

/// Gives the desk what the request says.
pub fn give(desk: &dyn Desk, request: proto::GiveFeedbackRequest) -> Result<proto::GiveFeedbackResponse, Status> {
    use proto::give_feedback_request::{Opinion as Said, Subject as About};
    let subject = match &request.subject {
        Some(About::TemplateKey(key)) => Subject::Template(template_key(key)?),
        Some(About::IncidentId(id)) => Subject::Incident(questions::incident_id(id)?),
        None => return Err(Status::invalid_argument("send template_key or incident_id")),
    };
    let opinion = match &request.opinion {
        Some(Said::Normal(_)) => Opinion::Normal,
        Some(Said::Real(_)) => Opinion::Real,
        Some(Said::MuteUntil(until)) => Opinion::MuteUntil {
            time_unix_nano: questions::unix_nano("mute_until", Some(until))?.unwrap_or_default(),
        },
        None => return Err(Status::invalid_argument("send normal, mute_until or real")),
    };
    let tenant = match (&request.tenant, subject) {
        (Some(name), _) => tenant_named(name),
        // An id says whose incident it is.
        (None, Subject::Incident(id)) => desk.incident(id).map(|found| found.told.tenant).unwrap_or_default(),
        (None, Subject::Template(_)) => Tenant::default(),
    };
    let feedback = Feedback {
        subject,
        service: service(request.service.as_deref()),
        opinion,
        comment: request.comment,
        author: request.author,
    };
    let given = desk.give_feedback(&tenant, feedback).map_err(|error| refusal(&error))?;
    Ok(proto::GiveFeedbackResponse {
        summary: summary(&given, opinion),
        template_keys: given.templates.iter().map(ToString::to_string).collect(),
        closed_incident_ids: given.incidents.iter().map(ToString::to_string).collect(),
        kept: given.kept,
    })
}

/// Takes back what the request names.
pub fn withdraw(
    desk: &dyn Desk,
    request: proto::WithdrawFeedbackRequest,
) -> Result<proto::WithdrawFeedbackResponse, Status> {
    let tenant = request.tenant.as_deref().map(tenant_named).unwrap_or_default();
    let template = template_key(&request.template_key)?;
    let service = service(request.service.as_deref());
    let entry = desk
        .withdraw_feedback(&tenant, template, service.as_deref())
        .map_err(|error| refusal(&error))?;
    Ok(proto::WithdrawFeedbackResponse {
        withdrawn: Some(told(&tenant, template, service.as_ref(), &entry)),
    })
}

/// What was said, from a place in the list on.
pub fn list(desk: &dyn Desk, request: &proto::ListFeedbackRequest) -> Result<proto::ListFeedbackResponse, Status> {
    let size = questions::page_size(request.page_size)?;
    let from = match questions::given(&request.page_token) {
        None => 0,
        Some(token) => token.parse().map_err(|_| questions::no_token(&token))?,
    };
    let book = desk.feedback();
    let meant = book.tenants.iter().filter(|(tenant, _)| {
        let name = tenant.name().unwrap_or_default();
        request.tenant.as_deref().is_none_or(|asked| asked == name)
    });
    let all = meant.flat_map(|(tenant, entries)| entries.iter().map(move |place| (tenant, place)));
    let mut rest = all.skip(from);
    let opinions = rest.by_ref().take(size);
    let opinions = opinions
        .map(|(tenant, ((template, service), entry))| told(tenant, *template, service.as_ref(), entry))
        .collect();
    let more = rest.next().is_some();
    Ok(proto::ListFeedbackResponse {
        opinions,
        next_page_token: if more { (from + size).to_string() } else { String::new() },
    })
}

fn told(tenant: &Tenant, template: TemplateKey, service: Option<&Arc<str>>, entry: &Entry) -> proto::Opinion {
    use proto::{
        give_feedback_request::{Normal, Real},
        opinion::Opinion as Said,
    };
    proto::Opinion {
        tenant: tenant.name().unwrap_or_default().to_owned(),
        template_key: template.to_string(),
        text: entry.text.clone(),
        service: service.map(ToString::to_string),
        opinion: Some(match entry.opinion {
            Opinion::Normal => Said::Normal(Normal {}),
            Opinion::Real => Said::Real(Real {}),
            Opinion::MuteUntil { time_unix_nano } => {
                Said::MuteUntil(answers::timestamp(time_unix_nano).unwrap_or_default())
            }
        }),
        comment: entry.comment.clone(),
        author: entry.author.clone(),
        given_at: answers::timestamp(entry.given_at_unix_nano).filter(|_| entry.given_at_unix_nano > 0),
    }
}

fn summary(given: &Given, opinion: Opinion) -> String {
    let count = given.templates.len();
    let templates = if count == 1 { "template" } else { "templates" };
    let what = match opinion {
        Opinion::Normal => "not marked from now on, and learned as usual",
        Opinion::MuteUntil { .. } => "not marked until then, and not learned from",
        Opinion::Real => "always marked from now on",
    };
    let closed = match given.incidents.as_slice() {
        [] => String::new(),
        ids => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            format!("; closed {}", ids.join(", "))
        }
    };
    let kept = if given.kept {
        ""
    } else {
        "; not on the disk: the next restart forgets it"
    };
    format!("{count} {templates} {what}{closed}{kept}")
}

/// The tenant of this name; what no name can be is the overflow.
fn tenant_named(name: &str) -> Tenant {
    match Tenant::Overflow.name() {
        Some(overflow) if overflow == name => Tenant::Overflow,
        _ => Tenant::named(name),
    }
}

fn service(name: Option<&str>) -> Option<Arc<str>> {
    name.filter(|name| !name.is_empty()).map(Arc::from)
}

fn template_key(text: &str) -> Result<TemplateKey, Status> {
    text.parse()
        .map_err(|why: crate::engine::text::NotAKey| Status::invalid_argument(why.to_string()))
}

fn refusal(error: &FeedbackError) -> Status {
    let message = error.to_string();
    match error {
        FeedbackError::Refused(Refused::TooMany) => Status::resource_exhausted(message),
        FeedbackError::Refused(Refused::TooLong { .. }) => Status::invalid_argument(message),
        FeedbackError::Refused(_) => Status::not_found(message),
        FeedbackError::Unreadable(_) | FeedbackError::NotKept(_) => Status::failed_precondition(message),
    }
}
