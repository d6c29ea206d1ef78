//! Names of secrets: what a header's value says in place of the value.

use std::fmt;

use serde_json::{Value, json};

use crate::config::AwsSettings;

/// Where a value is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    /// A secret of Secrets Manager, by ARN; `key` picks a field when the secret is a JSON object.
    Secret { arn: String, key: Option<String> },
    /// A parameter of the Systems Manager's Parameter Store, decrypted.
    Parameter { name: String },
}

// === impl Reference ===

impl Reference {
    /// Reads `arn:…:secretsmanager:…`, optionally with `#key`, or `ssm:name`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("ssm:") {
            let name = name.to_owned();
            return if name.is_empty() {
                Err("ssm: names no parameter".into())
            } else {
                Ok(Self::Parameter { name })
            };
        }
        let (arn, key) = match text.split_once('#') {
            Some((arn, key)) => (arn, Some(key.to_owned()).filter(|key| !key.is_empty())),
            None => (text, None),
        };
        let parts: Vec<_> = arn.split(':').collect();
        let is_secret = matches!(parts[..], ["arn", _, "secretsmanager", region, _, "secret", ..] if !region.is_empty());
        if is_secret {
            Ok(Self::Secret {
                arn: arn.to_owned(),
                key,
            })
        } else {
            Err(format!("{arn} is no ARN of a secret"))
        }
    }

    /// The region in the ARN; a parameter is in the function's own.
    pub(super) fn region(&self) -> Option<&str> {
        match self {
            Self::Secret { arn, .. } => arn.split(':').nth(3),
            Self::Parameter { .. } => None,
        }
    }

    /// The service's name in a signature.
    pub(super) fn service(&self) -> &'static str {
        match self {
            Self::Secret { .. } => "secretsmanager",
            Self::Parameter { .. } => "ssm",
        }
    }

    /// The service's URL in a region, or the one that was set in its place.
    pub(super) fn url(&self, aws: &AwsSettings, region: &str) -> String {
        let set = match self {
            Self::Secret { .. } => &aws.secrets_manager_endpoint,
            Self::Parameter { .. } => &aws.ssm_endpoint,
        };
        // China is a partition with a domain of its own ("AWS service endpoints").
        let domain = if region.starts_with("cn-") {
            "amazonaws.com.cn"
        } else {
            "amazonaws.com"
        };
        set.clone()
            .unwrap_or_else(|| format!("https://{}.{region}.{domain}/", self.service()))
    }

    /// The path with query that Lambda's Parameters and Secrets extension serves it under.
    pub(super) fn extension_path(&self) -> String {
        match self {
            Self::Secret { arn, .. } => format!("/secretsmanager/get?secretId={}", escaped(arn)),
            Self::Parameter { name } => format!(
                "/systemsmanager/parameters/get?name={}&withDecryption=true",
                escaped(name)
            ),
        }
    }

    /// The operation and its input, for a request of our own.
    pub(super) fn call(&self) -> (&'static str, String) {
        match self {
            Self::Secret { arn, .. } => (
                "secretsmanager.GetSecretValue",
                json!({ "SecretId": arn }).to_string(),
            ),
            Self::Parameter { name } => (
                "AmazonSSM.GetParameter",
                json!({ "Name": name, "WithDecryption": true }).to_string(),
            ),
        }
    }

    /// The place of the value in an answer.
    pub(super) fn value_in<'a>(&self, answer: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Secret { .. } => answer.get("SecretString"),
            Self::Parameter { .. } => answer.get("Parameter")?.get("Value"),
        }
    }

    /// Picks the key out of a secret's value, and takes the line end off that a file may have brought.
    pub(super) fn pick(&self, value: String) -> Result<String, &'static str> {
        let picked = match self {
            Self::Secret { key: Some(key), .. } => {
                let fields: Value =
                    serde_json::from_str(&value).map_err(|_| "the secret is no JSON")?;
                fields[key.as_str()]
                    .as_str()
                    .ok_or("the secret has no text under this key")?
                    .to_owned()
            }
            _ => value,
        };
        Ok(picked.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// Shows the name, which is no secret.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret { arn, key: None } => f.write_str(arn),
            Self::Secret {
                arn,
                key: Some(key),
            } => write!(f, "{arn}#{key}"),
            Self::Parameter { name } => write!(f, "ssm:{name}"),
        }
    }
}

/// Escapes all but unreserved characters (RFC 3986, 2.3).
fn escaped(text: &str) -> String {
    text.bytes()
        .fold(String::with_capacity(text.len() * 3), |mut out, byte| {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    out.push(char::from(byte));
                }
                _ => out.push_str(&format!("%{byte:02X}")),
            }
            out
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:otlp/token-AbCdEf";

    #[test]
    fn forms() {
        let secret = |key: Option<&str>| Reference::Secret {
            arn: ARN.into(),
            key: key.map(Into::into),
        };
        assert_eq!(Reference::parse(ARN), Ok(secret(None)));
        assert_eq!(Reference::parse(&format!("{ARN}#")), Ok(secret(None)));
        assert_eq!(
            Reference::parse(&format!("{ARN}#api#key")),
            Ok(secret(Some("api#key")))
        );
        assert_eq!(
            Reference::parse("ssm:/a/b"),
            Ok(Reference::Parameter {
                name: "/a/b".into()
            })
        );
        for text in [
            "ssm:",
            "arn:aws:secretsmanager",
            "arn:aws:s3:::bucket",
            "arn:aws:secretsmanager::1:secret:x",
            "",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
        assert_eq!(secret(None).region(), Some("eu-west-1"));
    }

    #[test]
    fn keys_are_picked() {
        let pick = |key: Option<&str>, value: &str| {
            Reference::Secret {
                arn: ARN.into(),
                key: key.map(Into::into),
            }
            .pick(value.into())
        };
        assert_eq!(pick(None, "v\r\n").as_deref(), Ok("v"));
        assert_eq!(pick(Some("k"), r#"{"k":"v","l":1}"#).as_deref(), Ok("v"));
        assert!(pick(Some("l"), r#"{"k":"v","l":1}"#).is_err());
        assert!(pick(Some("k"), "v").is_err());
    }

    #[test]
    fn places() {
        let aws = AwsSettings::default();
        let secret = Reference::parse(ARN).unwrap();
        assert_eq!(
            secret.url(&aws, "eu-west-1"),
            "https://secretsmanager.eu-west-1.amazonaws.com/"
        );
        let parameter = Reference::parse("ssm:/a b").unwrap();
        assert_eq!(
            parameter.url(&aws, "cn-north-1"),
            "https://ssm.cn-north-1.amazonaws.com.cn/"
        );
        assert_eq!(
            parameter.extension_path(),
            "/systemsmanager/parameters/get?name=%2Fa%20b&withDecryption=true"
        );
        assert!(
            secret
                .extension_path()
                .starts_with("/secretsmanager/get?secretId=arn%3Aaws%3Asecretsmanager%3A")
        );
    }
}
