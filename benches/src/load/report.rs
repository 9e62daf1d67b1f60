//! Records as one page of plots and as a table.
//!
//! | module | holds |
//! |---|---|
//! | [`chapter`] | records by scenario, parameters, load and server; means with their confidence |
//! | [`plot`] | one plot as SVG |
//! | [`page`] | the HTML page |
//! | [`markdown`] | the Markdown tables |
//!
//! Does: need nothing but the records: the page has no script, no font and no picture from
//! elsewhere, and reads in light and dark. Does not: leave out runs; a bad one is in the band.

pub mod chapter;
pub mod markdown;
pub mod page;
pub mod plot;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use self::chapter::Chapter;
use super::failure::Failure;
use super::record::Record;

/// Turns records into one self-contained page of plots and a table.
#[derive(Args, Clone, Debug)]
pub struct Report {
    /// Files of records, as --out writes them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the page goes.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Where the tables go; standard output, if there is no page either.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// What the page is called.
    #[arg(long, default_value = "DERP under load")]
    title: String,
}

impl Report {
    /// Writes what was asked for; returns the tables if they were not.
    ///
    /// # Errors
    ///
    /// [`Failure::File`].
    pub fn run(&self) -> Result<Option<String>, Failure> {
        let mut records = Vec::new();
        for file in &self.files {
            records.extend(Record::read_all(file)?);
        }
        let chapters = Chapter::all(&records);
        if chapters.is_empty() {
            return Err(Failure::Nothing);
        }
        if let Some(path) = &self.html {
            write(path, &page::render(&self.title, &records, &chapters))?;
        }
        let tables = markdown::render(&self.title, &records, &chapters);
        if let Some(path) = &self.markdown {
            write(path, &tables)?;
        }
        Ok((self.html.is_none() && self.markdown.is_none()).then_some(tables))
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|error| Failure::File { path: path.display().to_string(), why: error.to_string() })
}
