//! Others are told what happens, in order and once at least, whatever dies or is away.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use fsd_tests::drive::Drive;
use fsd_tests::listeners::{KEY, LOGIN, Mosquitto, Nats, WebServer, lines_of};
use fsd_tests::proxy::{Network, Proxy};
use fsd_tests::store::on_a_dir;
use fsd_tests::until;
use serde_json::Value;
use tempfile::TempDir;

use super::hooks::{picture, ready_hooks};

const BLURRED: &str = "clock_motion.png";
const SHARP: &str = "chelsea.png";

/// The secrets of sinks, as files.
fn secrets() -> Result<TempDir> {
    let folder = TempDir::with_prefix("fsd-secrets-")?;
    std::fs::write(folder.path().join("key"), KEY)?;
    std::fs::write(folder.path().join("password"), LOGIN.1)?;
    Ok(folder)
}

/// A drive whose hook `sharpness` raises an alert for what is blurred, and those who are told.
fn drive(url: &str, sinks: &str) -> Result<Drive> {
    let hook = Path::new(&ready_hooks()).canonicalize()?;
    let hook = hook.display();
    Drive::configured(&format!(
        "state_dir = \"STATE\"\n[[share]]\nname = \"cam\"\nmount = \"MOUNT\"\nurl = \"{url}\"\nupload_delay = \"100ms\"\n\
         [[hook]]\ndir = \"{hook}/sharpness\"\nresults_folder = \"results\"\nmatch = [\"*.png\"]\nalert_if = [\"blurred = true\"]\n{sinks}"
    ))?
    .started()
}

fn copy(drive: &Drive, from: &str, to: &str) -> Result<()> {
    std::fs::copy(picture(from), drive.path(to))?;
    Ok(())
}

/// Numbers of the events that are in the log.
fn logged(drive: &Drive) -> Result<Vec<Value>> {
    let output = drive.run(&["events", "--from", "1", "--limit", "10000", "--json"])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Events without those that came before: a greater number never comes before a smaller one that is new.
fn once(told: Vec<Value>) -> Result<Vec<Value>> {
    let mut once: Vec<Value> = Vec::new();
    let number = |event: &Value| event["id"].as_str().and_then(|id| id.parse::<i64>().ok());
    for event in told {
        let this = number(&event).with_context(|| event.to_string())?;
        if once.last().and_then(number).is_none_or(|last| last < this) {
            once.push(event);
        } else {
            ensure!(once.contains(&event), "{event} comes late");
        }
    }
    Ok(once)
}

fn sink(drive: &Drive, name: &str) -> Result<Value> {
    let sinks = drive.json(&["sinks"])?;
    let found = sinks.as_array().and_then(|all| all.iter().find(|sink| sink["name"] == name));
    found.cloned().with_context(|| format!("{name} in {sinks}"))
}

#[test]
fn all_are_told_everything_in_order_whatever_dies_or_is_away() -> Result<()> {
    on_a_dir(|store| {
        let (web, lists, mosquitto, mut nats) =
            (WebServer::start()?, WebServer::start()?, Mosquitto::start()?, Nats::start()?);
        nats.make_stream()?;
        let network = Proxy::to(mosquitto.address())?;
        let secrets = secrets()?;
        let at = |name: &str| secrets.path().join(name).display().to_string();
        let (key, password, file) = (at("key"), at("password"), at("told.jsonl"));
        let mut drive = drive(
            store.url(),
            &format!(
                "[[sink]]\nname = \"web\"\nurl = \"{}\"\nsecret_file = \"{key}\"\n\
                 [[sink]]\nname = \"lists\"\nurl = \"{}\"\nsecret_file = \"{key}\"\nbatch = 7\n\
                 [[sink]]\nname = \"mqtt\"\nurl = \"mqtt://{}\"\nuser = \"{}\"\nsecret_file = \"{password}\"\n\
                 [[sink]]\nname = \"nats\"\nurl = \"{}\"\n\
                 [[sink]]\nname = \"file\"\nurl = \"file://{file}\"\n\
                 [[sink]]\nname = \"alerts\"\nurl = \"file://{file}.alerts\"\nevents = [\"alert\"]\n",
                web.url(),
                lists.url(),
                network.address(),
                LOGIN.0,
                nats.url(),
            ),
        )?;
        for round in 0..4 {
            web.refuse_next(2);
            network.set(if round % 2 == 0 { Network::Refusing } else { Network::Up });
            nats.kill();
            for number in 0..3 {
                copy(&drive, BLURRED, &format!("blurred-{round}-{number}.png"))?;
                copy(&drive, SHARP, &format!("sharp-{round}-{number}.png"))?;
            }
            drive.crash()?;
            nats.revive()?;
        }
        network.set(Network::Up);
        std::fs::write(drive.path("broken.png"), "no picture")?;
        drive.wait()?;
        let told = || -> Result<[Vec<Value>; 5]> {
            Ok([
                web.told(),
                lists.told(),
                mosquitto.told()?,
                nats.told()?,
                lines_of(file.as_ref())?,
            ])
        };
        until("all are told", || {
            let wanted = logged(&drive)?.len();
            for name in ["web", "lists", "mqtt", "nats", "file"] {
                drive.run(&["sinks", "retry", name])?;
            }
            told()?
                .into_iter()
                .map(once)
                .try_fold(true, |all, told| Ok(all && told?.len() >= wanted))
        })?;
        let events = logged(&drive)?;
        for told in told()? {
            let told = once(told)?;
            ensure!(told.len() == events.len(), "{} of {}", told.len(), events.len());
            for (told, event) in told.iter().zip(&events) {
                let kind = format!("fsd.{}", event["kind"].as_str().unwrap_or_default());
                ensure!(
                    told["id"].as_str() == Some(&event["seq"].to_string()) && told["type"] == kind,
                    "{told} {event}"
                );
                ensure!(
                    told["data"]["path"] == event["path"] && told["specversion"] == "1.0",
                    "{told}"
                );
            }
        }
        let of = |kind: &str, name: &str| {
            let is_it = |event: &&Value| {
                event["kind"] == kind
                    && event["path"].as_str().is_some_and(|path| path.starts_with(name))
            };
            events.iter().filter(is_it).count()
        };
        ensure!(of("arrived", "blurred") == 12 && of("arrived", "sharp") == 12, "{events:?}");
        ensure!(of("result", "blurred") == 12 && of("result", "sharp") == 12, "each once");
        ensure!(of("alert", "blurred") == 12 && of("alert", "sharp") == 0, "what is blurred");
        ensure!(of("failed", "broken.png") == 1, "{events:?}");
        until("the alerts are told", || {
            Ok(once(lines_of(format!("{file}.alerts").as_ref())?)?.len() == 12)
        })
    })
}

#[test]
fn a_sink_that_refuses_is_shown_and_what_it_did_not_take_waits_for_a_person() -> Result<()> {
    on_a_dir(|store| {
        let web = WebServer::start()?;
        let secrets = secrets()?;
        let key = secrets.path().join("key").display().to_string();
        let drive = drive(
            store.url(),
            &format!(
                "[[sink]]\nname = \"web\"\nurl = \"{}\"\nsecret_file = \"{key}\"\nevents = [\"arrived\"]\nshares = [\"cam\"]\n",
                web.url()
            ),
        )?;
        web.refuse_next(u32::MAX);
        std::fs::write(drive.path("one"), "1")?;
        until("it is shown", || {
            let error = sink(&drive, "web")?["error"].clone();
            Ok(error
                .as_str()
                .is_some_and(|error| error.contains("422") && error.contains("not today")))
        })?;
        let status = String::from_utf8(drive.run(&["status"])?.stdout)?;
        ensure!(status.contains("sink web: 1 event wait, it takes none since"), "{status}");
        std::fs::write(drive.path("two"), "2")?;
        until("it has arrived", || Ok(logged(&drive)?.len() == 2))?;
        ensure!(drive.run(&["sinks", "skip", "web"])?.status.success(), "it is passed over");
        web.refuse_next(0);
        ensure!(drive.run(&["sinks", "retry", "web"])?.status.success(), "it is tried");
        until("the second is told", || Ok(web.told().len() == 1))?;
        ensure!(web.told()[0]["subject"] == "cam/two", "{:?}", web.told());
        ensure!(drive.run(&["sinks", "replay", "web", "--from", "1"])?.status.success(), "again");
        until("all is told again", || Ok(web.told().len() == 3))?;
        ensure!(web.told()[1]["subject"] == "cam/one", "{:?}", web.told());
        let refused = drive.run(&["sinks", "replay", "web", "--from", "99"])?;
        let says = String::from_utf8(refused.stderr)?;
        ensure!(says.contains("the log has events 1 to 2; 99 is none of them"), "{says}");
        let refused = drive.run(&["sinks", "skip", "nobody"])?;
        let says = String::from_utf8(refused.stderr)?;
        ensure!(says.contains("there is no sink \"nobody\"; there is web"), "{says}");
        Ok(())
    })
}

#[test]
fn without_a_stream_nats_is_told_to_make_one() -> Result<()> {
    on_a_dir(|store| {
        let nats = Nats::start()?;
        let drive = drive(
            store.url(),
            &format!(
                "[[sink]]\nname = \"nats\"\nurl = \"{url}\"\n[[sink]]\nname = \"plain\"\nurl = \"{url}\"\nstored = false\n",
                url = nats.url()
            ),
        )?;
        std::fs::write(drive.path("one"), "1")?;
        until("it is shown", || {
            let error = sink(&drive, "nats")?["error"].clone();
            Ok(error
                .as_str()
                .is_some_and(|error| error.contains("no stream stores the subject fsd.")))
        })?;
        until("who asks for no stream has it", || Ok(sink(&drive, "plain")?["told"] == 1))?;
        nats.make_stream()?;
        drive.run(&["sinks", "retry", "nats"])?;
        until("it is told", || Ok(sink(&drive, "nats")?["told"] == 1))?;
        let told = nats.told()?;
        ensure!(told.len() == 1 && told[0]["subject"] == "cam/one", "{told:?}");
        Ok(())
    })
}
