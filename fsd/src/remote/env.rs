//! Credentials and endpoints, from the variables and files that the clouds' own tools use.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::OpenError;

/// The account and key that every Azurite has; they are published, no secret.
const AZURITE_ACCOUNT: &str = "devstoreaccount1";
const AZURITE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const AZURITE_ENDPOINT: &str = "http://127.0.0.1:10000/devstoreaccount1";

/// Set from a share's configuration.
const CA_FILE: &str = "FSD_CA_FILE";

/// The environment as the process found it. `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// The value of a variable; one that is set to nothing counts as not set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Variables whose name begins with `prefix`.
    pub(super) fn starting<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let all = self.0.iter().filter(move |(name, _)| name.starts_with(prefix));
        all.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The same, with authorities that stores' certificates are believed by.
    #[must_use]
    pub fn with_ca_file(&self, file: &Path) -> Self {
        let mut env = self.clone();
        env.0.insert(CA_FILE.into(), file.to_string_lossy().into_owned());
        env
    }

    /// Authorities that stores' certificates are believed by, beside those that the system trusts.
    pub(super) fn authorities(&self) -> Result<Vec<reqwest::Certificate>, OpenError> {
        let Some(path) = self.first(&[CA_FILE, "AWS_CA_BUNDLE"]).map(PathBuf::from) else {
            return Ok(Vec::new());
        };
        let pem = std::fs::read(&path).map_err(|source| OpenError::File { path, source })?;
        let found = reqwest::Certificate::from_pem_bundle(&pem).ok().filter(|all| !all.is_empty());
        found.ok_or(OpenError::Bad {
            what: "the file of certificate authorities",
            hint: "a PEM file with `-----BEGIN CERTIFICATE-----`",
        })
    }

    fn first(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.get(name)).map(str::to_owned)
    }

    fn in_home(&self, variable: &str, file: &str) -> Option<PathBuf> {
        let given = self.get(variable).map(PathBuf::from);
        given.or_else(|| Some(Path::new(self.get("HOME")?).join(file)))
    }
}

impl FromIterator<(String, String)> for Env {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(variables: T) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// An endpoint that requests can be made to, without a slash at the end.
fn endpoint(text: String) -> Result<String, OpenError> {
    let fits = reqwest::Url::parse(&text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    match fits {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err(OpenError::Bad {
            what: "the endpoint",
            hint: "an URL such as https://host or http://127.0.0.1:9000",
        }),
    }
}

/// A value that will be a part of a header.
fn plain(what: &'static str, text: Option<&str>) -> Result<(), OpenError> {
    match text.is_none_or(|text| text.bytes().all(|b| b.is_ascii_graphic())) {
        true => Ok(()),
        false => Err(OpenError::Bad { what, hint: "printable ASCII without spaces" }),
    }
}

/// How to reach S3.
#[derive(Default)]
pub(super) struct AwsSettings {
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    /// Of a profile; the environment's are left to `object_store`.
    pub(super) keys: Option<AwsKeys>,
}

pub(super) struct AwsKeys {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

impl AwsSettings {
    /// The files that a profile is read from.
    pub(super) fn files(env: &Env) -> Vec<PathBuf> {
        let files = [
            env.in_home("AWS_CONFIG_FILE", ".aws/config"),
            env.in_home("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
        ];
        files.into_iter().flatten().collect()
    }

    /// As the AWS tools read them: the variables first, then the profile.
    pub(super) fn read(env: &Env) -> Result<Self, OpenError> {
        let profile = Profile::read(env)?;
        let of_profile = |name| profile.values.get(name).cloned();
        let keys = match env.get("AWS_ACCESS_KEY_ID") {
            Some(_) => None,
            None => profile.keys()?,
        };
        let region = env.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]);
        let region = region.or_else(|| of_profile("region"));
        let url = env.first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
        let url = url.or_else(|| of_profile("endpoint_url"));
        plain("the AWS region", region.as_deref())?;
        for (id, token) in [
            (env.get("AWS_ACCESS_KEY_ID"), env.get("AWS_SESSION_TOKEN")),
            (keys.as_ref().map(|k| &*k.id), keys.as_ref().and_then(|k| k.token.as_deref())),
        ] {
            plain("the AWS access key's id", id)?;
            plain("the AWS session token", token)?;
        }
        Ok(Self { region, endpoint: url.map(endpoint).transpose()?, keys })
    }
}

/// A section of `~/.aws/config` and of `~/.aws/credentials`, which goes first.
struct Profile {
    name: String,
    values: BTreeMap<String, String>,
}

impl Profile {
    fn read(env: &Env) -> Result<Self, OpenError> {
        let name = env.first(&["AWS_PROFILE", "AWS_DEFAULT_PROFILE"]);
        let asked_for = name.is_some();
        let name = name.unwrap_or_else(|| "default".into());
        let section = if name == "default" { name.clone() } else { format!("profile {name}") };
        let files = [
            (env.in_home("AWS_CONFIG_FILE", ".aws/config"), section.as_str()),
            (env.in_home("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"), name.as_str()),
        ];
        let (mut values, mut found) = (BTreeMap::new(), false);
        for (file, section) in files {
            let Some(text) = file.map(read_if_there).transpose()?.flatten() else { continue };
            found |= ini_section(&text, section, &mut values);
        }
        match asked_for && !found {
            true => Err(OpenError::NoProfile { name }),
            false => Ok(Self { name, values }),
        }
    }

    fn keys(&self) -> Result<Option<AwsKeys>, OpenError> {
        let get = |name| self.values.get(name).cloned();
        match (get("aws_access_key_id"), get("aws_secret_access_key")) {
            (Some(id), Some(secret)) => {
                Ok(Some(AwsKeys { id, secret, token: get("aws_session_token") }))
            }
            (None, None) => {
                let other = ["role_arn", "sso_session", "sso_start_url", "credential_process"];
                match other.into_iter().find(|name| self.values.contains_key(*name)) {
                    Some(kind) => Err(OpenError::ProfileKind { name: self.name.clone(), kind }),
                    None => Ok(None),
                }
            }
            (Some(_), None) | (None, Some(_)) => {
                Err(OpenError::HalfAKey { name: self.name.clone() })
            }
        }
    }
}

/// Adds the values of `[section]`; says whether there is one. Indented lines are another setting's own.
fn ini_section(text: &str, section: &str, values: &mut BTreeMap<String, String>) -> bool {
    let (mut inside, mut found) = (false, false);
    for line in text.lines() {
        if let Some(title) = line.strip_prefix('[') {
            let title = title.split(']').next().unwrap_or_default();
            inside = title.split_whitespace().eq(section.split_whitespace());
            found |= inside;
        } else if inside
            && !line.starts_with([' ', '\t', '#', ';'])
            && let Some((name, value)) = line.split_once('=')
        {
            values.insert(name.trim().to_lowercase(), value.trim().to_owned());
        }
    }
    found
}

fn read_if_there(path: PathBuf) -> Result<Option<String>, OpenError> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::File { path, source }),
    }
}

/// Variables that hold a secret.
const AZURE_SECRETS: [&str; 3] =
    ["AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN"];

/// How to reach a storage account of Azure.
pub(super) struct AzureSettings {
    pub(super) account: String,
    /// Where the account's blobs are, without a slash at the end.
    pub(super) endpoint: String,
    pub(super) key: Option<String>,
    pub(super) sas: Option<String>,
    /// The Azure tool's login is to be used.
    pub(super) login: bool,
}

impl AzureSettings {
    /// The files that secrets are read from, if variables name such.
    pub(super) fn files(env: &Env) -> Vec<PathBuf> {
        let variables = AZURE_SECRETS.iter().filter_map(|name| env.get(&format!("{name}_FILE")));
        variables.map(PathBuf::from).collect()
    }

    /// As the Azure tools read them: single variables go before the connection string. Each secret may stand in a file that the
    /// variable with `_FILE` behind its name names.
    pub(super) fn read(env: &Env) -> Result<Self, OpenError> {
        let mut env = env.clone();
        for name in AZURE_SECRETS {
            let Some(file) = env.get(&format!("{name}_FILE")).map(PathBuf::from) else { continue };
            match std::fs::read_to_string(&file) {
                Ok(text) => drop(env.0.insert(name.into(), text.trim().to_owned())),
                Err(source) => return Err(OpenError::File { path: file, source }),
            }
        }
        let string = env.get("AZURE_STORAGE_CONNECTION_STRING").unwrap_or_default();
        let parts: BTreeMap<String, &str> = string
            .split(';')
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| (name.trim().to_lowercase(), value.trim()))
            .collect();
        let part = |name: &str| parts.get(name).map(|value| (*value).to_owned());
        let emulator = part("usedevelopmentstorage")
            .is_some_and(|v| v.eq_ignore_ascii_case("true"))
            || env
                .get("AZURE_STORAGE_USE_EMULATOR")
                .is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let or_emulator = |value: &str| emulator.then(|| value.to_owned());

        let account = env
            .first(&["AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"])
            .or_else(|| part("accountname"))
            .or_else(|| or_emulator(AZURITE_ACCOUNT));
        let url = env
            .first(&["AZURE_STORAGE_ENDPOINT", "AZURE_STORAGE_BLOB_ENDPOINT"])
            .or_else(|| part("blobendpoint"))
            .or_else(|| or_emulator(AZURITE_ENDPOINT));
        // A connection string with a SAS names only the endpoint; its host begins with the account.
        let account = account.or_else(|| {
            let host = url.as_deref()?.split_once("://")?.1;
            host.split_once(".blob.").map(|(account, _)| account.to_owned())
        });
        let account = account.ok_or(OpenError::Missing {
            what: "the storage account",
            hint: "AZURE_STORAGE_ACCOUNT or AZURE_STORAGE_CONNECTION_STRING",
        })?;
        let url = url.unwrap_or_else(|| {
            let scheme = part("defaultendpointsprotocol").unwrap_or_else(|| "https".into());
            let suffix = part("endpointsuffix").unwrap_or_else(|| "core.windows.net".into());
            format!("{scheme}://{account}.blob.{suffix}")
        });
        plain("the storage account", Some(&account))?;
        plain("AZURE_STORAGE_TOKEN", env.get("AZURE_STORAGE_TOKEN"))?;
        Ok(Self {
            account,
            endpoint: endpoint(url)?,
            key: env
                .first(&[
                    "AZURE_STORAGE_KEY",
                    "AZURE_STORAGE_ACCOUNT_KEY",
                    "AZURE_STORAGE_ACCESS_KEY",
                ])
                .or_else(|| part("accountkey"))
                .or_else(|| or_emulator(AZURITE_KEY)),
            sas: env
                .first(&["AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"])
                .or_else(|| part("sharedaccesssignature")),
            login: env.get("AZURE_STORAGE_AUTH_MODE") == Some("login"),
        })
    }
}

/// How to reach Google Cloud Storage.
pub(super) struct GoogleSettings {
    /// Without a slash at the end.
    pub(super) endpoint: String,
    pub(super) emulator: bool,
    pub(super) credentials_file: Option<PathBuf>,
}

impl GoogleSettings {
    /// As the Google tools read them.
    pub(super) fn read(env: &Env) -> Result<Self, OpenError> {
        let emulator = env.get("STORAGE_EMULATOR_HOST");
        let url = match emulator {
            Some(host) if host.contains("://") => host.to_owned(),
            Some(host) => format!("http://{host}"),
            None => "https://storage.googleapis.com".to_owned(),
        };
        let file = ".config/gcloud/application_default_credentials.json";
        let file = env.in_home("GOOGLE_APPLICATION_CREDENTIALS", file);
        Ok(Self {
            endpoint: endpoint(url)?,
            emulator: emulator.is_some(),
            credentials_file: file
                .filter(|f| f.exists() || env.get("GOOGLE_APPLICATION_CREDENTIALS").is_some()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(variables: &[(&str, &str)]) -> Env {
        variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn a_profile_is_read_from_both_files() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        std::fs::write(
            home.path().join(".aws/config"),
            "[default]\nregion = eu-west-1\n# x\n[profile edge]\nregion=eu-central-1\n\
             endpoint_url = http://minio:9000\ns3 =\n  region = no\n[profile sso]\nsso_session = x\n",
        )
        .unwrap();
        std::fs::write(
            home.path().join(".aws/credentials"),
            "[default]\naws_access_key_id = D\naws_secret_access_key = d=/+\n\
             [edge]\naws_access_key_id=E\naws_secret_access_key=e\naws_session_token=t\n",
        )
        .unwrap();
        let home = home.path().to_str().unwrap();
        let read = |variables: &[(&str, &str)]| {
            AwsSettings::read(&env(&[&[("HOME", home)], variables].concat()))
        };
        let default = read(&[]).unwrap();
        assert_eq!(default.region.as_deref(), Some("eu-west-1"));
        assert_eq!(default.keys.map(|k| (k.id, k.secret)), Some(("D".into(), "d=/+".into())));

        let edge = read(&[("AWS_PROFILE", "edge")]).unwrap();
        assert_eq!(edge.region.as_deref(), Some("eu-central-1"));
        assert_eq!(edge.endpoint.as_deref(), Some("http://minio:9000"));
        assert_eq!(edge.keys.and_then(|k| k.token).as_deref(), Some("t"));

        let keys = read(&[("AWS_ACCESS_KEY_ID", "X"), ("AWS_REGION", "us-west-2")]).unwrap();
        assert!(keys.keys.is_none());
        assert_eq!(keys.region.as_deref(), Some("us-west-2"));

        assert!(matches!(read(&[("AWS_PROFILE", "no")]), Err(OpenError::NoProfile { .. })));
        assert!(matches!(read(&[("AWS_PROFILE", "sso")]), Err(OpenError::ProfileKind { .. })));
    }

    #[test]
    fn azure_settings_come_from_variables_or_a_connection_string() {
        let read = |variables: &[(&str, &str)]| AzureSettings::read(&env(variables)).unwrap();
        let plain = read(&[("AZURE_STORAGE_ACCOUNT", "acc"), ("AZURE_STORAGE_KEY", "a2V5")]);
        assert_eq!(plain.endpoint, "https://acc.blob.core.windows.net");
        assert_eq!(plain.key.as_deref(), Some("a2V5"));

        let string = "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=Zm9v==;\
             BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1/;";
        let azurite = read(&[("AZURE_STORAGE_CONNECTION_STRING", string)]);
        assert_eq!(azurite.endpoint, "http://127.0.0.1:10000/devstoreaccount1");
        assert_eq!(azurite.key.as_deref(), Some("Zm9v=="));

        let sas = "BlobEndpoint=https://acc.blob.core.chinacloudapi.cn/;SharedAccessSignature=sv=1&sig=x%3D";
        let sas = read(&[("AZURE_STORAGE_CONNECTION_STRING", sas)]);
        assert_eq!((sas.account.as_str(), sas.sas.as_deref()), ("acc", Some("sv=1&sig=x%3D")));

        let emulator = read(&[("AZURE_STORAGE_CONNECTION_STRING", "UseDevelopmentStorage=true")]);
        assert_eq!(emulator.account, AZURITE_ACCOUNT);
        assert!(matches!(AzureSettings::read(&env(&[])), Err(OpenError::Missing { .. })));
    }

    #[test]
    fn what_no_request_could_carry_is_an_error_before_the_first() {
        for variables in [
            [("AWS_ENDPOINT_URL", "minio:9000"), ("AWS_REGION", "x")],
            [("AWS_ENDPOINT_URL", "ftp://host"), ("AWS_REGION", "x")],
            [("AWS_ENDPOINT_URL", "http://user:secret@host"), ("AWS_REGION", "x")],
            [("AWS_ACCESS_KEY_ID", "AKIA\n"), ("AWS_REGION", "x")],
            [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_REGION", "ü")],
        ] {
            let read = AwsSettings::read(&env(&variables));
            assert!(matches!(read, Err(OpenError::Bad { .. })), "{variables:?}");
        }
        for variables in [
            [("AZURE_STORAGE_ENDPOINT", "host"), ("AZURE_STORAGE_ACCOUNT", "x")],
            [("AZURE_STORAGE_ENDPOINT", "http://host"), ("AZURE_STORAGE_ACCOUNT", "x y")],
        ] {
            let read = AzureSettings::read(&env(&variables));
            assert!(matches!(read, Err(OpenError::Bad { .. })), "{variables:?}");
        }
    }

    #[test]
    fn the_environment_is_shown_without_its_values() {
        let shown = format!("{:?}", env(&[("AWS_SECRET_ACCESS_KEY", "hush")]));
        assert_eq!(shown, "{\"AWS_SECRET_ACCESS_KEY\"}");
    }
}
