#!/usr/bin/env bash
# Signals auto-deployer once, follows the rollout to its verdict, and tells GitHub: lines in the log, outputs, a job
# summary. It needs bash (3.2 will do), curl and jq. action.yml has the inputs; here they are INPUT_* in the environment.
# shellcheck disable=SC2016 # The dollars in jq's programs are jq's.
set -euo pipefail

readonly MAX_PATIENCE=60 # seconds to look for a server that is away, or for a signal whose answer got lost
readonly HOLD=2          # seconds that auto-deployer may hold an answer: few, so that the log shows how the rollout goes
readonly REPEAT=30       # seconds until the log says again how a rollout goes that doesn't change
readonly TOKEN_LASTS=120 # seconds to use an OIDC token: it is good for a few minutes, and a rollout may take longer

# What a program in a container has written must not be taken for a command of the workflow.
# https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#stopping-and-starting-workflow-commands
readonly QUIET=quiet-$RANDOM$RANDOM$RANDOM$RANDOM

read_inputs() {
  password=${INPUT_PASSWORD:-}
  while [[ $password == *[$'\r\n'] ]]; do password=${password%?}; done
  [[ $password != *[$'\r\n']* ]] || die 'password: it has several lines; give one line of the file of passwords'
  [[ -z $password ]] || command_ add-mask "$password"
  [[ -n $password || -n ${ACTIONS_ID_TOKEN_REQUEST_URL:-} ]] ||
    die 'password: it is missing; give one, or the job the permission "id-token: write" for an OIDC token in its place'

  url=${INPUT_URL:-}
  while [[ $url == */ ]]; do url=${url%/}; done
  url=${url%/deployment}
  # In clear text only within the machine.
  local secure='^https://[^][:space:]"<>\^`{|}?#[]+$' loopback='^http://(127\.0\.0\.1|localhost)(:[0-9]+)?$'
  [[ $url != http://* || $url =~ $loopback ]] ||
    die 'url: http:// is refused: it sends the password in clear text, and a program that reads it on its way can deploy; write https://'
  [[ $url =~ $secure || $url =~ $loopback ]] || die 'url: write where auto-deployer is, such as https://deploy.example.com'
  audience=${INPUT_AUDIENCE:-$url}
  deployment=$url/deployment
  [[ -z ${INPUT_DEPLOYMENT:-} ]] || deployment+=/$(uri "$INPUT_DEPLOYMENT")

  [[ ${INPUT_TIMEOUT:-15m} =~ ^([0-9]{1,5})(s|m|h)?$ ]] || die 'timeout: write how long to wait, such as 90s, 15m or 1h'
  timeout=$((10#${BASH_REMATCH[1]}))
  case ${BASH_REMATCH[2]:-} in m) timeout=$((timeout * 60)) ;; h) timeout=$((timeout * 3600)) ;; esac
  patience=$((timeout < MAX_PATIENCE ? timeout : MAX_PATIENCE))
  case ${INPUT_ROLLBACK_ON_FAILURE:-} in '' | true | false) ;; *) die 'rollback-on-failure: write true or false' ;; esac

  # https://docs.github.com/en/webhooks/webhook-events-and-payloads#push; other events have no such commit.
  jq --slurp '(.[0].head_commit? // {}) as $commit
    | [env.INPUT_CAUSE,
       ($commit.message // "" | split("\n")[0] | values | "\(.) by \($commit.author.name // env.GITHUB_ACTOR)"),
       (env.GITHUB_SHA | values | "\(.[:12]) by \(env.GITHUB_ACTOR)")]
    | map(select(. != null and . != ""))[0] // ""
    | gsub("\\s+"; " ") | gsub("[[:cntrl:]]"; "") | sub("^ "; "") | .[:256] | sub(" $"; "")
    | {image: env.INPUT_IMAGE, cause: .,
       rollback_on_failure: {"true": true, "false": false}[env.INPUT_ROLLBACK_ON_FAILURE // ""]}
    | with_entries(select(.value != null and .value != ""))' <(cat "${GITHUB_EVENT_PATH:-/dev/null}" 2>/dev/null) >"$work/signal"
}

signal() {
  # Which rollouts there are, so that a new one can be told from them.
  ask_until_it_is_there "$deployment"
  # Any other refusal will be the signal's as well, and clearer there: of a Deployment that isn't there yet, say.
  [[ $status != 403 && -n $(field '.phase // .error') ]] || refused
  known=$(jq --compact-output '[.id, .history[]?.id]' "$answer")
  ask_until_it_is_there "$deployment" --header 'Content-Type: application/json' --data-binary "@$work/signal"
  if is_away; then find_signalled; else id=$(field .id); fi
  [[ $id =~ ^[A-Za-z0-9._-]+$ ]] || refused
  deadline=$((SECONDS + timeout))
  printf 'signalled: %s, id %s\n' "$deployment" "$id"
}

# A signal that may have arrived is never sent again: look whether its rollout is there.
find_signalled() {
  local lost=$why until=$((SECONDS + patience))
  printf 'the answer got lost: %s; looking whether the signal has arrived\n' "$lost"
  while ((SECONDS < until)) && sleep 1; do
    ask "$deployment"
    # By its id and its cause: others may have deployed meanwhile, and kubectl's rollouts have a ReplicaSet's name.
    id=$(jq --raw-output --argjson known "$known" --slurpfile signal "$work/signal" '[.history[]?
      | select(.id | test("^[0-9]{8}T[0-9]{6}\\.[0-9]{6}Z$")) | select(.id as $id | $known | index($id) | not)
      | select(.cause == ($signal[0].cause // .cause)) | .id][0] // empty' "$answer")
    [[ -z $id ]] || return 0
  done
  die "the signal's answer got lost: $lost. It isn't known whether the signal arrived, and it wasn't sent again. No new rollout is seen at $deployment; run this job again if there is none"
}

follow() {
  local line last='' due=0 hold
  for ((hold = 0; ; hold = HOLD)); do
    ask "$deployment?id=$id&wait=$hold"
    is_away || [[ -z $(field .error) ]] || refused
    line=$(gist); line=${line:-no word from auto-deployer: $why; asking again}
    if [[ $line != "$last" ]] || ((SECONDS >= due)); then
      printf '%4d s  %s\n' $((SECONDS - deadline + timeout)) "$line"
      last=$line due=$((SECONDS + REPEAT))
    fi
    if [[ $(field .phase) =~ ^(complete|failed|superseded)$ ]] || ((SECONDS >= deadline)); then return; fi
    sleep 1
  done
}

tell() {
  local phase words
  # Of the last answer that there was: at the end of the time the server may be away.
  cp "$rollout" "$answer"
  phase=$(field .phase) words=$(gist)
  printf '%s=%s\n' id "$id" phase "$phase" revision "$(field .revision)" digest "$(field .digest)" \
    rolled-back-to "$(field .rolled_back_to)" >>"${GITHUB_OUTPUT:-/dev/null}"
  # auto-deployer's rollout/wording.py writes both.
  if ask_again text/plain && words=$(cat "$work/body") && ask_again text/markdown; then
    cat "$work/body" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
  else
    printf 'the summary of the job is missing: %s\n' "$why"
  fi
  case $phase in
    complete) printf '%s\n' "$words" ;;
    superseded) command_ notice "$words" ;;
    failed) die "$words" ;;
    *) die "no verdict within $timeout s: $words"$'\n'"It goes on; ask again at $deployment?id=$id" ;;
  esac
}

# Get the last answer about the rollout as another media type, in $work/body; the server may be away for a moment.
ask_again() { # MEDIA TYPE
  local until=$((SECONDS + 3))
  while accept=$1 ask "$deployment?id=$id" --max-time 10 && [[ ! "$status $media_type" =~ ^(200|202|409|424)\ $1 ]]; do
    ((SECONDS < until)) || return 1
    sleep 1
  done
}

# Ask auto-deployer. $answer gets the body where it is a JSON object, $status the status (000: none), $sent how many bytes
# of the request went out, and $why what was wrong.
ask() { # URL [CURL'S OPTIONS]
  local told
  rm -f "$work/body" && printf '{}' >"$answer"
  status=000 sent=0 media_type='' why=''
  if [[ -z $password ]] && ((SECONDS >= token_until)); then
    token=$(oidc_token) || { why='GitHub gave no OIDC token' && return 0; }
    token_until=$((SECONDS + TOKEN_LASTS))
    command_ add-mask "$token"
  fi
  # Not in curl's arguments, which every process of the machine can read.
  told=$(
    curl --silent --show-error --globoff --stderr "$work/error" --output "$work/body" --connect-timeout 10 --max-time 45 \
      --write-out '%{http_code} %{size_request} %{content_type}' --header "Accept: ${accept:-application/json}" \
      --header @<(printf 'Authorization: Bearer %s\n' "${password:-$token}") "${@:2}" "$1"
  ) || told="000 ${told#* }" # An answer that was cut off counts as none.
  read -r status sent media_type <<<"$told"
  if jq --exit-status 'type == "object"' "$work/body" >/dev/null 2>&1; then cp "$work/body" "$answer"; fi
  if [[ -n $(field .phase) ]]; then cp "$answer" "$rollout"; fi
  why=$(if [[ $status == 000 ]]; then cat "$work/error"; else field .error; fi)
  why=${why:-it answers $status}
}

# Ask until there is an answer, or for as long as nothing at all of the request can have arrived.
ask_until_it_is_there() { # URL [CURL'S OPTIONS]
  local until=$((SECONDS + patience))
  while ask "$@" && is_away; do
    # A question may be asked twice, a signal may not.
    ((sent == 0 || $# == 1)) || return 0
    ((SECONDS < until)) || die "auto-deployer can't be reached at $1: $why; nothing was signalled"
    sleep 1
  done
}

# https://docs.github.com/en/actions/reference/security/oidc#methods-for-requesting-the-oidc-token
oidc_token() {
  curl --silent --fail --max-time 20 --retry 3 --header @<(printf 'Authorization: Bearer %s\n' "$ACTIONS_ID_TOKEN_REQUEST_TOKEN") \
    "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=$(uri "$audience")" | jq --exit-status --raw-output .value
}

# One line about the rollout in $answer: its phase, its message and its problems; nothing where it isn't about one.
gist() {
  field '[[.phase, .message], (.causes[]? | [.pod, .reason, .message])] | map(map(values) | join(": ")) | join("; ")'
}

refused() {
  [[ -n $(field .error) ]] || why="what answers at $deployment is no auto-deployer: $why"
  die "$why"
}

uri() { jq --null-input --raw-output --arg text "$1" '$text | @uri'; } # TEXT
field() { jq --raw-output "$1 // empty | tostring | gsub(\"\\\\s+\"; \" \")" "$answer"; } # JQ'S FILTER
is_away() { [[ $status == 000 || $status == 50[234] ]]; }
die() { command_ error "$1"; exit 1; } # TEXT

command_() { # NAME TEXT
  local text=${2//'%'/%25}
  text=${text//$'\r'/%0D}
  printf '::%s::\n::%s::%s\n::stop-commands::%s\n' "$QUIET" "$1" "${text//$'\n'/%0A}" "$QUIET"
}

for tool in curl jq; do
  command -v "$tool" >/dev/null || die "this runner has no $tool; install it in a step before"
done
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
# $answer has the last answer, $rollout the last one that was about a rollout.
answer=$work/answer rollout=$work/rollout token='' token_until=0
printf '::stop-commands::%s\n' "$QUIET"
read_inputs
signal
follow
tell
