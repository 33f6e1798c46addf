//! `OutboxLevels`: how much waits for the clients of a shard, in total and by client.

use std::ops::AddAssign;

/// The clients for which bytes wait, by the number of binary digits of that number.
const SIZES: usize = 33;

/// The bytes that wait for clients. Clients for which nothing waits are not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLevels {
    bytes: u64,
    /// How many clients have waiting bytes, by the number of binary digits of their bytes.
    clients: [u32; SIZES],
}

impl Default for OutboxLevels {
    fn default() -> Self {
        Self { bytes: 0, clients: [0; SIZES] }
    }
}

impl OutboxLevels {
    /// Other bytes wait for a client than before.
    pub fn change(&mut self, before: u32, after: u32) {
        self.bytes = self.bytes + u64::from(after) - u64::from(before);
        if before > 0 {
            self.clients[digits(before)] -= 1;
        }
        if after > 0 {
            self.clients[digits(after)] += 1;
        }
    }

    /// The bytes that wait for all clients.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The waiting bytes that 99 of 100 clients do not exceed. `open` is the number of all clients, also of those for which
    /// nothing waits. The result is rounded up to one less than a power of two.
    pub fn p99(&self, open: u64) -> u64 {
        let mut above = open / 100;
        for (digits, clients) in self.clients.iter().enumerate().rev() {
            let clients = u64::from(*clients);
            if clients > above {
                return (1 << digits) - 1;
            }
            above -= clients;
        }
        0
    }
}

impl AddAssign for OutboxLevels {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.clients.iter_mut().zip(other.clients).for_each(|(clients, more)| *clients += more);
    }
}

fn digits(bytes: u32) -> usize {
    (u32::BITS - bytes.leading_zeros()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_all_clients() {
        let mut levels = OutboxLevels::default();
        levels.change(0, 1000);
        levels.change(0, u32::MAX);
        levels.change(1000, 10);
        assert_eq!(levels.bytes(), u64::from(u32::MAX) + 10);
        levels.change(10, 0);
        levels.change(u32::MAX, 0);
        assert_eq!(levels, OutboxLevels::default());
    }

    #[test]
    fn one_client_in_a_hundred_may_have_more() {
        let mut levels = OutboxLevels::default();
        levels.change(0, 1 << 20);
        assert_eq!((levels.p99(1), levels.p99(99), levels.p99(100)), ((1 << 21) - 1, (1 << 21) - 1, 0));
        levels.change(0, 1000);
        assert_eq!((levels.p99(100), levels.p99(200)), (1023, 0));
        let both = levels;
        levels += both;
        assert_eq!((levels.p99(200), levels.p99(199), levels.p99(0)), (1023, (1 << 21) - 1, (1 << 21) - 1));
    }
}
