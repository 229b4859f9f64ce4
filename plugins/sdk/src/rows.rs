use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Error, Host};

/// One row of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its place in the source, from 0; errors name it.
    pub index: u32,
    /// Its members.
    pub members: Map<String, Value>,
}

/// Rows `start .. start + count` of source `source` of the task's plan; fewer
/// when the source ends. A task that reads the dataset that its competition
/// binds calls it with source 0.
///
/// # Errors
/// When there is no such source, or a row is no JSON object.
pub fn rows(host: &dyn Host, source: u32, start: u32, count: u32) -> Result<Vec<Row>, Error> {
    let rows = host.rows(source, start, count).map_err(Error::Data)?;
    let parsed = (start..).zip(rows).map(|(index, row)| match serde_json::from_str(&row) {
        Ok(members) => Ok(Row { index, members }),
        Err(error) => Err(Error::Data(format!("row {index} is no JSON object: {error}"))),
    });
    parsed.collect()
}

impl Row {
    /// The text in `field`.
    ///
    /// # Errors
    /// When there is no such member, or it is no text.
    pub fn text(&self, field: &str) -> Result<&str, Error> {
        let text = self.members.get(field).and_then(Value::as_str);
        text.ok_or_else(|| Error::Data(format!("row {} has no text in `{field}`", self.index)))
    }

    /// The whole row as a type of the task's own.
    ///
    /// # Errors
    /// When it is of another form.
    pub fn parse<T: DeserializeOwned>(self) -> Result<T, Error> {
        serde_json::from_value(Value::Object(self.members))
            .map_err(|error| Error::Data(format!("row {}: {error}", self.index)))
    }
}
