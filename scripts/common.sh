# Sourced by the other scripts: messages, and Debian packages where they may be installed.
# shellcheck shell=bash

say() { printf 'gsclip: %s\n' "$*" >&2; }

# fail PROBLEM [REMEDY...]: a line each, and the end of the script.
fail() {
    say "$1"
    shift
    if (($#)); then printf '  %s\n' "$@" >&2; fi
    exit 1
}

# install_packages REASON PACKAGE...: installs them as root or by sudo.
# Returns 1, after a message that names packages and command, where that is not possible.
install_packages() {
    local reason=$1 apt_get
    shift
    local remedy="apt-get update && apt-get install -y --no-install-recommends $*"
    if ! command -v apt-get >/dev/null; then
        say "missing: $reason."
        printf '  Install what these Debian packages hold: %s\n' "$*" >&2
        return 1
    elif ((EUID == 0)); then
        apt_get=(env DEBIAN_FRONTEND=noninteractive apt-get)
    elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
        apt_get=(sudo env DEBIAN_FRONTEND=noninteractive apt-get)
    else
        say "missing: $reason. Neither root nor sudo to install it; as root, run:"
        printf '  %s\n' "$remedy" >&2
        return 1
    fi
    say "installing Debian packages: $*"
    # A failed update may still leave usable lists: the install decides.
    "${apt_get[@]}" update -qq </dev/null >&2 || true
    if ! "${apt_get[@]}" install -y -qq --no-install-recommends "$@" </dev/null >&2; then
        say "apt-get failed (its message is above). After mending that, run as root:"
        printf '  %s\n' "$remedy" >&2
        return 1
    fi
}
