//! Splitting a request that is too large for upstream.

use super::Signal;
use super::walk::{DATA_POINTS, METRIC_DATA, Malformed, TO_ITEM, count_below};
use super::wire::{Fields, put_bytes};

/// Two messages that hold together what one held.
type Halves = (Vec<u8>, Vec<u8>);

/// Splits an export request in two of about the same size.
///
/// Cuts between `ResourceX` messages where there are several, else between `ScopeX`, else between items;
/// the fields around the cut are repeated in both parts, so that every item keeps its resource and scope.
/// `None` when there is nothing to cut: one item or none, or malformed bytes.
#[must_use]
pub fn split(signal: Signal, request: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    split_below(signal, request, &TO_ITEM).ok().flatten()
}

fn split_below(signal: Signal, message: &[u8], path: &[u32]) -> Result<Option<Halves>, Malformed> {
    let Some((&child, below)) = path.split_first() else {
        return if signal == Signal::Metrics {
            split_metric(message)
        } else {
            Ok(None)
        };
    };
    let mut around = Vec::new();
    let mut children = Vec::new();
    for field in Fields::of(message) {
        let field = field?;
        if field.number == child {
            let body = field.bytes()?;
            let items = count_below(signal, body, below)?;
            children.push(Child {
                raw: field.raw,
                body,
                items,
            });
        } else {
            around.extend_from_slice(field.raw);
        }
    }
    if let Some(at) = cut(&children) {
        return Ok(Some(halves(&around, &children, at)));
    }
    // At most one child holds items: the cut is inside it, and the empty ones stay with the first half.
    let Some(full) = children.iter().position(|child| child.items > 0) else {
        return Ok(None);
    };
    let Some((first, second)) = split_below(signal, children[full].body, below)? else {
        return Ok(None);
    };
    let mut front = around.clone();
    for (index, other) in children.iter().enumerate() {
        if index != full {
            front.extend_from_slice(other.raw);
        }
    }
    put_bytes(&mut front, child, &first);
    put_bytes(&mut around, child, &second);
    Ok(Some((front, around)))
}

fn split_metric(metric: &[u8]) -> Result<Option<Halves>, Malformed> {
    let (mut kind, mut around, mut data) = (0, Vec::new(), Vec::new());
    for field in Fields::of(metric) {
        let field = field?;
        if !METRIC_DATA.contains(&field.number) {
            around.extend_from_slice(field.raw);
            continue;
        }
        // The last alternative counts, and the same one twice is merged: see `count`.
        if kind != field.number {
            kind = field.number;
            data.clear();
        }
        data.extend_from_slice(field.bytes()?);
    }
    let (mut beside, mut points) = (Vec::new(), Vec::new());
    for field in Fields::of(&data) {
        let field = field?;
        if field.number == DATA_POINTS {
            points.push(Child {
                raw: field.raw,
                body: field.bytes()?,
                items: 1,
            });
        } else {
            beside.extend_from_slice(field.raw);
        }
    }
    let Some(at) = cut(&points) else {
        return Ok(None);
    };
    let (first, second) = halves(&beside, &points, at);
    let mut front = around.clone();
    put_bytes(&mut front, kind, &first);
    put_bytes(&mut around, kind, &second);
    Ok(Some((front, around)))
}

/// A field that leads down to items.
struct Child<'a> {
    raw: &'a [u8],
    body: &'a [u8],
    items: u64,
}

/// Where to cut so that both sides hold items and are as even in bytes as they can be.
fn cut(children: &[Child<'_>]) -> Option<usize> {
    let first = children.iter().position(|child| child.items > 0)?;
    let last = children.iter().rposition(|child| child.items > 0)?;
    let whole: usize = children.iter().map(|child| child.raw.len()).sum();
    let mut before: usize = children[..=first].iter().map(|child| child.raw.len()).sum();
    let mut at = first + 1;
    while at < last && 2 * before + children[at].raw.len() <= whole {
        before += children[at].raw.len();
        at += 1;
    }
    (at <= last).then_some(at)
}

fn halves(around: &[u8], children: &[Child<'_>], at: usize) -> Halves {
    let part = |children: &[Child<'_>]| {
        let mut out = around.to_vec();
        for child in children {
            out.extend_from_slice(child.raw);
        }
        out
    };
    (part(&children[..at]), part(&children[at..]))
}
