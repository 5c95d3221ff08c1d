//! Every small way to break a file: an operator, a condition, a statement left out, one state taken
//! for another.

use std::collections::BTreeSet;
use std::ops::Range;

use proc_macro2::Span;
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{
    Arm, BinOp, Block, Expr, ExprIf, ExprMatch, ExprMethodCall, ExprWhile, ImplItem, Item, Lit,
    Pat, ReturnType, Signature, Stmt, Token, Type, UnOp,
};

use crate::weave::{Weave, on};

/// One way to break a file.
#[derive(Clone, Debug)]
pub(crate) struct Mutant {
    pub(crate) file: String,
    pub(crate) line: usize,
    /// The function it is in.
    pub(crate) within: String,
    /// What is changed, in one line.
    pub(crate) change: String,
}

/// Functions that only look whether all is well, and are there for tests.
const CHECKS: &[&str] = &["check", "check_cheap"];

/// Where a closure says yes or no.
const YES_OR_NO: &[&str] = &[
    "filter",
    "any",
    "all",
    "is_some_and",
    "is_none_or",
    "find",
    "retain",
    "position",
    "rposition",
    "partition",
];

/// Methods that are easily taken for each other.
const TWINS: &[(&str, &str)] = &[
    ("min", "max"),
    ("any", "all"),
    ("first", "last"),
    ("is_some", "is_none"),
    ("pop_front", "pop_back"),
    ("push_front", "push_back"),
    ("saturating_add", "saturating_sub"),
    ("wrapping_add", "wrapping_sub"),
    ("min_by_key", "max_by_key"),
];

/// Small enumerations; one that is named in an expression becomes the next one.
const CHOICES: &[(&str, &[&str])] = &[
    ("Want", &["Up", "Cycle", "Down", "Call", "Gone"]),
    ("Force", &["Hook", "Polite", "Kill"]),
    ("Round", &["Main", "Hook"]),
    ("Awaits", &["Readiness", "Hook"]),
    ("LinkKind", &["Requires", "After", "Wants", "Conflicts"]),
    (
        "Goal",
        &["Start", "Stop", "Running", "Stopped", "Exited", "Gone"],
    ),
    (
        "Verdict",
        &["Failed", "Blocked", "Superseded", "Removed", "TimedOut"],
    ),
];

/// Finds the mutants of a file, which are numbered on from those that are known.
pub(crate) fn find(file: &str, source: &str, known: &mut Vec<Mutant>) -> Weave {
    let parsed = syn::parse_file(source).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut constants = Constants::default();
    constants.visit_file(&parsed);
    let mut finder = Finder {
        file,
        source,
        known,
        weave: Weave::default(),
        constants: constants.names,
        within: Vec::new(),
        last: BTreeSet::new(),
        seen: BTreeSet::new(),
    };
    finder.visit_file(&parsed);
    finder.weave
}

/// What is named in constants, and so has to stay one.
#[derive(Default)]
struct Constants {
    names: BTreeSet<String>,
    depth: usize,
}

impl<'ast> Visit<'ast> for Constants {
    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.depth += 1;
        visit::visit_item_const(self, item);
        self.depth -= 1;
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.depth += 1;
        visit::visit_impl_item_const(self, item);
        self.depth -= 1;
    }

    fn visit_ident(&mut self, name: &'ast proc_macro2::Ident) {
        if self.depth > 0 {
            self.names.insert(name.to_string());
        }
    }
}

struct Finder<'a> {
    file: &'a str,
    source: &'a str,
    known: &'a mut Vec<Mutant>,
    weave: Weave,
    constants: BTreeSet<String>,
    within: Vec<String>,
    /// Where statements begin that have to end a block.
    last: BTreeSet<usize>,
    seen: BTreeSet<(usize, usize, String)>,
}

/// `matches!(value, pattern if guard)`.
struct Matches {
    value: Expr,
    pattern: Pat,
    guard: Option<Expr>,
}

impl Parse for Matches {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let value = input.parse()?;
        input.parse::<Token![,]>()?;
        let pattern = Pat::parse_multi_with_leading_vert(input)?;
        let guard = match input.parse::<Option<Token![if]>>()? {
            Some(_) => Some(input.parse()?),
            None => None,
        };
        input.parse::<Option<Token![,]>>()?;
        Ok(Self {
            value,
            pattern,
            guard,
        })
    }
}

impl Finder<'_> {
    fn text(&self, span: Span) -> &str {
        &self.source[span.byte_range()]
    }

    /// Notes a mutant, unless the same is known; gives its number.
    fn note(&mut self, range: &Range<usize>, to: &str, change: String) -> Option<usize> {
        if !self.seen.insert((range.start, range.end, to.to_owned())) {
            return None;
        }
        self.known.push(Mutant {
            file: self.file.to_owned(),
            line: self.source[..range.start].matches('\n').count() + 1,
            within: self.within.join("::"),
            change: short(&change),
        });
        Some(self.known.len() - 1)
    }

    fn instead(&mut self, span: Span, to: &str) {
        let (range, from) = (span.byte_range(), self.text(span).to_owned());
        if from == to {
            return;
        }
        if let Some(number) = self.note(&range, to, format!("`{from}` → `{to}`")) {
            self.weave.instead(range, number, to.to_owned());
        }
    }

    fn without(&mut self, span: Span) {
        let (range, from) = (span.byte_range(), self.text(span).to_owned());
        if let Some(number) = self.note(&range, "", format!("without `{from}`")) {
            self.weave.without(range, number);
        }
    }

    /// A condition that always holds or never does. Where something is bound by it, only the latter.
    fn condition(&mut self, condition: &Expr, may_hold: bool) {
        if !has_let(condition) {
            if may_hold {
                self.instead(condition.span(), "true");
            }
            return self.instead(condition.span(), "false");
        }
        let range = condition.span().byte_range();
        let change = format!("never `{}`", self.text(condition.span()));
        if let Some(number) = self.note(&range, "never", change) {
            let text = format!(" && !{}", on(number));
            self.weave.insert(range.end, number, text);
        }
    }

    fn signature(&mut self, signature: &Signature, block: &Block) -> bool {
        if let Some(constness) = &signature.constness {
            if self.constants.contains(&signature.ident.to_string()) {
                return false;
            }
            self.weave.strike(constness.span.byte_range());
        }
        let returned: &[&str] = match &signature.output {
            ReturnType::Default => &["return"],
            ReturnType::Type(_, kind) => values(kind),
        };
        let begin = block.brace_token.span.open().byte_range();
        for value in returned {
            let is_so = block.stmts.len() == 1 && self.text(block.stmts[0].span()) == *value;
            if block.stmts.is_empty() || is_so {
                continue;
            }
            let change = match *value {
                "return" => "does nothing".to_owned(),
                value => format!("gives `{value}`"),
            };
            if let Some(number) = self.note(&begin, value, change) {
                let give = if *value == "return" { "" } else { "return " };
                let text = format!(" if {} {{ {give}{value}; }}", on(number));
                self.weave.insert(begin.end, number, text);
            }
        }
        true
    }

    /// Each alternative of an arm does what another arm does.
    fn arms(&mut self, arms: &[Arm]) {
        for (at, arm) in arms.iter().enumerate() {
            let own = self.text(arm.body.span()).to_owned();
            let others = arms.iter().enumerate().filter(|(other_at, other)| {
                *other_at != at && !binds(&other.pat) && self.text(other.body.span()) != own
            });
            let most = others.max_by_key(|(_, other)| alternatives(&other.pat).len());
            let Some((_, other)) = most else {
                continue;
            };
            let body = self.text(other.body.span()).to_owned();
            for pattern in alternatives(&arm.pat) {
                let text = self.text(pattern.span()).to_owned();
                let range = pattern.span().byte_range();
                let change = format!("`{text}` does `{body}`");
                let Some(number) = self.note(&range, &body, change) else {
                    continue;
                };
                let guard = match &arm.guard {
                    Some((_, guard)) => format!(" && ({})", self.text(guard.span())),
                    None => String::new(),
                };
                let text = format!("{text} if {}{guard} => {{ {body} }}, ", on(number));
                self.weave
                    .insert(arm.span().byte_range().start, number, text);
            }
            if let Some((_, guard)) = &arm.guard {
                self.condition(guard, true);
            }
        }
    }

    /// Each alternative of a `matches!` is left out.
    fn matches(&mut self, span: Span, found: &Matches) {
        self.instead(span, "true");
        self.instead(span, "false");
        let value = self.text(found.value.span()).to_owned();
        let all = alternatives(&found.pattern);
        let guard = found.guard.as_ref().map(|guard| self.text(guard.span()));
        let guard = guard.map_or(String::new(), |guard| format!(" if {guard}"));
        if !guard.is_empty() {
            let pattern = self.text(found.pattern.span()).to_owned();
            self.instead(span, &format!("matches!({value}, {pattern})"));
        }
        for left_out in &all {
            let rest = all
                .iter()
                .filter(|one| one.span().byte_range() != left_out.span().byte_range());
            let rest: Vec<&str> = rest.map(|one| self.text(one.span())).collect();
            if !rest.is_empty() {
                let text = format!("matches!({value}, {}{guard})", rest.join(" | "));
                let range = span.byte_range();
                let change = format!("`{value}` is not `{}`", self.text(left_out.span()));
                if let Some(number) = self.note(&range, &text, change) {
                    self.weave.instead(range, number, text);
                }
            }
        }
    }

    fn binary(&mut self, binary: &syn::ExprBinary) {
        let (left, right) = (&binary.left, &binary.right);
        let operands = |finder: &mut Self, neutral: &str| {
            for operand in [left, right] {
                let is_chain = |op: &BinOp| matches!(op, BinOp::And(_) | BinOp::Or(_));
                let inner = matches!(&**operand, Expr::Binary(inner) if is_chain(&inner.op));
                if !has_let(operand) && !inner {
                    finder.instead(operand.span(), neutral);
                }
            }
        };
        let others: &[&str] = match binary.op {
            BinOp::And(_) => return operands(self, "true"),
            BinOp::Or(_) => return operands(self, "false"),
            BinOp::Eq(_) => &["!="],
            BinOp::Ne(_) => &["=="],
            BinOp::Lt(_) => &["<=", ">="],
            BinOp::Le(_) => &["<", ">"],
            BinOp::Gt(_) => &[">=", "<="],
            BinOp::Ge(_) => &[">", "<"],
            BinOp::Add(_) => &["-", "*"],
            BinOp::Sub(_) => &["+"],
            BinOp::Mul(_) => &["/", "+"],
            BinOp::Div(_) => &["*", "%"],
            BinOp::Rem(_) => &["/"],
            BinOp::BitAnd(_) => &["|"],
            BinOp::BitOr(_) => &["&"],
            BinOp::BitXor(_) => &["|"],
            BinOp::Shl(_) => &[">>"],
            BinOp::Shr(_) => &["<<"],
            BinOp::AddAssign(_) => &["-="],
            BinOp::SubAssign(_) => &["+="],
            _ => &[],
        };
        for other in others {
            let (left, right) = (self.text(left.span()), self.text(right.span()));
            let text = format!("{left} {other} {right}");
            self.instead(binary.span(), &text);
        }
    }

    fn method(&mut self, call: &ExprMethodCall) {
        let name = call.method.to_string();
        for (one, two) in TWINS {
            let other = match &*name {
                name if name == *one => two,
                name if name == *two => one,
                _ => continue,
            };
            let (all, word) = (call.span().byte_range(), call.method.span().byte_range());
            let (before, after) = (
                &self.source[all.start..word.start],
                &self.source[word.end..all.end],
            );
            let text = format!("{before}{other}{after}");
            let change = format!("`{name}` → `{other}` in `{}`", self.text(call.span()));
            if let Some(number) = self.note(&all, &text, change) {
                self.weave.instead(all, number, text);
            }
        }
        if !YES_OR_NO.contains(&&*name) {
            return;
        }
        for argument in &call.args {
            if let Expr::Closure(closure) = argument {
                self.instead(closure.body.span(), "true");
                self.instead(closure.body.span(), "false");
            }
        }
    }

    fn statement(&mut self, statement: &Stmt) {
        let Stmt::Expr(expression, end) = statement else {
            return;
        };
        let may_go = match expression {
            Expr::Assign(_) | Expr::MethodCall(_) | Expr::Call(_) => true,
            Expr::Binary(binary) => end.is_some() || is_assignment(binary.op),
            Expr::Return(_) | Expr::Continue(_) => end.is_some(),
            _ => false,
        };
        if may_go && !self.last.contains(&statement.span().byte_range().start) {
            self.without(statement.span());
        }
    }

    fn choice(&mut self, path: &syn::ExprPath) {
        let segments = &path.path.segments;
        if segments.len() != 2 {
            return;
        }
        let (of, one) = (segments[0].ident.to_string(), segments[1].ident.to_string());
        let Some((_, all)) = CHOICES.iter().find(|(name, _)| *name == of) else {
            return;
        };
        if let Some(at) = all.iter().position(|name| *name == one) {
            let next = all[(at + 1) % all.len()];
            self.instead(path.span(), &format!("{of}::{next}"));
        }
    }

    fn literal(&mut self, literal: &syn::ExprLit) {
        match &literal.lit {
            Lit::Bool(value) => {
                let other = if value.value { "false" } else { "true" };
                self.instead(literal.span(), other);
            }
            Lit::Int(number) => {
                if let Ok(value) = number.base10_parse::<u128>() {
                    let suffix = number.suffix();
                    self.instead(literal.span(), &format!("{}{suffix}", value + 1));
                }
            }
            _ => {}
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Const(_) | Item::Static(_) | Item::Macro(_) | Item::Enum(_) | Item::Struct(_) => {
            }
            Item::Mod(module) if is_for_tests(&module.attrs) => {}
            Item::Impl(block) => {
                let of = block
                    .trait_
                    .as_ref()
                    .and_then(|(_, path, _)| path.segments.last());
                if of.is_some_and(|of| of.ident == "Debug") {
                    return;
                }
                let name: String = self
                    .text(block.self_ty.span())
                    .chars()
                    .take_while(|c| *c != '<')
                    .collect();
                self.within.push(name);
                visit::visit_item_impl(self, block);
                self.within.pop();
            }
            Item::Fn(function) if !is_for_tests(&function.attrs) => {
                self.within.push(function.sig.ident.to_string());
                if self.signature(&function.sig, &function.block) {
                    self.visit_block(&function.block);
                }
                self.within.pop();
            }
            _ => {}
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let ImplItem::Fn(function) = item else {
            return;
        };
        let name = function.sig.ident.to_string();
        if CHECKS.contains(&&*name) {
            return;
        }
        self.within.push(name);
        if self.signature(&function.sig, &function.block) {
            self.visit_block(&function.block);
        }
        self.within.pop();
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        self.statement(statement);
        visit::visit_stmt(self, statement);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        // `let … else { … return; }` has to leave.
        if let Some(init) = &local.init
            && let Some((_, leave)) = &init.diverge
            && let Expr::Block(block) = &**leave
            && let Some(last) = block.block.stmts.last()
        {
            self.last.insert(last.span().byte_range().start);
        }
        visit::visit_local(self, local);
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        match expression {
            Expr::Binary(binary) => self.binary(binary),
            Expr::MethodCall(call) => self.method(call),
            Expr::Path(path) => self.choice(path),
            Expr::Lit(literal) => self.literal(literal),
            Expr::Unary(unary) if matches!(unary.op, UnOp::Not(_) | UnOp::Neg(_)) => {
                let inner = self.text(unary.expr.span()).to_owned();
                self.instead(unary.span(), &inner);
            }
            Expr::Call(call) if self.text(call.func.span()) == "Some" => {
                self.instead(call.span(), "None");
            }
            Expr::Macro(found) if found.mac.path.is_ident("matches") => {
                if let Ok(parsed) = found.mac.parse_body::<Matches>() {
                    self.matches(expression.span(), &parsed);
                }
            }
            Expr::Const(_) | Expr::Array(_) | Expr::Repeat(_) => return,
            _ => {}
        }
        visit::visit_expr(self, expression);
    }

    fn visit_expr_if(&mut self, found: &'ast ExprIf) {
        if self.text(found.cond.span()).starts_with("cfg!") {
            return;
        }
        self.condition(&found.cond, true);
        visit::visit_expr_if(self, found);
    }

    fn visit_expr_while(&mut self, found: &'ast ExprWhile) {
        self.condition(&found.cond, false);
        visit::visit_expr_while(self, found);
    }

    fn visit_expr_match(&mut self, found: &'ast ExprMatch) {
        self.arms(&found.arms);
        visit::visit_expr_match(self, found);
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        if matches!(&*arm.body, Expr::MethodCall(_) | Expr::Assign(_)) {
            let (range, from) = (
                arm.body.span().byte_range(),
                self.text(arm.body.span()).to_owned(),
            );
            if let Some(number) = self.note(&range, "{}", format!("without `{from}`")) {
                self.weave.instead(range, number, "{}".to_owned());
            }
        }
        // What a pattern says is not changed.
        if let Some((_, guard)) = &arm.guard {
            self.visit_expr(guard);
        }
        self.visit_expr(&arm.body);
    }

    fn visit_pat(&mut self, _: &'ast Pat) {}

    fn visit_type(&mut self, _: &'ast Type) {}
}

/// What a function of that type may give instead.
fn values(kind: &Type) -> &'static [&'static str] {
    let name = match kind {
        Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        Type::Reference(to) if matches!(&*to.elem, Type::Path(path) if path.path.is_ident("str")) =>
        {
            return &["\"\"", "\"other\""];
        }
        Type::ImplTrait(_) | Type::Never(_) => return &[],
        _ => None,
    };
    match name.as_deref() {
        Some("bool") => &["true", "false"],
        Some("u8" | "u16" | "u32" | "u64" | "usize" | "i32" | "i64") => &["0", "1"],
        Some("Option") => &["None"],
        Some("Result") | Some("Fact") => &["Ok(())", "Ok(Default::default())"],
        Some("Vec") => &["Vec::new()"],
        Some("String") => &["String::new()"],
        Some("Duration") => &["Duration::ZERO"],
        Some("Time") => &["Time::ZERO"],
        Some(_) | None => &["Default::default()"],
    }
}

fn alternatives(pattern: &Pat) -> Vec<&Pat> {
    match pattern {
        Pat::Or(or) => or.cases.iter().flat_map(alternatives).collect(),
        other => vec![other],
    }
}

/// Does this pattern give names to what it finds?
fn binds(pattern: &Pat) -> bool {
    struct Names(bool);
    impl<'ast> Visit<'ast> for Names {
        fn visit_pat_ident(&mut self, found: &'ast syn::PatIdent) {
            self.0 |= found
                .ident
                .to_string()
                .starts_with(|c: char| c.is_lowercase());
        }
    }
    let mut names = Names(false);
    names.visit_pat(pattern);
    names.0
}

fn has_let(expression: &Expr) -> bool {
    match expression {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

fn is_assignment(op: BinOp) -> bool {
    matches!(
        op,
        BinOp::AddAssign(_) | BinOp::SubAssign(_) | BinOp::BitOrAssign(_)
    )
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes
        .iter()
        .any(|attribute| attribute.path().is_ident("cfg"))
}

/// In one line, and not a long one.
fn short(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    let most = 160;
    if line.chars().count() <= most {
        return line;
    }
    let begin: String = line.chars().take(most - 1).collect();
    format!("{begin}…")
}
