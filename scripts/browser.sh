#!/usr/bin/env bash
# Provides Chromium for the dashboard's browser tests. Only under continuous integration (CI=true):
# on a person's machine those tests skip where there is no browser.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/common.sh
source scripts/common.sh

if [[ ${CI:-} != true && ${CI:-} != 1 ]] || command -v chromium >/dev/null; then exit 0; fi
install_packages "Chromium, for the browser tests" chromium || say "going on without: the browser tests will skip"
