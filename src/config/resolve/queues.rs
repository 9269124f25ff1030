//! Queues and their disk, and which exporters need them.
//!
//! What enters: what is defined. What leaves: findings. Promises: a queue names a disk that is there and runs; at most one
//! exporter that can refuse has no queue, as a refusal of one has the sender repeat everything to all. Absent on purpose:
//! whether the disk works.

use super::{
    super::{
        component::{ComponentId, Role},
        document::Node,
        endpoints,
        settings::{Config, Extension},
    },
    Defined, Resolver, service,
};

impl Resolver {
    pub(super) fn check_queues(&self, root: &Node, config: &Config, defined: &[Defined]) {
        for (id, exporter) in &config.exporters.0 {
            let Some(storage) = exporter.sending_queue().and_then(|queue| queue.storage.as_ref()) else {
                continue;
            };
            let known = defined
                .iter()
                .find(|known| known.role == Role::Extension && known.text == *storage);
            let message = match known.map(|known| &known.id) {
                None => service::undefined(Role::Extension, storage, defined),
                // Where it was defined, it was refused already.
                Some(None) => continue,
                Some(Some(extension)) => match config.extensions.get(extension) {
                    None => continue,
                    Some(Extension::FileStorage(_)) if config.service.extensions.contains(extension) => continue,
                    Some(Extension::FileStorage(_)) => format!(
                        "`{storage}` is defined and does not run; add it: `service: {{extensions: [{storage}]}}`"
                    ),
                    Some(_) => format!(
                        "`{storage}` keeps nothing; write `storage: file_storage` with `extensions: {{file_storage: {{}}}}`"
                    ),
                },
            };
            let steps = ["exporters", &id.to_string(), "sending_queue", "storage"].map(str::to_owned);
            let place = endpoints::place(root, &steps).unwrap_or_else(|| root.place.clone());
            self.tell(&place, steps.join("."), message);
        }
        for (pipeline, settings) in &config.service.pipelines {
            let waits = |id: &&ComponentId| {
                let exporter = config.exporters.get(id);
                exporter.is_some_and(|exporter| exporter.sending_queue().is_none() && !exporter.takes_everything())
            };
            let without: Vec<String> = settings
                .exporters
                .iter()
                .filter(waits)
                .map(ToString::to_string)
                .collect();
            if without.len() < 2 {
                continue;
            }
            let steps = ["service", "pipelines", pipeline, "exporters"].map(str::to_owned);
            let place = endpoints::place(root, &steps).unwrap_or_else(|| root.place.clone());
            let message = format!(
                "an acknowledgement can wait for one destination only, and {} have no queue; write `sending_queue: \
                 {{storage: file_storage}}` in all of them but one (`file` and `debug` have none)",
                without.join(", ")
            );
            self.tell(&place, steps.join("."), message);
        }
    }
}
