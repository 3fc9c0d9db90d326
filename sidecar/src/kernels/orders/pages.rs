//! A number of something for each account, where few accounts have one: pages that are made when an account of theirs is counted
//! for the first time. Whoever was never counted has the default.

use crate::kernels::prefetch;

/// Accounts in a page.
const PAGE: usize = 256;

/// The table. A page that is not made is empty.
#[derive(Clone)]
pub(super) struct Pages<T> {
    pages: Vec<Box<[T]>>,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T: Copy + Default> Pages<T> {
    /// What an account has.
    #[inline]
    pub(super) fn of(&self, account: u32) -> T {
        self.find(account).copied().unwrap_or_default()
    }

    #[inline]
    fn find(&self, account: u32) -> Option<&T> {
        self.pages.get(account as usize / PAGE)?.get(account as usize % PAGE)
    }

    /// What an account has, to be changed; its page is made if there is none.
    #[inline]
    pub(super) fn of_mut(&mut self, account: u32) -> &mut T {
        let (page, at) = (account as usize / PAGE, account as usize % PAGE);
        if self.pages.get(page).is_none_or(|page| page.is_empty()) {
            self.make(page);
        }
        &mut self.pages[page][at]
    }

    #[cold]
    #[inline(never)]
    fn make(&mut self, page: usize) {
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, Box::default);
        }
        self.pages[page] = vec![T::default(); PAGE].into();
    }

    /// Asks for the line of an account.
    #[inline]
    pub(super) fn fetch(&self, account: u32) {
        if let Some(one) = self.find(account) {
            prefetch::line(one);
        }
    }

    /// All accounts whose pages are made, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).step_by(PAGE).zip(&self.pages).flat_map(|(first, page)| (first..).zip(page.iter()))
    }

    /// What the accounts of a range have, to be changed; those whose page is not made have the default, and are passed over.
    pub(super) fn range_mut(&mut self, first: u32, last: u32) -> impl Iterator<Item = &mut T> {
        let (from, to) = (first as usize / PAGE, last as usize / PAGE);
        let pages = (0_u32..).step_by(PAGE).zip(&mut self.pages).take(to + 1).skip(from);
        pages
            .flat_map(|(begin, page)| (begin..).zip(page.iter_mut()))
            .filter_map(move |(account, one)| (first..=last).contains(&account).then_some(one))
    }

    /// Heap that the pages hold, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.pages.iter().map(|page| size_of_val(&**page)).sum::<usize>() + self.pages.capacity() * size_of::<Box<[T]>>()
    }
}
