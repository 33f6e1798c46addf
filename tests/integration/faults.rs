//! Clients of three dialects while the way to NATS suffers whatever a way can: nothing is missing in silence, nothing old
//! is called current, and no subscription stays dead.

mod troubles;
mod world;

use crate::faults::troubles::TROUBLES;
use crate::faults::world::World;
use crate::support::chance::Chance;
use crate::support::dialect::Dialect;

/// How many troubles each dialect has, of those that are there. With as many seeds as TIDEGATE_FAULT_SEEDS says, or the
/// one of TIDEGATE_FAULT_SEED, it has all of them, in the order of the seed.
const TROUBLES_EACH: usize = 8;

#[expect(clippy::print_stdout, reason = "a run that fails is to be repeated")]
async fn survives(dialect: Dialect) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match (number("TIDEGATE_FAULT_SEED"), number("TIDEGATE_FAULT_SEEDS")) {
        (Some(seed), _) => seed..=seed,
        (None, Some(seeds)) => 1..=seeds,
        (None, None) => {
            let from = [Dialect::Native, Dialect::StockAgent, Dialect::Sentio]
                .iter()
                .position(|other| *other == dialect)
                .unwrap();
            let mut world = World::begin(dialect, 0).await;
            // Each trouble comes to one of them, and the first to all.
            let mine = TROUBLES.iter().skip(from).step_by(TROUBLES.len() / TROUBLES_EACH);
            for (trouble, until) in [TROUBLES[0]].iter().chain(mine) {
                world.suffer(*trouble, *until).await;
            }
            return world.end().await;
        }
    };
    for seed in seeds {
        println!("{}: TIDEGATE_FAULT_SEED={seed}", dialect.name());
        let mut order = Chance::new(seed);
        let mut world = World::begin(dialect, seed).await;
        for _ in 0..TROUBLES.len() {
            let (trouble, until) = *order.one_of(&TROUBLES);
            world.suffer(trouble, until).await;
        }
        world.end().await;
    }
}

#[tokio::test]
async fn stock_agents_pages_survive_every_trouble() {
    survives(Dialect::StockAgent).await;
}

#[tokio::test]
async fn sentios_pages_survive_every_trouble() {
    survives(Dialect::Sentio).await;
}
