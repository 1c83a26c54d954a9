//! Compiled programs against the meaning of their profiles: in an interpreter, and under the real kernel.

mod cost;
mod interpreter;
mod kernel;
mod meaning;
mod naive;
mod refusals;
