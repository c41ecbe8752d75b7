# Finds a CPython >= 3.11. Sourced by ops/test and ops/demo.

good_python() { # PYTHON -> true where it runs, is CPython >= 3.11 and can make environments
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11) or sys.implementation.name != "cpython")' 2>/dev/null
}

find_python() { # the one to use: $PYTHON, else the first that is good
    for candidate in "${PYTHON:-python3}" python3 python3.11 python3.12 python3.13 python3.14; do
        if good_python "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    echo "wsadapter needs CPython 3.11 or newer with venv; none was found (set PYTHON=/path/to/python3)" >&2
    exit 2
}

find_newest_python() { # the newest that is good, also among pyenv's; nothing where there is none
    for minor in 15 14 13 12 11; do
        for candidate in "python3.$minor" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python3; do
            if good_python "$candidate"; then
                command -v "$candidate"
                return
            fi
        done
    done
}
