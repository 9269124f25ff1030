//! A producer that goes on when librdkafka's has failed for good, as an idempotent one can.
//!
//! What enters: settings of librdkafka. What leaves: the producer of the moment, and what became of a message. Promise: one that has failed for good is
//! replaced by a new one, once. Absent on purpose: another attempt at a message, which is for whoever sent it.

use std::sync::{Arc, PoisonError, RwLock};

use rdkafka::{
    ClientConfig,
    error::{KafkaError, KafkaResult},
    producer::{DeliveryFuture, FutureProducer, Producer as _},
};

use super::{Voice, speaking};

/// librdkafka's producer, as it speaks to our log.
pub type Writer = FutureProducer<Voice>;

/// See the module.
pub struct Producer {
    component: String,
    config: ClientConfig,
    current: RwLock<Arc<Writer>>,
}

impl Producer {
    /// The producer of a component, which connects by itself. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// What librdkafka does not take, as a certificate that cannot be read.
    pub fn new(component: &str, config: ClientConfig) -> KafkaResult<Self> {
        let first = config.create_with_context(speaking(component))?;
        Ok(Self {
            component: component.to_owned(),
            config,
            current: RwLock::new(Arc::new(first)),
        })
    }

    /// The one to send by now.
    pub fn current(&self) -> Arc<Writer> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A message that went by `used` was not written: if that has failed for good, there is another from now on.
    pub fn failed(&self, used: &Arc<Writer>) {
        let Some((code, reason)) = used.client().fatal_error() else {
            return;
        };
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, used) {
            return;
        }
        match self.config.create_with_context(speaking(&self.component)) {
            Ok(new) => {
                tracing::warn!(component = self.component, "the producer is replaced: {code}: {reason}");
                *current = Arc::new(new);
            }
            Err(problem) => tracing::error!(
                component = self.component,
                "the producer failed ({code}: {reason}), and no other can be made: {problem}"
            ),
        }
    }
}

/// What became of a message that was sent.
///
/// # Errors
/// No broker has it, as far as is known.
pub async fn written(sent: Result<DeliveryFuture, KafkaError>) -> KafkaResult<()> {
    match sent?.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err((problem, _))) => Err(problem),
        Err(_) => Err(KafkaError::Canceled),
    }
}
