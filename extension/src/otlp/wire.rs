//! The protobuf wire format, read without a schema and written by hand.

use super::walk::Malformed;

/// Groups inside groups that are followed before a request counts as malformed.
/// Chosen, because OTLP has no groups at all: they can only come from fields of a later version.
const GROUP_DEPTH_MAX: u32 = 16;

/// One field of a message: its number, the bytes it occupies with its tag, and what it holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    /// The number from the message's definition.
    pub(super) number: u32,
    /// Tag, length and value, as they came.
    pub(super) raw: &'a [u8],
    /// The value.
    pub(super) value: Value<'a>,
}

/// A field's value as far as the wire format tells.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 2: a string, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
    /// Wire types 1, 3 and 5: nothing here reads them.
    Other,
}

/// An iterator over the fields of one message.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

// === impl Fields ===

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn read(&mut self) -> Result<Field<'a>, Malformed> {
        let start = self.rest;
        let tag = u32::try_from(varint(&mut self.rest)?).map_err(|_| Malformed)?;
        let number = tag >> 3;
        let value = read_value(&mut self.rest, number, tag & 7, GROUP_DEPTH_MAX)?;
        let raw = &start[..start.len() - self.rest.len()];
        Ok(Field { number, raw, value })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

// === impl Field ===

impl<'a> Field<'a> {
    /// The bytes of a field whose definition says message, string or bytes.
    pub(super) fn bytes(&self) -> Result<&'a [u8], Malformed> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Varint(_) | Value::Other => Err(Malformed),
        }
    }
}

fn read_value<'a>(
    rest: &mut &'a [u8],
    number: u32,
    wire_type: u32,
    groups_left: u32,
) -> Result<Value<'a>, Malformed> {
    if number == 0 {
        return Err(Malformed);
    }
    match wire_type {
        0 => varint(rest).map(Value::Varint),
        1 => take(rest, 8).map(|_| Value::Other),
        2 => {
            let length = usize::try_from(varint(rest)?).map_err(|_| Malformed)?;
            take(rest, length).map(Value::Bytes)
        }
        3 => skip_group(rest, number, groups_left).map(|()| Value::Other),
        5 => take(rest, 4).map(|_| Value::Other),
        _ => Err(Malformed),
    }
}

fn skip_group(rest: &mut &[u8], group: u32, groups_left: u32) -> Result<(), Malformed> {
    let left = groups_left.checked_sub(1).ok_or(Malformed)?;
    loop {
        let tag = u32::try_from(varint(rest)?).map_err(|_| Malformed)?;
        let (number, wire_type) = (tag >> 3, tag & 7);
        if wire_type == 4 {
            return if number == group {
                Ok(())
            } else {
                Err(Malformed)
            };
        }
        read_value(rest, number, wire_type, left)?;
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, left) = rest.split_at_checked(length).ok_or(Malformed)?;
    *rest = left;
    Ok(taken)
}

fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for (index, &byte) in rest.iter().take(10).enumerate() {
        // The tenth byte has room for one bit (Protocol Buffers, "Encoding", "Base 128 Varints").
        if index == 9 && byte > 1 {
            return Err(Malformed);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *rest = &rest[index + 1..];
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// Appends a base-128 number.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends tag and length of a length-delimited field whose value follows.
pub(super) fn put_header(out: &mut Vec<u8>, number: u32, length: usize) {
    put_varint(out, u64::from(number << 3 | 2));
    put_varint(out, length as u64);
}

/// Appends a length-delimited field.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_header(out, number, value.len());
    out.extend_from_slice(value);
}
