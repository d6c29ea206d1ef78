//! What the environment says about logs.

use super::config::var;
use crate::logs::Settings;

pub(super) fn read() -> Settings {
    let [level, format, rust_log] =
        ["AWS_LAMBDA_LOG_LEVEL", "AWS_LAMBDA_LOG_FORMAT", "RUST_LOG"].map(var);
    Settings::new(level.as_deref(), format.as_deref(), rust_log.as_deref())
}
