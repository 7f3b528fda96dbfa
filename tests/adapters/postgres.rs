//! PostgreSQL servers: with a ledger, and with transactions that are held prepared.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use pillarbox_adapter_kit::peer::{Peer, free_port, plain_user, program, run};
use pillarbox_adapter_kit::{Destination, Held, Subject};
use pillarbox_runtime::adapter::{AdapterKind, Settings};
use pillarbox_store::Body;
use serde_json::json;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

const PASSWORD: &str = "hunter2hunter2";
const REFUSED: &str = "refuse me";
const TABLES: &str = "
CREATE TABLE pillarbox_sent (key text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE orders (number bigserial, key text, attempt int, body bytea CHECK (body <> 'refuse me'));";

pub(crate) fn subjects() -> Vec<Box<dyn Subject>> {
    vec![Box::new(Database { two_phase: false }), Box::new(Database { two_phase: true })]
}

#[derive(Debug)]
struct Database {
    two_phase: bool,
}

#[async_trait(?Send)]
impl Subject for Database {
    fn name(&self) -> &str {
        if self.two_phase { "postgres, two_phase" } else { "postgres" }
    }

    fn kind(&self) -> Arc<dyn AdapterKind> {
        crate::kind("postgres")
    }

    async fn start(&self) -> Box<dyn Destination> {
        let folder = tempfile::tempdir().unwrap();
        if let Some((user, group)) = plain_user() {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let (port, data) = (free_port(), folder.path().join("data"));
        let secret = folder.path().join("password");
        fs::write(&secret, PASSWORD).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
        let mut create = as_plain_user("initdb");
        let options =
            ["--auth=scram-sha-256", "--username=test", "--encoding=UTF8", "--locale=C", "--no-sync"];
        create.args(options).arg("--pwfile").arg(&secret).arg("-D").arg(&data);
        let made = create.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let peer = Peer::start("postgres", folder.path(), move || {
            let mut command = as_plain_user("postgres");
            command.arg("-D").arg(&data).arg("-k").arg(&data).args(["-p", &port.to_string()]);
            // It need not flush: what is killed here is a process, not the machine.
            command.args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "fsync=off",
                "-c",
                "shared_buffers=16MB",
                "-c",
                "max_prepared_transactions=64",
            ]);
            command
        });
        let mut server = Server { peer, port, folder, two_phase: self.two_phase };
        server.ready().await;
        connect(port).await.unwrap().batch_execute(TABLES).await.unwrap();
        Box::new(server)
    }
}

#[derive(Debug)]
struct Server {
    peer: Peer,
    port: u16,
    folder: TempDir,
    two_phase: bool,
}

impl Server {
    async fn ready(&mut self) {
        let port = self.port;
        self.peer.ready(async || connect(port).await.map(drop)).await;
    }
}

fn as_plain_user(name: &str) -> Command {
    let mut command = Command::new(program(name));
    command.current_dir("/").stdin(Stdio::null());
    if let Some((user, group)) = plain_user() {
        command.uid(user).gid(group);
    }
    command
}

async fn connect(port: u16) -> Result<Client, tokio_postgres::Error> {
    let url = format!("host=127.0.0.1 port={port} user=test password={PASSWORD} dbname=postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    let _driver = run(connection);
    Ok(client)
}

#[async_trait(?Send)]
impl Destination for Server {
    fn port(&self) -> Option<u16> {
        Some(self.port)
    }

    fn settings(&self, port: u16) -> Settings {
        Settings::default()
            .with("url", format!("postgres://127.0.0.1:{port}/postgres"))
            .with("user", "test")
            .with("password", PASSWORD)
            .with("tls", false)
            .with("statement", "INSERT INTO orders (key, attempt, body) VALUES ($1, $2, $3)")
            .with("parameters", json!(["send_key", "attempt", "body"]))
            .with("two_phase", self.two_phase)
            .with("body_bytes_max", 4 * 1024 * 1024)
            .with("connect_timeout", "3s")
            .with("timeout", "1s")
    }

    async fn held(&self) -> Vec<Held> {
        let client = connect(self.port).await.unwrap();
        let rows = client.query("SELECT key, attempt, body FROM orders ORDER BY number", &[]).await.unwrap();
        let held = |row: &tokio_postgres::Row| {
            let (key, attempt, body): (String, i32, Vec<u8>) = (row.get(0), row.get(1), row.get(2));
            Held::new(body).key(key).attempt(attempt.try_into().unwrap())
        };
        rows.iter().map(held).collect()
    }

    async fn left_over(&self) -> Vec<String> {
        let client = connect(self.port).await.unwrap();
        let prepared =
            client.query("SELECT gid FROM pg_prepared_xacts ORDER BY prepared", &[]).await.unwrap();
        prepared.iter().map(|row| row.get(0)).collect()
    }

    fn refused(&self) -> Option<Body> {
        Some(Body::from(REFUSED))
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.to_owned()]
    }

    fn restarts(&self) -> bool {
        true
    }

    async fn kill(&mut self) {
        self.peer.kill();
    }

    async fn start_again(&mut self) {
        // What a killed server leaves keeps the next one from starting, were its number another's by now.
        let _stale = fs::remove_file(self.folder.path().join("data/postmaster.pid"));
        self.peer.start_again();
        self.ready().await;
    }
}
