//! Exact splits of whole micro-OPEN, and signed balances.
//!
//! Every split gives out exactly what it was given. There are three rules, each for its case: [`split`] by weight with
//! largest remainders (scores, shares), [`split_equal`] per head where no id may be favoured, so that the rest is
//! dust, and [`Balance`] for what accounts hold. Nothing wraps, nothing saturates, and [`split`] cannot overflow
//! whatever its weights.

use std::fmt;

use tributary_protocol::id::MicroOpen;

/// Most that one event may move: 10^18 OPEN, a billion times what will ever exist. With it no sum
/// over fewer than 10^14 events can leave `i128`, so balances do not depend on the order of events.
pub const MAX_AMOUNT: MicroOpen = MicroOpen(1_000_000_000_000_000_000_000_000);

/// Why an amount is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Above [`MAX_AMOUNT`].
    #[error(
        "{0} OPEN in one event is more than the {MAX_AMOUNT} allowed: no such budget can be paid"
    )]
    TooLarge(MicroOpen),
    /// A balance left the range of `i128`.
    #[error("balance overflows: too many events of too large amounts")]
    Overflow,
}

/// What an account holds: positive is owed to it, negative was paid by it. Millionths of one OPEN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Balance(pub i128);

impl Balance {
    /// `amount` coming in.
    ///
    /// # Errors
    /// [`MoneyError::TooLarge`].
    pub fn plus(amount: MicroOpen) -> Result<Self, MoneyError> {
        if amount > MAX_AMOUNT {
            return Err(MoneyError::TooLarge(amount));
        }
        Ok(Self(amount.0 as i128))
    }

    /// `amount` going out.
    ///
    /// # Errors
    /// [`MoneyError::TooLarge`].
    pub fn minus(amount: MicroOpen) -> Result<Self, MoneyError> {
        Ok(Self(-Self::plus(amount)?.0))
    }

    /// The sum.
    ///
    /// # Errors
    /// [`MoneyError::Overflow`].
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        (self.0.checked_add(other.0))
            .map(Self)
            .ok_or(MoneyError::Overflow)
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        // `pad` lets tables align the whole number.
        f.pad(&format!("{sign}{}", MicroOpen(self.0.unsigned_abs())))
    }
}

/// Whole units of `amount` by weight: everyone gets the floor of the quota, and the units left go to
/// the largest remainders, the least id among equals. Adds up to `amount` exactly; a weight of zero
/// gets nothing. `None` when all weights are zero: there is nobody to give to, and the caller says
/// which account keeps it. Parts come in the order of `weights`.
pub fn apportion<I: Ord>(amount: u128, weights: &[(I, u64)]) -> Option<Vec<u128>> {
    let parts = portions(amount, weights)?;
    Some(parts.iter().map(Portion::whole).collect())
}

/// One part of an apportionment, with what decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// Whole units of the quota `amount * weight / total`.
    pub floor: u128,
    /// What the quota leaves over them, in `total`-ths of a unit.
    pub remainder: u128,
    /// Whether the remainder was among the largest, and got one of the units that were left.
    pub is_topped: bool,
}

impl Portion {
    /// The part itself.
    pub fn whole(&self) -> u128 {
        self.floor + u128::from(self.is_topped)
    }
}

/// [`apportion`] with its reasons, for code that explains a split.
pub fn portions<I: Ord>(amount: u128, weights: &[(I, u64)]) -> Option<Vec<Portion>> {
    let total: u128 = weights.iter().map(|(_, w)| u128::from(*w)).sum();
    if total == 0 {
        return None;
    }
    let quotas = weights.iter().map(|(_, w)| quota(amount, *w, total));
    let mut parts: Vec<Portion> = quotas
        .map(|(floor, remainder)| Portion {
            floor,
            remainder,
            is_topped: false,
        })
        .collect();
    let left = amount - parts.iter().map(|part| part.floor).sum::<u128>();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| {
        let remainders = parts[b].remainder.cmp(&parts[a].remainder);
        remainders.then_with(|| weights[a].0.cmp(&weights[b].0))
    });
    // Remainders add up to `left` totals and each is below one, so `left` of them are not zero.
    for &at in order.iter().take(left as usize) {
        parts[at].is_topped = true;
    }
    Some(parts)
}

/// [`apportion`] for money.
pub fn split<I: Ord>(amount: MicroOpen, weights: &[(I, u64)]) -> Option<Vec<MicroOpen>> {
    let parts = apportion(amount.0, weights)?;
    Some(parts.into_iter().map(MicroOpen).collect())
}

/// [`split`] by weights of up to 128 bits, together below 2^127. Of weights that are more than 64 bits all together, the
/// last bits are left out of everybody's.
pub fn split_wide<I: Ord + Copy>(
    amount: MicroOpen,
    weights: &[(I, u128)],
) -> Option<Vec<MicroOpen>> {
    let total: u128 = weights.iter().map(|(_, weight)| weight).sum();
    let shift = u128::BITS.saturating_sub(total.leading_zeros() + u64::BITS);
    let narrow = |weight: u128| u64::try_from(weight >> shift).expect("shifted to 64 bits");
    let weights: Vec<(I, u64)> = (weights.iter())
        .map(|(id, weight)| (*id, narrow(*weight)))
        .collect();
    split(amount, &weights)
}

/// Equal parts for `heads` and the rest, which is less than one unit per head. The rest is dust:
/// giving it out by id would favour the same peers in every one of very many small events. `None`
/// for no heads.
pub fn split_equal(amount: MicroOpen, heads: usize) -> Option<(MicroOpen, MicroOpen)> {
    let heads = heads as u128;
    let each = amount.0.checked_div(heads)?;
    Some((MicroOpen(each), MicroOpen(amount.0 - each * heads)))
}

/// Floor and remainder of `amount * weight / total`, where the product may need 192 bits: schoolbook
/// multiplication bit by bit, with the invariant `quotient * total + remainder = amount * prefix` for
/// the bits of `weight` seen so far. Needs `weight <= total < 2^127`.
fn quota(amount: u128, weight: u64, total: u128) -> (u128, u128) {
    if let Some(product) = amount.checked_mul(u128::from(weight)) {
        return (product / total, product % total);
    }
    let (whole, rest) = (amount / total, amount % total);
    let (mut quotient, mut remainder) = (0u128, 0u128);
    for bit in (0..u64::BITS).rev() {
        quotient *= 2;
        remainder *= 2;
        if remainder >= total {
            remainder -= total;
            quotient += 1;
        }
        if weight >> bit & 1 == 1 {
            quotient += whole;
            remainder += rest;
            if remainder >= total {
                remainder -= total;
                quotient += 1;
            }
        }
    }
    (quotient, remainder)
}

#[cfg(test)]
mod tests;
