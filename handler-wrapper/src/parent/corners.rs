//! One test per corner in which published propagators read something else, and the properties
//! that hold for every input.

use std::time::SystemTime;

use aws_lambda_events::sqs::{SqsMessage, SqsMessageAttribute};
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceState};
use opentelemetry::{Context, SpanId, TraceFlags, TraceId};
use proptest::prelude::*;

use super::w3c::{Traceparent, normalised_tracestate, traceparent};
use super::xray::{Sampled, TraceHeader};
use super::{ContextOptions, ContextSource, LinkSecondary, RecordContext, read};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
const TP: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const ROOT: &str = "1-5759e988-bd862e3fe1be46a994272793";

fn attribute(text: &str) -> SqsMessageAttribute {
    let mut attribute = SqsMessageAttribute::default();
    attribute.string_value = Some(text.into());
    attribute.data_type = Some("String".into());
    attribute
}

fn message(attributes: &[(&str, &str)], header: Option<&str>) -> SqsMessage {
    let mut message = SqsMessage::default();
    for (name, text) in attributes {
        message
            .message_attributes
            .insert((*name).into(), attribute(text));
    }
    message
        .attributes
        .extend(header.map(|header| ("AWSTraceHeader".into(), header.into())));
    message
}

fn read_default(message: &SqsMessage) -> RecordContext {
    read(message, &ContextOptions::default(), SystemTime::UNIX_EPOCH)
}

fn refused(text: &str) {
    assert_eq!(Traceparent::parse(text), None, "{text:?}");
}

// opentelemetry_sdk 0.33.1, TraceContextPropagator

#[test]
fn ids_that_are_too_short_are_not_extended_with_zeros() {
    refused("00-0af7651916cd43dd-b7ad6b7169203331-01");
    refused("00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01");
    refused("00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01");
    refused("00-00af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
}

#[test]
fn signs_and_odd_lengths_are_not_numbers() {
    refused("+0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    refused("00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    refused("00-0af7651916cd43dd8448eb211c80319c-+7ad6b7169203331-01");
    refused("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+1");
    refused("0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    refused("000-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    refused("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1");
    refused("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-001");
    refused("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-");
    refused("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n");
    refused("CC-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
}

#[test]
fn the_random_flag_survives_reading_and_writing() {
    let text = format!("00-{TRACE}-{SPAN}-03");
    let (context, _) = Traceparent::parse(&text).unwrap().into_span_context(None);
    assert_eq!(traceparent(&context), text);
}

#[test]
fn tracestate_members_that_are_not_valid_drop_all_of_it() {
    for bad in [
        "=1",
        "a=",
        "a==1",
        "a=\u{e9}",
        "a=\u{1}",
        "A=1",
        "a",
        "a =1",
        &"k=v,".repeat(33),
    ] {
        assert_eq!(normalised_tracestate(bad), None, "{bad:?}");
        let context = read_default(&message(&[("traceparent", TP), ("tracestate", bad)], None));
        assert_eq!(context.source, ContextSource::W3c);
        assert_eq!(context.tracestate(), None, "{bad:?}");
    }
}

#[test]
fn a_tracestate_that_the_sdk_cannot_hold_is_carried_beside_it() {
    let state = "foo@bar@baz=1,bar=2";
    let record = read_default(&message(
        &[("traceparent", TP), ("tracestate", state)],
        None,
    ));
    assert_eq!(record.tracestate().as_deref(), Some(state));
    assert_eq!(
        record.creation.as_ref().unwrap().trace_state().header(),
        "bar=2"
    );
    let context = record.processing_context(&Context::new());
    assert_eq!(
        context.get::<super::CarriedTraceState>().unwrap().text,
        state
    );
}

// opentelemetry-aws 0.21.0, XrayPropagator

#[test]
fn a_header_without_a_parent_never_hides_a_good_traceparent() {
    for header in [
        format!("Root={ROOT}"),
        format!("Root={ROOT};Parent=;Sampled=1"),
        "garbage".into(),
    ] {
        assert_eq!(TraceHeader::parse(&header), None, "{header}");
        let context = read_default(&message(&[("traceparent", TP)], Some(&header)));
        assert_eq!(context.source, ContextSource::W3c);
        assert_eq!(context.links.len(), 1);
    }
}

#[test]
fn deferred_is_no_flag() {
    for sampled in ["", ";Sampled=?", ";Sampled=", ";Sampled=2"] {
        let header = format!("Root={ROOT};Parent=53995c3f42cd8ad8{sampled}");
        let context = read_default(&message(&[], Some(&header)));
        let parent = context.parent.expect("deferred contexts are continued");
        assert!(parent.deferred);
        assert_eq!(parent.span_context.trace_flags(), TraceFlags::NOT_SAMPLED);
    }
}

#[test]
fn foreign_fields_neither_kill_the_header_nor_leak_out_of_it() {
    let header = format!(
        "Self=1-67891234-12456789abcdef012345678;Root={ROOT}; Parent=53995c3f42cd8ad8 ;Sampled=1;Foo=a=b, c;Lineage=1:a87bd80c:0;noequals"
    );
    let record = read_default(&message(&[], Some(&header)));
    assert_eq!(record.source, ContextSource::Xray);
    assert_eq!(record.tracestate(), None);
    assert!(record.baggage.is_none());
}

#[test]
fn roots_of_wrong_shape_are_refused() {
    for root in [
        "2-5759e988-bd862e3fe1be46a994272793",
        "1-5759e988-bd862e3fe1be46a99427279",
        "1--bd862e3fe1be46a994272793",
        "1-+759e988-bd862e3fe1be46a994272793",
        "=1-5759e988-bd862e3fe1be46a994272793",
    ] {
        assert_eq!(
            TraceHeader::parse(&format!("Root={root};Parent=53995c3f42cd8ad8;Sampled=1")),
            None,
            "{root}"
        );
    }
}

#[test]
fn an_unsampled_header_of_our_own_is_a_decision() {
    let header = format!("Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=0");
    assert_eq!(
        read_default(&message(&[], Some(&header))).source,
        ContextSource::XrayUnsampled
    );
    let ours = read_default(&message(&[], Some(&format!("{header};Tl=1"))));
    assert_eq!(ours.source, ContextSource::Xray);
    assert!(!ours.parent.unwrap().span_context.is_sampled());
}

// Options against each other

#[test]
fn a_context_that_may_only_be_linked_gives_way_to_one_that_can_be_continued() {
    let header = format!("Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=0");
    let options = ContextOptions {
        order: vec![super::CarrierFamily::Xray, super::CarrierFamily::W3c],
        link_unsampled: true,
        ..ContextOptions::default()
    };
    let record = read(
        &message(&[("traceparent", TP)], Some(&header)),
        &options,
        SystemTime::UNIX_EPOCH,
    );
    assert_eq!(record.source, ContextSource::W3c);
    assert_eq!(
        record.parent.unwrap().span_context.trace_id().to_string(),
        TRACE
    );
    assert_eq!(record.links.len(), 2);
}

#[test]
fn baggage_needs_no_traceparent_and_trust_can_be_withdrawn() {
    let record = message(&[("baggage", "tenant=a")], None);
    assert_eq!(
        read_default(&record)
            .baggage
            .unwrap()
            .get("tenant")
            .unwrap()
            .as_str(),
        "a"
    );
    let distrust = ContextOptions {
        trust_baggage: false,
        ..ContextOptions::default()
    };
    assert!(
        read(&record, &distrust, SystemTime::UNIX_EPOCH)
            .baggage
            .is_none()
    );
}

#[test]
fn the_baggage_of_whatever_ran_before_does_not_reach_the_record() {
    use opentelemetry::KeyValue;
    use opentelemetry::baggage::BaggageExt;
    let before = Context::new().with_baggage([KeyValue::new("tenant", "someone else's")]);
    let record = read_default(&message(&[("traceparent", TP)], None));
    assert!(record.processing_context(&before).baggage().is_empty());
}

#[test]
fn a_carrier_of_the_users_own_is_asked_after_ours() {
    let options = ContextOptions::default().with_carrier(|message| {
        Some(super::Fields {
            traceparent: message.attribute("trace")?.into_owned(),
            ..Default::default()
        })
    });
    let other = format!("00-{TRACE}-1111111111111111-01");
    let both = message(&[("traceparent", TP), ("trace", &other)], None);
    let own = message(&[("trace", &other)], None);
    let span_of = |record| {
        read(record, &options, SystemTime::UNIX_EPOCH)
            .creation
            .unwrap()
            .span_id()
            .to_string()
    };
    assert_eq!(span_of(&both), SPAN);
    assert_eq!(span_of(&own), "1111111111111111");
}

#[test]
fn a_family_that_is_not_named_is_not_read() {
    let options = ContextOptions {
        order: vec![super::CarrierFamily::Xray],
        ..ContextOptions::default()
    };
    let record = read(
        &message(&[("traceparent", TP)], None),
        &options,
        SystemTime::UNIX_EPOCH,
    );
    assert_eq!(record.source, ContextSource::None);
}

// Properties

/// Text that is close to what the readers look for, so that they get past their first checks.
fn near_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.{0,8})?",
        "[ \t]?[0-9a-fA-F+]{1,3}[-_][0-9a-f]{30,34}-[0-9a-f]{14,18}-[0-9a-f+]{1,3}",
        "(Root|root|Rootx)=1-[0-9a-f]{0,9}-[0-9a-f]{23,25};[ ]?Parent=[0-9a-fA-F+]{15,17};Sampled=[01?]?(;[A-Za-z=]{0,12}){0,3}",
        "([a-z0-9@]{0,6}[=,; \t]{0,2}[ -~]{0,6},?){0,5}",
        Just("{\"Type\":\"Notification\",\"TopicArn\":\"arn\",\"MessageAttributes\":{\"traceparent\":{\"Type\":\"String\",\"Value\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"}}}".to_owned()),
        "\\{\"TopicArn\":[\"{}\\[\\]a-z,:]{0,30}\"MessageAttributes\"[\"{}:a-z]{0,20}\\}",
    ]
}

proptest! {
    #[test]
    fn nothing_in_a_message_makes_reading_panic(
        names in prop::collection::vec((prop_oneof![
            Just("traceparent".to_owned()), Just("TRACEPARENT".to_owned()), Just("tracestate".to_owned()),
            Just("baggage".to_owned()), Just("x-amzn-trace-id".to_owned()), Just("_datadog".to_owned()), any::<String>(),
        ], near_text(), prop::option::of("(String|Binary|Number|String\\.x)?")), 0..6),
        header in prop::option::of(near_text()), sent in prop::option::of(any::<String>()), body in near_text(),
        respect in any::<bool>(), link_unsampled in any::<bool>(),
    ) {
        let mut message = message(&[], header.as_deref());
        message.body = Some(body);
        message.attributes.extend(sent.map(|sent| ("SentTimestamp".into(), sent)));
        for (name, text, data_type) in names {
            let mut value = attribute(&text);
            value.data_type = data_type;
            let mut bytes = aws_lambda_events::encodings::Base64Data::default();
            *bytes = text.into_bytes();
            value.binary_value = Some(bytes);
            message.message_attributes.insert(name, value);
        }
        let options = ContextOptions {
            datadog: true, eventbridge_detail: true, respect_xray_unsampled: respect, link_unsampled,
            link_secondary: LinkSecondary::Always, max_parent_age: Some(std::time::Duration::ZERO),
            trust_envelope_baggage: true, ..ContextOptions::default()
        };
        let record = read(&message, &options, SystemTime::now());
        // Whatever came in: what comes out can be used as it is.
        for context in record.links.iter().chain(record.parent.as_ref().map(|parent| &parent.span_context)) {
            prop_assert!(context.is_valid() && context.is_remote());
        }
        prop_assert_eq!(record.creation.as_ref(), record.links.first());
        let processing = record.processing_context(&Context::new());
        prop_assert!(!processing.span().span_context().is_valid());
    }

    #[test]
    fn what_we_write_we_read(trace in 1u128.., span in 1u64.., flags in 0u8..4) {
        let context = SpanContext::new(TraceId::from(trace), SpanId::from(span), TraceFlags::new(flags), true, TraceState::NONE);
        let text = traceparent(&context);
        prop_assert_eq!(text.len(), 55);
        let (read, carried) = Traceparent::parse(&text).unwrap().into_span_context(None);
        prop_assert_eq!(read, context);
        prop_assert!(carried.is_none());
    }

    #[test]
    fn what_is_valid_stays_as_it_is(text in "([a-z0-9][a-z0-9@_*/-]{0,5}=[!-+:-<>-~-]{1,5},?){0,5}") {
        if let Some(once) = normalised_tracestate(&text) {
            prop_assert_eq!(normalised_tracestate(&once), Some(once.clone()));
            prop_assert!(!once.is_empty());
        }
    }

    #[test]
    fn case_and_padding_of_xray_ids_do_not_matter(epoch in 1u32.., random in 0u128..1 << 96, span in 1u64.., sampled in any::<bool>()) {
        let header = format!(
            "sampled={}; PARENT={span:016X}; root=1-{epoch:x}-{random:024X}", u8::from(sampled));
        let read = TraceHeader::parse(&header).unwrap();
        prop_assert_eq!(read.trace_id, TraceId::from(u128::from(epoch) << 96 | random));
        prop_assert_eq!(read.parent, SpanId::from(span));
        prop_assert_eq!(read.sampled == Sampled::Yes, sampled);
    }
}

#[cfg(feature = "producer")]
proptest! {
    #[test]
    fn what_overflows_into_the_xray_header_comes_back(trace in 1u128.., span in 1u64.., sampled in any::<bool>()) {
        let flags = if sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
        let context = SpanContext::new(TraceId::from(trace), SpanId::from(span), flags, true, TraceState::NONE);
        let header = format!("{};Lineage=1:a87bd80c:0;Tl=1", super::xray::header(&context));
        prop_assert_eq!(super::xray::lineage(&header), Some("1:a87bd80c:0"));
        let read = read_default(&message(&[], Some(&header)));
        prop_assert_eq!(read.parent.unwrap().span_context, context);
    }
}
