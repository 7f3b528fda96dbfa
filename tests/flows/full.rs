//! A disk that is full: new messages are refused, those acknowledged are kept, and the server goes on.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use pillarbox_tests::bodies::{Hash, body, hash};
use pillarbox_tests::client::{Answer, Client};
use pillarbox_tests::destination::Destination;
use pillarbox_tests::server::Place;
use pillarbox_tests::small_disk::SmallDisk;
use pillarbox_tests::wait::until;

use crate::{own_id, place, port};

const BODY_BYTES: usize = 64 * 1024;
/// More bodies than the disk has room for.
const BODIES_MAX: usize = 2_000;

/// A box on a small disk, and everything that was submitted to it.
struct Crowd {
    // Before the place, whose folder it is in.
    disk: SmallDisk,
    place: Place,
    acknowledged: HashMap<String, Hash>,
    refused: Vec<String>,
}

impl Crowd {
    fn new(destination: &Destination) -> Self {
        let mailbox = "[box]\ndata = 'disk/data'\nsegment_bytes = '1MiB'\n[server]\nlisten = '127.0.0.1:0'\n";
        let retry = "retry = { attempts = 1000, first = '200ms', max = '1s' }";
        let place = place(&format!("{mailbox}{}", port("orders", &destination.url("/in"), retry)));
        let disk = SmallDisk::mount(&place.path("disk"), "size=24m").expect("a disk to be filled");
        Self { disk, place, acknowledged: HashMap::new(), refused: Vec::new() }
    }

    /// The next body, and the id it is submitted under.
    fn next(&self) -> (String, Bytes) {
        let number = self.acknowledged.len() + self.refused.len();
        (own_id(number), body(number as u64, BODY_BYTES))
    }

    /// Submits one message; what was answered.
    async fn submit(&mut self, client: &Client) -> Answer {
        let (id, body) = self.next();
        let answer = client.submit("orders", &[("x-pillarbox-message-id", &id)], body.clone()).await;
        if answer.status == 201 {
            self.acknowledged.insert(id, hash(&body));
        } else {
            let problem = answer.problem(503, "full");
            assert_eq!(problem["retry_after"], 5, "{problem}");
            self.refused.push(id);
        }
        answer
    }

    /// Submits until there is no more room.
    async fn fill(&mut self, client: &Client) {
        let mut left = BODIES_MAX;
        while self.submit(client).await.status == 201 {
            left -= 1;
            assert!(left > 0, "the disk never got full, {} bytes are free", self.disk.free_bytes());
        }
    }

    /// Submits until one more is accepted.
    async fn accepted_again(&mut self, client: &Client) {
        let again = until(async || (self.submit(client).await.status == 201).then_some(())).await;
        assert_eq!(again, Ok(()), "{} bytes are free", self.disk.free_bytes());
    }

    /// Every acknowledged body can be read, byte for byte.
    async fn everything_is_there(&self, client: &Client) {
        for (id, wanted) in &self.acknowledged {
            let answer = client.get(&format!("/v1/messages/{id}/body")).await;
            assert_eq!(answer.status, 200, "{id}: {answer:?}");
            assert_eq!(hash(&answer.bytes), *wanted, "the body of {id}");
        }
        for id in &self.refused {
            client.get(&format!("/v1/messages/{id}")).await.problem(404, "no-such-message");
        }
    }

    /// Everything acknowledged has arrived, and nothing else.
    fn compare(&self, destination: &Destination) {
        let mut arrived = HashMap::new();
        for received in destination.received() {
            let wanted = self.acknowledged.get(&received.message);
            assert_eq!(wanted, Some(&received.hash), "{} was acknowledged and is whole", received.message);
            arrived.insert(received.message, received.key);
        }
        assert_eq!(arrived.len(), self.acknowledged.len(), "every acknowledged message has arrived");
    }
}

fn ballast(disk: &Path) -> std::path::PathBuf {
    disk.join("ballast")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_loses_nothing() {
    let mut destination = Destination::down();
    let mut crowd = Crowd::new(&destination);
    let ballast = ballast(crowd.disk.path());
    std::fs::write(&ballast, vec![1; 6 * 1024 * 1024]).expect("there is room");
    let server = crowd.place.serve().await;
    let client = server.client.clone();

    crowd.fill(&client).await;
    assert!(crowd.acknowledged.len() > 50, "{} messages were accepted", crowd.acknowledged.len());
    assert_eq!(client.get("/healthz").await.expect(200)["status"], "ok", "it goes on");
    crowd.everything_is_there(&client).await;

    // Somebody makes room.
    let before = crowd.acknowledged.len();
    std::fs::remove_file(&ballast).expect("the ballast is ours");
    crowd.accepted_again(&client).await;
    crowd.fill(&client).await;
    assert!(crowd.acknowledged.len() > before + 20, "the new room was used");
    crowd.everything_is_there(&client).await;

    // Deliveries make room.
    destination.start();
    crowd.accepted_again(&client).await;
    client.wait_count("orders", "done", crowd.acknowledged.len() as u64).await;
    for _ in 0..20 {
        crowd.accepted_again(&client).await;
    }
    client.wait_count("orders", "done", crowd.acknowledged.len() as u64).await;
    server.end().await;
    crowd.compare(&destination);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_on_a_full_disk_comes_back_and_delivers() {
    let mut destination = Destination::down();
    let mut crowd = Crowd::new(&destination);
    let server = crowd.place.serve().await;
    crowd.fill(&server.client).await;
    server.kill().await;
    let server = crowd.place.serve().await;
    let client = server.client.clone();
    crowd.everything_is_there(&client).await;
    destination.start();
    client.wait_count("orders", "done", crowd.acknowledged.len() as u64).await;
    crowd.accepted_again(&client).await;
    client.wait_count("orders", "done", crowd.acknowledged.len() as u64).await;
    server.end().await;
    crowd.compare(&destination);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_that_finds_no_room_gives_back_what_it_took() {
    let destination = Destination::down();
    let mut crowd = Crowd::new(&destination);
    let server = crowd.place.serve().await;
    let client = server.client.clone();
    let large = client.submit("orders", &[], body(1, 40 * 1024 * 1024)).await;
    large.problem(503, "full");
    // Its room comes back bit by bit.
    while crowd.acknowledged.len() < 150 {
        crowd.accepted_again(&client).await;
    }
    crowd.everything_is_there(&client).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_tells_of_a_full_disk() {
    let destination = Destination::down();
    let mut crowd = Crowd::new(&destination);
    let server = crowd.place.serve().await;
    crowd.fill(&server.client).await;
    crowd.place.write("letter", body(7, 4 * BODY_BYTES));
    let online = crowd.place.run(&["submit", "--server", &server.base, "orders", "letter"]).await;
    online.failed(1, &["letter", "1 of 1 were not accepted", "nothing was taken", "Make room on the disk"]);
    server.kill().await;
    let offline = crowd.place.run(&["submit", "orders", "letter"]).await;
    offline.failed(1, &["Make room on the disk"]);
    let server = crowd.place.serve().await;
    crowd.everything_is_there(&server.client).await;
}
