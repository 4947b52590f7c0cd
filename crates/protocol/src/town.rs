//! The town API: what `sandboxd town` and the town object say to each other (spec/town.md 2.2, 5).
