//! Which accounts exist, the limits of each, and the client order id that each had accepted last.
//! Positions live with the books.

use super::config::ConfigError;
use super::limits::Limits;

/// Accounts in a page.
const PAGE: usize = 256;
const PAGE_SHIFT: u32 = PAGE.trailing_zeros();
/// Marks a page entry that names a mixed page instead of one class for the whole page.
const MIXED: u32 = 1 << 31;

/// A maximal range of accounts that have the same limits.
pub(super) struct LimitRange {
    pub(super) account_first: u32,
    pub(super) account_last: u32,
    pub(super) limits: Limits,
}

/// All accounts. A class is an index into `classes`, from 1; 0 is an account that does not exist.
#[derive(Clone)]
pub(super) struct Accounts {
    classes: Vec<Limits>,
    pages: Vec<u32>,
    mixed: Vec<[u32; PAGE]>,
    last_ids: Vec<Option<Box<[u64; PAGE]>>>,
    /// Whether a class was ever made whose limits count over all symbols.
    any_counted: bool,
}

impl Accounts {
    pub(super) fn new() -> Self {
        Self { classes: vec![Limits::NONE], pages: Vec::new(), mixed: Vec::new(), last_ids: Vec::new(), any_counted: false }
    }

    /// Makes the accounts of a checked range exist with these limits.
    pub(super) fn set(&mut self, first: u32, last: u32, limits: Limits) -> Result<(), ConfigError> {
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
        self.any_counted |= limits.has_more;
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

    /// Whether any account may have limits that count over all symbols.
    pub(super) fn any_counted(&self) -> bool {
        self.any_counted
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
            let range = LimitRange { account_first: account, account_last: account, limits: *self.limits(class) };
            match ranges.last_mut() {
                Some(last) if last.account_last + 1 == account && last.limits == range.limits => last.account_last = account,
                _ => ranges.push(range),
            }
        }
        ranges
    }
}
