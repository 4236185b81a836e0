# What maintain runs after -- is completed as it is on its own, where bash-completion can do that; else by the names of files.
_soramode_command() {
    local at
    for ((at = 2; at + 1 < COMP_CWORD; at++)); do
        if [[ ${COMP_WORDS[at]} == -- ]]; then
            [[ " ${COMP_WORDS[*]:1:at - 1} " == *' maintain '* ]] || return 1
            if declare -F _comp_command_offset >/dev/null; then
                _comp_command_offset $((at + 1))
            elif declare -F _command_offset >/dev/null; then
                _command_offset $((at + 1))
            else
                compopt -o default
            fi
            return 0
        fi
    done
    return 1
}
_soramode() {
    _soramode_command && return 0
    local IFS=$'\013' words=() word glued='' before=''
    # Words as the command sees them: bash makes = and : words of their own.
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        if [[ ${#words[@]} -gt 0 && ($glued || $word == [=:]*) && $word != -* ]]; then
            before=${words[-1]}
            words[-1]+=$word
        else
            before=''
            words+=("$word")
        fi
        [[ $word == *[=:] ]] && glued=yes || glued=''
    done
    # What bash completes is what follows the last of these.
    [[ $word == [=:] ]] && before=${words[-1]}
    COMPREPLY=($(
        _CLAP_IFS="$IFS" _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) _CLAP_COMPLETE_COMP_TYPE="$COMP_TYPE" _CLAP_COMPLETE_SPACE=false \
            VARIABLE=bash "${COMP_WORDS[0]/#\~\//$HOME/}" -- "${words[@]}" 2>/dev/null
    ))
    [[ $before ]] && COMPREPLY=("${COMPREPLY[@]#"$before"}")
    [[ ${COMPREPLY[0]-} =~ [=/:]$ ]] && compopt -o nospace
    return 0
}
complete -o bashdefault -o nosort -F _soramode soramode 2>/dev/null || complete -o bashdefault -F _soramode soramode
