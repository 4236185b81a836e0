//! Tables of sessions and connections.

pub(crate) mod index;
pub mod rows;
pub(crate) mod sessions;
pub(crate) mod slab;
