//! Flags: what all commands share, and how the program calls itself.

use crate::{command::Command, name, shell};
use clap::{
    CommandFactory, FromArgMatches, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::{ffi::OsString, path::PathBuf};

/// Virtual control planes for Kubernetes: many tenants, each with an API server of its own, on one cluster.
#[derive(Debug, Parser)]
#[command(name = "sublet", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Flags of all commands.
    #[command(flatten)]
    pub(crate) global: Global,
    /// The command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sublet install --registry HOST         put Sublet into the current cluster, with its images from there
  sublet create team-a                   make a tenant and wait until it works
  sublet connect team-a -- kubectl get namespaces
  sublet list -A                         all tenants
  sublet explain team-a pod/default/web  why a pod isn't where it should be
  sublet delete team-a";

/// Flags of all commands, as kubectl has them.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Global {
    /// Kubeconfig of the super cluster, instead of $KUBECONFIG or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE", help_heading = "Cluster")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig, instead of the current one
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) context: Option<String>,
    /// Namespace of the super cluster, instead of the context's
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAME",
        help_heading = "Cluster",
        value_parser = name::namespace
    )]
    pub(crate) namespace: Option<String>,
    /// Cluster of the kubeconfig, instead of the context's
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) cluster: Option<String>,
    /// User of the kubeconfig, instead of the context's
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) user: Option<String>,
    /// Act as this user, or as the account system:serviceaccount:NAMESPACE:NAME
    #[arg(
        long = "as",
        global = true,
        value_name = "USER",
        help_heading = "Cluster"
    )]
    pub(crate) as_user: Option<String>,
    /// Act as a member of this group; may be given again
    #[arg(
        long,
        global = true,
        value_name = "GROUP",
        help_heading = "Cluster",
        requires = "as_user"
    )]
    pub(crate) as_group: Vec<String>,
}

impl Global {
    /// The flags that lead to the same API server as the same user, as they are typed.
    pub(crate) fn of_cluster(&self) -> String {
        let Self {
            kubeconfig,
            context,
            // Stands elsewhere in a command line, and not always.
            namespace: _,
            cluster,
            user,
            as_user,
            as_group,
        } = self;
        let file = kubeconfig.as_ref().map(|file| file.display().to_string());
        let flags = [
            ("kubeconfig", file.as_ref()),
            ("context", context.as_ref()),
            ("cluster", cluster.as_ref()),
            ("user", user.as_ref()),
            ("as", as_user.as_ref()),
        ];
        let groups = as_group.iter().map(|group| ("as-group", Some(group)));
        flags
            .into_iter()
            .chain(groups)
            .filter_map(|(flag, value)| Some(format!(" --{flag} {}", shell::quoted(value?))))
            .collect()
    }
}

/// How the program was called; hints and usage lines repeat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// As itself.
    Sublet,
    /// As `kubectl sublet`.
    Plugin,
}

impl Program {
    /// What a person types.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sublet => "sublet",
            Self::Plugin => "kubectl sublet",
        }
    }

    fn of(argv0: Option<&OsString>) -> Self {
        let name = argv0.map(PathBuf::from);
        match name
            .as_deref()
            .and_then(|path| path.file_stem())
            .and_then(|stem| stem.to_str())
        {
            Some("kubectl-sublet") => Self::Plugin,
            _ => Self::Sublet,
        }
    }
}

/// Parses the process's arguments; prints help or usage errors and ends the process where clap says so.
pub(crate) fn parse(argv: impl IntoIterator<Item = OsString>) -> (Args, Program) {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let program = Program::of(argv.first());
    let parsed = command(program)
        .try_get_matches_from(&argv)
        .and_then(|matches| Args::from_arg_matches(&matches));
    match parsed {
        Ok(args) => (args, program),
        Err(err) if err.use_stderr() && err.kind() != HELP => {
            tell!(
                "{} {}",
                crate::style::stderr().red("error:"),
                one_line(&err, program, &argv)
            );
            std::process::exit(i32::from(crate::error::USAGE));
        }
        Err(err) => err.exit(),
    }
}

/// Help because nothing was asked for.
const HELP: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

/// What is wrong with the arguments, what was meant perhaps, and whose help says more.
fn one_line(err: &clap::Error, program: Program, argv: &[OsString]) -> String {
    let text = err.render().to_string();
    let paragraphs: Vec<String> = text.split("\n\n").map(crate::error::one_line).collect();
    let wrong = paragraphs.first().map_or("", String::as_str);
    let wrong = wrong.strip_prefix("error: ").unwrap_or(wrong);
    // Other tips are about passing a flag as a value.
    let tip = paragraphs
        .iter()
        .filter_map(|text| text.strip_prefix("tip: "))
        .find(|tip| tip.contains("similar") && err.kind() != ErrorKind::InvalidSubcommand);
    let whole = command(program);
    let (called, path) = called(&whole, program, argv);
    let tip = meant(err, called).or(tip.map(str::to_owned));
    let tip = tip.map(|tip| format!(" ({tip})")).unwrap_or_default();
    format!("{wrong}{tip}; see `{path} --help`")
}

/// What was meant perhaps, where clap doesn't know or guesses badly.
fn meant(err: &clap::Error, called: &clap::Command) -> Option<String> {
    let context = |kind| match err.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match err.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = context(ContextKind::InvalidSubcommand)?;
            let known = called.get_subcommands().map(clap::Command::get_name);
            let close = name::close(word, known);
            let close = close.iter().map(|name| format!("'{name}'"));
            let close: Vec<String> = close.collect();
            (!close.is_empty()).then(|| format!("did you mean {}?", close.join(" or ")))
        }
        ErrorKind::UnknownArgument => {
            let word = context(ContextKind::InvalidArg)?;
            let is_command = called.get_name() == "connect" && !word.starts_with('-');
            is_command.then(|| "put `--` before the command".to_owned())
        }
        _ => None,
    }
}

/// The command that was called, and how it is typed without its flags and arguments.
fn called<'a>(
    whole: &'a clap::Command,
    program: Program,
    argv: &[OsString],
) -> (&'a clap::Command, String) {
    let (mut current, mut path) = (whole, program.as_str().to_owned());
    let mut words = argv.iter().skip(1).filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        if word.starts_with('-') {
            if takes_next(word, [whole, current]) {
                words.next();
            }
        } else if let Some(found) = current.find_subcommand(word) {
            path = format!("{path} {}", found.get_name());
            current = found;
        } else {
            break;
        }
    }
    (current, path)
}

/// Whether the word after a flag is its value.
fn takes_next(flag: &str, commands: [&clap::Command; 2]) -> bool {
    let mut flags = commands.into_iter().flat_map(clap::Command::get_arguments);
    flags.any(|known| {
        let is_it = match flag.strip_prefix("--") {
            Some(long) => known.get_long() == Some(long),
            None => known
                .get_short()
                .is_some_and(|short| flag == format!("-{short}")),
        };
        is_it && known.get_action().takes_values()
    })
}

/// The clap command under the name that the program was called by.
pub(crate) fn command(program: Program) -> clap::Command {
    let command = Args::command().bin_name(program.as_str());
    match program {
        Program::Sublet => command,
        Program::Plugin => as_plugin(command),
    }
}

/// Examples name the program as it was called.
fn as_plugin(command: clap::Command) -> clap::Command {
    let examples = command
        .get_after_help()
        .map(|text| text.to_string().replace("  sublet ", "  kubectl sublet "));
    let command = match examples {
        Some(text) => command.after_help(text),
        None => command,
    };
    command.mut_subcommands(as_plugin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_flags_are_sound() {
        command(Program::Sublet).debug_assert();
        command(Program::Plugin).debug_assert();
    }

    /// All commands and those below them, each with the words that lead to it.
    fn all_commands() -> Vec<(String, clap::Command)> {
        let mut all = vec![("sublet".to_owned(), Args::command())];
        let mut next = 0;
        while let Some((path, command)) = all.get(next).cloned() {
            let below = command.get_subcommands();
            all.extend(below.map(|sub| (format!("{path} {}", sub.get_name()), sub.clone())));
            next += 1;
        }
        all
    }

    #[test]
    fn each_command_has_help_with_a_description_and_an_example_of_itself() {
        let all = all_commands();
        assert!(all.iter().any(|(path, _)| path == "sublet certs rotate"));
        for (path, command) in all {
            let help = parse(&format!("{path} --help")).unwrap_err();
            assert_eq!(help.kind(), ErrorKind::DisplayHelp, "{path}");
            assert!(command.get_about().is_some(), "{path} has no description");
            let help = help.to_string();
            let (_, examples) = help.split_once("Example").unwrap_or_default();
            let mut words = examples.lines().map(str::trim);
            let is_own = |line: &str| line == path || line.starts_with(&format!("{path} "));
            assert!(words.any(is_own), "{path} has no example: {examples}");
        }
    }

    #[test]
    fn who_waits_does_so_by_the_same_flags() {
        let mut count = 0;
        for (path, command) in all_commands() {
            let help = |flag: &str| {
                let mut flags = command.get_arguments();
                let flag = flags.find(|known| known.get_long() == Some(flag))?;
                flag.get_help().map(ToString::to_string)
            };
            let told = ["wait", "no-wait", "timeout"].map(help);
            if told.iter().all(Option::is_none) {
                continue;
            }
            count += 1;
            let wanted = [
                "Wait until it is done (the default)",
                "Return as soon as it is asked for",
                "How long to wait",
            ];
            let wanted = wanted.map(|text| Some(text.to_owned()));
            assert_eq!(told, wanted, "{path}");
        }
        assert!(count >= 12, "{count}");
    }

    /// The examples of all commands, as they are typed.
    fn examples() -> Vec<String> {
        let mut examples = vec![];
        for (_, command) in all_commands() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let lines = help.lines().map(str::trim);
            let lines = lines.filter(|line| line.starts_with("sublet "));
            // Behind two spaces stands what the example does; behind a pipe, another program.
            let typed = lines.filter_map(|line| line.split("  ").next()?.split(" | ").next());
            let typed = typed.filter_map(|line| line.split(" > ").next());
            examples.extend(typed.map(str::to_owned));
        }
        assert!(examples.len() > 15);
        examples
    }

    #[test]
    fn examples_parse() {
        for example in examples() {
            if let Err(err) = parse(&example) {
                panic!("{example}: {err}");
            }
        }
    }

    #[test]
    fn a_tenant_that_is_looked_up_may_be_named_by_its_identity() {
        let identity = "5hw2krqcv3ylhmfzqyvrq4wgpu";
        let mut count = 0;
        for example in examples() {
            let words: Vec<&str> = example.split(' ').collect();
            let is_new = ["create", "attach"].contains(&words[1]);
            if is_new || !words.contains(&"team-a") {
                continue;
            }
            count += 1;
            let line = example.replace("team-a", identity);
            let mut args = parse(&line).unwrap_or_else(|err| panic!("{line}: {err}"));
            let names = args.command.tenants();
            assert!(
                names.iter().any(|name| *name == identity),
                "{line}: {names:?}"
            );
        }
        assert!(count > 20, "{count}");
    }

    #[test]
    fn the_plugin_speaks_of_kubectl() {
        assert_eq!(
            Program::of(Some(&"/usr/bin/kubectl-sublet".into())),
            Program::Plugin
        );
        assert_eq!(Program::of(Some(&"./sublet".into())), Program::Sublet);
        assert_eq!(Program::of(None), Program::Sublet);
        let help = command(Program::Plugin)
            .try_get_matches_from(["kubectl-sublet", "list", "--help"])
            .unwrap_err()
            .to_string();
        assert!(help.contains("Usage: kubectl sublet list"), "{help}");
        assert!(!help.contains("  sublet list"), "{help}");
    }

    #[test]
    fn global_flags_go_anywhere() {
        for line in [
            "sublet --context c -n x list",
            "sublet list --context c -n x",
        ] {
            let global = parse(line).unwrap().global;
            assert_eq!(
                (global.context.as_deref(), global.namespace.as_deref()),
                (Some("c"), Some("x")),
                "{line}"
            );
        }
    }

    #[test]
    fn words_of_other_programs_are_understood() {
        for (line, name) in [
            ("rm a", "Delete"),
            ("remove a", "Delete"),
            ("destroy a", "Delete"),
            ("shell a", "Connect"),
            ("exec a -- kubectl get ns", "Connect"),
            ("status", "List"),
        ] {
            let args = parse(&format!("sublet {line}")).unwrap();
            let told = format!("{:?}", args.command);
            assert!(told.starts_with(name), "{line}: {told}");
        }
    }

    #[test]
    fn help_is_one_line_for_a_flag() {
        let help = |path: &[String], flag: &str| {
            let words = ["sublet"]
                .into_iter()
                .chain(path.iter().map(String::as_str));
            let told = command(Program::Sublet).try_get_matches_from(words.chain([flag]));
            told.unwrap_err().to_string()
        };
        let mut commands = vec![(vec![], command(Program::Sublet))];
        while let Some((path, command)) = commands.pop() {
            assert_eq!(help(&path, "-h"), help(&path, "--help"), "{path:?}");
            for sub in command.get_subcommands() {
                let mut path: Vec<String> = path.clone();
                path.push(sub.get_name().to_owned());
                commands.push((path, sub.clone()));
            }
        }
    }

    #[test]
    fn wrong_flags_are_refused() {
        let kind = |line| parse(line).unwrap_err().kind();
        assert_eq!(kind("sublet list --nonsense"), ErrorKind::UnknownArgument);
        assert_eq!(kind("sublet create"), ErrorKind::MissingRequiredArgument);
        assert_eq!(
            kind("sublet create a --replicas 5"),
            ErrorKind::ValueValidation
        );
        assert_eq!(
            kind("sublet create a --wait --no-wait"),
            ErrorKind::ArgumentConflict
        );
        assert_eq!(kind("sublet create a --dns both"), ErrorKind::InvalidValue);
        assert_eq!(
            kind("sublet kubeconfig a -o f --merge"),
            ErrorKind::ArgumentConflict
        );
        assert_eq!(kind("sublet list -o xml"), ErrorKind::InvalidValue);
        assert_eq!(kind("sublet demolish a"), ErrorKind::InvalidSubcommand);
        assert_eq!(kind("sublet list -n Bad_NS"), ErrorKind::ValueValidation);
        assert_eq!(kind("sublet list -n="), ErrorKind::ValueValidation);
        for line in [
            "create a --version banana",
            "create a --service-cidr banana",
            "create a --class Bad_Class",
            "create a --class=",
            "kubeconfig a -o yaml",
            "describe pod/a",
        ] {
            let wrong = parse(&format!("sublet {line}")).unwrap_err();
            assert_eq!(wrong.kind(), ErrorKind::ValueValidation, "{line}");
        }
        assert_eq!(
            kind("sublet"),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        );
    }

    #[test]
    fn a_wrong_flag_is_told_in_one_line() {
        let lines = [
            "list --nonsense",
            "list --outptu json",
            "create",
            "create a --replicas 5",
            "kubeconfig a -o f --merge",
            "list -o xml",
            "demolish a",
            "lst",
            "certs chek a",
            "connect a kubectl get ns",
            "whose pod",
            "create a --timeout soon",
            "class describe",
            "-n list create a --replicas 5",
            "list a -l x=y",
            "list --as-group x",
        ];
        let told: String = lines
            .iter()
            .map(|line| {
                let argv = std::iter::once("sublet").chain(line.split(' '));
                let argv: Vec<OsString> = argv.map(OsString::from).collect();
                let err = command(Program::Sublet)
                    .try_get_matches_from(&argv)
                    .unwrap_err();
                format!("{}\n", one_line(&err, Program::Sublet, &argv))
            })
            .collect();
        expect![[r#"
            unexpected argument '--nonsense' found; see `sublet list --help`
            unexpected argument '--outptu' found (a similar argument exists: '--output'); see `sublet list --help`
            the following required arguments were not provided: <NAME>; see `sublet create --help`
            invalid value '5' for '--replicas <1..3>': write 1, 2 or 3; see `sublet create --help`
            the argument '--output <FILE>' cannot be used with '--merge'; see `sublet kubeconfig --help`
            invalid value 'xml' for '--output <OUTPUT>' [possible values: table, wide, json, yaml, name] (a similar value exists: 'yaml'); see `sublet list --help`
            unrecognized subcommand 'demolish'; see `sublet --help`
            unrecognized subcommand 'lst' (did you mean 'list'?); see `sublet --help`
            unrecognized subcommand 'chek' (did you mean 'check'?); see `sublet certs --help`
            unexpected argument 'kubectl' found (put `--` before the command); see `sublet connect --help`
            invalid value 'pod' for '<KIND/NAMESPACE/NAME>': "pod" names no object: write KIND/NAMESPACE/NAME, such as pod/default/web, or KIND/NAME, such as node/n1; see `sublet whose --help`
            invalid value 'soon' for '--timeout <DURATION>': "soon" is no duration: write 90s, 2m or 1h30m; see `sublet create --help`
            the following required arguments were not provided: <NAME>; see `sublet class describe --help`
            invalid value '5' for '--replicas <1..3>': write 1, 2 or 3; see `sublet create --help`
            the argument '[NAME]...' cannot be used with '--selector <SELECTOR>'; see `sublet list --help`
            the following required arguments were not provided: --as <USER>; see `sublet list --help`
        "#]].assert_eq(&told);
    }
}
