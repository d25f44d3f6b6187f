use policies::{GateRule, Quotas, Verdict};

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse("fsd.toml", text, &TimeZoneDatabase::bundled())
}

/// The whole report, or nothing if the text is right.
fn report(text: &str) -> String {
    parse(text).map_or_else(|error| error.report(false), |_| String::new())
}

/// One cloud share, one local share, and more lines before them.
fn with(before: &str, after: &str) -> String {
    format!(
        "{before}\n[[share]]\nname = \"cam\"\nmount = \"/mnt/cam\"\nurl = \"s3://box/a\"\n\
         [[share]]\nname = \"lab\"\nmount = \"/mnt/lab\"\nlocal = true\n{after}\n"
    )
}

#[test]
fn the_example_is_right() {
    let config = parse(EXAMPLE).unwrap_or_else(|error| panic!("{}", error.report(false)));
    assert_eq!(config.shares.len(), 2);
    assert_eq!(config.cache.disk_bytes_max, DISK_BYTES_MAX);
    assert_eq!(config.hooks[0].shares, ["camera"]);
    let monday = "2026-11-23T09:00:00+01".parse().unwrap();
    assert_eq!(config.upload.rate_at(monday), "10Mbit/s".parse().unwrap());
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = parse(&with("", "[[hook]]\ndir = \"/hooks/blur/\"\n")).unwrap();
    assert_eq!(config.state_dir, Path::new(STATE_DIR));
    assert_eq!(
        config.cache,
        CacheConfig {
            disk_bytes_max: DISK_BYTES_MAX,
            high_mark: 85,
            low_mark: 75,
            free_bytes_min: FREE_BYTES_MIN
        }
    );
    assert_eq!(config.upload, Schedule::default());
    assert_eq!(
        config.shares[0],
        ShareConfig {
            name: "cam".to_owned(),
            mount: "/mnt/cam".into(),
            store: StoreConfig::Cloud { url: "s3://box/a".parse().unwrap() },
            read_only: false,
            allow_other: false,
            no_exec: false,
            ca_file: None,
            passthrough: true,
            acl: true,
            upload_delay: UPLOAD_DELAY,
            refresh_after: REFRESH_AFTER,
            refresh_every: None,
            fsync_wait: None,
            offline_wait: Duration::ZERO,
            upload: Schedule::default(),
            download: Schedule::default(),
            rules: Rules::default(),
            quotas: Quotas::default(),
        }
    );
    assert_eq!(config.shares[1].store, StoreConfig::Local);
    assert_eq!(
        config.hooks[0],
        HookConfig {
            dir: "/hooks/blur".into(),
            shares: vec!["cam".to_owned(), "lab".to_owned()],
            matches: None,
            sizes: 0..=u64::MAX,
            results: ResultsTo::Folder(RESULTS_FOLDER.to_owned()),
            params: toml::Table::new(),
            priority: 0,
            media_types: Vec::new(),
            when: When::default(),
            gate: None,
            alerts: Vec::new(),
        }
    );
    let gate = |text: &str| {
        let hook = format!("[[hook]]\ndir = \"/hooks/blur\"\n{text}");
        parse(&with("", &hook)).unwrap().hooks[0].gate.clone()
    };
    let silent = GateConfig {
        rule: GateRule::default(),
        timeout: GATE_TIMEOUT,
        originals: None,
        route: None,
    };
    assert_eq!(gate("gate = {}"), Some(silent), "it holds back what its hook can't look at");
    let said =
        gate("gate = { drop_if = [\"faces\"], fallback = \"pass\", timeout = \"1h\" }").unwrap();
    assert_eq!(
        (said.rule.drop_if.as_slice(), said.timeout.as_secs()),
        (&["faces".to_owned()][..], 3600)
    );
    assert_eq!(said.rule.fallback, Verdict::Pass);
    let kept = gate("shares = [\"cam\"]\ngate = { originals_share = \"lab\" }").unwrap();
    assert_eq!(kept.originals.as_deref(), Some("lab"));
    let route = "shares = [\"cam\"]\ngate = { route_if = [\"dark\"], route_share = \"lab\" }";
    assert_eq!(gate(route).unwrap().route.as_deref(), Some("lab"));
}

#[test]
fn a_user_has_the_quota_of_his_own_or_that_of_each() {
    let quotas =
        "user_quota = \"1GiB\"\nuser_quotas = { 7 = \"2GiB\", 8 = \"unlimited\", root = \"3GiB\" }";
    let quotas = &parse(&with("", quotas)).unwrap().shares[1].quotas;
    let limits = [7, 8, 9, 0].map(|uid| quotas.of(uid).map(|bytes| bytes >> 30));
    assert_eq!(limits, [Some(2), None, Some(1), Some(3)]);
    assert_eq!(Quotas { each: Some(5), ..Quotas::default() }.of(0), None);
    let report = report(&with(
        "[cache]\nhigh_mark = 70\nlow_mark = 70",
        "user_quotas = { nobody-here = \"1\" }",
    ));
    assert!(report.contains("the low mark must be below the high one, which is 70"), "{report}");
    assert!(report.contains("this machine has no user of this name"), "{report}");
}

#[test]
fn a_mistake_is_shown_with_its_place_value_and_remedy() {
    let report = report(&with("[cache]\ndisk_max = \"4KiB\"", ""));
    assert!(
        report.contains("cache.disk_max is \"4KiB\": the smallest useful cache is 64.0 MiB"),
        "{report}"
    );
    assert!(report.contains("fsd.toml:2:12"), "{report}");
}

#[test]
fn all_mistakes_are_shown_at_once_in_the_order_of_the_file() {
    let text = with(
        "state_dir = \"state\"\n[upload]\ndefault = \"fast\"\n[[upload.window]]\nrate = \"off\"",
        "[[hook]]\ndir = \"blur\"\nmatch = [\"ok\", \"[\"]\n",
    );
    let Err(ConfigError::Mistakes { mistakes, .. }) = parse(&text) else { panic!("{text}") };
    let says: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    let starts = [
        "state_dir is \"state\": the path must be absolute",
        "upload.time_zone is \"\": windows need a `time_zone`",
        "upload.default is \"fast\": a number and a unit are needed",
        "hook.0.dir is \"blur\": the path must be absolute",
        "hook.0.match.1 is \"[\": no glob",
    ];
    assert_eq!(says.len(), starts.len(), "{says:#?}");
    for (says, start) in says.iter().zip(starts) {
        assert!(says.starts_with(start), "{says}");
    }
}

#[test]
fn mistakes_of_spelling_are_shown() {
    for (text, says) in [
        ("[cash]\n", "unknown field `cash`"),
        ("state_dir = 5\n", "invalid type: integer `5`"),
        ("state_dir = \n", "fsd.toml:1:"),
        ("[[share]]\nname = \"a\"\n", "missing field `mount`"),
    ] {
        let report = report(text);
        assert!(report.contains(says) && report.contains("fsd.toml:"), "{report}");
    }
}

#[test]
fn values_that_can_not_be_are_refused() {
    let share =
        |name: &str, rest: &str| with("", &format!("[[share]]\nname = \"{name}\"\n{rest}\n"));
    let url = |url: &str| share("x", &format!("mount = \"/mnt/x\"\nurl = \"{url}\""));
    let hook = |rest: &str| with("", &format!("[[hook]]\ndir = \"/hooks/a\"\n{rest}\n"));
    let cases = [
        ("".to_owned(), "a gateway needs a share"),
        (
            with("[cache]\nfree_min = \"some\"", ""),
            "cache.free_min is \"some\": a number and a unit",
        ),
        (
            with("[download]\ntime_zone = \"Mars\"", ""),
            "download.time_zone is \"Mars\": no such time zone",
        ),
        (
            share("cam", "mount = \"/x\"\nlocal = true"),
            "share.2.name is \"cam\": share.0.name is the same",
        ),
        (
            share("x", "mount = \"/mnt/lab/\"\nlocal = true"),
            "share.2.mount is \"/mnt/lab\": share.1.mount is the same",
        ),
        (
            share("x", "mount = \"/mnt/lab/x\"\nlocal = true"),
            "must not be inside share.1.mount (/mnt/lab)",
        ),
        (share("x", "mount = \"/\"\nlocal = true"), "must be below the root directory"),
        (share("x", "mount = \"/a/../b\"\nlocal = true"), "must be absolute, without `..`"),
        (share("a/b", "mount = \"/x\"\nlocal = true"), "a name is 1 to 64 letters"),
        (share("x", "mount = \"/x\""), "say where its files go"),
        (share("x", "mount = \"/x\"\nlocal = true\nurl = \"s3://b\""), "not both"),
        (
            share("x", "mount = \"/var/lib/fsd/x\"\nlocal = true"),
            "must not be inside state_dir (/var/lib/fsd)",
        ),
        (
            share("x", "mount = \"/var/lib\"\nlocal = true"),
            "state_dir is \"/var/lib/fsd\": the path must not be inside share.2.mount",
        ),
        (
            share("x", "mount = \"/x\"\nlocal = true\nupload_delay = \"9d\""),
            "the longest delay is 7d",
        ),
        (
            share("x", "mount = \"/x\"\nlocal = true\nrefresh_every = \"1s\""),
            "share.2.refresh_every is \"1s\": this is at least 10s",
        ),
        (
            share("x", "mount = \"/x\"\nlocal = true\nrefresh_after = \"0s\""),
            "share.2.refresh_after is \"0s\": this is at least 1s",
        ),
        (
            share("x", "mount = \"/x\"\nlocal = true\nupload_max = \"1\""),
            "share.2.upload_max is \"1\": the unit is missing",
        ),
        (
            share("x", "mount = \"/x\"\nlocal = true\nconflicts = \"mine\""),
            "share.2.conflicts is \"mine\": it must be one of keep-both, local-wins, cloud-wins",
        ),
        (
            share("x", "mount = \"/x\"\nlocal = true\ntrash_retention = \"a while\""),
            "share.2.trash_retention is \"a while\": a number and a unit",
        ),
        (
            share("x", "mount = \"/x\"\nlocal = true\nweight = 0"),
            "share.2.weight is \"0\": a weight is a number from 1 to 1000",
        ),
        (
            share("x", "mount = \"/x\"\nlocal = true\norder = \"random\""),
            "share.2.order is \"random\": it must be one of oldest, newest",
        ),
        (
            share(
                "x",
                "mount = \"/x\"\nlocal = true\nupload_max = \"off\"\n[share.upload]\ndefault = \"off\"",
            ),
            "share.2.upload_max is \"off\": the pace is said in a word or in a section",
        ),
        (
            share("x", "mount = \"/x\"\nlocal = true\n[share.upload]\nbudget_day = \"10GiB\""),
            "share.2.upload.time_zone is \"\": a budget needs a `time_zone`",
        ),
        (
            share(
                "x",
                "mount = \"/x\"\nlocal = true\n[share.upload]\ntime_zone = \"UTC\"\nbudget_month = \"1kB\"",
            ),
            "share.2.upload.budget_month is \"1kB\": the smallest useful budget is 1.0 MiB",
        ),
        (
            share("x", "mount = \"/x\"\nlocal = true\noffline_reads = \"hang\""),
            "share.2.offline_reads is \"hang\": it must be one of fail, wait",
        ),
        (
            share("x", "mount = \"/x\"\nlocal = true\nfsync = \"never\""),
            "share.2.fsync is \"never\": it must be one of local, uploaded",
        ),
        (with("[receipts]\nfiles = 1", ""), "receipts are kept in 2 to 10000 files"),
        (url("http://box/a"), "share.2.url is \"http://box/a\": a remote is az://container/prefix"),
        (
            url("s3://key:secret@box/a"),
            "share.2.url is \"s3://***@box/a\": a remote's URL has no user",
        ),
        (
            url("az://box/a?sig=abc"),
            "share.2.url is \"az://box/a?***\": a remote's URL has no user",
        ),
        (url("s3://box/a/"), "share.2.url is \"s3://box/a\": share.0.url is the same"),
        (url("file://relative"), "a directory is written from the root"),
        (
            url("file:///mnt/x/deep"),
            "share.2.url is \"file:///mnt/x/deep\": the path must not be inside share.2.mount",
        ),
        (url("file:///mnt"), "the path must not be inside share.2.url (/mnt)"),
        (
            url("file:///var/lib"),
            "state_dir is \"/var/lib/fsd\": the path must not be inside share.2.url (/var/lib)",
        ),
        (
            url("file:///var/lib/fsd/objects"),
            "\"file:///var/lib/fsd/objects\": the path must not be inside state_dir (/var/lib/fsd)",
        ),
        (
            hook("gate = { fallback = \"maybe\" }"),
            "hook.0.gate.fallback is \"maybe\": it must be one of pass, hold, drop",
        ),
        (
            hook("size_min = \"2MB\"\nsize_max = \"1MB\""),
            "hook.0.size_max is \"1MB\": it is less than size_min",
        ),
        (
            hook("gate = { originals_share = \"cam\" }"),
            "hook.0.gate.originals_share is \"cam\": originals go to a `local` share",
        ),
        (
            hook("gate = { route_if = [\"dark\"], route_share = \"cam\" }"),
            "hook.0.gate.route_share is \"cam\": files move to a share that can be written to and whose files the hook does not see",
        ),
        (
            hook("gate = { route_if = [\"dark\"] }"),
            "hook.0.gate.route_if is \"dark\": `route_if` and `route_share` need each other",
        ),
        (hook("gate = { timeout = \"1ms\" }"), "hook.0.gate.timeout is \"1ms\""),
        (hook("shares = []"), "a hook needs a share"),
        (
            hook("shares = [\"cam\", \"nope\"]"),
            "hook.0.shares.1 is \"nope\": no share has this name; there is \"cam\", \"lab\"",
        ),
        (hook("results_folder = \"../x\""), "a folder is a relative path"),
        (hook("results_folder = \"x\"\nresults_share = \"lab\""), "not both"),
        (hook("results_share = \"nope\""), "no share has this name"),
    ];
    for (text, says) in cases {
        let words = |text: &str| {
            text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
        };
        let report = report(&text);
        assert!(words(&report).contains(&words(says)), "{says}\n{text}\n{report}");
    }
}

#[test]
fn results_of_a_local_share_do_not_leave() {
    let hook = |rest: &str| with("", &format!("[[hook]]\ndir = \"/hooks/a\"\n{rest}\n"));
    for refused in [
        "shares = [\"lab\"]\nresults_share = \"cam\"",
        "shares = [\"cam\", \"lab\"]\nresults_share = \"cam\"",
        "results_share = \"cam\"",
    ] {
        let report = report(&hook(refused));
        assert!(report.contains("the hook sees files of the local share \"lab\""), "{report}");
    }
    for allowed in [
        "shares = [\"cam\"]\nresults_share = \"cam\"",
        "shares = [\"cam\"]\nresults_share = \"lab\"",
        "results_share = \"lab\"",
        "shares = [\"lab\"]\nresults_folder = \"out/a\"",
    ] {
        assert_eq!(report(&hook(allowed)), "", "{allowed}");
    }
}

#[test]
fn a_hook_looks_at_once_or_now_and_then() {
    let when = |rest: &str| {
        let text = with("", &format!("[[hook]]\ndir = \"/hooks/a\"\n{rest}\n"));
        parse(&text).map(|config| config.hooks[0].when.clone())
    };
    assert_eq!(when("debounce = \"2s\"").unwrap().due(1), 2_001);
    assert_eq!(when("every = \"5m\"").unwrap().due(1), 300_000);
    let nightly = "cron = \"0 2 * * *\"\ntime_zone = \"UTC\"";
    assert_eq!(when(nightly).unwrap().due(1), 7_200_000);
    for (rest, says) in [
        ("cron = \"0 2 * * *\"", "`cron` needs a `time_zone`"),
        ("time_zone = \"UTC\"", "`cron` needs a `time_zone`"),
        ("cron = \"often\"\ntime_zone = \"UTC\"", "five fields are needed"),
        ("every = \"5m\"\ncron = \"0 2 * * *\"\ntime_zone = \"UTC\"", "not both"),
        ("every = \"0s\"", "this is at least 1s"),
        ("mime = [\"png\"]", "a media type is written"),
        ("alert_if = [\"blurry\"]", "is no condition"),
    ] {
        let report = report(&with("", &format!("[[hook]]\ndir = \"/hooks/a\"\n{rest}\n")));
        assert!(report.contains(says), "{says}\n{report}");
    }
}

#[test]
fn a_sink_hears_of_what_may_leave_unless_it_is_a_file() {
    let sinks = |rest: &str| {
        let text = with("", &format!("[[sink]]\nname = \"mes\"\n{rest}\n"));
        parse(&text).map(|config| config.sinks)
    };
    let shares = |rest: &str| sinks(rest).unwrap()[0].filter.shares.clone();
    let of = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(shares("url = \"https://h/x\""), of(&["cam"]), "nothing of the local share leaves");
    assert_eq!(shares("url = \"file:///log\""), None);
    assert_eq!(shares("url = \"mqtt://h\"\nshares = [\"lab\"]"), of(&["lab"]), "it is named");
    for (rest, says) in [
        ("url = \"ftp://h\"", "a sink is at https://HOST/PATH"),
        ("url = \"https://me:secret@h\"", "a password never stands in a URL"),
        ("url = \"https://h\"\nevents = [\"boom\"]", "it must be one of arrived, result"),
        ("url = \"https://h\"\nshares = [\"no\"]", "no share has this name"),
        ("url = \"https://h\"\nbatch = 0", "a request has 1 to 256 events"),
        ("url = \"https://h\"\ntopic = \"a\"", "this is for brokers"),
        ("url = \"mqtt://h\"\ntopic = \"a/#\"", "a topic is a text with"),
        ("url = \"mqtt://h\"\nstored = true", "this is for NATS"),
        ("url = \"https://h\"\nsecret_file = \"x\"", "the path must be absolute"),
    ] {
        let report = report(&with("", &format!("[[sink]]\nname = \"mes\"\n{rest}\n")));
        assert!(report.contains(says), "{says}\n{report}");
        assert!(!report.contains("me:secret@h:"), "{report}");
    }
    let twice = "[[sink]]\nname = \"a\"\nurl = \"file:///x\"\n".repeat(2);
    assert!(report(&with("", &twice)).contains("sink.0.name is the same"));
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::read(Path::new("/no/such/file"), &TimeZoneDatabase::bundled()).unwrap_err();
    assert_eq!(error.to_string(), "can't read the configuration /no/such/file");
}

#[test]
fn a_place_inside_another_is_found_through_symbolic_links() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let share = |url: &Path| {
        let state = real.join("state");
        let shares = format!(
            "[[share]]\nname = \"x\"\nmount = \"/mnt/x\"\nurl = \"file://{}\"",
            url.display()
        );
        report(&with(&format!("state_dir = \"{}\"", state.display()), &shares))
    };
    assert!(share(&link).contains("the path must not be inside"), "{}", share(&link));
    assert!(share(&link.join("state/deep")).contains("the path must not be inside"));
    assert_eq!(share(&link.join("objects")), "");
}
