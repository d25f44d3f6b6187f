//! Hooks that are programs: what they are told, what is taken from them, and that nothing they try gets out or stays.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test: programs take real time, and skips are printed"
)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use inference_hooks::{
    Advice, Change, Context, Engine, Hook, HookSource, JobError, JobOutput, Programs, Work,
};
use serde_json::json;
use tempfile::TempDir;

/// A place for runs that another user can reach.
struct Place {
    _folder: TempDir,
    programs: Programs,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
        let programs = Programs::open(&folder.path().join("runs")).unwrap();
        Self { _folder: folder, programs }
    }

    fn run(&self, hook: &Hook, content: &[u8]) -> Result<JobOutput, JobError> {
        let mut input = tempfile::tempfile().unwrap();
        input.write_all(content).unwrap();
        self.programs.run(hook, input.into(), &context())
    }

    /// Runs a shell script as a hook, and checks that nothing of it is left.
    fn script(&self, script: &str, limits: &str) -> Result<JobOutput, JobError> {
        self.run(&shell(script, limits), b"content\n")
    }
}

fn context() -> Context {
    let path = "line/a b.csv".into();
    Context { share: "plant".to_owned(), path, change: Change::Created }
}

fn hook(toml: &str, files: &[(&str, &str)]) -> Hook {
    let files = [("hook.toml", toml)].into_iter().chain(files.iter().copied());
    let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
    Hook::parse(HookSource::new(BTreeMap::from_iter(files))).unwrap()
}

/// A shell script as a hook, with more lines of `hook.toml`.
fn shell(script: &str, more: &str) -> Hook {
    let toml = format!(
        "[hook]\nname = \"test\"\napi = 1\nmatch = [\"*\"]\n[command]\nprogram = \"run\"\n{more}\n"
    );
    hook(&toml, &[("run", &format!("#!/bin/sh\n{script}\n"))])
}

fn error(result: Result<JobOutput, JobError>) -> (Advice, String) {
    let error = result.expect_err("an error");
    (error.advice(), error.to_string())
}

#[test]
fn a_program_is_told_of_the_file_and_says_what_it_is() {
    let toml = r#"
        [hook]
        name = "lines"
        api = 1
        match = ["*.csv"]
        [params]
        most = { type = "u32", default = 3 }
        [command]
        program = "/usr/bin/python3"
        args = ["/hook/count.py", "an argument"]
        environment = { UNIT = "mm" }
        [output.json]
        fields = { lines = "u32", too_many = "bool" }
    "#;
    let script = r##"
import json, os, sys
told = json.load(open("/input.json"))
lines = len(open(os.environ["FSD_INPUT"]).readlines())
json.dump({"lines": lines, "too_many": lines > told["params"]["most"], "unit": os.environ["UNIT"],
           "told": json.dumps(told, sort_keys=True), "argument": sys.argv[1]}, open("result.json", "w"))
open(os.environ["FSD_OUTPUT"] + "/summary.txt", "w").write(f"{lines} lines\n")
"##;
    let place = Place::new();
    let hook = hook(toml, &[("count.py", script)]);
    assert_eq!(place.programs.load(&hook).unwrap(), Engine::Command);
    let output = place.run(&hook, b"a\nb\nc\nd\n").unwrap();
    assert_eq!(output.engine, Engine::Command);
    let said = &output.fields;
    assert_eq!((&said["lines"], &said["too_many"]), (&json!(4), &json!(true)));
    assert_eq!((&said["unit"], &said["argument"]), (&json!("mm"), &json!("an argument")));
    let told: serde_json::Value = serde_json::from_str(said["told"].as_str().unwrap()).unwrap();
    let expected = json!({
        "input": "/input/a b.csv", "output": "/output", "share": "plant", "path": "line/a b.csv",
        "hook": "lines", "version": hook.version(), "bytes": 8, "change_type": "created",
        "params": { "most": 3 },
    });
    assert_eq!(told, expected);
    let [derived] = <[_; 1]>::try_from(output.derived).unwrap();
    assert_eq!(
        (derived.suffix.as_str(), derived.media_type.as_str()),
        (".summary.txt", "text/plain")
    );
    assert_eq!(derived.read().unwrap(), b"4 lines\n");
}

/// Processes of the host whose command line has this word.
fn processes_with(word: &str) -> Vec<String> {
    let lines = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(word)).collect()
}

/// A program that is killed is gone a moment later.
fn nothing_survives(word: &str) {
    let deadline = now() + Duration::from_secs(5);
    while !processes_with(word).is_empty() {
        assert!(now() < deadline, "{:?}", processes_with(word));
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn now() -> Instant {
    Instant::now()
}

#[test]
fn what_a_program_must_not_do_is_refused_and_it_goes_on() {
    let place = Place::new();
    let script = r#"
        refused() { "$@" 2>/dev/null && echo "$*" >>/output/allowed.txt; :; }
        for path in /x /hook/x /hook/run /input/x "$FSD_INPUT" /input.json /usr/x /etc/x /dev/x /proc/sys/kernel/hostname; do
            refused sh -c "echo x >>'$path'"
        done
        refused chmod 777 "$FSD_INPUT"
        refused ls /home
        refused ls /root
        refused ls /var
        refused ls /sys
        refused ls /run
        refused cat /etc/shadow
        refused unshare --user true
        refused mount -t tmpfs none /tmp
        refused mknod /output/device b 8 0
        refused ln /input.json /output/link
        id -u >/output/id.txt
        ls / | tr '\n' ' ' >/output/root.txt
        echo '{"ok": true}' >/output/result.json
    "#;
    let output = place.script(script, "").unwrap();
    assert_eq!(output.fields["ok"], json!(true));
    let files: BTreeMap<_, _> = output
        .derived
        .into_iter()
        .map(|derived| {
            (derived.suffix.clone(), String::from_utf8(derived.read().unwrap()).unwrap())
        })
        .collect();
    assert_eq!(files.get(".allowed.txt"), None, "it was allowed something");
    let shown = "bin dev etc hook input input.json lib lib64 output proc sbin tmp usr";
    assert_eq!(files[".root.txt"].trim().replace("lib32 ", ""), shown);
    if nix::unistd::Uid::effective().is_root() {
        assert_eq!(files[".id.txt"].trim(), "65534");
    }
}

#[test]
fn a_program_has_the_network_only_if_that_is_granted() {
    let place = Place::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "exec /usr/bin/python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 2)'"
    );
    let (advice, why) = error(place.script(&script, ""));
    assert_eq!(advice, Advice::Retry);
    assert!(why.contains("Network is unreachable") || why.contains("refused"), "{why}");
    place.script(&script, "network = true").unwrap();
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_ok(), "the second has come through");
    assert!(listener.accept().is_err(), "the first has not");
}

#[test]
fn what_takes_too_much_ends_at_its_limit_and_nothing_of_it_survives() {
    use Advice::{ParkFile, Retry};
    let python = |code: &str| format!("exec /usr/bin/python3 -c '{code}'");
    let cases: &[(&str, String, &str, Advice, &[&str])] = &[
        ("endless", "while :; do :; done".into(), "time_ms = 500", Retry, &["longer than limits.time_ms = 500"]),
        ("busy", "while :; do :; done".into(), "cpu_seconds = 1", Retry, &["limits.cpu_seconds = 1"]),
        ("forks", python("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"), "time_ms = 1500",
            Retry, &["longer than"]),
        ("memory", python("b = bytearray(8 << 30)"), "memory = \"256MiB\"", Retry, &["MemoryError"]),
        ("much-memory", python("import os, time\nfor _ in range(5): os.fork()\nb = b\"x\" * (64 << 20)\ntime.sleep(50)"),
            "memory = \"512MiB\"\nprocesses = 64", ParkFile, &["limits.memory = 536870912"]),
        ("prints", "exec yes".into(), "", ParkFile, &["printed more than"]),
        ("complains", "exec yes >&2".into(), "", ParkFile, &["printed more than"]),
        ("writes", "cat /dev/zero >/output/x".into(), "output = \"1MiB\"", ParkFile, &["limits.output = 1048576"]),
        ("writes-many", "for i in 1 2 3 4 5; do head -c 900000 /dev/zero >/output/$i || exit 1; done".into(),
            "output = \"1MiB\"", ParkFile, &["limits.output = 1048576"]),
        ("hides", "exec 5>/output/x; rm /output/x; cat /dev/zero >&5; exec 6>/output/y; rm /output/y; exec cat /dev/zero >&6".into(),
            "output = \"1MiB\"", ParkFile, &["limits.output = 1048576"]),
        ("sparse", "truncate -s 2G /output/x".into(), "", ParkFile, &["limits.output"]),
        ("many-files", "for i in $(seq 20); do :>/output/$i; done".into(), "", ParkFile, &["limits.output_files = 16"]),
        ("without-end", "i=0; while :; do :>/output/$i || exit 9; i=$((i+1)); done".into(), "time_ms = 3000", ParkFile, &["limits.output_files = 16"]),
    ];
    let place = Place::new();
    for (name, script, limits, advice, words) in cases {
        if *name == "hides" && !nix::unistd::Uid::effective().is_root() {
            continue; // Without a tmpfs a file without a name is bounded by its own size only.
        }
        let word = format!("survivor-{name}-{}", std::process::id());
        let script =
            format!(": {word}\n(setsid sh -c 'sleep 300; : {word}' &) 2>/dev/null\n{script}");
        let begin = now();
        let (said, why) = error(place.script(&script, &format!("[limits]\n{limits}")));
        let took = begin.elapsed();
        assert_eq!(said, *advice, "{name}: {why}");
        assert!(words.iter().all(|word| why.contains(word)), "{name}: {why}");
        assert!(took < Duration::from_secs(10), "{name} took {took:?}");
        nothing_survives(&word);
        place.script("echo '{}' >result.json", "").unwrap();
    }
}

#[test]
fn what_a_program_leaves_is_taken_only_if_it_is_a_plain_file_with_a_plain_name() {
    let result = "echo '{}' >result.json; ";
    let cases: &[(&str, &str)] = &[
        ("ln -s /etc/passwd stolen.txt", "a symbolic link, `stolen.txt`"),
        ("ln -s /etc/passwd result.json", "a symbolic link, `result.json`"),
        ("ln -s /output self.txt", "a symbolic link"),
        ("mkfifo pipe", "a FIFO, `pipe`"),
        ("mkdir folder", "a folder, `folder`"),
        (
            "/usr/bin/python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'",
            "a socket, `s`",
        ),
        ("touch \"$(printf 'a\\nb')\"", "the name \"a\\nb\""),
        ("touch \"$(printf 'a\\377b')\"", "the name \"a\\xffb\""),
        ("touch .hidden", "the name \".hidden\""),
        ("touch -- 'a b'", "the name \"a b\""),
        ("touch $(head -c 65 /dev/zero | tr '\\0' n)", "at most 64"),
        ("echo x >secret; chmod 0 secret", "`secret`, which can't be read"),
    ];
    let place = Place::new();
    let is_root = nix::unistd::Uid::effective().is_root();
    for (script, words) in cases {
        if is_root && script.contains("chmod 0") {
            place.script(&format!("{result}{script}"), "").unwrap();
            continue; // Root reads it.
        }
        let (advice, why) =
            error(place.script(&format!("{result}rm -f result.json; {script}"), ""));
        assert_eq!(advice, Advice::ParkFile, "{script}: {why}");
        assert!(why.contains(words), "{script}: {why}");
    }
}

#[test]
fn a_result_is_an_object_of_what_was_declared() {
    let declared = "[output.json]\nfields = { lines = \"u32\", bad = \"bool\" }";
    let place = Place::new();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let many: Vec<_> = (0..300).map(|n| format!("\"f{n}\":1")).collect();
    let many = format!("{{{}}}", many.join(","));
    for (text, words) in [
        ("", "no JSON object"),
        ("[1]", "no JSON object"),
        ("{\"lines\": 1", "no JSON object"),
        ("\\377", "no JSON object"),
        ("{\"lines\": 1}", "no `bad`, which output.json.fields"),
        ("{\"lines\": -1, \"bad\": true}", "`lines` is -1, which is no u32"),
        ("{\"lines\": 1, \"bad\": \"false\"}", "which is no bool"),
        ("{\"lines\": 1, \"bad\": true, \"more\": [1]}", "`more` must be a number"),
        ("{\"lines\": 1, \"bad\": true, \"more\": null}", "`more` must be a number"),
        (deep.as_str(), "has 200000 bytes"),
        (many.as_str(), "300 fields"),
    ] {
        let hook = hook(
            &format!(
                "[hook]\nname = \"test\"\napi = 1\nmatch = [\"*\"]\n[command]\nprogram = \"run\"\n{declared}\n"
            ),
            &[("run", "#!/bin/sh\nprintf \"$(cat /hook/text)\" >result.json\n"), ("text", text)],
        );
        let (advice, why) = error(place.run(&hook, b""));
        assert_eq!(advice, Advice::ParkFile, "{why}");
        assert!(why.contains(words), "{words}: {why}");
    }
    let (_, why) = error(place.script("", declared));
    assert!(why.contains("no `bad`"), "{why}");
    assert!(place.script("", "").unwrap().fields.is_empty(), "nothing was declared");
}

#[test]
fn a_program_says_by_its_code_whose_fault_it_is() {
    let place = Place::new();
    for (script, advice, words) in [
        ("echo out of paper >&2; exit 75", Advice::Later, "run later: out of paper"),
        ("echo no header >&2; exit 65", Advice::ParkFile, "refuses it: no header"),
        (
            "echo one; printf 'two\\033[31m\\nthree' >&2; exit 3",
            Advice::Retry,
            "code 3: two[31m\nthree",
        ),
        ("kill -SEGV $$", Advice::Retry, "by signal 11"),
        ("exec /usr/bin/nonexistent", Advice::Retry, "code 127"),
        (
            "head -c 100000 /dev/zero | tr '\\0' x >&2; echo last >&2; exit 1",
            Advice::Retry,
            "xlast",
        ),
    ] {
        let (said, why) = error(place.script(script, ""));
        assert_eq!(said, advice, "{why}");
        assert!(why.contains(words) && why.len() < 3_000, "{why}");
    }
}

#[test]
fn what_a_program_leaves_running_ends_with_it() {
    let place = Place::new();
    let word = format!("survivor-daemon-{}", std::process::id());
    let script = format!(
        "(setsid sh -c ': {word}; trap \"\" TERM HUP; while :; do sleep 1; done' </dev/null >/dev/null 2>&1 &)\n\
         echo '{{}}' >result.json"
    );
    let begin = now();
    place.script(&script, "").unwrap();
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    nothing_survives(&word);
}

#[test]
fn names_that_are_no_text_are_told_as_they_are() {
    let place = Place::new();
    let path = OsString::from_vec(b"caf\xe9\n/na\xffme".to_vec());
    let context = Context { path, change: Change::Modified, ..context() };
    let script = "printf %s \"$FSD_PATH\" >path.txt; cat \"$FSD_INPUT\" >input.txt; cp /input.json told.json";
    let input = tempfile::tempfile().unwrap();
    (&input).write_all(b"content").unwrap();
    let output = place.programs.run(&shell(script, ""), input.into(), &context).unwrap();
    let read =
        |derived: inference_hooks::Derived| (derived.suffix.clone(), derived.read().unwrap());
    let files = BTreeMap::from_iter(output.derived.into_iter().map(read));
    assert_eq!(files[".path.txt"], b"caf\xe9\n/na\xffme");
    assert_eq!(files[".input.txt"], b"content");
    let told: serde_json::Value = serde_json::from_slice(&files[".told.json"]).unwrap();
    assert_eq!(
        (&told["path"], &told["change_type"]),
        (&json!("caf\u{fffd}\n/na\u{fffd}me"), &json!("modified"))
    );
    for name in ["", "..", "a/.."] {
        let context = Context { path: name.into(), ..context.clone() };
        let hook = shell("test -f \"$FSD_INPUT\"", "");
        place.programs.run(&hook, tempfile::tempfile().unwrap().into(), &context).unwrap();
    }
}

#[test]
fn a_file_that_is_too_large_is_not_even_copied() {
    let place = Place::new();
    let hook = shell("", "[input]\nmax_bytes = 10");
    let (advice, why) = error(place.run(&hook, b"eleven bytes"));
    assert_eq!(advice, Advice::ParkFile);
    assert!(why.contains("12 bytes, more than input.max_bytes = 10"), "{why}");
}

#[test]
fn what_an_earlier_owner_left_is_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
    let scratch = folder.path().join("runs");
    fs::create_dir_all(scratch.join("0/output/deep")).unwrap();
    fs::write(scratch.join("0/output/deep/file"), "x").unwrap();
    fs::write(scratch.join("stray"), "x").unwrap();
    let place = Place { programs: Programs::open(&scratch).unwrap(), _folder: folder };
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
    place.script("", "").unwrap();
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "a run leaves nothing");
}

/// What is fenced as `language` in a text, in order.
fn fenced<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let blocks = text.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

#[test]
fn the_program_of_the_manual_is_one_and_shows_the_defaults() {
    let manual = include_str!("../hooks/README.md");
    let toml = fenced(manual, "toml");
    let command = toml.iter().find(|block| block.contains("[command]")).unwrap();
    let lines = hook(command, &[("count.py", fenced(manual, "python")[0])]);
    let output = Place::new().run(&lines, b"a\nb\n").unwrap();
    assert_eq!((&output.fields["lines"], &output.fields["too_long"]), (&json!(2), &json!(false)));
    assert_eq!(output.derived.len(), 1);
    let plain = shell("", "");
    assert_eq!(lines.limits(), plain.limits());
    let bounds = |hook: &Hook| match hook.work() {
        Work::Command(command) => command.bounds.clone(),
        Work::Shaders(_) | Work::Container(_) => panic!("{:?}", hook.work()),
    };
    assert_eq!(bounds(&lines), bounds(&plain));
    let container = toml.iter().find(|block| block.contains("[container]")).unwrap();
    let head = "[hook]\nname = \"test\"\napi = 1\nmatch = [\"*\"]\n";
    let container = hook(&format!("{head}{container}"), &[]);
    assert!(matches!(container.work(), Work::Container(_)));
}

/// Answers one request after the other with these lines; gives the bodies.
fn serve(answers: &'static [&'static str]) -> (u16, std::thread::JoinHandle<Vec<String>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = move |line: &&str| {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(&stream);
        let mut bytes = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let header = header.to_ascii_lowercase();
            if let Some(length) = header.strip_prefix("content-length:") {
                bytes = length.trim().parse().unwrap();
            }
            if header.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; bytes];
        reader.read_exact(&mut body).unwrap();
        let head = format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        (&stream).write_all(head.as_bytes()).unwrap();
        String::from_utf8(body).unwrap()
    };
    (port, std::thread::spawn(move || answers.iter().map(answer).collect()))
}

#[test]
fn the_recipe_tells_a_module_of_each_file() {
    let recipes = include_str!("../../fsd/docs/recipes.md");
    let (port, server) = serve(&["200 OK", "503 Service Unavailable"]);
    let toml = fenced(recipes, "toml")[0].replace(":8080/", &format!(":{port}/"));
    let notify = hook(&toml, &[("notify.py", fenced(recipes, "python")[0])]);
    let place = Place::new();
    let output = place.run(&notify, b"content").unwrap();
    assert_eq!(output.fields["status"], json!(200));
    let input = tempfile::tempfile().unwrap().into();
    let changed = Context { change: Change::Modified, ..context() };
    let (advice, why) = error(place.programs.run(&notify, input, &changed));
    assert_eq!(advice, Advice::Later);
    assert!(why.contains("503"), "{why}");
    let told = server.join().unwrap();
    let told = told.iter().map(|body| serde_json::from_str(body).unwrap());
    let path = "\\line\\a b.csv";
    let message = |change: &str| json!([{ "ChangeType": change, "ShareRelativeFilePath": path, "ShareName": "plant" }]);
    let expected = [message("Created"), message("Modified")];
    assert_eq!(told.collect::<Vec<serde_json::Value>>(), expected);
    let mut documented: serde_json::Value =
        serde_json::from_str(fenced(recipes, "json")[0]).unwrap();
    documented[0]["ShareRelativeFilePath"] = path.into();
    assert_eq!(documented, message("Created"), "the recipe shows what is sent");
    // Nobody answers there any more.
    assert_eq!(error(place.run(&notify, b"content")).0, Advice::Later);
}

mod containers {
    use super::*;

    /// A root folder with a shell and its friends.
    fn root() -> Option<TempDir> {
        let busybox = Path::new("/bin/busybox");
        let runc = ["/usr/bin/runc", "/usr/sbin/runc"].iter().any(|path| Path::new(path).exists());
        if !busybox.exists() || !runc || !nix::unistd::Uid::effective().is_root() {
            return skip("runc, root and /bin/busybox (busybox-static) are needed");
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        fs::copy(busybox, folder.path().join("bin/busybox")).unwrap();
        for name in ["cat", "id", "ls", "nc", "seq", "setsid", "sh", "sleep", "wc", "yes"] {
            std::os::unix::fs::symlink("busybox", folder.path().join("bin").join(name)).unwrap();
        }
        Some(folder)
    }

    fn skip<T>(why: &str) -> Option<T> {
        println!("SKIP: {why}");
        None
    }

    fn control_groups() -> usize {
        let find = std::process::Command::new("find")
            .args(["/sys/fs/cgroup", "-maxdepth", "3", "-path", "*/fsd-hooks/*", "-type", "d"])
            .output()
            .unwrap();
        String::from_utf8(find.stdout).unwrap().lines().count()
    }

    fn contained(root: &Path, script: &str, more: &str) -> Hook {
        let toml = format!(
            "[hook]\nname = \"test\"\napi = 1\nmatch = [\"*\"]\n[container]\nimage = \"{}\"\n\
             command = [\"/bin/sh\", \"/hook/run\"]\n{more}\n",
            root.display()
        );
        hook(&toml, &[("run", script)])
    }

    #[test]
    fn a_root_folder_runs_as_a_container() {
        let Some(root) = root() else { return };
        let place = Place::new();
        let script = "cat \"$FSD_INPUT\" | wc -l >lines.txt; id -u >id.txt\n\
            refused() { \"$@\" 2>/dev/null && echo \"$*\" >>allowed.txt; :; }\n\
            for path in /x /bin/x /hook/run /input/x /input.json; do refused sh -c \"echo x >>$path\"; done\n\
            refused ls /usr; refused ls /etc; refused nc -w 1 127.0.0.1 22\n\
            echo '{\"ok\": true}' >result.json";
        let hook = contained(root.path(), script, "");
        assert_eq!(place.programs.load(&hook).unwrap(), Engine::Container);
        let output = place.run(&hook, b"a\nb\n").unwrap();
        assert_eq!((output.engine, &output.fields["ok"]), (Engine::Container, &json!(true)));
        let read = |file: inference_hooks::Derived| {
            (file.suffix.clone(), String::from_utf8(file.read().unwrap()).unwrap())
        };
        let files = BTreeMap::from_iter(output.derived.into_iter().map(read));
        assert_eq!(files[".lines.txt"].trim(), "2");
        assert_eq!(files[".id.txt"].trim(), "65534");
        assert_eq!(files.len(), 2, "{files:?}");
    }

    #[test]
    fn a_container_ends_at_its_limits_and_nothing_of_it_survives() {
        let Some(root) = root() else { return };
        let place = Place::new();
        let before = control_groups();
        for (name, script, limits, words) in [
            (
                "endless",
                "while :; do sleep 1; done",
                "time_ms = 1500",
                "longer than limits.time_ms = 1500",
            ),
            ("forks", "f() { f | f & }; f; sleep 100", "time_ms = 2500\nprocesses = 16", ""),
            ("prints", "yes", "", "printed more than"),
            ("writes", "cat /dev/zero >x", "output = \"1MiB\"", "limits.output"),
            ("memory", "x=x; while :; do x=$x$x; done", "memory = \"64MiB\"", ""),
            ("fails", "echo why >&2; exit 3", "", "code 3: why"),
            ("refuses", "exit 65", "", "refuses it"),
        ] {
            let word = format!("survivor-container-{name}-{}", std::process::id());
            let script = format!(
                "setsid sh -c 'sleep 300; : {word}' </dev/null >/dev/null 2>&1 &\n{script}"
            );
            let begin = now();
            let hook = contained(root.path(), &script, &format!("[limits]\n{limits}"));
            let (_, why) = error(place.run(&hook, b"content"));
            assert!(why.contains(words), "{name}: {why}");
            assert!(begin.elapsed() < Duration::from_secs(12), "{name}: {:?}", begin.elapsed());
            nothing_survives(&word);
        }
        // Another test may have one at this moment.
        let deadline = now() + Duration::from_secs(5);
        while control_groups() > before {
            assert!(now() < deadline, "control groups are left");
            std::thread::sleep(Duration::from_millis(50));
        }
        place.run(&contained(root.path(), "echo '{}' >result.json", ""), b"").unwrap();
    }

    #[test]
    fn a_named_image_needs_a_runtime_that_answers() {
        let place = Place::new();
        let toml = "[hook]\nname = \"test\"\napi = 1\nmatch = [\"*\"]\n[container]\nimage = \"localhost/none:1\"\n";
        match place.programs.load(&hook(toml, &[])) {
            Ok(_) => {
                let (_, why) = error(place.run(&hook(toml, &[]), b""));
                assert!(why.contains("localhost/none"), "no image is fetched: {why}");
            }
            Err(error) => {
                assert_eq!(error.advice(), Advice::ParkHook, "{error}");
                let why = error.to_string();
                assert!(
                    why.contains("install podman or docker") || why.contains("does not answer"),
                    "{why}"
                );
                skip::<()>(&format!("named images: {why}"));
            }
        }
    }
}

#[test]
fn a_wrong_hook_is_told_where_and_why() {
    let head = "[hook]\nname = \"test\"\napi = 1\nmatch = [\"*\"]\n";
    for (rest, words) in [
        (
            "[command]\nprogram = \"gone\"",
            "hook.toml:6: command.program = \"gone\" is nothing that a sandbox shows",
        ),
        ("[command]\nprogram = \"/home/me/run\"", "or a program below /usr"),
        ("[command]\nprogram = \"/usr/../home/run\"", "or a program below /usr"),
        ("[command]\nprogram = \"run\"\nargs = [\"a\\u0000b\"]", "without NUL"),
        ("[command]\nprogram = \"run\"\nenvironment = { FSD_PATH = \"x\" }", "can't be a variable"),
        ("[command]\nprogram = \"run\"\nenvironment = { \"A=B\" = \"x\" }", "can't be a variable"),
        ("[command]\nprogram = \"run\"\nnetwork = \"yes\"", "hook.toml:7"),
        ("[command]\nprogram = \"run\"\nshell = true", "unknown field `shell`"),
        ("[command]\nprogram = \"run\"\n[container]\nimage = \"a\"", "is a second kind of hook"),
        ("[command]\nprogram = \"run\"\n[[pass]]\nshader = \"a.wgsl\"", "unknown field `pass`"),
        (
            "[command]\nprogram = \"run\"\n[limits]\ntime_ms = 0",
            "limits.time_ms = 0 is out of range",
        ),
        ("[command]\nprogram = \"run\"\n[limits]\nprocesses = 100000", "use 1 to 4096"),
        ("[command]\nprogram = \"run\"\n[limits]\noutput = \"1TiB\"", "limits.output"),
        ("[container]\nimage = \"/root\"", "write container.command"),
        (
            "[container]\nimage = \"/root\"\nruntime = \"docker\"\ncommand = [\"a\"]",
            "a root folder is for runc",
        ),
        ("[container]\nimage = \"name\"\nruntime = \"runc\"", "absolute path of a root folder"),
        (
            "[container]\nimage = \"name\"\nruntime = \"rkt\"",
            "container.runtime = \"rkt\" is not known",
        ),
        ("[container]\nimage = \"--privileged\"", "container.image"),
    ] {
        let text = format!("{head}{rest}\n");
        let files = [("hook.toml", text.as_str()), ("run", "#!/bin/sh\n")];
        let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
        let error =
            Hook::parse(HookSource::new(BTreeMap::from(files))).expect_err(rest).to_string();
        assert!(error.contains(words), "{rest}: {error}");
    }
}
