# Sourced by tools/lock and tools/audit: `setup_tools` installs tools/requirements.lock into .local/tools and leaves $tools, the folder of its programs.
# shellcheck shell=bash

. "$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)/setup.sh"
tools=$root/.local/tools/bin

setup_tools() {
    local wanted
    wanted=$(_hash "$root/tools/requirements.lock") || return 1
    [ "$(cat "$root/.local/tools/.set-up" 2>/dev/null)" = "$wanted" ] && return 0
    _alone _make_tools "$wanted"
}

_make_tools() {
    local base
    base=$(_find_python) || return 1
    echo "Installing pip-audit and uv (tools/requirements.lock) …" >&2
    "$base" -m venv --clear "$root/.local/tools" || return 1
    "$tools/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: -r "$root/tools/requirements.lock" || return 1
    echo "$1" >"$root/.local/tools/.set-up"
}
