//! `libpyshim.so`: loaded into a program with `LD_PRELOAD`, it records where
//! every block of memory is allocated that is still alive.
//!
//! The modules, in the order in which an allocation meets them:
//!
//! | module | what happens there |
//! |---|---|
//! | [`hooks`], [`python::hooks`] | the program's call arrives, and goes on to [`real`] |
//! | [`gate`] | what sampled mode passes over |
//! | [`guard`] | calls from within the shim pass through |
//! | [`quick`], [`record`] | the hot path: what nearly always comes, and whatever comes |
//! | [`python::walk`], [`native`] | the stack becomes a key |
//! | [`sites`] | the key becomes a site |
//! | [`live`], [`store`], [`peak`], [`epoch`] | the block is entered, and counted |
//! | [`collector`] | definitions, modules, timeline and census go to the file |
//! | [`snapshot`] | a copy of the process searches the heap: who holds what |
//! | [`packing`] | the dump shrinks once all is written |
//! | [`life`] | how all that begins, forks and ends |
//!
//! Nothing here may end, block or slow the program: see ARCHITECTURE.md.

// Unit tests leave the exported functions out, and with them most callers.
#![cfg_attr(test, allow(dead_code, non_snake_case))]
// Functions found by name get their type from the binding that they go into.
#![allow(clippy::missing_transmute_annotations)]

mod collector;
mod epoch;
mod gate;
mod guard;
mod hash;
mod heap;
mod hooks;
mod life;
mod live;
mod log;
mod mappings;
mod native;
mod packing;
mod park;
mod peak;
mod python;
mod quick;
mod real;
mod record;
mod sample;
mod settings;
mod sites;
mod snapshot;
mod spin;
mod store;
mod sys;
