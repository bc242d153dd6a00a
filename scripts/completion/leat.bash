# bash completion for leat: its options come from its own help, so that they are never out of date.
_leat() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} word command=''
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in batch | mock | run | repl)
            command=$word
            break
            ;;
        esac
    done
    COMPREPLY=()
    if [[ $current == -* ]]; then
        case $command in
        batch | mock) word=$("${COMP_WORDS[0]}" "$command" --help 2>/dev/null) ;;
        run | repl) return ;;
        *) word=$("${COMP_WORDS[0]}" --help 2>/dev/null) ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "$(grep -oE -- '(^|[[:space:]])--?[a-z][a-z-]*' <<<"$word" | sort -u)" -- "$current")
        return
    fi
    case $previous in
    --seed | --port | --rpm | --burst | --tpm | --token-burst | --tokens | --limit | --timeout | --retries | --concurrency | --allow-connect | --network-threads | --time-limit | --memory-limit | -e) return ;;
    esac
    if [ -z "$command" ] && [ "$COMP_CWORD" = 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "batch mock repl run" -- "$current")
    fi
    mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current")
}
complete -o filenames -F _leat leat
