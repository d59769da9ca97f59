//! How long ago the server's lease was renewed. A lease is over 3 s after its last renewal.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
    registry::{Registry, Unit},
};

/// Tells the age of the lease, once it was renewed: that of a server alone on its database never is.
#[derive(Clone, Debug, Default)]
pub struct LeaseMetrics {
    renewed: Arc<Mutex<Option<Instant>>>,
}

impl LeaseMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    /// Notes a renewal that was asked for at `asked`.
    pub(super) fn renewed(&self, asked: Instant) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
    }
}

impl Collector for LeaseMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let renewed = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(renewed) = renewed else {
            return Ok(());
        };
        let age = encoder.encode_descriptor(
            "lease_age",
            "Time since the database renewed this server's lease; it is over after 3 seconds",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        ConstGauge::new(renewed.elapsed().as_secs_f64()).encode(age)
    }
}
