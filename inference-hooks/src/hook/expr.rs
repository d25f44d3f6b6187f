//! The arithmetic of `hook.toml`: `"ceil(width / 64)"`, `"max(1, round(side * scale))"`.

use thiserror::Error;

/// Longest expression that is read.
const EXPRESSION_CHARS_MAX: usize = 200;
/// Deepest nesting of parentheses, calls and signs.
const EXPRESSION_DEPTH_MAX: usize = 24;
/// What a binary fraction may be off a whole number and still count as it.
const ROUNDING_SLACK: f64 = 1e-9;

/// Why a text is not an expression, or gives no count.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ExprError {
    /// The text is longer than any sensible expression.
    #[error("is longer than {EXPRESSION_CHARS_MAX} characters")]
    TooLong,
    /// Too many nested parentheses.
    #[error("is nested deeper than {EXPRESSION_DEPTH_MAX} levels")]
    TooDeep,
    /// A character or an end that does not belong there.
    #[error("has {found} where {wanted} should be")]
    Syntax {
        /// What stands there.
        found: String,
        /// What may stand there.
        wanted: &'static str,
    },
    /// A name that means nothing here.
    #[error("names `{name}`; known here are {known}")]
    UnknownName {
        /// The name.
        name: String,
        /// What could have been written.
        known: String,
    },
    /// The value is no count of anything.
    #[error("gives {value}, which is not a count from 0 to {max}", max = u32::MAX)]
    NoCount {
        /// The value.
        value: f64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Function {
    Ceil,
    Floor,
    Max,
    Min,
    Round,
}

const FUNCTIONS: &[(&str, Function)] = &[
    ("ceil", Function::Ceil),
    ("floor", Function::Floor),
    ("max", Function::Max),
    ("min", Function::Min),
    ("round", Function::Round),
];

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Number(f64),
    /// Position in the list of names that the expression was parsed with.
    Variable(usize),
    Binary(Operator, Box<Node>, Box<Node>),
    Call(Function, Vec<Node>),
}

/// A parsed expression over named numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    root: Node,
}

impl Expr {
    /// Parses `text`, in which `names` may occur.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str, names: &[String]) -> Result<Self, ExprError> {
        if text.chars().count() > EXPRESSION_CHARS_MAX {
            return Err(ExprError::TooLong);
        }
        let mut parser = Parser { rest: text, names };
        let root = parser.sum(0)?;
        match parser.peek() {
            None => Ok(Self { root }),
            Some(_) => Err(parser.unexpected("an operator or the end")),
        }
    }

    /// The value of the name at a position in the list of names.
    pub(super) fn variable(position: usize) -> Self {
        Self { root: Node::Variable(position) }
    }

    /// The value for `values`, in the order of the names given to [`Expr::parse`], rounded up to a whole number.
    ///
    /// # Errors
    /// The value is negative, too large or not a number.
    pub fn count(&self, values: &[f64]) -> Result<u32, ExprError> {
        let value = self.root.value(values);
        let whole = (value - ROUNDING_SLACK).ceil();
        if !(-0.5..=f64::from(u32::MAX)).contains(&whole) {
            return Err(ExprError::NoCount { value });
        }
        #[expect(clippy::cast_possible_truncation, reason = "just found to be in range")]
        Ok(whole as u32)
    }
}

impl Node {
    fn value(&self, values: &[f64]) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::Variable(index) => values.get(*index).copied().unwrap_or(f64::NAN),
            Self::Binary(operator, left, right) => {
                let (left, right) = (left.value(values), right.value(values));
                match operator {
                    Operator::Add => left + right,
                    Operator::Subtract => left - right,
                    Operator::Multiply => left * right,
                    Operator::Divide => left / right,
                }
            }
            Self::Call(function, arguments) => {
                let mut arguments = arguments.iter().map(|argument| argument.value(values));
                let first = arguments.next().unwrap_or(f64::NAN);
                match function {
                    Function::Ceil => (first - ROUNDING_SLACK).ceil(),
                    Function::Floor => (first + ROUNDING_SLACK).floor(),
                    Function::Round => first.round(),
                    Function::Max => arguments.fold(first, f64::max),
                    Function::Min => arguments.fold(first, f64::min),
                }
            }
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    names: &'a [String],
}

impl Parser<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.rest = &self.rest[wanted.len_utf8()..];
        }
        found
    }

    fn unexpected(&mut self, wanted: &'static str) -> ExprError {
        let found = self.peek().map_or("the end".to_owned(), |found| format!("`{found}`"));
        ExprError::Syntax { found, wanted }
    }

    fn sum(&mut self, depth: usize) -> Result<Node, ExprError> {
        let mut left = self.product(depth)?;
        loop {
            let operator = match self.peek() {
                Some('+') => Operator::Add,
                Some('-') => Operator::Subtract,
                Some(_) | None => return Ok(left),
            };
            self.rest = &self.rest[1..];
            left = Node::Binary(operator, Box::new(left), Box::new(self.product(depth)?));
        }
    }

    fn product(&mut self, depth: usize) -> Result<Node, ExprError> {
        let mut left = self.atom(depth)?;
        loop {
            let operator = match self.peek() {
                Some('*') => Operator::Multiply,
                Some('/') => Operator::Divide,
                Some(_) | None => return Ok(left),
            };
            self.rest = &self.rest[1..];
            left = Node::Binary(operator, Box::new(left), Box::new(self.atom(depth)?));
        }
    }

    fn atom(&mut self, depth: usize) -> Result<Node, ExprError> {
        if depth > EXPRESSION_DEPTH_MAX {
            return Err(ExprError::TooDeep);
        }
        if self.take('(') {
            let inner = self.sum(depth + 1)?;
            return if self.take(')') { Ok(inner) } else { Err(self.unexpected("`)`")) };
        }
        if self.take('-') {
            let inner = Box::new(self.atom(depth + 1)?);
            return Ok(Node::Binary(Operator::Subtract, Box::new(Node::Number(0.0)), inner));
        }
        match self.peek() {
            Some(first) if first.is_ascii_digit() => self.number(),
            Some(first) if first.is_ascii_alphabetic() => self.name(depth),
            Some(_) | None => Err(self.unexpected("a number, a name or `(`")),
        }
    }

    fn number(&mut self) -> Result<Node, ExprError> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (digits, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let number = digits
            .parse()
            .map_err(|_| ExprError::Syntax { found: format!("`{digits}`"), wanted: "a number" })?;
        self.rest = rest;
        Ok(Node::Number(number))
    }

    fn name(&mut self, depth: usize) -> Result<Node, ExprError> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        if let Some((_, function)) = FUNCTIONS.iter().find(|(known, _)| *known == name) {
            return self.call(*function, depth);
        }
        self.names.iter().position(|known| known == name).map(Node::Variable).ok_or_else(|| {
            let functions = FUNCTIONS.iter().map(|(known, _)| format!("{known}()"));
            let known: Vec<_> = self.names.iter().cloned().chain(functions).collect();
            ExprError::UnknownName { name: name.to_owned(), known: known.join(", ") }
        })
    }

    fn call(&mut self, function: Function, depth: usize) -> Result<Node, ExprError> {
        if !self.take('(') {
            return Err(self.unexpected("`(`"));
        }
        let mut arguments = vec![self.sum(depth + 1)?];
        let many = matches!(function, Function::Max | Function::Min);
        while many && self.take(',') {
            arguments.push(self.sum(depth + 1)?);
        }
        if self.take(')') {
            Ok(Node::Call(function, arguments))
        } else {
            Err(self.unexpected("`)`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(text: &str) -> Result<u32, ExprError> {
        let names = ["width".to_owned(), "height".to_owned()];
        Expr::parse(text, &names)?.count(&[640.0, 427.0])
    }

    #[test]
    fn expressions_have_the_usual_meaning() {
        for (text, value) in [
            ("1 + 2 * 3", 7),
            ("(1 + 2) * 3", 9),
            ("10 - 2 - 3", 5),
            ("ceil(height / 8)", 54),
            ("height / 8", 54),
            ("width / 8", 80),
            ("0.1 * 30", 3),
            ("max(1, round(width * min(1, 256 / max(width, height))))", 256),
            ("-1 + 2", 1),
            ("floor(9 / 2)", 4),
            ("0", 0),
        ] {
            assert_eq!(eval(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_or_no_count_is_refused_by_name() {
        for (text, message) in [
            ("", "has the end where a number, a name or `(` should be"),
            ("1 2", "has `2` where an operator or the end should be"),
            ("max(1", "has the end where `)` should be"),
            ("ceil(1, 2)", "has `,` where `)` should be"),
            ("1.2.3", "has `1.2.3` where a number should be"),
            ("1 / 0", "gives inf, which is not a count from 0 to 4294967295"),
            ("0 - 1", "gives -1, which is not a count from 0 to 4294967295"),
            ("width * width * width * width", "gives 167772160000, which is not a count"),
            ("é", "has `é` where a number, a name or `(` should be"),
        ] {
            let found = eval(text).expect_err(text).to_string();
            assert!(found.starts_with(message), "{text}: {found}");
        }
        let unknown = eval("depth").expect_err("unknown").to_string();
        assert!(unknown.contains("names `depth`") && unknown.contains("width, height, ceil()"));
        assert_eq!(eval(&"(".repeat(100)), Err(ExprError::TooDeep));
        assert_eq!(eval(&"1+".repeat(200)), Err(ExprError::TooLong));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9a-z+*/(), .é-]{0,60}") {
            let _ = eval(&text);
        }
    }
}
