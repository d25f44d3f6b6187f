//! The way to a store: private authorities, proxies, keys that are replaced, and secrets that nobody repeats.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::files::{noise, same, tree};
use fsd_tests::servers::Variables;
use fsd_tests::store::{Store, on_azure, on_each_store, on_s3};
use fsd_tests::tls::Tls;
use fsd_tests::until;

fn with(variables: &Variables, changed: &[(&str, &str)]) -> Variables {
    let is_changed = |name: &str| changed.iter().any(|(other, _)| *other == name);
    let kept = variables.iter().filter(|(name, _)| !is_changed(name)).cloned();
    let new = changed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    kept.chain(new.filter(|(_, value)| !value.is_empty())).collect()
}

fn value<'a>(variables: &'a Variables, name: &str) -> Result<&'a str> {
    let found = variables.iter().find(|(key, _)| key == name);
    Ok(&found.with_context(|| format!("there is no {name}"))?.1)
}

fn address(store: &Store) -> Result<SocketAddr> {
    let variables = store.variables();
    let endpoint = value(&variables, "AWS_ENDPOINT_URL")?;
    Ok(endpoint.trim_start_matches("http://").parse()?)
}

fn works(drive: &Drive, store: &Store) -> Result<()> {
    std::fs::write(drive.path("file"), noise(1, 5000))?;
    drive.wait()?;
    same("the store", &store.files()?, &tree(&drive.mount())?)
}

#[test]
fn a_certificate_by_a_private_authority_is_believed_if_that_is_named() -> Result<()> {
    on_s3(|store| {
        let tls = Tls::before(address(store)?)?;
        let endpoint = format!("https://{}", tls.address());
        let variables = with(&store.variables(), &[("AWS_ENDPOINT_URL", &endpoint)]);
        let file = tls.ca_file();
        let file = file.to_str().context("a path")?;

        // Not known, the store counts as one that can't be reached: work goes on here, and the log says why.
        let drive = Drive::over(store)?.with_variables(variables.clone()).started()?;
        until("the log says why", || Ok(drive.log().contains("UnknownIssuer")))?;
        drop(drive);
        let drive = Drive::over(store)?.with_variables(variables.clone());
        works(&drive.with(&["--ca-file", file]).started()?, store)?;
        let drive = Drive::over(store)?.with_variables(variables);
        works(&drive.with(&["-o", &format!("ca_file={file}")]).started()?, store)?;
        Ok(())
    })
}

#[test]
fn a_file_that_is_no_certificate_is_told_at_the_start() -> Result<()> {
    on_s3(|store| {
        for (file, says) in [("/etc/hostname", "BEGIN CERTIFICATE"), ("/no/such", "can't read")] {
            let started = Drive::over(store)?.with(&["--ca-file", file]).started();
            let error = format!("{:#}", started.err().context("it starts")?);
            ensure!(error.contains(says), "{error}");
        }
        Ok(())
    })
}

#[test]
fn requests_go_through_the_proxy_that_the_environment_names() -> Result<()> {
    on_s3(|store| {
        // The name leads nowhere: only who is asked in its place can answer.
        let proxy = format!("http://{}", address(store)?);
        let nowhere = "http://store.clinic.invalid:9000";
        let changed = [("AWS_ENDPOINT_URL", nowhere), ("HTTP_PROXY", &proxy)];
        let drive = Drive::over(store)?.with_variables(with(&store.variables(), &changed));
        works(&drive.started()?, store)
    })
}

#[test]
fn keys_in_a_profile_are_replaced_under_the_mount() -> Result<()> {
    on_s3(|store| {
        let server = store.server().context("a server")?;
        let home = tempfile::tempdir()?;
        let file = home.path().join("credentials");
        let profile = |secret: &str| {
            let id = "FSDTESTS";
            let text =
                format!("[default]\naws_access_key_id={id}\naws_secret_access_key={secret}\n");
            std::fs::write(&file, text)
        };
        let old = store.variables();
        profile(value(&old, "AWS_SECRET_ACCESS_KEY")?)?;
        let named = file.to_str().context("a path")?;
        let changed = [
            ("AWS_ACCESS_KEY_ID", ""),
            ("AWS_SECRET_ACCESS_KEY", ""),
            ("AWS_SHARED_CREDENTIALS_FILE", named),
            ("AWS_CONFIG_FILE", "/no/such"),
        ];
        let drive = Drive::over(store)?.with_variables(with(&old, &changed)).started()?;
        std::fs::write(drive.path("before"), noise(1, 5000))?;
        drive.wait()?;
        server.set_secret("quite-another-secret");
        std::fs::write(drive.path("between"), noise(2, 5000))?;
        until("the store refuses", || {
            Ok(drive.json(&["status"])?["mounts"][0]["link"]["state"] == "denied")
        })?;
        profile("quite-another-secret")?;
        drive.wait()?;
        server.set_secret(value(&old, "AWS_SECRET_ACCESS_KEY")?);
        same("the store", &store.files()?, &tree(&drive.mount())?)?;
        ensure!(!drive.log().contains("quite-another-secret"), "the log repeats the secret");
        Ok(())
    })
}

#[test]
fn a_secret_of_azure_may_stand_in_a_file() -> Result<()> {
    on_azure(|store| {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("connection");
        let variables = store.variables();
        std::fs::write(&file, value(&variables, "AZURE_STORAGE_CONNECTION_STRING")?)?;
        let changed = [
            ("AZURE_STORAGE_CONNECTION_STRING", ""),
            ("AZURE_STORAGE_CONNECTION_STRING_FILE", file.to_str().context("a path")?),
        ];
        let drive = Drive::over(store)?.with_variables(with(&variables, &changed));
        works(&drive.started()?, store)
    })
}

/// All that is said, down to the last detail, says no secret; nor does what is printed.
#[test]
fn no_secret_is_repeated() -> Result<()> {
    on_each_store(|store| {
        let variables = store.variables();
        let secrets: Vec<String> = variables
            .iter()
            .filter(|(name, _)| name.contains("SECRET") || name.contains("CONNECTION"))
            .map(|(_, value)| match value.split_once("AccountKey=") {
                Some((_, key)) => key.split(';').next().unwrap_or_default().to_owned(),
                None => value.clone(),
            })
            .collect();
        ensure!(store.folder().is_some() || secrets.len() == 1, "{} secrets", secrets.len());
        store.put("theirs", b"x")?;
        let loud = with(&variables, &[("FSD_LOG", "trace")]);
        let mut drive = Drive::over(store)?.with_variables(loud).started()?;
        std::fs::write(drive.path("large"), noise(1, 9 << 20))?;
        std::fs::write(drive.path("small"), noise(2, 100))?;
        drive.wait()?;
        std::fs::rename(drive.path("small"), drive.path("renamed"))?;
        std::fs::read(drive.path("theirs"))?;
        drive.wait()?;
        drive.crash()?;
        let printed = ["status", "queue", "verify"].map(|verb| drive.json(&[verb]));
        let mut said = drive.log();
        for printed in printed {
            said.push_str(&printed?.to_string());
        }
        ensure!(said.len() > 10_000, "it says much: {} bytes", said.len());
        for secret in secrets {
            ensure!(secret.len() > 8 && !said.contains(&secret), "a secret is repeated");
        }
        Ok(())
    })
}
