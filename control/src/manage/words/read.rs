//! Understanding a line: each word chooses among the places that may follow.

use super::{COMMANDS, Invocation, Node, Role, SyntaxError, Token, Value, Verb};

/// The words of a line with the character that each begins at.
fn split(line: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut start = None;
    for (column, (at, c)) in line.char_indices().enumerate() {
        match (c.is_whitespace(), start) {
            (false, None) => start = Some((column, at)),
            (true, Some((begin, from))) => {
                words.push((begin, &line[from..at]));
                start = None;
            }
            _ => {}
        }
    }
    if let Some((begin, from)) = start {
        words.push((begin, &line[from..]));
    }
    words
}

/// Where a command line leads.
#[derive(Debug, Clone)]
pub struct Reached {
    /// What may follow.
    pub next: &'static [Node],
    /// The command that may end here.
    pub verb: Option<Verb>,
    arguments: Vec<(Role, Value)>,
    positions: Vec<usize>,
}

/// Understands a command line.
///
/// # Errors
/// What is wrong with it, and where.
pub fn parse(line: &str) -> Result<Invocation, SyntaxError> {
    let reached = walk(line)?;
    Ok(Invocation {
        verb: reached.verb.ok_or(SyntaxError::Incomplete)?,
        arguments: reached.arguments,
        positions: reached.positions,
    })
}

/// Follows the words of a line that may not be finished.
///
/// # Errors
/// What is wrong with it, and where.
pub fn walk(line: &str) -> Result<Reached, SyntaxError> {
    let mut reached = Reached {
        next: COMMANDS,
        verb: None,
        arguments: Vec::new(),
        positions: Vec::new(),
    };
    for (at, word) in split(line) {
        let (node, value) = choose(reached.next, word, at)?;
        if node.role != Role::None {
            reached.arguments.push((node.role, value));
            reached.positions.push(at);
        }
        reached.verb = node.verb;
        reached.next = node.next;
    }
    Ok(reached)
}

fn choose(
    nodes: &'static [Node],
    word: &str,
    at: usize,
) -> Result<(&'static Node, Value), SyntaxError> {
    let begins = |node: &&Node| match node.token {
        Token::Word(text) => text
            .get(..word.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(word)),
        _ => false,
    };
    let whole = |node: &&Node| match node.token {
        Token::Word(text) | Token::Whole(text) => text.eq_ignore_ascii_case(word),
        _ => false,
    };
    if let Some(node) = nodes.iter().find(whole) {
        return Ok((node, Value::Present));
    }
    let mut candidates = nodes.iter().filter(begins);
    match (candidates.next(), candidates.next()) {
        (Some(_), Some(_)) => return Err(SyntaxError::Ambiguous),
        (Some(node), None) => return Ok((node, Value::Present)),
        (None, _) => {}
    }
    nodes
        .iter()
        .find_map(|node| Some((node, read(node.token, word)?)))
        .ok_or(SyntaxError::Invalid(at))
}

fn read(token: Token, word: &str) -> Option<Value> {
    match token {
        Token::Word(_) | Token::Whole(_) => None,
        Token::Address => word.parse().ok().map(Value::Address),
        // `parse` alone would take `+5`.
        Token::Port if word.bytes().all(|b| b.is_ascii_digit()) => {
            word.parse().ok().map(Value::Port)
        }
        Token::Port => None,
        Token::Endpoint => match word.split_once(':') {
            None => Some(Value::Endpoint(word.parse().ok()?, None)),
            Some((address, port)) => {
                let Value::Port(port) = read(Token::Port, port)? else {
                    return None;
                };
                Some(Value::Endpoint(address.parse().ok()?, Some(port)))
            }
        },
        Token::Spi => {
            let digits = word.strip_prefix("0x").unwrap_or(word);
            let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
            let spi = u32::from_str_radix(digits, 16).ok();
            spi.filter(|_| is_hex).map(Value::Spi)
        }
        Token::Name => Some(Value::Name(word.to_owned())),
    }
}
