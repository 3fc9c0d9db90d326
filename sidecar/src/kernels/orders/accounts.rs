//! Which accounts exist, the limits of each, and the client order id that each had accepted last.
//! Positions live with the books.

use ringlane_layout::limits::ACCOUNT_MAX;
use ringlane_layout::orders::AccountLimits;

use super::config::ConfigError;

/// Accounts in a page.
const PAGE: usize = 256;
const PAGE_SHIFT: u32 = PAGE.trailing_zeros();
/// Marks a page entry that names a mixed page instead of one class for the whole page.
const MIXED: u32 = 1 << 31;

/// Limits of an account, ready to compare with. No limit is the largest number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) order_quantity_max: i64,
    pub(super) position_max: i64,
    /// 0 for no collar.
    pub(super) price_collar_bps: u32,
}

/// A maximal range of accounts that have the same limits, in the words of its record.
pub(super) struct LimitRange {
    pub(super) account_first: u32,
    pub(super) account_last: u32,
    pub(super) order_quantity_max: i64,
    pub(super) position_max: i64,
    pub(super) price_collar_bps: u32,
}

/// All accounts. A class is an index into `classes`, from 1; 0 is an account that does not exist.
#[derive(Clone)]
pub(super) struct Accounts {
    classes: Vec<Limits>,
    pages: Vec<u32>,
    mixed: Vec<[u32; PAGE]>,
    last_ids: Vec<Option<Box<[u64; PAGE]>>>,
}

fn unlimited(limit: i64) -> i64 {
    if limit == 0 { i64::MAX } else { limit }
}

fn limited(limit: i64) -> i64 {
    if limit == i64::MAX { 0 } else { limit }
}

impl Accounts {
    pub(super) fn new() -> Self {
        let nobody = Limits { order_quantity_max: 0, position_max: 0, price_collar_bps: 0 };
        Self { classes: vec![nobody], pages: Vec::new(), mixed: Vec::new(), last_ids: Vec::new() }
    }

    pub(super) fn set(&mut self, record: &AccountLimits) -> Result<(), ConfigError> {
        let (first, last) = (record.account_first, record.account_last);
        if first == 0 || first > last || last > ACCOUNT_MAX {
            return Err(ConfigError::AccountRange { first, last });
        }
        if record.order_quantity_max < 0 || record.position_max < 0 {
            return Err(ConfigError::NegativeLimit { first });
        }
        if record.reserved != [0; 2] {
            return Err(ConfigError::ReservedNotZero);
        }
        let limits = Limits {
            order_quantity_max: unlimited(record.order_quantity_max),
            position_max: unlimited(record.position_max),
            price_collar_bps: record.price_collar_bps,
        };
        let class = self.class_for(limits)?;
        let page_last = (last >> PAGE_SHIFT) as usize;
        if self.pages.len() <= page_last {
            self.pages.resize(page_last + 1, 0);
        }
        for page in (first >> PAGE_SHIFT) as usize..=page_last {
            let start = (page << PAGE_SHIFT) as u32;
            let from = first.saturating_sub(start) as usize;
            let to = ((last - start) as usize).min(PAGE - 1);
            self.set_in_page(page, from, to, class);
        }
        Ok(())
    }

    /// The class with these limits: one of the latest if it is among them, else a new one.
    fn class_for(&mut self, limits: Limits) -> Result<u32, ConfigError> {
        let latest = self.classes.len().saturating_sub(16).max(1);
        if let Some(at) = self.classes[latest..].iter().position(|class| *class == limits) {
            return Ok((latest + at) as u32);
        }
        if self.classes.len() >= MIXED as usize {
            return Err(ConfigError::TooManyLimits);
        }
        self.classes.push(limits);
        Ok(self.classes.len() as u32 - 1)
    }

    fn set_in_page(&mut self, page: usize, from: usize, to: usize, class: u32) {
        let entry = self.pages[page];
        if entry & MIXED != 0 {
            self.mixed[(entry & !MIXED) as usize][from..=to].fill(class);
        } else if (from, to) == (0, PAGE - 1) {
            self.pages[page] = class;
        } else if entry != class {
            let mut classes = [entry; PAGE];
            classes[from..=to].fill(class);
            self.pages[page] = MIXED | self.mixed.len() as u32;
            self.mixed.push(classes);
        }
    }

    /// The class of `account`; 0 when it does not exist.
    #[inline(always)]
    pub(super) fn class(&self, account: u32) -> u32 {
        let Some(&entry) = self.pages.get((account >> PAGE_SHIFT) as usize) else { return 0 };
        // Account 0 shares a page with real ones, but no record can name it.
        if entry & MIXED == 0 { entry } else { self.mixed[(entry & !MIXED) as usize][account as usize & (PAGE - 1)] }
    }

    /// Limits of a class that `class` gave.
    #[inline(always)]
    pub(super) fn limits(&self, class: u32) -> &Limits {
        &self.classes[class as usize]
    }

    /// Heap that the accounts hold, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        let id_pages = self.last_ids.iter().flatten().count();
        self.classes.capacity() * size_of::<Limits>()
            + (self.pages.capacity() + self.mixed.capacity() * PAGE) * size_of::<u32>()
            + self.last_ids.capacity() * size_of::<usize>()
            + id_pages * PAGE * size_of::<u64>()
    }

    /// Remembers the client order id that `account`, which exists, had accepted last.
    #[inline]
    pub(super) fn accepted(&mut self, account: u32, client_order_id: u64) {
        let page = (account >> PAGE_SHIFT) as usize;
        match self.last_ids.get_mut(page) {
            Some(Some(ids)) => ids[account as usize & (PAGE - 1)] = client_order_id,
            _ => self.accepted_in_new_page(page, account, client_order_id),
        }
    }

    #[cold]
    fn accepted_in_new_page(&mut self, page: usize, account: u32, client_order_id: u64) {
        if self.last_ids.len() <= page {
            self.last_ids.resize(page + 1, None);
        }
        let ids = self.last_ids[page].get_or_insert_with(|| Box::new([0; PAGE]));
        ids[account as usize & (PAGE - 1)] = client_order_id;
    }

    /// The client order id that `account` had accepted last; 0 for none.
    pub(super) fn last_id(&self, account: u32) -> u64 {
        let page = self.last_ids.get((account >> PAGE_SHIFT) as usize);
        page.and_then(Option::as_ref).map_or(0, |ids| ids[account as usize & (PAGE - 1)])
    }

    /// Accounts with a last client order id other than 0, ascending.
    pub(super) fn last_ids(&self) -> impl Iterator<Item = (u32, u64)> {
        let pages = self.last_ids.iter().enumerate().filter_map(|(page, ids)| Some((page, ids.as_ref()?)));
        pages
            .flat_map(|(page, ids)| ids.iter().enumerate().map(move |(at, id)| ((page * PAGE + at) as u32, *id)))
            .filter(|(_, id)| *id != 0)
    }

    /// The accounts that exist as maximal ranges of equal limits, ascending: however they were configured.
    pub(super) fn ranges(&self) -> Vec<LimitRange> {
        let mut ranges: Vec<LimitRange> = Vec::new();
        for account in 1..=(self.pages.len() * PAGE) as u32 {
            let class = self.class(account);
            if class == 0 {
                continue;
            }
            let limits = self.limits(class);
            let range = LimitRange {
                account_first: account,
                account_last: account,
                order_quantity_max: limited(limits.order_quantity_max),
                position_max: limited(limits.position_max),
                price_collar_bps: limits.price_collar_bps,
            };
            match ranges.last_mut() {
                Some(last) if last.account_last + 1 == account && last.same_limits(&range) => last.account_last = account,
                _ => ranges.push(range),
            }
        }
        ranges
    }
}

impl LimitRange {
    /// The record that gives these limits.
    pub(super) fn record(&self) -> AccountLimits {
        let Self { account_first, account_last, order_quantity_max, position_max, price_collar_bps } = *self;
        AccountLimits { account_first, account_last, order_quantity_max, position_max, price_collar_bps, ..AccountLimits::default() }
    }

    fn same_limits(&self, other: &Self) -> bool {
        let limits = |range: &Self| (range.order_quantity_max, range.position_max, range.price_collar_bps);
        limits(self) == limits(other)
    }
}
