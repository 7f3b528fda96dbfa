//! The four workloads and the two ways to run them.

/// How many clients submit how many bodies of which size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Its letter.
    pub name: &'static str,
    /// The length of a body, in bytes.
    pub body_bytes: usize,
    /// Clients at the same time.
    pub clients: usize,
    /// Messages of one batch.
    pub batch: usize,
}

impl Workload {
    /// All of them, in the order of their letters.
    pub const ALL: [Self; 4] = [
        Self { name: "a", body_bytes: 1024, clients: 1, batch: 1 },
        Self { name: "b", body_bytes: 1024, clients: 64, batch: 1 },
        Self { name: "c", body_bytes: 1024, clients: 4, batch: 100 },
        Self { name: "d", body_bytes: 64 * 1024, clients: 4, batch: 10 },
    ];

    /// The workload of this letter.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|workload| workload.name == name)
    }

    /// What it is, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let clients = if self.clients == 1 { "client" } else { "clients" };
        format!("{} KiB, {} {clients}, {} a batch", self.body_bytes / 1024, self.clients, self.batch)
    }
}

/// What a client does in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Submit. The backlog grows.
    Send,
    /// Submit, lease as many, read their bodies back, complete. The backlog stays bounded.
    Both,
}

impl Mode {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Both, Self::Send];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Both => "both",
        }
    }

    /// The mode of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == name)
    }
}
