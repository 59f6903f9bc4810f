//! IPv6 addresses as host names, and the resolver that turns them back without asking anybody.
//!
//! iroh hands the host of a relay's URL to TLS as it stands there, in brackets for an IPv6 address, which TLS takes for
//! no name at all. A name under `.invalid` (RFC 2606) passes and can never belong to anybody.

use std::iter;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::pin::Pin;

use iroh::dns::{BoxIter, DnsError, DnsResolver, Resolver};

/// What follows the 32 hexadecimal digits of the address.
const SUFFIX: &str = ".ip6.tributary.invalid";
/// Digits of an IPv6 address.
const DIGITS: usize = 32;

/// The name of an address.
pub(super) fn of(ip: Ipv6Addr) -> String {
    format!("{:032x}{SUFFIX}", u128::from(ip))
}

/// The address in such a name.
pub(super) fn read(name: &str) -> Option<Ipv6Addr> {
    let digits = name.trim_end_matches('.').strip_suffix(SUFFIX)?;
    let plain = digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let number = u128::from_str_radix(digits, 16).ok();
    number.filter(|_| plain).map(Ipv6Addr::from)
}

/// A resolver for endpoints that use relays of peers. It knows the names of IPv6 addresses, and asks nobody about any
/// other: those have no address.
pub(crate) fn resolver() -> DnsResolver {
    DnsResolver::custom(Names)
}

#[derive(Debug)]
struct Names;

/// What the trait of iroh returns.
type Found<T> = Pin<Box<dyn Future<Output = Result<BoxIter<T>, DnsError>> + Send>>;

fn found<T: Send + 'static>(address: Option<T>) -> Found<T> {
    let found: BoxIter<T> = Box::new(address.into_iter());
    Box::pin(async move { Ok(found) })
}

impl Resolver for Names {
    fn lookup_ipv4(&self, _: String) -> Found<Ipv4Addr> {
        found(None)
    }
    fn lookup_ipv6(&self, host: String) -> Found<Ipv6Addr> {
        found(read(&host))
    }
    fn lookup_txt(&self, _: String) -> Found<iroh::dns::TxtRecordData> {
        Box::pin(async move { Ok(Box::new(iter::empty()) as _) })
    }
    fn clear_cache(&self) {}
    fn reset(&self) -> Box<dyn Resolver> {
        Box::new(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_its_name_and_other_names_have_none() {
        for text in ["::1", "2001:db8::12:3", "fe80::ffff:ffff:ffff:ffff"] {
            let ip: Ipv6Addr = text.parse().unwrap();
            assert_eq!(read(&of(ip)), Some(ip));
        }
        let name = of(Ipv6Addr::LOCALHOST);
        for other in ["example.org", &name[1..], &format!("0{name}"), SUFFIX] {
            assert_eq!(read(other), None, "{other}");
        }
        assert_eq!(read(&name.replacen('0', "+", 1)), None);
    }
}
