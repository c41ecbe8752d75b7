# Finds a CPython >= 3.11 and makes the environment of the tests. Sourced by the scripts beside it, before anything else runs.

# Closed descriptors become /dev/null: the first files and pipes that a command opens would take their numbers. Of standard error
# that is found out in a process of its own, because an error of a redirection ends the shell.
(: 3<&0) 2>/dev/null || exec </dev/null
(: 3>&1) 2>/dev/null || exec >/dev/null
(: 3>&2) || exec 2>/dev/null

unset PYTHONPATH PYTHONHOME # the environment that is made here holds all that is needed, and nothing is to shadow it

good_python() { # PYTHON -> prints its path where it runs, is CPython >= 3.11 and can make environments
    found=$(command -v "$1") || return 1
    case $found in /*) ;; *) found=$PWD/$found ;; esac
    # Not from the working folder, which may be gone, and whose modules nobody means (-I).
    (cd / && "$found" -I -c '
import sys, venv, ensurepip
print(sys.executable) if sys.version_info >= (3, 11) and sys.implementation.name == "cpython" else sys.exit(1)' 2>/dev/null)
}

find_python() { # prints the one to use: $PYTHON, else the first that is good
    for candidate in "${PYTHON:-python3}" python3 python3.11 python3.12 python3.13 python3.14 python; do
        good_python "$candidate" && return
    done
    echo "wsadapter needs CPython 3.11 or newer with venv (on Debian and Ubuntu: apt install python3-venv); none was found" \
        "(looked for \$PYTHON, python3, python3.11 ... python3.14, python)" >&2
    return 2
}

find_newest_python() { # the newest that is good, also among pyenv's; nothing where there is none
    for minor in 15 14 13 12 11; do
        for candidate in "python3.$minor" "${PYENV_ROOT:-${HOME:-/nonexistent}/.pyenv}"/versions/3."$minor".*/bin/python3; do
            good_python "$candidate" && return
        done
    done
}

environment() { # PYTHON -> prints the bin folder of an environment that holds this checkout, installed from its wheel
    python=$1
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    venv=.venv-test-$version
    # Made anew when the pins change; a half-made one has no stamp.
    stamp=$("$python" -c 'import hashlib, pathlib, sys; print(hashlib.sha256(pathlib.Path("ops/requirements-test.txt").read_bytes() + sys.version.encode()).hexdigest())')
    if [ "$(cat "$venv/stamp" 2>/dev/null)" != "$stamp" ]; then
        rm -rf "$venv"
        "$python" -m venv "$venv"
        "$venv/bin/python" -m pip install -qq --disable-pip-version-check -r ops/requirements-test.txt 1>&2
        echo "$stamp" > "$venv/stamp"
    fi
    wheels=$(mktemp -d)
    "$venv/bin/python" -m pip wheel -qq --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir "$wheels" . 1>&2
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-deps --force-reinstall "$wheels"/*.whl 1>&2
    rm -rf "$wheels" build *.egg-info
    echo "$venv/bin"
}
