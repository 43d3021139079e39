# Sourced by ./demo, ./grafana-reencrypt, ./test and .ci/run: `setup_python` and `setup_node` prepare this checkout once and are quiet afterwards.
# They work from any directory, say what is missing and how to get it, and let two callers at once wait for each other. Settings: PYTHON names the
# interpreter to use. They leave $root (the checkout) and $python (its virtual environment's interpreter).
# shellcheck shell=bash

root=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python

setup_python() {
    local base wanted
    if ! _new_enough "$python" 2>/dev/null; then
        base=$(_find_python) || return 1
    fi
    wanted=$(_hash "$root/requirements.lock") || return 1
    [ -z "${base:-}" ] && [ "$(cat "$root/.venv/.set-up" 2>/dev/null)" = "$wanted" ] && return 0
    _alone _make_python "${base:-}" "$wanted"
}

setup_node() {
    local version wanted
    if ! version=$(node --version 2>/dev/null) || ! command -v npm >/dev/null; then
        _complain "Node.js 20 or newer with npm is needed for the AWS CDK's command line, and \`node\` or \`npm\` is not on the PATH." \
            "Debian 13, Ubuntu 25.04 or newer: apt-get install nodejs npm. Others: https://nodejs.org/en/download"
        return 1
    fi
    version=${version#v}
    if [ "${version%%.*}" -lt 20 ]; then
        _complain "Node.js 20 or newer is needed for the AWS CDK's command line; \`node\` on the PATH is $version." "See https://nodejs.org/en/download"
        return 1
    fi
    wanted=$(_hash "$root/package-lock.json") || return 1
    [ -x "$root/node_modules/.bin/cdk" ] && [ "$(cat "$root/node_modules/.set-up" 2>/dev/null)" = "$wanted" ] && return 0
    _alone _make_node "$wanted"
}

_make_python() {    # base interpreter or "", wanted hash; looks again, since another caller may have been faster
    if _new_enough "$python" 2>/dev/null; then
        [ "$(cat "$root/.venv/.set-up" 2>/dev/null)" = "$2" ] && return 0
    else
        echo "Making a Python environment in .venv …" >&2
        "$1" -m venv --clear "$root/.venv" || return 1
    fi
    echo "Installing Python packages (requirements.lock), the first time about a minute …" >&2
    # Exactly the locked files, by their hashes; wheels only, since a build would fetch packages that no lock file names.
    (cd "$root" && "$python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: -r requirements.lock) || return 1
    # `lambda` is a keyword, so its package is found by this path file: .venv/bin/python -m bench.reencrypt works as it stands.
    echo "$root/lambda" >"$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/grafana-reencrypt.pth"
    echo "$2" >"$root/.venv/.set-up"
}

_make_node() {
    [ -x "$root/node_modules/.bin/cdk" ] && [ "$(cat "$root/node_modules/.set-up" 2>/dev/null)" = "$1" ] && return 0
    echo "Installing the AWS CDK's command line (package-lock.json) …" >&2
    (cd "$root" && npm ci --silent --no-fund --no-audit) || {
        _complain "npm ci failed." "Its log is under ~/.npm/_logs; run it again in $root to see the error."
        return 1
    }
    echo "$1" >"$root/node_modules/.set-up"
}

_find_python() {    # prints the first interpreter that is new enough and can make virtual environments
    local candidate old=""
    for candidate in "${PYTHON:-}" python3 python3.13 python3.14 python3.12 python3.11; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null || continue
        if ! _new_enough "$candidate" 2>/dev/null; then
            old="$old $candidate"
        elif ! "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            _complain "$candidate cannot make virtual environments." "Debian and Ubuntu: apt-get install python3-venv"
            return 1
        else
            command -v "$candidate"
            return 0
        fi
    done
    _complain "Python 3.11 or newer is needed${old:+; found only older:$old}." "Debian 12, Ubuntu 24.04 or newer: apt-get install python3 python3-venv." \
        "Others: https://www.python.org/downloads (PYTHON=/path/to/python names another one)"
    return 1
}

_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; }

_hash() { cat -- "$@" | cksum; }

_alone() {    # one caller at a time; the lock is flock(2)'s, taken through Python because not every system has flock(1)
    local locker=python3 status
    mkdir -p "$root/.local" || return 1
    command -v "$locker" >/dev/null || locker=${2:-$python}
    exec 9>"$root/.local/.set-up.lock"
    "$locker" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' || return 1
    "$@"
    status=$?
    exec 9>&-
    return $status
}

_complain() { printf '%s\n' "$@" >&2; }
