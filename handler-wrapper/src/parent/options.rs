//! Which contexts a record's span uses, and how.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::carriers::{Fields, MessageView};

/// A family of carriers, for [`ContextOptions::order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CarrierFamily {
    /// Everything that holds a `traceparent`.
    W3c,
    /// The X-Ray headers.
    Xray,
}

/// How a record's span relates to the creation context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Relation {
    /// Child of the creation context, and linked to it: one connected trace. The default.
    #[default]
    Parent,
    /// Linked only; the parent is whatever is current.
    Link,
}

/// What to do with an X-Ray context whose header leaves the sampling decision open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Deferred {
    /// Use it as the parent and let the local root sampler decide. The default.
    #[default]
    Parent,
    /// Link to it only.
    Link,
}

/// Which contexts of a record's other carriers are linked, when their trace id differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LinkSecondary {
    /// All of them.
    Always,
    /// Those that are sampled or deferred; an unsampled one was never exported. The default.
    #[default]
    Sampled,
    /// None.
    Never,
}

type Carrier = Arc<dyn Fn(&MessageView<'_>) -> Option<Fields> + Send + Sync>;

/// Options of [`read`](super::read). `Default` is what `traced_sqs_handler` uses.
#[derive(Clone)]
pub struct ContextOptions {
    /// The carriers, best first. Default: W3C, then X-Ray. A family that is not named is not read.
    pub order: Vec<CarrierFamily>,
    /// Read `traceparent` out of an SNS notification in the body. Default: true.
    pub sns_envelope: bool,
    /// Read `traceparent` out of the `detail` of an EventBridge event in the body. Default: false.
    pub eventbridge_detail: bool,
    /// Read the `traceparent` inside the attribute `_datadog`. Default: false.
    pub datadog: bool,
    /// Use an X-Ray context with `Sampled=0` as an unsampled parent. Default: false, because AWS
    /// SDKs inside Lambda send such a header with every message while X-Ray is off.
    pub respect_xray_unsampled: bool,
    /// Link to an X-Ray context with `Sampled=0`. Default: false.
    pub link_unsampled: bool,
    /// What to do with an X-Ray context without a sampling decision. Default: parent.
    pub deferred: Deferred,
    /// Which contexts of other carriers are linked. Default: those sampled or deferred.
    pub link_secondary: LinkSecondary,
    /// Older messages, by `SentTimestamp`, are linked instead of continued. Default: no limit.
    pub max_parent_age: Option<Duration>,
    /// Whether the creation context is the parent or a link. Default: parent.
    pub relation: Relation,
    /// Take `baggage` from the message attributes. Default: true; turn it off for queues that
    /// others can write to.
    pub trust_baggage: bool,
    /// Take `baggage` from SNS and EventBridge envelopes and the carriers below too. Default: false.
    pub trust_envelope_baggage: bool,
    /// A carrier of the user's own, asked after the other W3C carriers. Default: none.
    pub carrier: Option<Carrier>,
}

impl Default for ContextOptions {
    fn default() -> Self {
        Self {
            order: vec![CarrierFamily::W3c, CarrierFamily::Xray],
            sns_envelope: true,
            eventbridge_detail: false,
            datadog: false,
            respect_xray_unsampled: false,
            link_unsampled: false,
            deferred: Deferred::default(),
            link_secondary: LinkSecondary::default(),
            max_parent_age: None,
            relation: Relation::default(),
            trust_baggage: true,
            trust_envelope_baggage: false,
            carrier: None,
        }
    }
}

impl ContextOptions {
    /// Adds a carrier of the user's own: a function that finds `traceparent` and its companions
    /// in a message. A value that is not a valid `traceparent` counts as absent.
    #[must_use]
    pub fn with_carrier<F>(mut self, carrier: F) -> Self
    where
        F: Fn(&MessageView<'_>) -> Option<Fields> + Send + Sync + 'static,
    {
        self.carrier = Some(Arc::new(carrier));
        self
    }
}

impl fmt::Debug for ContextOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextOptions")
            .field("order", &self.order)
            .field("sns_envelope", &self.sns_envelope)
            .field("eventbridge_detail", &self.eventbridge_detail)
            .field("datadog", &self.datadog)
            .field("respect_xray_unsampled", &self.respect_xray_unsampled)
            .field("link_unsampled", &self.link_unsampled)
            .field("deferred", &self.deferred)
            .field("link_secondary", &self.link_secondary)
            .field("max_parent_age", &self.max_parent_age)
            .field("relation", &self.relation)
            .field("trust_baggage", &self.trust_baggage)
            .field("trust_envelope_baggage", &self.trust_envelope_baggage)
            .field("carrier", &self.carrier.as_ref().map(|_| "Fn"))
            .finish()
    }
}
