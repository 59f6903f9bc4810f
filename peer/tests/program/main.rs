//! The program as a person runs it: whole commands as processes, and the homes that they leave.

mod bitflip;
mod cli;
mod demo;
mod first;
mod opening;
mod train;
