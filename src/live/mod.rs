//! Live: what a run that goes on as long as its source does shows of itself. [`Hub`] is where it comes together: the
//! newest picture, the figures, and the user's hand; [`Server`] shows it in a browser.

mod hub;
mod server;

pub use hub::{Counted, Figures, Hub};
pub use server::Server;
