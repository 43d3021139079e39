# Sourced by ./test: `setup_packages` makes sure that MariaDB, PostgreSQL and Chromium are there, from the distribution's packages where it may.
# TEST_MYSQL_URL and TEST_POSTGRES_URL name servers that are already there. The clients psql and mariadb load the golden databases, so they are needed then too.
# shellcheck shell=bash

setup_packages() {
    local missing=()
    if [ -z "${TEST_MYSQL_URL:-}" ] && ! { _has mariadbd && _has mariadb-install-db; }; then missing+=(mariadb-server); fi
    if [ -z "${TEST_POSTGRES_URL:-}" ] && ! _has postgres; then missing+=(postgresql); fi
    if ! _has chromium chromium-browser; then missing+=(chromium); fi
    [ ${#missing[@]} -eq 0 ] && return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "./test needs ${missing[*]} (names of Debian's packages): install them, as root: apt-get install ${missing[*]}" >&2
        echo "or name database servers that are there already: TEST_MYSQL_URL=mysql+pymysql://root@127.0.0.1 TEST_POSTGRES_URL=postgresql+psycopg://postgres@127.0.0.1/postgres" >&2
        return 1
    fi
    echo "Installing ${missing[*]} …" >&2
    _install "${missing[@]}"
}

_install() {    # without starting the services: the tests start servers of their own
    local policy=/usr/sbin/policy-rc.d made="" status=0 log=$root/.local/apt.log
    mkdir -p "$root/.local"
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && made=1
    fi
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove -o DPkg::Lock::Timeout=300 "$@"; } >"$log" 2>&1 </dev/null || status=1
    [ -z "$made" ] || rm -f "$policy"
    if [ $status -ne 0 ]; then
        tail -n 20 "$log" >&2
        echo "apt-get could not install $*; the whole log is $log" >&2
    fi
    return $status
}

_has() {    # is one of these programs installed, in PATH or where servers are put?
    local name folder
    for name in "$@"; do
        command -v "$name" >/dev/null && return 0
        for folder in /usr/sbin /usr/local/sbin /usr/lib/postgresql/*/bin; do
            [ -x "$folder/$name" ] && return 0
        done
    done
    return 1
}
