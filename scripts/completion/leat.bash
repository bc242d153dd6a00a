# bash completion for leat. Options come from its own help and names from `leat help`, so that they are never
# out of date.
_leat() {
    local leat=${COMP_WORDS[0]} current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local help valued command='' word value=''
    COMPREPLY=()
    help=$("$leat" --help 2>/dev/null | sed '/^examples*:/,$d')
    valued=$(grep -oE -- '(^|[[:space:]])--?[a-z][a-z-]* [A-Z]' <<<"$help" | grep -oE -- '--?[a-z-]+')$'\n-e'
    # The first word that is neither an option nor the value of one is a command, or a script.
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [ -n "$value" ]; then
            value=''
        elif [[ $word == -?* ]]; then
            [[ $word == -e ]] && command=-e
            ! grep -qxF -- "$word" <<<"$valued" || value=$word
        else
            command=$word
            break
        fi
    done
    case $command in
    batch | mock)
        help=$("$leat" "$command" --help 2>/dev/null | sed '/^examples*:/,$d')
        valued=$(grep -oE -- '--?[a-z][a-z-]* [A-Z]' <<<"$help" | grep -oE -- '--?[a-z-]+')
        ;;
    help)
        word=$("$leat" help 2>/dev/null | awk '/^leat\. /{ on = 1; next } /^and, /{ on = 2; next }
            on == 1 { print $1 } on == 2 { gsub(" +", "\n"); print }')
        mapfile -t COMPREPLY < <(compgen -W "$word" -- "$current")
        return
        ;;
    version | repl) return ;;
    esac
    if [[ $current == -* ]]; then
        case $command in
        '' | batch | mock) ;;
        *) return ;; # the script's own
        esac
        mapfile -t COMPREPLY < <(compgen -W "$(grep -oE -- '(^|[[:space:]])--?[a-z][a-z-]*' <<<"$help" | sort -u)" -- "$current")
        return
    fi
    case $command in
    '' | batch | mock)
        if grep -qxF -- "$previous" <<<"$valued" && [[ $previous != --trace && $previous != --report && $previous != --errors ]]; then
            return # a number or a word of one's own
        fi
        ;;
    esac
    if [ -z "$command" ] && [ -z "$value" ]; then
        mapfile -t COMPREPLY < <(compgen -W "batch help mock repl run version" -- "$current")
    fi
    mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current")
}
complete -o filenames -F _leat leat
