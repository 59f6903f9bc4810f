//! What the rules look at in one source file, read with `syn`.

use proc_macro2::Span;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Ident, Token, UseTree};

/// Names, paths and places of one file; lines count from 1.
#[derive(Default)]
pub(crate) struct Source {
    /// Every path that is named, trees of `use` written out.
    pub(crate) paths: Vec<(usize, String)>,
    /// Every name.
    pub(crate) names: Vec<(usize, String)>,
    /// Where something is `async` or awaited.
    pub(crate) waits: Vec<usize>,
    /// Floats in types that derive `Encode`.
    pub(crate) floats: Vec<(usize, String)>,
    /// First and last line of each function with a body, and its name.
    pub(crate) functions: Vec<(usize, usize, String)>,
    /// First and last line of each module that only tests compile.
    pub(crate) tests: Vec<(usize, usize)>,
}

impl Source {
    /// Reads a file that the compiler takes.
    pub(crate) fn read(text: &str) -> Self {
        let file = syn::parse_file(text).expect("Rust");
        let mut source = Self::default();
        source.visit_file(&file);
        source
    }

    /// Whether a line is within a module that only tests compile.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        let holds = |(first, last): &(usize, usize)| (first..=last).contains(&&line);
        self.tests.iter().any(holds)
    }

    fn tree(&mut self, before: &str, tree: &UseTree) {
        let line = line(tree.span());
        match tree {
            UseTree::Path(path) => self.tree(&format!("{before}{}::", path.ident), &path.tree),
            UseTree::Name(name) => self.paths.push((line, format!("{before}{}", name.ident))),
            UseTree::Rename(name) => self.paths.push((line, format!("{before}{}", name.ident))),
            UseTree::Glob(_) => self.paths.push((line, format!("{before}*"))),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree)),
        }
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (line(signature.span()), block.span().end().line);
        self.functions
            .push((first, last, signature.ident.to_string()));
    }

    /// The floats below `item`, if it has canonical bytes.
    fn fields<'a>(&mut self, attributes: &[Attribute], item: impl FnOnce(&mut Floats) + 'a) {
        if derives_encode(attributes) {
            let mut floats = Floats::default();
            item(&mut floats);
            self.floats.extend(floats.0);
        }
    }
}

fn line(span: Span) -> usize {
    span.start().line
}

fn derives_encode(attributes: &[Attribute]) -> bool {
    let mut found = false;
    for attribute in attributes.iter().filter(|a| a.path().is_ident("derive")) {
        let list = attribute.parse_nested_meta(|meta| {
            found |= meta
                .path
                .segments
                .last()
                .is_some_and(|s| s.ident == "Encode");
            Ok(())
        });
        list.expect("a list of traits");
    }
    found
}

fn is_for_tests(attribute: &Attribute) -> bool {
    let is_test = || {
        attribute
            .parse_args::<Ident>()
            .is_ok_and(|name| name == "test")
    };
    attribute.path().is_ident("cfg") && is_test()
}

impl<'a> Visit<'a> for Source {
    fn visit_ident(&mut self, ident: &'a Ident) {
        self.names.push((line(ident.span()), ident.to_string()));
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.paths.push((line(path.span()), names.join("::")));
        visit::visit_path(self, path);
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        self.tree("", &item.tree);
        visit::visit_item_use(self, item);
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if item.content.is_some() && item.attrs.iter().any(is_for_tests) {
            let span = item.span();
            self.tests.push((line(span), span.end().line));
        }
        visit::visit_item_mod(self, item);
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'a syn::ItemStruct) {
        self.fields(&item.attrs, |floats| floats.visit_item_struct(item));
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'a syn::ItemEnum) {
        self.fields(&item.attrs, |floats| floats.visit_item_enum(item));
        visit::visit_item_enum(self, item);
    }

    fn visit_signature(&mut self, signature: &'a syn::Signature) {
        self.waits
            .extend(signature.asyncness.map(|word| line(word.span)));
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &'a syn::ExprAsync) {
        self.waits.push(line(block.async_token.span));
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_await(&mut self, expression: &'a syn::ExprAwait) {
        self.waits.push(line(expression.await_token.span));
        visit::visit_expr_await(self, expression);
    }

    /// Most macros take expressions; others stay unread.
    fn visit_macro(&mut self, call: &'a syn::Macro) {
        let list = Punctuated::<Expr, Token![,]>::parse_terminated;
        if let Ok(list) = list.parse2(call.tokens.clone()) {
            let mut inside = Self::default();
            list.iter()
                .for_each(|expression| inside.visit_expr(expression));
            self.paths.extend(inside.paths);
            self.names.extend(inside.names);
            self.waits.extend(inside.waits);
        }
        visit::visit_macro(self, call);
    }
}

#[derive(Default)]
struct Floats(Vec<(usize, String)>);

impl<'a> Visit<'a> for Floats {
    fn visit_path(&mut self, path: &'a syn::Path) {
        if let Some(float) = path
            .get_ident()
            .filter(|name| *name == "f32" || *name == "f64")
        {
            self.0.push((line(float.span()), float.to_string()));
        }
        visit::visit_path(self, path);
    }
}
