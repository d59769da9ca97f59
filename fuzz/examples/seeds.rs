//! Makes those seeds that are no text, below `fuzz/seeds`: `cargo run --manifest-path fuzz/Cargo.toml --example seeds`.
//! The signatures are by keys of the moment, which GnuPG makes; they fit the packages of the same run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::BytesMut;
use obfleet_fuzz::rpm::{Bench, take_apart};
use obfleet_mysqlwire::{
    Column, EofPacket, ErrPacket, Greeting, Login, OkPacket,
    frame::put_packet,
    protocol::{NATIVE_PASSWORD, capability},
    resultset::{encode_result_set, encode_row},
};
use rpm::{BuildConfig, CompressionWithLevel, FileOptions, PackageBuilder};

const CAPABILITIES: u32 = capability::PROTOCOL_41
    | capability::SECURE_CONNECTION
    | capability::PLUGIN_AUTH
    | capability::CONNECT_WITH_DB
    | capability::CONNECT_ATTRS;

fn main() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    packages(&seeds.join("package"));
    signatures(&seeds.join("package"), &seeds.join("package_signature"));
    packets(&seeds.join("mysql_packets"));
    sessions(&seeds.join("mysql_session"));
}

fn write(dir: &Path, name: &str, bytes: &[u8]) {
    fs::create_dir_all(dir).expect("a directory can be made");
    fs::write(dir.join(name), bytes).expect("a file can be written");
    println!("{}/{name}: {} bytes", dir.display(), bytes.len());
}

fn packages(dir: &Path) {
    for (name, compression) in [
        ("plain.rpm", CompressionWithLevel::None),
        ("gzip.rpm", CompressionWithLevel::Gzip(9)),
        ("zstd.rpm", CompressionWithLevel::Zstd(1)),
        ("xz.rpm", CompressionWithLevel::Xz(0)),
    ] {
        let prefix = "/home/admin/obproxy-4.3.1.0";
        let mut program = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0".to_vec();
        program.extend(if cfg!(target_arch = "x86_64") {
            [62, 0]
        } else {
            [183, 0]
        });
        let mut builder = PackageBuilder::new("obproxy-ce", "4.3.1.0", "Apache-2.0", std::env::consts::ARCH, name);
        builder
            .release("1.el7")
            .using_config(BuildConfig::v4().compression(compression));
        let file = |inside: &str, mode| FileOptions::new(format!("{prefix}/{inside}")).permissions(mode);
        let added = (|| {
            builder
                .with_dir_entry(FileOptions::dir(format!("{prefix}/lib")).permissions(0o755))?
                .with_file_contents(program, file("bin/obproxy", 0o755))?
                .with_file_contents(b"lib", file("lib/a.so", 0o644))?
                .with_symlink(FileOptions::symlink(format!("{prefix}/lib/b.so"), "a.so"))?
                .build()
        })();
        let mut bytes = Vec::new();
        added
            .expect("a package can be built")
            .write(&mut bytes)
            .expect("memory takes everything");
        write(dir, name, &bytes);
    }
}

/// Signatures of the header, and of header and payload, by a key of each usual kind.
fn signatures(packages: &Path, dir: &Path) {
    let package = fs::read(packages.join("plain.rpm")).expect("it was just written");
    let pieces = take_apart(&package).expect("it is a package");
    // As the target seals it.
    let sealed = pieces.sealed();
    let pieces = take_apart(&sealed).expect("it is a package");
    let bench = Bench::new();
    let home = bench.path("gnupg");
    fs::create_dir(&home).expect("a directory can be made");
    let header = bench.file("header", pieces.header);
    let whole = bench.file("whole", &[pieces.header, pieces.payload].concat());
    for (kind, tag) in [("ed25519", 1), ("rsa2048", 0)] {
        let sender = format!("{kind} <{kind}@fuzz.invalid>");
        gpg(&home, &["--quick-generate-key", &sender, kind, "sign", "never"]);
        let key = gpg(&home, &["--export", &sender]);
        let sign = |path: &PathBuf| {
            let path = path.display().to_string();
            gpg(
                &home,
                &["--local-user", &sender, "--detach-sign", "--output", "-", &path],
            )
        };
        let seed = |place: u8, key: &[u8], signature: &[u8]| {
            [&[place], &(key.len() as u16).to_be_bytes()[..], key, signature].concat()
        };
        write(dir, &format!("{kind}-header"), &seed(tag, &key, &sign(&header)));
        write(dir, &format!("{kind}-whole"), &seed(tag + 3, &key, &sign(&whole)));
        let base64 = BASE64_STANDARD.encode(sign(&header));
        write(dir, &format!("{kind}-base64"), &seed(2, &key, base64.as_bytes()));
        let armored = gpg(&home, &["--armor", "--export", &sender]);
        write(dir, &format!("{kind}-armored"), &seed(tag, &armored, &sign(&header)));
    }
    let ended = Command::new("gpgconf")
        .env("GNUPGHOME", &home)
        .args(["--kill", "gpg-agent"])
        .status();
    ended.expect("gpgconf is there");
}

fn gpg(home: &Path, arguments: &[&str]) -> Vec<u8> {
    let quiet = [
        "--batch",
        "--quiet",
        "--yes",
        "--no-tty",
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        "",
    ];
    let output = Command::new("gpg")
        .env("GNUPGHOME", home)
        .args(quiet)
        .args(arguments)
        .output();
    let output = output.expect("gpg is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn greeting(capabilities: u32) -> Greeting {
    Greeting {
        server_version: "5.6.25".to_owned(),
        connection_id: 7,
        scramble: *b"abcdefghijklmnopqrst",
        capabilities,
        charset: 46,
        status: 2,
        auth_plugin: NATIVE_PASSWORD.to_owned(),
    }
}

fn login(capabilities: u32) -> Login {
    Login {
        capabilities,
        max_packet: 1 << 24,
        charset: 46,
        user: "root@proxysys".to_owned(),
        auth_answer: b"abcdefghijklmnopqrst".to_vec(),
        database: Some("test".to_owned()),
        auth_plugin: Some(NATIVE_PASSWORD.to_owned()),
        attributes: vec![("_os".to_owned(), "linux".to_owned())],
    }
}

fn columns() -> [Column; 2] {
    [Column::text("name"), Column::integer("value")]
}

fn row() -> Vec<Option<Vec<u8>>> {
    vec![Some(b"listen_port".to_vec()), None]
}

fn packets(dir: &Path) {
    let ok = OkPacket {
        affected_rows: 300,
        info: "done".to_owned(),
        ..OkPacket::with_status(2)
    };
    let mut framed = BytesMut::new();
    let next = put_packet(&mut framed, b"one", 0);
    put_packet(&mut framed, b"", next);
    for (kind, name, capabilities, payload) in [
        (0, "ok", 0, ok.encode(0)),
        (
            0,
            "ok-tracked",
            capability::SESSION_TRACK,
            ok.encode(capability::SESSION_TRACK),
        ),
        (1, "err", 0, ErrPacket::new(1235, "42000", "not supported").encode()),
        (2, "eof", 0, EofPacket { warnings: 1, status: 2 }.encode()),
        (3, "greeting", 0, greeting(CAPABILITIES).encode()),
        (4, "login", 0, login(CAPABILITIES).encode()),
        (
            4,
            "login-lenenc",
            0,
            login(CAPABILITIES | capability::PLUGIN_AUTH_LENENC).encode(),
        ),
        (5, "column", 0, columns()[0].encode()),
        (6, "row", 0, encode_row(&row())),
        (7, "frames", 0, framed.to_vec()),
    ] {
        // As the target's input is laid out.
        write(
            dir,
            name,
            &[&[kind], &u32::to_le_bytes(capabilities)[..], &[2], &payload].concat(),
        );
    }
}

fn sessions(dir: &Path) {
    for (name, offered) in [
        ("eof", CAPABILITIES),
        ("no-eof", CAPABILITIES | capability::DEPRECATE_EOF),
    ] {
        let mut out = BytesMut::new();
        let rows = encode_result_set(&columns(), &[row(), row()], 2, offered);
        let mut answers = vec![greeting(offered).encode(), OkPacket::with_status(2).encode(offered)];
        answers.extend(rows);
        answers.push(OkPacket::with_status(2).encode(offered));
        answers.push(ErrPacket::new(1235, "42000", "not supported").encode());
        for answer in answers {
            put_packet(&mut out, &answer, 0);
        }
        write(dir, &format!("server-{name}"), &out);
    }
    let mut out = BytesMut::new();
    put_packet(&mut out, &greeting(CAPABILITIES).encode(), 0);
    let switch = [
        b"\xfe".as_slice(),
        NATIVE_PASSWORD.as_bytes(),
        b"\0abcdefghijklmnopqrst\0",
    ]
    .concat();
    put_packet(&mut out, &switch, 2);
    put_packet(&mut out, &OkPacket::with_status(2).encode(CAPABILITIES), 4);
    write(dir, "server-switch", &out);
    let mut out = BytesMut::new();
    put_packet(&mut out, &login(CAPABILITIES).encode(), 1);
    put_packet(&mut out, b"\x03show proxyconfig", 0);
    put_packet(&mut out, b"\x0e", 0);
    write(dir, "client", &out);
}
