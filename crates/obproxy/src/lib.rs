//! One OBProxy: admin SQL, configuration items, versions, process state.

pub mod config_items;
