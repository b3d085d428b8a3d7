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
    let prose = if prose.is_empty() { String::new() } else { format!("{prose}\n\n") };
    let examples: Vec<String> = lines.lines().map(|line| format!("\n  {line}")).collect();
    format!("{prose}{CODES}{exit_codes}.\n\n{EXAMPLES}{}", examples.concat())
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
            for line in parts(&text).2.lines() {
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
    fn the_parts_of_a_help_are_found_again() {
        assert_eq!(parts(&help("a\nb", "0 c", "d\ne")), ("a\nb", "0 c.", "  d\n  e"));
        assert_eq!(parts(&help("", "0 c", "d")), ("", "0 c.", "  d"));
        assert_eq!(parts("a"), ("a", "", ""));
    }
}
