//! Why a record failed.

use std::any::Any;
use std::borrow::Cow;

use super::options::Options;

/// Why a record failed, in words of low cardinality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) error_type: Cow<'static, str>,
    /// Only where it was asked for: errors quote payloads.
    pub(super) detail: Option<Cow<'static, str>>,
}

impl Failure {
    const fn of(error_type: &'static str) -> Self {
        Self {
            error_type: Cow::Borrowed(error_type),
            detail: None,
        }
    }

    /// The body is absent, not a string, or not what the processor's argument is made of.
    pub(super) const INVALID_BODY: Self = Self::of("invalid_body");
    /// The record is not an object.
    pub(super) const INVALID_RECORD: Self = Self::of("invalid_record");
    /// The processor panicked.
    pub(super) const PANIC: Self = Self::of("panic");
    /// The deadline came first.
    pub(super) const TIMEOUT: Self = Self::of("timeout");
    /// The invocation was dropped.
    pub(super) const CANCELLED: Self = Self::of("cancelled");

    /// The processor returned `error`.
    pub(super) fn error<E: 'static>(options: &Options, error: &E) -> Self {
        let error: &dyn Any = error;
        let named = options.error_type.as_ref().and_then(|name| name(error));
        Self {
            error_type: named.unwrap_or_else(type_name::<E>),
            detail: options.error_detail.as_ref().and_then(|text| text(error)),
        }
    }

    /// The argument could not be made.
    pub(super) fn invalid_body(options: &Options, error: &lambda_runtime::Error) -> Self {
        let detail = options.body_error_detail.then(|| error.to_string().into());
        Self {
            detail,
            ..Self::INVALID_BODY
        }
    }
}

/// The name of `E`, or `_OTHER` when it says nothing because the real type was erased.
pub(crate) fn type_name<E>() -> Cow<'static, str> {
    let name = std::any::type_name::<E>();
    let erased = name.starts_with("alloc::boxed::Box<dyn ")
        || name.starts_with("anyhow::")
        || name.starts_with("eyre::")
        || name.starts_with("lambda_runtime::diagnostic::");
    Cow::Borrowed(if erased { "_OTHER" } else { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_an_erased_error_is_other() {
        assert_eq!(type_name::<lambda_runtime::Error>(), "_OTHER");
        assert_eq!(type_name::<Box<dyn std::error::Error>>(), "_OTHER");
        assert_eq!(type_name::<std::fmt::Error>(), "core::fmt::Error");
        assert_eq!(type_name::<String>(), "alloc::string::String");
    }
}
