//! Values and files of settings, the same for every program of this workspace.
//!
//! Does: reads durations, sizes, listeners and places of secrets as operators write them, loads a TOML file into a
//! table of keys, and says which key is unknown and which one was probably meant.
//! Does not: know any key; those are in `config` here and in the other programs.
//!
//! A setting is given, in falling order of weight, as `--flag`, as environment variable, or in
//! the file. Flags and variables are clap's; this module is the file, and the check that no
//! variable with our prefix is a typing error.

mod file;
mod listen;
mod secret_file;
mod several;
mod size;
mod span;

pub use file::{FileError, Hint, VariableError, check_variables, gather, load, nearest, parse};
pub use listen::{Listen, ParseListenError};
pub use secret_file::{CREDENTIALS_VARIABLE, NoCredentials, ParseSecretFileError, SecretFile};
pub use several::one_or_several;
pub use size::{ParseSizeError, Size};
pub use span::{ParseSpanError, Span};

/// The names of settings that are flags, as in the file.
#[must_use]
pub fn names<A: clap::Args>() -> Vec<String> {
    let command = A::augment_args(clap::Command::new("keys"));
    command.get_arguments().map(|argument| argument.get_id().to_string()).collect()
}
