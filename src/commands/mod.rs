//! What the program does when it is not an agent: a command a file or folder.
//!
//! What enters: parsed arguments. What leaves: files, text on standard output, an exit code. Promises: offline commands
//! need the model and say so when it is missing. Absent on purpose: anything that another command could not share.

pub mod analyze;
pub mod bad_rows;
pub mod client;
pub mod dead_letters;
pub mod digest;
pub mod embeddings;
pub mod evaluate;
pub mod explain;
pub mod feedback;
pub mod forget;
pub mod incident_list;
pub mod incidents;
pub mod input;
pub mod lineage;
pub mod notebook;
pub mod offline;
pub mod replay;
pub mod snapshot;
pub mod terminal;
pub mod when;
