# Reads the action's inputs, which are INPUT_* in the environment, and refuses the ones that can't be used. deploy.sh
# sources it and has `die` and `command_`. It sets password, url, audience, names, path, timeout and patience, and
# writes the body of the signal to $work/signal.
# shellcheck shell=bash
# shellcheck disable=SC2016 # The dollars in jq's programs are jq's.
# shellcheck disable=SC2034,SC2154 # deploy.sh uses what is set here, and sets $work.

readonly MAX_PATIENCE=60 # seconds to repeat a signal that gets no answer

read_inputs() {
  read_password
  read_url
  read_deployments
  read_rollback
  read_timeout
  case ${INPUT_ROLLBACK_ON_FAILURE:-} in '' | true | false) ;; *) die 'rollback-on-failure: write true or false' ;; esac
  write_signal
}

read_password() {
  password=${INPUT_PASSWORD:-}
  while [[ $password == *[$'\r\n'] ]]; do password=${password%?}; done
  [[ $password != *[$'\r\n']* ]] || die 'password: it has several lines; give one line of the file of passwords'
  [[ -z $password ]] || command_ add-mask "$password"
  [[ -n $password || -n ${ACTIONS_ID_TOKEN_REQUEST_URL:-} ]] ||
    die 'password: it is missing; give one, or the job the permission "id-token: write" for an OIDC token in its place'
}

read_url() {
  local rest='[^][:space:]"<>\^`{|}?#[]+$' loopback='^http://(127\.0\.0\.1|localhost)(:[0-9]+)?$'
  url=${INPUT_URL:-}
  while [[ $url == */ ]]; do url=${url%/}; done
  url=${url%/deployment}
  case ${INPUT_ALLOW_HTTP:-} in '' | true | false) ;; *) die 'allow-http: write true or false' ;; esac
  # Without that input, in clear text only within the machine.
  [[ $url != http://* || $url =~ $loopback || ${INPUT_ALLOW_HTTP:-} == true ]] ||
    die 'url: http:// is refused: it sends the password in clear text, and a program that reads it on its way can deploy; write https://, or allow-http: true where the runner is inside the cluster'
  [[ $url =~ ^https?://$rest ]] || die 'url: write where auto-deployer is, such as https://deploy.example.com'
  audience=${INPUT_AUDIENCE:-$url}
}

read_deployments() {
  local name found=' ' list=${INPUT_DEPLOYMENT:-}
  list=${list//[,$'\r']/ }
  read -r -d '' -a names <<<"$list" || true # `read` finds no NUL at the end.
  # No name: the only deployment that is configured.
  [[ -n ${names[*]:-} ]] || names=('')
  for name in "${names[@]}"; do
    [[ -z $name || $name =~ ^[A-Za-z0-9._-]+$ ]] ||
      die "deployment: write the names of manifests' files without .yaml, such as web, or web, worker"
    [[ -z $name || $found != *" $name "* ]] || die "deployment: $name is there twice"
    found+="$name "
  done
}

read_rollback() {
  path=''
  case ${INPUT_ROLLBACK:-} in '' | false) return ;; esac
  path=/rollback
  [[ $INPUT_ROLLBACK =~ ^(true|[1-9][0-9]{0,8})$ ]] ||
    die 'rollback: write true, for the last rollout that worked, or the number of a revision'
  [[ $INPUT_ROLLBACK == true || ${#names[@]} == 1 ]] ||
    die 'rollback: each deployment has its own revisions; write true, or name one deployment'
  [[ -z ${INPUT_IMAGE:-} ]] || die 'image: a rollback brings back the image that ran before; leave one of the two out'
  [[ -z ${INPUT_ROLLBACK_ON_FAILURE:-} ]] ||
    die 'rollback-on-failure: auto-deployer never rolls back a rollback by itself; leave one of the two out'
}

read_timeout() {
  [[ ${INPUT_TIMEOUT:-15m} =~ ^([0-9]{1,5})(s|m|h)?$ ]] || die 'timeout: write how long to wait, such as 90s, 15m or 1h'
  timeout=$((10#${BASH_REMATCH[1]}))
  case ${BASH_REMATCH[2]:-} in m) timeout=$((timeout * 60)) ;; h) timeout=$((timeout * 3600)) ;; esac
  patience=$((timeout < MAX_PATIENCE ? timeout : MAX_PATIENCE))
}

# The commit is the cause of a deploy, and not of a rollback. A token says by itself in which run it was made.
# https://docs.github.com/en/webhooks/webhook-events-and-payloads#push; other events have no such commit.
write_signal() {
  local link=''
  if [[ -n $password && ${GITHUB_SERVER_URL:-} == https://* && -n ${GITHUB_RUN_ID:-} ]]; then
    link=$GITHUB_SERVER_URL/$GITHUB_REPOSITORY/actions/runs/$GITHUB_RUN_ID
  fi
  jq --slurp --arg path "$path" --arg link "$link" '(.[0].head_commit? // {}) as $commit
    | [env.INPUT_CAUSE,
       (select($path != "") | env.GITHUB_ACTOR | values | "by \(.)"),
       (select($path == "") | $commit.message // "" | split("\n")[0] | values
        | "\(.) by \($commit.author.name // env.GITHUB_ACTOR)"),
       (select($path == "") | env.GITHUB_SHA | values | "\(.[:12]) by \(env.GITHUB_ACTOR)")]
    | map(select(. != null and . != ""))[0] // ""
    | gsub("\\s+"; " ") | gsub("[[:cntrl:]]"; "") | sub("^ "; "") | .[:256] | sub(" $"; "")
    | {image: env.INPUT_IMAGE, cause: .,
       rollback_on_failure: {"true": true, "false": false}[env.INPUT_ROLLBACK_ON_FAILURE // ""],
       revision: ((env.INPUT_ROLLBACK // "" | tonumber?) // null), link: $link}
    | with_entries(select(.value != null and .value != ""))' \
    <(cat "${GITHUB_EVENT_PATH:-/dev/null}" 2>/dev/null) >"$work/signal"
}
