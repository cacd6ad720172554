#!/usr/bin/env bash
# Signals auto-deployer once, follows the rollout to its verdict, and tells GitHub: lines in the log, outputs, a job
# summary. It needs bash (3.2 will do), curl and jq. action.yml has the inputs; here they are INPUT_* in the environment.
# shellcheck disable=SC2016 # The dollars in jq's programs are jq's.
set -euo pipefail

# Seconds to look for a server that is away, or for a signal whose answer got lost.
readonly PATIENCE=60
# Seconds that auto-deployer may hold an answer: few, so that the log shows how the rollout goes.
readonly HOLD=2
# Seconds for which an OIDC token is used: it is good for a few minutes, and the rollout may take longer.
readonly TOKEN_LASTS=120

# What a program in a container has written must not be taken for a command of the workflow.
# https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#stopping-and-starting-workflow-commands
readonly QUIET=quiet-$RANDOM$RANDOM$RANDOM$RANDOM

readonly JQ_WORDS='
def where: [.pod, (.container | values | "container \(.)")] | map(values) | join(", ");
def what: [.reason, (.exit_code | values | "exit code \(.)"), .message] | map(values) | join(", ");
def which: (if .revision then "revision \(.revision) of " else "" end) + .deployment;
def said: .phase as $phase | .message | ltrimstr("\($phase): ");
def line: gsub("\\s+"; " ");'
readonly JQ_GIST='["\(.phase): \(said)", (.causes[] | [where, what] | map(select(. != "")) | join(": "))] | join("; ") | line'
readonly JQ_DIAGNOSIS='
"\(.phase): \(which): \(said)",
(.causes[] | ([where, what] | map(select(. != "")) | join(": ")), (.logs[] | "  \(.)")),
(if .changes == [] then empty else "changed since the last rollout that worked: \(.changes | join("; "))" end),
(.rolled_back_to | values | "rolled back to revision \(.)")'
readonly JQ_SUMMARY='
# What comes from elsewhere is neither Markdown nor HTML.
def text: tostring | line | gsub("(?<c>[&<>\"|*_`~@$\\[\\]\\\\])"; "&#\(.c | explode[0]);");
def row($name; $value): if $value == null then empty else "| \($name) | \($value | text) |" end;
def seconds: sub("\\.[0-9]+"; "") | fromdateiso8601;
. as $this
| [.history[] | select(.id < $this.id and .phase == "complete")][0] as $before
| [.history[] | select(.id == $this.id)][0].cause as $cause
| "### \(.deployment | text): \(.phase)", "",
  "| | |", "|---|---|",
  row("deployment"; "\(.deployment) in \(.namespace)"),
  row("image"; .image),
  row("digest"; .digest),
  row("revision"; .revision),
  row("cause"; $cause),
  row("took"; if .finished_at then "\((.finished_at | seconds) - (.started_at | seconds)) s" else null end),
  row("replaced"; $before | values | ["revision \(.revision)", .image, .digest] | map(values) | join(", ")),
  row("rolled back to"; .rolled_back_to | values | "revision \(.)"),
  row("id"; .id),
  row("message"; said), "",
  (.causes[]
    | "**\([where, what] | map(select(. != "")) | join(": ") | text)**", "",
      (if .logs == [] then empty else "<pre>\(.logs | join("\n") | @html)</pre>", "" end)),
  (if .changes == [] then empty else
    "Changed since the last rollout that worked:", "", (.changes[] | "- \(text)"), "" end),
  (if $before == null or .rolled_back_to != null or .phase == "superseded" then empty else
    "The way back:", "", "```sh",
    (if env.HAS_PASSWORD == "yes"
      then "curl --data \"{\\\"pw\\\": \\\"$PASSWORD\\\", \\\"wait\\\": true}\" \(env.DEPLOYMENT + "/rollback" | @sh)"
      else "kubectl rollout undo deployment/\(.deployment) --namespace \(.namespace)" end),
    "```", "" end)'

main() {
  for tool in curl jq; do
    command -v "$tool" >/dev/null || die "this runner has no $tool; install it in a step before"
  done
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  # $answer has the last answer, $rollout the last one that was about a rollout.
  answer=$work/answer rollout=$work/rollout token='' token_until=0
  printf '::stop-commands::%s\n' "$QUIET"
  read_inputs
  find_known
  signal
  follow
  tell
}

read_inputs() {
  password=${INPUT_PASSWORD:-}
  while [[ $password == *[$'\r\n'] ]]; do password=${password%?}; done
  [[ $password != *[$'\r\n']* ]] || die 'password: it has several lines; give one line of the file of passwords'
  [[ -z $password ]] || command_ add-mask "$password"
  if [[ -z $password && -z ${ACTIONS_ID_TOKEN_REQUEST_URL:-} ]]; then
    die 'password: it is missing; give one, or the job the permission "id-token: write" for an OIDC token in its place'
  fi

  url=${INPUT_URL:-}
  while [[ $url == */ ]]; do url=${url%/}; done
  url=${url%/deployment}
  # In clear text only within the machine: whoever reads the password on its way can deploy.
  local secure='^https://[^][:space:]"<>\^`{|}?#[]+$' loopback='^http://(127\.0\.0\.1|localhost)(:[0-9]+)?$'
  [[ $url =~ $secure || $url =~ $loopback ]] || die 'url: write where auto-deployer is, such as https://deploy.example.com'
  audience=${INPUT_AUDIENCE:-$url}
  deployment=$url/deployment
  [[ -z ${INPUT_DEPLOYMENT:-} ]] || deployment+=/$(jq --null-input --raw-output 'env.INPUT_DEPLOYMENT | @uri')

  [[ ${INPUT_TIMEOUT:-10m} =~ ^([0-9]{1,5})(s|m|h)?$ ]] || die 'timeout: write how long to wait, such as 90s, 10m or 1h'
  timeout=$((10#${BASH_REMATCH[1]}))
  case ${BASH_REMATCH[2]:-} in m) timeout=$((timeout * 60)) ;; h) timeout=$((timeout * 3600)) ;; esac
  case ${INPUT_ROLLBACK_ON_FAILURE:-} in '' | true | false) ;; *) die 'rollback-on-failure: write true or false' ;; esac

  # https://docs.github.com/en/webhooks/webhook-events-and-payloads#push; other events have no such commit.
  local event=${GITHUB_EVENT_PATH:-}
  [[ -r $event ]] || event=/dev/null
  cause=$(jq --raw-output --slurp '
    (.[0].head_commit? // {}) as $commit
    | if (env.INPUT_CAUSE // "") != "" then env.INPUT_CAUSE
      elif ($commit.message // "") != "" then "\($commit.message | split("\n")[0]) by \($commit.author.name // env.GITHUB_ACTOR)"
      elif env.GITHUB_SHA then "\(env.GITHUB_SHA[:12]) by \(env.GITHUB_ACTOR)"
      else "" end
    | gsub("\\s+"; " ") | gsub("[[:cntrl:]]"; "") | sub("^ "; "") | .[:256] | sub(" $"; "")' "$event")
  CAUSE=$cause jq --null-input '{image: env.INPUT_IMAGE, cause: env.CAUSE, rollback_on_failure: env.INPUT_ROLLBACK_ON_FAILURE}
    | with_entries(select((.value // "") != ""))
    | if has("rollback_on_failure") then .rollback_on_failure |= (. == "true") else . end' >"$work/signal"
}

# Note which rollouts there are, so that a new one can be told from them.
find_known() {
  ask_until_it_is_there "$deployment"
  # Any other refusal will be the signal's as well, and clearer there: of a Deployment that isn't there yet, say.
  [[ $status != 403 && -n $(field '.phase // .error') ]] || refused
  known=$(jq --compact-output '[.id, .history[]?.id]' "$answer")
}

signal() {
  ask_until_it_is_there "$deployment" --header 'Content-Type: application/json' --data-binary "@$work/signal"
  if is_away; then
    find_signalled
  else
    id=$(field .id)
    [[ $status == 2* && $id =~ ^[A-Za-z0-9._-]+$ ]] || refused
  fi
  deadline=$((SECONDS + timeout))
  printf 'signalled: %s, id %s\n' "$deployment" "$id"
}

# A signal that may have arrived is never sent again: look whether its rollout is there.
find_signalled() {
  local lost=$why until
  until=$(patience)
  printf 'the answer got lost: %s; looking whether the signal has arrived\n' "$lost"
  while ((SECONDS < until)); do
    sleep 1
    ask "$deployment"
    # By its id and its cause: others may have deployed meanwhile, and kubectl's rollouts have a ReplicaSet's name.
    id=$(CAUSE=$cause jq --raw-output --argjson known "$known" '[.history[]?
      | select(.id | test("^[0-9]{8}T[0-9]{6}\\.[0-9]{6}Z$")) | select(.id as $id | $known | index($id) | not)
      | select(env.CAUSE == "" or .cause == env.CAUSE) | .id][0] // empty' "$answer")
    [[ -z $id ]] || return 0
  done
  die "the signal's answer got lost: $lost. It isn't known whether the signal arrived, and it wasn't sent again. No new rollout is seen at $deployment; run this job again if there is none"
}

follow() {
  local line last='' hold=0
  while :; do
    ask "$deployment?id=$id&wait=$hold"
    if [[ -n $(field .phase) ]]; then
      line=$(jq --raw-output "$JQ_WORDS $JQ_GIST" "$answer")
    elif ! is_away && [[ -n $(field .error) ]]; then
      refused
    else
      line="no word from auto-deployer: $why; asking again"
    fi
    [[ $line == "$last" ]] || printf '%4d s  %s\n' $((SECONDS - deadline + timeout)) "$line"
    last=$line
    case $(field .phase) in complete | failed | superseded) return ;; esac
    ((SECONDS < deadline)) || return 0
    hold=$HOLD
    sleep 1
  done
}

tell() {
  local phase diagnosis
  # Of the last answer that there was: at the end of the time the server may be away.
  cp "$rollout" "$answer"
  phase=$(field .phase)
  printf '%s=%s\n' id "$id" phase "$phase" revision "$(field .revision)" digest "$(field .digest)" \
    rolled-back-to "$(field .rolled_back_to)" >>"${GITHUB_OUTPUT:-/dev/null}"
  DEPLOYMENT=$deployment HAS_PASSWORD=${password:+yes} jq --raw-output "$JQ_WORDS $JQ_SUMMARY" "$answer" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
  diagnosis=$(jq --raw-output "$JQ_WORDS $JQ_DIAGNOSIS" "$answer")
  case $phase in
    complete) printf '%s\n' "$diagnosis" ;;
    superseded) command_ notice "$diagnosis" ;;
    failed) die "$diagnosis" ;;
    *) die "no verdict within $timeout s: $diagnosis"$'\n'"It goes on; ask again at $deployment?id=$id" ;;
  esac
}

# Ask auto-deployer. $answer gets the body where it is a JSON object, $status the status (000: none), $sent how many bytes
# of the request went out, and $why what was wrong.
ask() { # URL [CURL'S OPTIONS]
  printf '{}' >"$answer"
  status=000 sent=0 why='' broken=
  if [[ -z $password ]] && ((SECONDS >= token_until)); then
    token=$(oidc_token) || { why='GitHub gave no OIDC token' && return 0; }
    token_until=$((SECONDS + TOKEN_LASTS))
    command_ add-mask "$token"
  fi
  # Not in curl's arguments, which every process of the machine can read.
  sent=$(
    curl --silent --show-error --globoff --stderr "$work/error" --output "$work/body" \
      --write-out '%{http_code} %{size_request}\n' --connect-timeout 10 --max-time 45 --header 'Accept: application/json' \
      --header @<(printf 'Authorization: Bearer %s\n' "${password:-$token}") "${@:2}" "$1"
  ) || broken=yes
  status=${sent% *} sent=${sent#* }
  # Half an answer is none.
  [[ -z $broken && -n $status ]] || status=000
  if jq --exit-status 'type == "object"' "$work/body" >/dev/null 2>&1; then cp "$work/body" "$answer"; fi
  if [[ -n $(field .phase) ]]; then cp "$answer" "$rollout"; fi
  rm -f "$work/body"
  why=$(if [[ $status == 000 ]]; then cat "$work/error"; else field .error; fi)
  why=${why:-it answers $status}
}

# Ask until there is an answer, or for as long as nothing at all of the request can have arrived.
ask_until_it_is_there() { # URL [CURL'S OPTIONS]
  local until
  until=$(patience)
  while ask "$@" && is_away; do
    # A question may be asked twice, a signal may not.
    ((sent == 0 || $# == 1)) || return 0
    ((SECONDS < until)) || die "auto-deployer can't be reached at $1: $why; nothing was signalled"
    sleep 1
  done
}

# https://docs.github.com/en/actions/reference/security/oidc#methods-for-requesting-the-oidc-token
oidc_token() {
  local for_whom
  for_whom=$(AUDIENCE=$audience jq --null-input --raw-output 'env.AUDIENCE | @uri')
  curl --silent --fail --max-time 20 --retry 3 --header @<(printf 'Authorization: Bearer %s\n' "$ACTIONS_ID_TOKEN_REQUEST_TOKEN") \
    "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=$for_whom" | jq --exit-status --raw-output .value
}

field() { # JQ'S FILTER
  jq --raw-output "$1 // empty | tostring | gsub(\"\\\\s+\"; \" \")" "$answer"
}

is_away() {
  case $status in 000 | 502 | 503 | 504) ;; *) return 1 ;; esac
}

patience() {
  printf '%s' $((SECONDS + (timeout < PATIENCE ? timeout : PATIENCE)))
}

refused() {
  local said
  said=$(field .error)
  die "${said:-what answers at $deployment is no auto-deployer: $why}"
}

die() { # TEXT
  command_ error "$1"
  exit 1
}

command_() { # NAME TEXT
  local text=${2//'%'/%25}
  text=${text//$'\r'/%0D}
  printf '::%s::\n::%s::%s\n::stop-commands::%s\n' "$QUIET" "$1" "${text//$'\n'/%0A}" "$QUIET"
}

main
