# Shared by the scripts beside it; sourced, not run.
# shellcheck shell=bash

say() { printf '\033[1m▸ %s\033[0m\n' "$*" >&2; }
[ -t 2 ] || say() { printf '▸ %s\n' "$*" >&2; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# need_root WHAT-FOR
need_root() {
  [ "$(id -u)" = 0 ] || die "root is needed to $1. Run this as root, or with sudo."
}

# Runs a command, and shows its output only if it fails.
quietly() {
  local log
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    die "failed: $*"
  fi
  rm -f "$log"
}
