#!/bin/sh
# Runs a command of the checkout in eleven odd surroundings, one after the other; each must end with 0.
#
#   sh tests/odd_shells.sh                                  sh ops/demo --duration 5, in each
#   sh tests/odd_shells.sh folder bare                      only in these
#   sh tests/odd_shells.sh -- sh ops/test tests/unit/test_record.py -n 0     another command, in each
#   sh tests/odd_shells.sh bare -- COMMAND ...
#
# The command may name files relative to the checkout: those words are made absolute, because the working folder is another
# one in some surroundings. Its output is shown where it fails.
set -eu

home=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'chmod -R u+rwx "$scratch" && rm -rf "$scratch"' EXIT

everything="folder deleted temporary nohome locale umask descriptors limits hooks proxies bare"
chosen=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case " $everything " in
        *" $1 "*) chosen="$chosen $1" ;;
        *) echo "tests/odd_shells.sh: there is no \"$1\"; there are: $everything" >&2; exit 2 ;;
    esac
    shift
done
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- sh ops/demo --duration 5

# Words that name a file of the checkout: absolute.
count=$#
while [ "$count" -gt 0 ]; do
    word=$1; shift; count=$((count - 1))
    if [ -e "$home/$word" ]; then word=$home/$word; fi
    set -- "$@" "$word"
done

# -- the surroundings: each gets the command -----------------------------------------------------------------------------

odd_folder() { # a working folder with a space, an umlaut, and modules named as the standard library's
    folder="$scratch/a folder, ödd"
    mkdir -p "$folder"
    for module in queue token websocket json selectors; do
        echo "raise SystemExit('$module.py of the working folder was imported')" >"$folder/$module.py"
    done
    (cd "$folder" && "$@")
}

odd_deleted() { # a working folder that is gone
    mkdir -p "$scratch/gone"
    (cd "$scratch/gone" && rmdir "$scratch/gone" && "$@")
}

odd_temporary() { # a TMPDIR too long for the address of a Unix socket; nothing says where runtime files go
    long=$scratch/$(printf '%0100d' 0)/$(printf '%0100d' 1)
    mkdir -p "$long"
    (unset XDG_RUNTIME_DIR XDG_STATE_HOME XDG_CACHE_HOME XDG_CONFIG_HOME RUNTIME_DIRECTORY; TMPDIR=$long "$@")
}

odd_nohome() { # a home that can't be written, as a service has
    mkdir -p "$scratch/home"
    chmod 555 "$scratch/home"
    (unset XDG_RUNTIME_DIR XDG_STATE_HOME XDG_CACHE_HOME; HOME=$scratch/home "$@") || return 1
    HOME=/nonexistent "$@"
}

odd_locale() { # ASCII only; and a locale that is not installed
    LC_ALL=C LANG=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0 "$@" || return 1
    LC_ALL=tlh_KL.ISO-8859-15 "$@"
}

odd_umask() { # everything for everybody; nothing but for the owner
    (umask 000 && "$@") || return 1
    (umask 077 && "$@")
}

odd_descriptors() { # standard input closed; all three closed; many others open and inherited
    "$@" <&- || return 1
    "$@" <&- >&- 2>&- || return 1
    "$@" 3</dev/null 4</dev/null 5</dev/null 6</dev/null 7</dev/null 8</dev/null 9</dev/null
}

odd_limits() { # few descriptors, no core, a small stack; signals that a parent ignored, and no terminal, as under nohup
    (
        ulimit -n 128; ulimit -c 0; ulimit -s 1024
        trap '' HUP PIPE INT QUIT USR1 USR2
        "$@" </dev/null
    )
}

odd_hooks() { # PYTHON* variables that change what is imported, and what a warning is
    modules=$scratch/modules
    mkdir -p "$modules"
    for module in queue sitecustomize wsadapter; do
        echo "raise SystemExit('$module.py of PYTHONPATH was imported')" >"$modules/$module.py"
    done
    (
        PYTHONPATH=$modules PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONHASHSEED=0 PYTHONSAFEPATH=1 "$@" || exit 1
        PYTHONWARNINGS=error PYTHONDEVMODE=1 PYTHONOPTIMIZE=2 PYTHONNOUSERSITE=1 "$@"
    )
}

odd_proxies() { # proxies that nobody serves
    for variable in http_proxy https_proxy all_proxy ws_proxy wss_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY; do
        export "$variable=socks5h://127.0.0.1:9"
    done
    no_proxy=pypi.org,files.pythonhosted.org "$@"
}

odd_bare() { # nothing in the environment but where programs are
    env -i "PATH=$PATH" ${PIP_INDEX_URL:+"PIP_INDEX_URL=$PIP_INDEX_URL"} ${PIP_FIND_LINKS:+"PIP_FIND_LINKS=$PIP_FIND_LINKS"} "$@"
}

# ------------------------------------------------------------------------------------------------------------------------

printf '%-12s ' plain
"$@" >"$scratch/output" 2>&1 || { echo "FAILED with $?"; cat "$scratch/output"; exit 1; }  # makes what is made once
echo ok

failed=
for name in ${chosen:-$everything}; do
    printf '%-12s ' "$name"
    code=0
    (set -e; "odd_$name" "$@") >"$scratch/output" 2>&1 || code=$?
    if [ "$code" -eq 0 ]; then
        echo ok
    else
        echo "FAILED with $code"
        sed 's/^/    | /' "$scratch/output"
        failed="$failed $name"
    fi
done
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
