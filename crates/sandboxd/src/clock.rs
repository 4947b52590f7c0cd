//! The clock of this process. The machines of `sandbox-core` take its time as an argument.

use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
