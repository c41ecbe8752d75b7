# Finds a CPython >= 3.11 and makes the environment of the tests. Sourced by ops/check and ops/test.

unset PYTHONDONTWRITEBYTECODE # each of pytest's processes would compile every test again

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
