//! tRPC over HTTP: inputs, outputs, errors (spec/session.md 2).
