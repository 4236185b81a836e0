//! Access levels of a client.

use crate::wire_enum::wire_enum;

wire_enum! {
    /// Access level of a client, derived from its kernel credentials. `view` if they are unknown.
    pub enum Access {
        /// Allows reading only.
        View = "view",
        /// Allows reading and changing.
        Operate = "operate",
    }
}
