//! The server of answers as clients meet it: the real program, over sockets, with bytes written by hand.

mod channels;
mod forms;
mod gateway;
mod hostile;
mod paid;
mod pay;
mod routes;
mod server;
mod shares;
mod till;
mod up;
mod values;
