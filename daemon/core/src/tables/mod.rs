//! Tables of sessions and connections.

mod check;
pub(crate) mod index;
pub(crate) mod lists;
pub(crate) mod reports;
pub(crate) mod restore;
pub mod rows;
pub(crate) mod sessions;
pub(crate) mod slab;
