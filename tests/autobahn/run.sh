#!/usr/bin/env bash
# Tests a WebSocket echo endpoint with the Autobahn test suite: cases 1 to 7 and 10, and a sample of 12 and 13
# (compression). All of 12 and 13 take up to an hour; TIDEGATE_AUTOBAHN=full runs them. TIDEGATE_AUTOBAHN=short runs a few
# of each kind.
#
#   tests/autobahn/run.sh ws://127.0.0.1:8080/_echo     test that endpoint
#   tests/autobahn/run.sh --setup                       only install the suite
#
# Exit codes: 0 every case passed; 1 a case failed, or the suite could not run; 77 skipped, because there is no Python
# 2.7. The suite runs only under Python 2.7. It is installed once, into the cache folder.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${TIDEGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate}
suite=$cache/autobahn-25.10.1
wstest=$suite/venv/bin/wstest
plain='"1.*","2.*","3.*","4.*","5.*","6.*","7.*","10.*"'
case ${TIDEGATE_AUTOBAHN:-sample} in
    sample)
        # Each kind of message and of offer: whole messages, fragments, and the longest message.
        sample='"12.1.1","12.1.6","12.1.11","12.2.3","12.3.4","12.4.5","12.5.2","12.5.13"'
        sample+=',"13.1.2","13.2.5","13.3.1","13.3.6","13.4.3","13.5.4","13.6.5","13.7.1","13.7.11"'
        cases=$plain,$sample expected=264 limit_s=900
        ;;
    full) cases=$plain,'"12.*","13.*"' expected=463 limit_s=7200 ;;
    short)
        cases='"1.*","2.*","5.*","7.1.*","12.1.1","12.2.3","13.3.6","13.7.1"' expected=57 limit_s=300
        ;;
    *)
        printf 'error: TIDEGATE_AUTOBAHN is "full", "sample" or "short"\n' >&2
        exit 64
        ;;
esac

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

is_python2() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null
}

# Prints the path of a Python 2.7: the one in the environment variable, else one of pyenv, else the one on the PATH.
find_python2() {
    local candidate version
    if [[ -n ${TIDEGATE_PYTHON2:-} ]]; then
        is_python2 "$TIDEGATE_PYTHON2" || fail "TIDEGATE_PYTHON2=$TIDEGATE_PYTHON2 is no Python 2.7: correct or unset it"
        printf '%s\n' "$TIDEGATE_PYTHON2"
        return
    fi
    if command -v pyenv >/dev/null; then
        for version in $(pyenv versions --bare 2>/dev/null | grep '^2\.7' || true); do
            candidate=$(PYENV_VERSION=$version pyenv which python 2>/dev/null) || continue
            is_python2 "$candidate" && printf '%s\n' "$candidate" && return
        done
    fi
    for candidate in python2.7 python2; do
        candidate=$(command -v "$candidate") || continue
        is_python2 "$candidate" && printf '%s\n' "$candidate" && return
    done
    return 0
}

skip() {
    cat >&2 <<'NOTICE'
************************************************************************************
SKIPPED: the WebSocket conformance test (Autobahn) did NOT run: there is no Python 2.7
Install one (pyenv install 2.7.18) or set TIDEGATE_PYTHON2 to the path of one.
************************************************************************************
NOTICE
    exit 77
}

# A virtual environment cannot be moved, so it is built in place and marked when it is complete.
set_up() {
    local python2 log=$suite/setup.log
    [[ -f $suite/complete ]] && cmp -s "$here/requirements.txt" "$suite/complete" && [[ -x $wstest ]] && return
    python2=$(find_python2)
    [[ -n $python2 ]] || skip
    printf 'installing the Autobahn test suite into %s (once; takes a minute or more) …\n' "$suite" >&2
    rm -rf "$suite/venv" "$suite/site" "$suite/complete"
    if ! {
        "$python2" -m pip install --target "$suite/site" virtualenv==20.15.1 &&
            VIRTUALENV_OVERRIDE_APP_DATA=$suite/site PYTHONPATH=$suite/site \
                "$python2" -m virtualenv --no-download "$suite/venv" &&
            "$suite/venv/bin/python" -m pip install --no-cache-dir --requirement "$here/requirements.txt"
    } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        fail "the suite could not be installed with $python2; the whole log is $log"
    fi
    cp "$here/requirements.txt" "$suite/complete"
}

set_up_once() {
    mkdir -p "$suite" || fail "$suite cannot be written: set TIDEGATE_CACHE to a folder that can"
    # Another checkout may be installing now. Wait for it if the system has flock.
    exec 9>"$suite/lock"
    if command -v flock >/dev/null; then flock 9; fi
    set_up
    exec 9>&-
}

limited() {
    if command -v timeout >/dev/null; then timeout "$limit_s" "$@"; else "$@"; fi
}

judge() {
    local url=$1 reports status=0
    reports=$(mktemp -d "${TMPDIR:-/tmp}/tidegate-autobahn.XXXXXX")
    sed -e "s|@URL@|$url|" -e "s|@CASES@|$cases|" -e "s|@OUTDIR@|$reports|" "$here/server.json.in" >"$reports/server.json"
    limited "$wstest" -m fuzzingclient -s "$reports/server.json" >"$reports/wstest.log" 2>&1 || {
        tail -n 20 "$reports/wstest.log" >&2
        fail "wstest ended badly or took longer than $limit_s s; reports and log are in $reports"
    }
    python3 "$here/judge.py" "$reports/index.json" "$expected" || status=1
    if ((status)); then
        tail -n 3 "$reports/wstest.log" | cut -c 1-300 >&2
        printf 'one page per case, with every frame: %s\n' "$reports/index.html" >&2
    else
        rm -rf "$reports"
    fi
    return "$status"
}

case ${1:-} in
    --setup) set_up_once ;;
    ws://*/*)
        set_up_once
        judge "$1"
        ;;
    *)
        printf 'usage: %s ws://host:port/_echo | --setup\n' "$0" >&2
        exit 64
        ;;
esac
