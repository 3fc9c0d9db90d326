//! Which accounts exist, the limits of each, and the client order id that each had accepted last.
//! Positions live with the books.

use super::config::ConfigError;
use super::limits::Limits;
use super::pages::Pages;

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
    last_ids: Pages<u64>,
    /// Whether a class was ever made whose limits count over all symbols.
    any_counted: bool,
}

impl Accounts {
    pub(super) fn new() -> Self {
        Self { classes: vec![Limits::NONE], pages: Vec::new(), mixed: Vec::new(), last_ids: Pages::default(), any_counted: false }
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
        self.classes.capacity() * size_of::<Limits>()
            + (self.pages.capacity() + self.mixed.capacity() * PAGE) * size_of::<u32>()
            + self.last_ids.heap_bytes()
    }

    /// Remembers the client order id that `account`, which exists, had accepted last.
    #[inline]
    pub(super) fn accepted(&mut self, account: u32, client_order_id: u64) {
        *self.last_ids.of_mut(account) = client_order_id;
    }

    /// The client order id that `account` had accepted last; 0 for none.
    pub(super) fn last_id(&self, account: u32) -> u64 {
        self.last_ids.of(account)
    }

    /// Accounts with a last client order id other than 0, ascending.
    pub(super) fn last_ids(&self) -> impl Iterator<Item = (u32, u64)> {
        self.last_ids.iter().map(|(account, id)| (account, *id)).filter(|(_, id)| *id != 0)
    }

    /// The accounts that exist as maximal ranges of equal limits, ascending: however they were configured.
    pub(super) fn ranges(&self) -> Vec<LimitRange> {
        let mut ranges: Vec<LimitRange> = Vec::new();
        let mut add = |account_first: u32, account_last: u32, class: u32| {
            if class == 0 {
                return;
            }
            let limits = *self.limits(class);
            match ranges.last_mut() {
                Some(last) if last.account_last + 1 == account_first && last.limits == limits => last.account_last = account_last,
                _ => ranges.push(LimitRange { account_first, account_last, limits }),
            }
        };
        for (first, entry) in (0..).step_by(PAGE).zip(&self.pages) {
            // Account 0 shares a page with real ones, but is none.
            match entry & MIXED {
                0 => add(first.max(1), first + PAGE as u32 - 1, *entry),
                _ => (first..)
                    .zip(&self.mixed[(entry & !MIXED) as usize])
                    .skip_while(|(account, _)| *account == 0)
                    .for_each(|(account, class)| add(account, account, *class)),
            }
        }
        ranges
    }
}
