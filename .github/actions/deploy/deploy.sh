#!/usr/bin/env bash
# Signals auto-deployer, follows each rollout to its verdict, and tells GitHub: lines in the log, outputs, a job summary.
# It needs bash (3.2 will do), curl and jq. action.yml has the inputs, and inputs.sh reads them.
# shellcheck disable=SC2016 # The dollars in jq's programs are jq's.
# shellcheck disable=SC2329 # `each` gets functions by their names.
# shellcheck disable=SC2154 # inputs.sh sets password, url, audience, names, path, timeout and patience.
set -euo pipefail

readonly HOLD=2          # seconds that auto-deployer may hold an answer: few, so that the log shows how the rollout goes
readonly REPEAT=30       # seconds until the log says again how a rollout goes that doesn't change
readonly TOKEN_LASTS=120 # seconds to use an OIDC token: it is good for a few minutes, and a rollout may take longer

# What a program in a container has written must not be taken for a command of the workflow.
# https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#stopping-and-starting-workflow-commands
readonly QUIET=quiet-$RANDOM$RANDOM$RANDOM$RANDOM

# Do something for each deployment in turn. $name, $place, $id and $rollout, its last answer, are then about this one.
each() { # FUNCTION
  for ((i = 0; i < ${#names[@]}; i++)); do
    name=${names[i]} id=${ids[i]:-} rollout=$work/rollout.$i label=''
    place=$url/deployment${name:+/$name}
    ((${#names[@]} == 1)) || label="$name: "
    "$1"
  done
}

# Send the signal, again and again while no answer comes: it has a key, so auto-deployer starts one rollout.
signal() {
  local key said='' trouble="auto-deployer can't be reached at $place" outcome='nothing was signalled'
  # All but the random number is the same in each job of a matrix.
  key=${GITHUB_RUN_ID:+$GITHUB_RUN_ID-${GITHUB_RUN_ATTEMPT:-1}-${GITHUB_ACTION:-}-}$name
  key=${key//[^A-Za-z0-9._-]/} && key=${key:0:100}-$RANDOM$RANDOM$RANDOM$RANDOM
  while ask "$place$path" --header "Idempotency-Key: $key" --header 'Content-Type: application/json' \
    --data-binary "@$work/signal" && is_away; do
    if ((sent > 0)); then
      trouble="the signal's answer got lost" outcome="it isn't known whether the signal arrived; run this job again"
    fi
    if ((SECONDS >= patience)); then fail "$label$trouble: $why; $outcome" && return; fi
    [[ $why == "$said" ]] || printf 'no answer from %s: %s; sending the signal again\n' "$place$path" "$why"
    said=$why
    sleep 1
  done
  if [[ ! "$(field .id) $(field .phase)" =~ ^[A-Za-z0-9._-]+\ [a-z]+$ ]]; then refused && return; fi
  ids[i]=$(field .id)
  printf 'signalled: %s, id %s\n' "$place$path" "${ids[i]}"
}

follow() {
  local hold=0 going
  deadline=$((SECONDS + timeout))
  while true; do
    going=''
    each look
    if [[ -z $going ]] || ((SECONDS >= deadline)); then return; fi
    hold=$HOLD
    sleep 1
  done
}

# Ask once how a rollout goes, and say it when there is news.
look() {
  local line
  if [[ -z $id || -n ${ended[i]:-} ]]; then return; fi
  ask "$place?id=$id&wait=$hold"
  hold=0 # So the first that still goes on makes the pause for all.
  if ! is_away && [[ -n $(field .error) ]]; then refused && ended[i]=refused && return; fi
  line=$(gist)
  line=$label${line:-no word from auto-deployer: $why; asking again}
  if [[ $line != "${last[i]:-}" ]] || ((SECONDS >= ${due[i]:-0})); then
    printf '%4d s  %s\n' $((SECONDS - deadline + timeout)) "$line"
    last[i]=$line due[i]=$((SECONDS + REPEAT))
  fi
  if [[ $(field .phase) =~ ^(complete|failed|superseded)$ ]]; then ended[i]=yes; else going=yes; fi
}

# Of one deployment each value, of several all as JSON.
write_outputs() {
  each entry | jq --slurp --raw-output --argjson count "${#names[@]}" 'if $count > 1 then "rollouts=\(from_entries | tojson)"
    else .[0].value | to_entries[] | "\(.key | gsub("_"; "-"))=\(.value // "")" end'
}

entry() {
  [[ -z $id ]] || jq --arg key "$name" '{$key, value: {id, phase, revision, digest, rolled_back_to}}' "$rollout"
}

tell() {
  local phase words
  if [[ -z $id || ${ended[i]:-} == refused ]]; then return; fi
  # Of the last answer that there was: at the end of the time the server may be away.
  cp "$rollout" "$answer"
  phase=$(field .phase) words=$label$(gist)
  # auto-deployer's rollout/wording.py writes both.
  if ask_again text/plain && words=$(cat "$work/body") && ask_again text/markdown; then
    { cat "$work/body" && echo; } >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
  else
    printf 'the summary of the job is missing: %s\n' "$label$why"
  fi
  case $phase in
    complete) printf '%s\n' "$words" ;;
    superseded) command_ notice "$words" ;;
    failed) fail "$words" ;;
    *) fail "no verdict within $timeout s: $words"$'\n'"It goes on; ask again at $place?id=$id" ;;
  esac
}

# Get the last answer about the rollout as another media type, in $work/body; the server may be away for a moment.
ask_again() { # MEDIA TYPE
  local until=$((SECONDS + 3))
  while accept=$1 ask "$place?id=$id" --max-time 10 && [[ ! "$status $media_type" =~ ^(200|202|409|424)\ $1 ]]; do
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

# https://docs.github.com/en/actions/reference/security/oidc#methods-for-requesting-the-oidc-token
oidc_token() {
  curl --silent --fail --max-time 20 --retry 3 --header @<(printf 'Authorization: Bearer %s\n' "$ACTIONS_ID_TOKEN_REQUEST_TOKEN") \
    "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=$(jq --null-input --raw-output --arg text "$audience" '$text | @uri')" |
    jq --exit-status --raw-output .value
}

# One line about the rollout in $answer: its phase, its message and its problems; nothing where it isn't about one.
gist() {
  field '[[.phase, .message], (.causes[]? | [.pod, .reason, .message])] | map(map(values) | join(": ")) | join("; ")'
}

refused() {
  [[ -n $(field .error) ]] || why="what answers at $place is no auto-deployer: $why"
  fail "$label$why"
}

field() { jq --raw-output "$1 // empty | tostring | gsub(\"\\\\s+\"; \" \")" "$answer"; } # JQ'S FILTER
is_away() { [[ $status == 000 || $status == 50[234] ]]; }
fail() { command_ error "$1"; exit_code=1; } # TEXT
die() { fail "$1"; exit 1; } # TEXT

command_() { # NAME TEXT
  local text=${2//'%'/%25}
  text=${text//$'\r'/%0D}
  printf '::%s::\n::%s::%s\n::stop-commands::%s\n' "$QUIET" "$1" "${text//$'\n'/%0A}" "$QUIET"
}

for tool in curl jq; do
  command -v "$tool" >/dev/null || die "this runner has no $tool; install it in a step before"
done
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
# $answer has the last answer. Of each deployment: its rollout's id, how it ended, what was said last and when to repeat it.
answer=$work/answer token='' token_until=0 exit_code=0 ids=() ended=() last=() due=()
printf '::stop-commands::%s\n' "$QUIET"
# shellcheck source=.github/actions/deploy/inputs.sh
source "${BASH_SOURCE[0]%/*}/inputs.sh"
read_inputs
SECONDS=0
each signal
[[ -n ${ids[*]:-} ]] || exit 1
follow
write_outputs >>"${GITHUB_OUTPUT:-/dev/null}"
each tell
exit "$exit_code"
