# Shared by scripts/kind and scripts/minikube; sourced after lib.sh, not run.
# shellcheck shell=bash

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

# need COMMAND WHERE-FROM
need() { command -v "$1" >/dev/null || die "$1 is not installed: $2."; }

overlay_exists() { [ -f "daemonset/overlays/$1/kustomization.yaml" ] || die "there is no daemonset/overlays/$1."; }

# deploy CONTEXT OVERLAY: applies the overlay, waits until the agents are ready, shows the status.
deploy() {
  local kubectl=(kubectl --context "$1") ns=egress-system before
  before=$("${kubectl[@]}" -n "$ns" get daemonset egress-agent -o name 2>/dev/null || true)
  # A Job is immutable, so it is replaced; the certificates that it made stay.
  "${kubectl[@]}" -n "$ns" delete job egress-certs --ignore-not-found >/dev/null 2>&1 || true
  say "installing daemonset/overlays/$2"
  "${kubectl[@]}" apply -k "daemonset/overlays/$2"
  # The image's name is always the same: existing pods use the new image only after a restart.
  if [ -n "$before" ]; then
    "${kubectl[@]}" -n "$ns" rollout restart daemonset/egress-agent
    if "${kubectl[@]}" -n "$ns" get deployment egress-relay >/dev/null 2>&1; then
      "${kubectl[@]}" -n "$ns" rollout restart deployment/egress-relay
    fi
  fi
  if ! "${kubectl[@]}" -n "$ns" rollout status daemonset/egress-agent --timeout 3m; then
    "${kubectl[@]}" -n "$ns" get pods -o wide >&2 || true
    "${kubectl[@]}" -n "$ns" logs -l app.kubernetes.io/name=egress-agent --tail 20 >&2 || true
    die "the agents do not get ready (see above)."
  fi
  if "${kubectl[@]}" -n "$ns" get deployment egress-relay >/dev/null 2>&1; then
    "${kubectl[@]}" -n "$ns" rollout status deployment/egress-relay --timeout 3m
  fi
  say "egressctl status"
  node dist/src/cli/main.js status --context "$1"
  say "follow the flows: node dist/src/cli/main.js flows -f --context $1"
}
