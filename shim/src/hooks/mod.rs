//! The functions that stand before the program's: they take the guard, call
//! one function each, and return.

pub mod blocks;
pub mod mappings;
pub mod process;
