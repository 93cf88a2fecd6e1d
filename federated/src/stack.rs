//! Work that recurses with the depth of an expression.

use crate::error::{Code, Error, Result};

/// Parsing and typing recurse over the text; this much stack bears 32 KiB of it, the longest that is taken.
const STACK_BYTES: usize = 256 * 1024 * 1024;

/// Runs work on a stack of its own: the parser and the engine recurse, and a long chain of operators needs
/// stack, not trust.
pub(crate) fn on_a_deep_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new()
            .name("query".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work);
        match worker {
            Ok(worker) => worker.join().unwrap_or_else(|_| {
                Err(Error::new(
                    Code::Internal,
                    "work on a query ended abnormally",
                ))
            }),
            Err(_) => Err(Error::new(
                Code::LimitExceeded,
                "no thread could be started for a query",
            )),
        }
    })
}
