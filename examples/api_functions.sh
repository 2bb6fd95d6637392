# shellcheck shell=bash
# Model Runner from bash, with curl. Source this file:
#
#   MR_SERVER=127.0.0.1:8080           the server (http:// or https:// may stand before it)
#   MR_TMP_DIR=$(mktemp -d)            where answers are kept for a moment
#   . examples/api_functions.sh
#   job_id=$(mr_create_job my_job test @examples/sleep_count_8.zip)
#   mr_wait_for_status "$job_id" COMPLETE 20
#   mr_cleanup
#
# Set MR_KEY as well if the server asks for a key. Every function gives 0 on success;
# otherwise it says on stderr what is wrong and gives 4 (the server refuses the request),
# 5 (the server is in trouble), 1 (no answer) or 2 (called wrongly).
# Needs bash, curl, sed and grep.

# mr_create_job NAME MODEL @FILE.zip|URL     prints the new job's id
mr_create_job() {
    local input answer id
    if [ $# -ne 3 ]; then
        echo "usage: mr_create_job NAME MODEL @FILE.zip|URL" >&2
        return 2
    fi
    case $3 in
        @*)
            if ! [ -r "${3#@}" ]; then
                echo "mr_create_job: cannot read the file '${3#@}'" >&2
                return 2
            fi
            # In quotes, or curl would take a ';' or ',' in the name for its own.
            input=${3#@}
            input=${input//\\/\\\\}
            input=(-F "zip_file=@\"${input//\"/\\\"}\"")
            ;;
        http://* | https://*)
            input=(--form-string "zip_url=$3")
            ;;
        *)
            echo "mr_create_job: expected @FILE.zip or a URL, not '$3'" >&2
            return 2
            ;;
    esac
    # --form-string, for a name may begin with '@' or '<'.
    answer=$(_mr_call /jobs --form-string "job_name=$1" --form-string "model=$2" "${input[@]}") ||
        return
    id=$(_mr_field id "$answer")
    if [ -z "$id" ]; then
        echo "mr_create_job: the answer holds no job id: ${answer:0:200}" >&2
        return 1
    fi
    printf '%s\n' "$id"
}

# mr_job_status ID     prints CREATED, QUEUED, RUNNING, PROCESSED, COMPLETE, FAILED or KILLED
mr_job_status() {
    local answer status
    if ! _mr_is_id "${1-}"; then
        echo "usage: mr_job_status ID" >&2
        return 2
    fi
    answer=$(_mr_call "/jobs/$1" --max-time 30) || return
    status=$(_mr_field status "$answer")
    if [ -z "$status" ]; then
        echo "mr_job_status: the answer holds no status: ${answer:0:200}" >&2
        return 1
    fi
    printf '%s\n' "$status"
}

# mr_kill_job ID     prints what the server says
mr_kill_job() {
    local answer
    if ! _mr_is_id "${1-}"; then
        echo "usage: mr_kill_job ID" >&2
        return 2
    fi
    answer=$(_mr_call "/jobs/$1/kill" --max-time 60 -X POST --data '') || return
    _mr_field message "$answer"
}

# mr_wait_for_status ID STATUS TRIES
#
# Looks at once, and then TRIES times more, one try a second. Ends the script with exit
# code 1 (an interactive shell stays, with 1 as the result) if the status does not come,
# or cannot come any more because the job ended otherwise.
mr_wait_for_status() {
    local try status=unknown code
    if [ $# -ne 3 ] || ! _mr_is_id "$1" || [[ ! $3 =~ ^[0-9]+$ ]]; then
        echo "usage: mr_wait_for_status ID STATUS TRIES" >&2
        return 2
    fi
    for ((try = 0; try <= 10#$3; try++)); do
        [ "$try" -eq 0 ] || sleep 1
        code=0
        status=$(mr_job_status "$1") || code=$?
        if [ "$code" -eq 4 ]; then
            _mr_give_up
            return 1
        fi
        [ "$status" != "$2" ] || return 0
        case $status in
            COMPLETE | FAILED | KILLED)
                echo "mr_wait_for_status: job $1 has ended as $status, so $2 will not come" >&2
                _mr_give_up
                return 1
                ;;
        esac
    done
    echo "mr_wait_for_status: job $1 is ${status:-unknown} after $3 tries, and not $2" >&2
    _mr_give_up
    return 1
}

# mr_get_jobs     prints the jobs as JSON: {"data": [...]}, the newest first
mr_get_jobs() {
    _mr_call /jobs --max-time 60
}

# mr_cleanup     removes the files that these functions left in MR_TMP_DIR
mr_cleanup() {
    rm -f -- "$(_mr_tmp_dir)"/mr_answer.??????
}

# --- the rest is for the functions above --------------------------------------------

# Prints the body of the answer to a request for PATH, made with the other arguments.
_mr_call() {
    local path=$1 file http code=0
    shift
    if [ -z "${MR_SERVER:-}" ]; then
        echo "Set MR_SERVER to the server's host:port, such as MR_SERVER=127.0.0.1:8080" >&2
        return 2
    fi
    case $MR_SERVER in
        *://*) path=${MR_SERVER%/}$path ;;
        *) path=http://${MR_SERVER%/}$path ;;
    esac
    if ! file=$(mktemp "$(_mr_tmp_dir)/mr_answer.XXXXXX"); then
        echo "Set MR_TMP_DIR to a folder that can be written to: MR_TMP_DIR=\$(mktemp -d)" >&2
        return 2
    fi
    # The key goes through a pipe: everybody can read a command line.
    http=$(curl --silent --show-error --connect-timeout 10 --config <(_mr_key) \
        --header 'Accept: application/json' --output "$file" --write-out '%{http_code}' \
        "$@" "$path") || code=1
    if [ "$code" -eq 0 ]; then
        case $http in
            2??) cat -- "$file" ;;
            5??) code=5 ;;
            *) code=4 ;;
        esac
        [ "$code" -eq 0 ] || _mr_refused "$http" "$path" "$file" >&2
    else
        echo "No answer from $path" >&2
    fi
    rm -f -- "$file"
    return "$code"
}

_mr_key() {
    if [ -n "${MR_KEY:-}" ]; then
        printf 'header = "Authorization: Bearer %s"\n' "$MR_KEY"
    fi
}

_mr_tmp_dir() {
    printf '%s\n' "${MR_TMP_DIR:-${TMPDIR:-/tmp}}"
}

# Says what the server said: the message of a problem document, or its first line.
_mr_refused() {
    local message
    message=$(_mr_field message "$(head -c 65536 -- "$3" | tr -d '\0')")
    [ -n "$message" ] || message=$(head -c 200 -- "$3" | tr -d '\0' | head -n 1)
    printf '%s (HTTP %s from %s)\n' "${message:-The server gives no reason}" "$1" "$2"
}

# Prints the string NAME of the JSON object TEXT. What looks like it inside of another
# string has a backslash before its quotes, and so does not match.
_mr_field() {
    local value
    value=$(printf '%s' "$2" | tr '\n' ' ' |
        LC_ALL=C grep -oE "[{,][[:space:]]*\"$1\"[[:space:]]*:[[:space:]]*\"([^\"\\\\]|\\\\.)*\"" |
        head -n 1 | LC_ALL=C sed -E 's/^[^:]*:[[:space:]]*"(.*)"$/\1/; s#\\/#/#g; s/\\"/"/g') || true
    # Other escapes (\n, \u00e4) are bash's own; control characters would play with the terminal.
    [ -z "$value" ] || printf '%b\n' "$value" | tr -d '\000-\010\013-\037\177'
}

_mr_is_id() {
    [[ ${1-} =~ ^[0-9A-Za-z-]+$ ]]
}

# Ends a script with 1. A terminal that has sourced this file must not close.
_mr_give_up() {
    case $- in
        *i*) ;;
        *) exit 1 ;;
    esac
}
