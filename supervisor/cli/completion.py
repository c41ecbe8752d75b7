"""Shell completion, made from the arguments of the commands: words and options of each command.

It is static: no running supervisor is asked.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from wsadapter.cli.command_line import COMMANDS, add_arguments


class Words(NamedTuple):
    """What may follow a command."""

    about: str
    options: dict[str, str]
    """With what each means."""
    choices: tuple[str, ...]
    """Words that an argument allows."""
    files: bool
    """Whether an argument is a file."""


class _Recorder:
    """Accepts the arguments of a command as a parser does, and keeps the parts that a shell needs."""

    def __init__(self) -> None:
        self.options: dict[str, str] = {"-h": "show the help", "--help": "show the help"}
        self.choices: list[str] = []
        self.takes_files = False

    def add_argument(self, *names: str, **settings: Any) -> object:
        """As `argparse.ArgumentParser.add_argument`."""
        if names[0].startswith("-"):
            self.options |= dict.fromkeys(names, settings.get("help", ""))
        else:
            self.choices += settings.get("choices", ())
            self.takes_files |= settings.get("metavar") in ("FILE", "PATH")
        return None


def commands_of() -> dict[str, Words]:
    """What may follow each command."""
    found = {}
    for name, command in COMMANDS.items():
        recorder = _Recorder()
        add_arguments(recorder, name, command)
        found[name] = Words(command.about, recorder.options, tuple(recorder.choices), recorder.takes_files)
    return found


def script(shell: str) -> str:
    """The text that a shell reads."""
    commands = commands_of()
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands)


def _bash(commands: dict[str, Words]) -> str:
    cases = "\n".join(
        f"        {name}) words={_quoted(' '.join([*own.options, *own.choices]))}; files={'yes' if own.files else ''} ;;"
        for name, own in commands.items()
    )
    return f"""\
# Completion of wsadapter for bash: eval "$(wsadapter completion bash)"
_wsadapter() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words files=
    if [ "$COMP_CWORD" -eq 1 ]; then
        words={_quoted(" ".join([*commands, "--help", "--version"]))}
    else case ${{COMP_WORDS[1]}} in
{cases}
        *) return ;;
    esac; fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    if [ -n "$files" ] && [ "${{word#-}}" = "$word" ]; then
        mapfile -t -O "${{#COMPREPLY[@]}}" COMPREPLY < <(compgen -f -- "$word")
    fi
}}
complete -F _wsadapter wsadapter
"""


def _zsh(commands: dict[str, Words]) -> str:
    shown = "\n".join(f"        {_quoted(f'{name}:{_plain(own.about)}')}" for name, own in commands.items())
    cases = "\n".join(
        f"        {name}) words_of=({' '.join(_quoted(f'{word}:{_plain(meaning)}') for word, meaning in _all(own).items())})"
        f"{'; _files' if own.files else ''} ;;"
        for name, own in commands.items()
    )
    return f"""\
#compdef wsadapter
# Completion of wsadapter for zsh: eval "$(wsadapter completion zsh)"
_wsadapter() {{
    local -a words_of
    words_of=(
{shown}
    )
    if (( CURRENT == 2 )); then
        _describe command words_of
        return
    fi
    case ${{words[2]}} in
{cases}
        *) return ;;
    esac
    _describe word words_of
}}
compdef _wsadapter wsadapter
"""


def _fish(commands: dict[str, Words]) -> str:
    lines = ["# Completion of wsadapter for fish: wsadapter completion fish | source", "complete -c wsadapter -f"]
    for name, own in commands.items():
        lines.append(f"complete -c wsadapter -n __fish_use_subcommand -a {name} -d {_quoted(_plain(own.about))}")
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        for word, meaning in own.options.items():
            kind = f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}"
            lines.append(f"complete -c wsadapter {seen} {kind} -d {_quoted(_plain(meaning))}")
        lines += [f"complete -c wsadapter {seen} -a {word}" for word in own.choices]
        if own.files:
            lines.append(f"complete -c wsadapter {seen} -F")
    return "\n".join(lines) + "\n"


def _all(own: Words) -> dict[str, str]:
    return {**own.options, **dict.fromkeys(own.choices, "")}


def _plain(text: str) -> str:
    """Without what a shell's own format means something by."""
    return text.replace("%%", "%").replace(":", ",").replace("`", "")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
