//! The container side of Holdfast.
fn main() {}
