#!/usr/bin/env bash
# Sets the project up in .venv from requirements.lock; does nothing where that is done already.
# An interrupted run is taken up by the next one: the stamp is written last.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/common.sh
source scripts/common.sh

venv=$PWD/.venv
stamp=$venv/.gsclip-setup

# Shared libraries that Open3D's wheel links to and does not carry, with their Debian packages.
declare -A LIBRARIES=(
    [libusb-1.0.so.0]=libusb-1.0-0
    [libGL.so.1]=libgl1
    [libEGL.so.1]=libegl1
    [libX11.so.6]=libx11-6
    [libudev.so.1]=libudev1
    [libidn2.so.0]=libidn2-0
)

is_python_311() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; }

# Prints the first Python 3.11 of $PYTHON, or of python3.11, python3 and python on the path.
find_python() {
    local candidate
    local -a candidates=(python3.11 python3 python)
    if [[ -n ${PYTHON:-} ]]; then candidates=("$PYTHON"); fi
    for candidate in "${candidates[@]}"; do
        # The program is run, not only looked up: a version manager's shim may stand for nothing.
        if is_python_311 "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "Python 3.11 not found (tried: ${candidates[*]})." \
        "Install it (Debian 12: apt-get install python3) or name it: make PYTHON=/path/to/python3.11 setup"
}

# missing_packages PYTHON: prints the Debian packages that are needed and absent, one a line.
# It tries to load each library: one that did not come from a Debian package is as good.
missing_packages() {
    "$1" -c 'import ensurepip' 2>/dev/null || echo python3.11-venv
    local library
    for library in "${!LIBRARIES[@]}"; do
        "$1" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$library" 2>/dev/null || echo "${LIBRARIES[$library]}"
    done | sort
}

# Fails for a copied or moved folder, after an upgrade of Python and for a half-made environment.
usable_venv() {
    # venv and uv write the folder's path with different quotes.
    grep -qsxF -e "VIRTUAL_ENV=$venv" -e "VIRTUAL_ENV='$venv'" -e "VIRTUAL_ENV=\"$venv\"" "$venv/bin/activate" &&
        is_python_311 "$venv/bin/python" && "$venv/bin/uv" --version >/dev/null 2>&1
}

# create_venv PYTHON: an empty environment with uv in the version and with the hashes of the lock.
create_venv() {
    say "creating .venv with $1"
    "$1" -m venv --clear "$venv"
    awk '/^uv==/ {inside = 1} inside {print} inside && !/\\$/ {exit}' requirements.lock >"$venv/uv.lock"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --only-binary :all: \
        --require-hashes -r "$venv/uv.lock"
}

# Python, system libraries, environment and all locked packages.
install_lock() {
    if [[ $(uname -sm) != "Linux x86_64" ]]; then
        fail "requirements.lock holds for Linux x86_64; this is $(uname -sm)." "See docs/installation.md."
    fi
    local python
    local -a packages quiet=(--quiet)
    python=$(find_python)
    mapfile -t packages < <(missing_packages "$python")
    if ((${#packages[@]})); then
        install_packages "system packages ${packages[*]}" "${packages[@]}" || exit 1
        mapfile -t packages < <(missing_packages "$python")
        if ((${#packages[@]})); then
            fail "$python still lacks what the Debian packages ${packages[*]} hold." \
                "A Python from elsewhere needs its own ensurepip; or run: make PYTHON=/usr/bin/python3 setup"
        fi
    fi
    if ! usable_venv; then create_venv "$python"; fi

    say "installing the packages of requirements.lock (about 2.5 GB to fetch the first time)"
    if [[ -t 2 ]]; then quiet=(); fi # a person sees the progress
    # The wheels of torch are large: patience with slow lines.
    UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-300} "$venv/bin/uv" pip sync "${quiet[@]}" --python "$venv/bin/python" \
        --require-hashes --compile-bytecode requirements.lock
}

# The build back-end is in the lock: no isolated build environment, hence no network.
install_project() {
    "$venv/bin/uv" pip install --quiet --offline --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
    "$venv/bin/python" -c 'import gsclip, open3d, torch, torchvision' ||
        fail "the installed packages do not import (message above)." "Remove .venv and run 'make setup' again."
}

# The folder belongs to the key: scripts in .venv/bin hold its path.
lock_key=$(printf '%s\n' "$PWD" | cat - requirements.lock | sha256sum | cut -d ' ' -f 1)
project_key=$(sha256sum <pyproject.toml | cut -d ' ' -f 1)
installed_lock='' installed_project=''
if [[ -x $venv/bin/python && -f $stamp ]]; then read -r installed_lock installed_project <"$stamp" || true; fi
if [[ $installed_lock == "$lock_key" && $installed_project == "$project_key" ]]; then exit 0; fi

rm -f "$stamp"
if [[ $installed_lock != "$lock_key" ]]; then install_lock; fi
install_project
printf '%s %s\n' "$lock_key" "$project_key" >"$stamp.partial"
mv "$stamp.partial" "$stamp"
say "set-up complete"
