//! What an image's config says about the process to start.

use dimsum_format::manifest::ImageConfig;
use serde::Deserialize;

/// The part of an OCI image config that describes the process. Whatever is missing is empty: old tools write `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ProcessConfig {
    /// `NAME=VALUE` each.
    #[serde(deserialize_with = "null_is_empty")]
    pub env: Vec<String>,
    /// First words of the command line.
    #[serde(deserialize_with = "null_is_empty")]
    pub entrypoint: Vec<String>,
    /// Words behind the entrypoint, unless the user gives others.
    #[serde(deserialize_with = "null_is_empty")]
    pub cmd: Vec<String>,
    /// Working directory.
    #[serde(deserialize_with = "null_is_empty")]
    pub working_dir: String,
    /// `USER[:GROUP]`, names or numbers.
    #[serde(deserialize_with = "null_is_empty")]
    pub user: String,
    /// The signal that asks the process to end, such as `SIGQUIT` or `3`.
    #[serde(deserialize_with = "null_is_empty")]
    pub stop_signal: String,
}

impl ProcessConfig {
    /// Takes the part out of a config.
    ///
    /// # Errors
    /// If a field is of another type than the OCI image specification says.
    pub fn from_config(config: &ImageConfig) -> Result<Self, serde_json::Error> {
        match config.object().get("config") {
            None | Some(serde_json::Value::Null) => Ok(Self::default()),
            Some(value) => Self::deserialize(value),
        }
    }
}

fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(value: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(value).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<ProcessConfig, serde_json::Error> {
        ProcessConfig::from_config(&ImageConfig::parse(json.as_bytes()).unwrap())
    }

    #[test]
    fn missing_and_null_fields_are_empty() {
        assert_eq!(parse(r#"{"os":"linux"}"#).unwrap(), ProcessConfig::default());
        assert_eq!(parse(r#"{"config":null}"#).unwrap(), ProcessConfig::default());
        let config = parse(r#"{"config":{"Cmd":["sh"],"Entrypoint":null,"User":null,"Unknown":[1]}}"#).unwrap();
        assert_eq!(config, ProcessConfig { cmd: vec!["sh".into()], ..ProcessConfig::default() });
    }

    #[test]
    fn a_field_of_the_wrong_type_is_refused() {
        assert!(parse(r#"{"config":{"Cmd":"sh"}}"#).is_err());
    }
}
