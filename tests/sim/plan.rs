//! What one seed stands for: the ports, how their destinations behave, and how hard the life is.

use std::time::Duration;

use pillarbox_runtime::{Port, RetryPolicy, RouteConfig};
use pillarbox_sim::history::{PortLimits, RouteLimits};
use pillarbox_store::{PortName, Retention, Route};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::destination::{self, Shape};
use crate::world::World;

/// How often a destination does what, in parts of the sum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    pub(crate) fine: u32,
    pub(crate) temporary: u32,
    pub(crate) other: u32,
    /// The longest pause before anything happens.
    pub(crate) pause: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct RoutePlan {
    pub(crate) shape: Shape,
    pub(crate) manners: Manners,
    pub(crate) retry: RetryPolicy,
    pub(crate) timeout: Duration,
    pub(crate) in_flight: usize,
    pub(crate) batch_count: usize,
    pub(crate) init_at_start: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct PortPlan {
    pub(crate) name: PortName,
    pub(crate) primary: RoutePlan,
    pub(crate) backup: Option<RoutePlan>,
}

/// A life.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) ports: Vec<PortPlan>,
    pub(crate) retention: Retention,
    /// Whether a route in two phases is a plain one in some processes.
    pub(crate) changes: bool,
    /// Whether no trace can be forgotten during this life.
    pub(crate) traces_kept: bool,
    /// Things that the driver does.
    pub(crate) steps: u32,
    /// In how many of a hundred steps something breaks.
    pub(crate) breaks: u32,
    /// The longest usual body.
    pub(crate) body_max: usize,
}

impl Plan {
    /// Of five lives one has destinations with transactions and such that answer, and one of three of those changes its routes;
    /// the others go as they do without.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut plan = Self::draw_plain(&mut StdRng::seed_from_u64(seed ^ 0x5EED));
        let routes =
            plan.ports.iter_mut().flat_map(|port| std::iter::once(&mut port.primary).chain(&mut port.backup));
        if seed % 15 == 11 {
            routes.for_each(|route| route.shape = Shape::TwoPhase);
            plan.changes = true;
            // It is about crashes in between.
            plan.breaks = plan.breaks.max(10);
        } else if seed % 5 == 1 {
            let mut random = StdRng::seed_from_u64(seed ^ 0x2FA5);
            for route in routes {
                route.shape = *pick(&mut random, &[Shape::TwoPhase, Shape::Requester, route.shape]);
            }
        }
        plan
    }

    fn draw_plain(random: &mut StdRng) -> Self {
        let ports = (0..random.random_range(1..=4)).map(|number| PortPlan::draw(random, number)).collect();
        let traces_kept = random.random_bool(0.6);
        let count = if traces_kept { 1_000_000 } else { random.random_range(1..40) };
        let days = if traces_kept { 10_000 } else { 1 };
        Self {
            ports,
            retention: Retention {
                count,
                age: Duration::from_secs(days * 24 * 3600),
                ..Retention::default()
            },
            changes: false,
            traces_kept,
            steps: random.random_range(20..=90),
            breaks: *pick(random, &[0, 4, 4, 10, 20]),
            body_max: *pick(random, &[50, 1_000, 1_000, 20_000]),
        }
    }

    /// The ports for a runtime.
    pub(crate) fn ports<'a>(&'a self, world: &'a World) -> impl Iterator<Item = Port> + 'a {
        self.ports.iter().map(|plan| {
            let route = |route, of: &RoutePlan| {
                let mut of = of.clone();
                // What it left prepared waits meanwhile.
                if self.changes && of.shape == Shape::TwoPhase && !world.is_calm() && world.percent(40) {
                    world.mark("route: for once not in two phases");
                    of.shape = world.draw(|random| *pick(random, &Shape::PLAIN));
                }
                of.config(world, &plan.name, route)
            };
            let port = Port::new(plan.name.clone(), route(Route::Primary, &plan.primary));
            match &plan.backup {
                Some(backup) => port.backup(route(Route::Backup, backup)),
                None => port,
            }
        })
    }
}

impl PortPlan {
    fn draw(random: &mut StdRng, number: u32) -> Self {
        let name = PortName::new(&format!("port-{number}")).expect("a name by the rules");
        let primary = RoutePlan::draw(random);
        let backup = random.random::<bool>().then(|| RoutePlan::draw(random));
        Self { name, primary, backup }
    }

    pub(crate) fn limits(&self) -> PortLimits {
        PortLimits { primary: self.primary.limits(), backup: self.backup.as_ref().map(RoutePlan::limits) }
    }
}

impl RoutePlan {
    fn draw(random: &mut StdRng) -> Self {
        let first = Duration::from_millis(*pick(random, &[1, 50, 200, 2_000]));
        let retry = RetryPolicy {
            attempts: *pick(random, &[1, 2, 3, 3, 5, 8]),
            first,
            factor: *pick(random, &[1.0, 2.0, 4.0]),
            max: Duration::from_secs(*pick(random, &[2, 10, 30])),
            jitter: *pick(random, &[0.0, 0.2, 1.0]),
        };
        let (fine, temporary, other) =
            *pick(random, &[(10, 0, 0), (6, 3, 1), (3, 4, 3), (1, 3, 6), (0, 1, 0)]);
        let pause = Duration::from_millis(*pick(random, &[0, 20, 500, 3_000]));
        Self {
            shape: *pick(random, &Shape::PLAIN),
            manners: Manners { fine, temporary, other, pause },
            retry,
            timeout: Duration::from_secs(*pick(random, &[1, 5, 20, 60])),
            in_flight: *pick(random, &[1, 2, 5, 64]),
            batch_count: *pick(random, &[1, 3, 20, 100]),
            init_at_start: random.random_bool(0.2),
        }
    }

    const fn limits(&self) -> RouteLimits {
        RouteLimits { attempts: self.retry.attempts, timeout: self.timeout, in_flight: self.in_flight }
    }

    fn config(&self, world: &World, port: &PortName, route: Route) -> RouteConfig {
        let adapter = destination::adapter(world, port, route, self);
        RouteConfig::new(adapter)
            .retry(self.retry)
            .timeout(self.timeout)
            .in_flight(self.in_flight)
            .batch(self.batch_count, 64 * 1024)
    }
}

pub(crate) fn pick<'a, T>(random: &mut StdRng, of: &'a [T]) -> &'a T {
    let place = random.random_range(0..of.len().max(1));
    of.get(place).expect("picked from something")
}
