//! Who may come in and as whom we go out: whether what is written about it fits together.
//!
//! What enters: what runs. What leaves: findings about authenticators that are not there or cannot do what they are named
//! for, and warnings about secrets in plain text. Promise: a receiver that is to authenticate never starts without somebody
//! who can. Absent on purpose: whether a token is a good one, and files, see [`super::preflight`].

use super::{
    document::Node,
    endpoints,
    finding::Finding,
    read::Findings,
    settings::{Destination, Extension, Settings},
};

/// One place where an authenticator is named.
struct Named<'a> {
    /// The keys that lead to the component's settings.
    steps: Vec<String>,
    authenticator: Option<&'a str>,
    /// Whether what it shows can be read on the way.
    in_plain_text: bool,
    side: Side,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Receiver,
    Exporter,
}

/// Puts a finding in `findings` for every authenticator that cannot work, and in `warnings` what is unsafe.
pub fn check(root: &Node, settings: &Settings, findings: &Findings, warnings: &mut Vec<Finding>) {
    let finding = |steps: &[String], below: &[&str], message: String| {
        let steps: Vec<String> = steps
            .iter()
            .cloned()
            .chain(below.iter().map(|step| (*step).to_owned()))
            .collect();
        Finding::new(endpoints::place(root, &steps), steps.join("."), message)
    };
    for named in named(settings) {
        let Some(authenticator) = named.authenticator else {
            continue;
        };
        if let Err(message) = fits(settings, authenticator, named.side) {
            let found = finding(&named.steps, &["auth", "authenticator"], message);
            findings.borrow_mut().push(found);
        } else if named.in_plain_text {
            let message = match named.side {
                Side::Receiver => {
                    "callers send their secrets in plain text, for everybody between to read; write `tls: {cert_file: …, key_file: …}`"
                }
                Side::Exporter => {
                    "our secret goes out in plain text, for everybody between to read; write `endpoint: https://…`"
                }
            };
            warnings.push(finding(&named.steps, &["auth"], message.to_owned()));
        }
    }
    let processor = settings.processor.to_string();
    let notifiers = &settings.harbinger.notifiers;
    let notifier = |name: &str| {
        ["processors", &processor, "notifiers", name]
            .map(str::to_owned)
            .to_vec()
    };
    let cluster = settings
        .harbinger
        .shared_by()
        .and_then(|cluster| cluster.kafka.tls.as_ref());
    let cluster = cluster.map(|tls| {
        let steps = ["processors", &processor, "cluster"].map(str::to_owned);
        (steps.to_vec(), tls)
    });
    let unverified = settings
        .exporters
        .iter()
        .filter_map(|(id, exporter)| {
            let destination = exporter.destinations().into_iter().next()?;
            Some((vec!["exporters".to_owned(), id.to_string()], destination.tls?))
        })
        .chain([
            (notifier("alertmanager"), &notifiers.alertmanager.tls),
            (notifier("webhook"), &notifiers.webhook.tls),
        ])
        .chain(cluster)
        .filter(|(_, tls)| tls.insecure_skip_verify);
    for (steps, _) in unverified {
        let message = "whoever answers is taken for the destination; write `ca_file: PATH` instead";
        warnings.push(finding(&steps, &["tls", "insecure_skip_verify"], message.to_owned()));
    }
}

fn named(settings: &Settings) -> Vec<Named<'_>> {
    let receivers = settings.receivers.iter().flat_map(|(id, receiver)| {
        receiver.protocols().map(move |protocol| Named {
            steps: ["receivers", &id.to_string(), "protocols", protocol.name]
                .map(str::to_owned)
                .to_vec(),
            authenticator: protocol.auth.map(|auth| auth.authenticator.as_str()),
            in_plain_text: protocol.tls.is_none() && !endpoints::is_loopback(protocol.endpoint),
            side: Side::Receiver,
        })
    });
    let exporters = settings.exporters.iter().filter_map(|(id, exporter)| {
        let destinations = exporter.destinations();
        let destination = destinations.first()?;
        let is_exposed = |it: &Destination<'_>| !it.is_encrypted && !endpoints::is_loopback(it.endpoint);
        Some(Named {
            steps: vec!["exporters".to_owned(), id.to_string()],
            authenticator: destination.auth.map(|auth| auth.authenticator.as_str()),
            in_plain_text: destinations.iter().any(is_exposed),
            side: Side::Exporter,
        })
    });
    let pages = settings.extensions.iter().filter_map(|(id, extension)| {
        let Extension::HarbingerPage(page) = extension else {
            return None;
        };
        Some(Named {
            steps: vec!["extensions".to_owned(), id.to_string()],
            authenticator: page.auth.as_ref().map(|auth| auth.authenticator.as_str()),
            in_plain_text: page.tls.is_none() && !endpoints::is_loopback(&page.endpoint),
            side: Side::Receiver,
        })
    });
    receivers.chain(exporters).chain(pages).collect()
}

/// Whether the extension `authenticator` runs and can be asked by this side.
fn fits(settings: &Settings, authenticator: &str, side: Side) -> Result<(), String> {
    let running = settings
        .extensions
        .iter()
        .find(|(id, _)| id.to_string() == authenticator);
    match running.map(|(_, extension)| (extension, side)) {
        Some((Extension::BearerTokenAuth(_), _)) => Ok(()),
        Some((Extension::BasicAuth(basic), Side::Receiver)) if basic.htpasswd.is_some() => Ok(()),
        Some((Extension::BasicAuth(basic), Side::Exporter)) if basic.client_auth.is_some() => Ok(()),
        Some((Extension::BasicAuth(_), Side::Receiver)) => Err(format!(
            "`{authenticator}` knows no users; write its `htpasswd: {{file: PATH}}`"
        )),
        Some((Extension::BasicAuth(_), Side::Exporter)) => Err(format!(
            "`{authenticator}` does not know who we are; write its `client_auth: {{username: …, password: …}}`"
        )),
        Some(_) => Err(format!(
            "`{authenticator}` is no authenticator; there are `bearertokenauth` and `basicauth`"
        )),
        None => Err(format!(
            "`{authenticator}` does not run; define it in `extensions`, as `bearertokenauth: {{filename: PATH}}`, and list it in \
             `service.extensions`"
        )),
    }
}
