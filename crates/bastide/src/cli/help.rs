//! The end of each command's help: what there is to know, the exit codes, examples.

/// What exit codes mean, where a command has nothing to add.
pub(crate) const EXIT_CODES: &str =
    "0 done, 1 the answer is no, 2 wrong usage, 3 could not run (faults of the configuration included)";

/// Examples alone, one command per line, and the usual exit codes.
pub(crate) fn examples(lines: &str) -> String {
    help("", EXIT_CODES, lines)
}

/// Prose, the exit codes, and examples, one command per line. Manual pages are made of the same parts
/// (see [`parts`]).
pub(crate) fn help(prose: &str, exit_codes: &str, lines: &str) -> String {
    let prose = if prose.is_empty() { String::new() } else { format!("{}\n\n", joined(prose)) };
    let examples: Vec<String> = lines.lines().map(laid_out).collect();
    format!("{prose}{CODES}{exit_codes}.\n\n{EXAMPLES}{}", examples.concat())
}

/// Columns that every terminal has.
const COLUMNS: usize = 80;

/// The lines of a paragraph as one, which is wrapped where it is shown. What is indented stays as it is, and
/// so does what is short: a list, a piece of a file.
fn joined(prose: &str) -> String {
    const SHORT: usize = 60;
    let mut text = String::new();
    let mut before = "";
    for line in prose.lines() {
        let goes_on = before.chars().count() > SHORT && !before.starts_with(' ');
        text.push_str(match goes_on && !line.is_empty() && !line.starts_with(' ') {
            true => " ",
            false if text.is_empty() => "",
            false => "\n",
        });
        text.push_str(line);
        before = line;
    }
    text
}

/// An example, on a line of its own: what is said of it comes below where there is no room for both, and a
/// command that is longer than a line goes on as one does for the shell.
fn laid_out(line: &str) -> String {
    let fits = |line: &str| line.chars().count() + 2 <= COLUMNS;
    let (command, comment) = match line.split_once("  ").filter(|_| !fits(line)) {
        Some((command, comment)) => (command, comment.trim_start()),
        None => (line, ""),
    };
    let mut text = String::from("\n  ");
    let mut column = 2;
    for (number, word) in command.split(' ').enumerate() {
        let length = word.chars().count();
        // Two more for the sign that it goes on.
        if number > 0 && !fits(command) && column + 1 + length + 2 > COLUMNS {
            text.push_str(" \\\n     ");
            column = 5;
        }
        if number > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    if !comment.is_empty() {
        text.push_str("\n      # ");
        text.push_str(comment);
    }
    text
}

const CODES: &str = "Exit codes: ";
const EXAMPLES: &str = "Examples:";

/// Prose, exit codes and examples of a text that [`help`] put together.
pub(crate) fn parts(text: &str) -> (&str, &str, &str) {
    let (rest, examples) = text.split_once(EXAMPLES).unwrap_or((text, ""));
    let (prose, codes) = rest.split_once(CODES).unwrap_or((rest, ""));
    (prose.trim(), codes.trim(), examples.trim_matches('\n'))
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;
    use clap::{Command, CommandFactory as _};

    use super::*;
    use crate::cli::Cli;

    /// The visible commands that have no others below them, by their whole names.
    fn leaves(command: &Command, name: &str) -> Vec<(String, Command)> {
        let below: Vec<&Command> = command.get_subcommands().filter(|below| !below.is_hide_set()).collect();
        if below.is_empty() {
            return vec![(name.to_owned(), command.clone())];
        }
        below.into_iter().flat_map(|one| leaves(one, &format!("{name} {}", one.get_name()))).collect()
    }

    /// The commands of an example, each as its words: up to two spaces, which a comment follows.
    fn commands(line: &str) -> Vec<Vec<String>> {
        let (mut all, mut words, mut word, mut quote) = (Vec::new(), Vec::new(), String::new(), None);
        for (at, letter) in line.char_indices() {
            match (quote, letter) {
                (Some(end), letter) if letter == end => quote = None,
                (None, '\'' | '"') => quote = Some(letter),
                (None, '(') => quote = Some(')'),
                (None, ' ') => {
                    words.push(std::mem::take(&mut word));
                    if line[at..].starts_with("  ") {
                        break;
                    }
                }
                (_, letter) => word.push(letter),
            }
        }
        words.push(word);
        for command in words.split(|word| ["|", "&&"].contains(&word.as_str())) {
            let command = command.split(|word| [">", "<"].contains(&word.as_str())).next().unwrap();
            if command.first().is_some_and(|word| word == "bastide") {
                all.push(command.iter().filter(|word| !word.is_empty()).cloned().collect());
            }
        }
        all
    }

    #[test]
    fn each_command_ends_its_help_with_exit_codes_and_examples_of_itself() {
        let all = leaves(&Cli::command(), "bastide");
        assert!(all.len() > 70, "{}", all.len());
        for (name, command) in all {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let (_, codes, examples) = parts(&text);
            assert!(codes.contains("2 wrong usage") && codes.ends_with('.'), "{name}: {codes:?}");
            assert!(
                text.ends_with(examples) && !examples.contains("Exit codes"),
                "{name}: examples come last"
            );
            assert!(examples.contains(&name), "{name}: no example of it in {examples:?}");
        }
    }

    #[test]
    fn examples_are_commands_that_the_command_line_takes() {
        let mut root = Cli::command();
        root.build();
        let mut count = 0;
        let mut texts = vec![root.clone()];
        while let Some(command) = texts.pop() {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in parts(&text).2.replace(" \\\n     ", "").lines() {
                for words in commands(line.trim_start()) {
                    count += 1;
                    match Cli::command().try_get_matches_from(&words) {
                        Ok(_) => {}
                        // A value that is cut short for the reader.
                        Err(fault) if fault.kind() == ErrorKind::ValueValidation && line.contains('…') => {}
                        Err(fault) => panic!("{line}: {fault}"),
                    }
                }
            }
            texts.extend(command.get_subcommands().cloned());
        }
        assert!(count > 150, "{count}");
    }

    #[test]
    fn examples_fit_a_terminal_and_paragraphs_are_wrapped_by_it() {
        let mut too_long = Vec::new();
        for (name, command) in leaves(&Cli::command(), "bastide") {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let (prose, _, examples) = parts(&text);
            let by_hand = prose.lines().filter(|line| line.starts_with(' '));
            let long = examples.lines().chain(by_hand).filter(|line| line.chars().count() > COLUMNS);
            too_long.extend(long.map(|line| format!("{name}: {line}")));
        }
        assert_eq!(too_long, [""; 0]);
        let wide = format!("bastide a {} {} --c", "b".repeat(60), "d".repeat(10));
        assert_eq!(
            laid_out(&format!("{wide}     what it does")),
            format!(
                "\n  bastide a {} \\\n      {} --c\n      # what it does",
                "b".repeat(60),
                "d".repeat(10)
            )
        );
        assert_eq!(laid_out("bastide a     what it does"), "\n  bastide a     what it does");
        let long = "x".repeat(61);
        assert_eq!(joined(&format!("{long}\ny\n\n  z\nend:\n- a")), format!("{long} y\n\n  z\nend:\n- a"));
    }

    #[test]
    fn the_parts_of_a_help_are_found_again() {
        assert_eq!(parts(&help("a\nb", "0 c", "d\ne")), ("a\nb", "0 c.", "  d\n  e"));
        assert_eq!(parts(&help("", "0 c", "d")), ("", "0 c.", "  d"));
        assert_eq!(parts("a"), ("a", "", ""));
    }
}
