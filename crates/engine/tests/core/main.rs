//! The pure core: searched exhaustively in small graphs, compared with a naive model in random ones.

mod against_model;
mod model;
mod rules;
mod small_scope;
mod support;
