//! What a client may do.

use crate::wire_enum::wire_enum;

wire_enum! {
    /// What a client may do, from the kernel's word on who it is. Unknown means `view`.
    pub enum Access {
        /// Look.
        View = "view",
        /// Look and change.
        Operate = "operate",
    }
}
