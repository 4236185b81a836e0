#compdef soramode
# What maintain runs after -- is completed as it is on its own.
function _soramode_command() {
    local at
    for ((at = 3; at + 1 < CURRENT; at++)); do
        if [[ $words[at] == -- ]]; then
            [[ ${words[(I)maintain]} -gt 0 && ${words[(I)maintain]} -lt $at ]] || return 1
            words=("${(@)words[at + 1, -1]}")
            ((CURRENT -= at))
            _normal
            return 0
        fi
    done
    return 1
}

function _clap_dynamic_completer_soramode() {
    _soramode_command && return
    local _CLAP_COMPLETE_INDEX=$((CURRENT - 1))
    local _CLAP_IFS=$'\n'

    local completions=("${(@f)$( \
        _CLAP_IFS="$_CLAP_IFS" \
        _CLAP_COMPLETE_INDEX="$_CLAP_COMPLETE_INDEX" \
        _SORAMODE_COMPLETE="zsh" \
        soramode -- "${words[@]}" 2>/dev/null \
    )}")

    if [[ -n $completions ]]; then
        local -a dirs=()
        local -a other=()
        local completion
        for completion in $completions; do
            local value="${completion%%:*}"
            if [[ "$value" == */ ]]; then
                local dir_no_slash="${value%/}"
                if [[ "$completion" == *:* ]]; then
                    local desc="${completion#*:}"
                    dirs+=("$dir_no_slash:$desc")
                else
                    dirs+=("$dir_no_slash")
                fi
            else
                other+=("$completion")
            fi
        done
        [[ -n $dirs ]] && _describe -V 'values' dirs -S '/' -r '/'
        [[ -n $other ]] && _describe -V 'values' other
    fi
}

compdef _clap_dynamic_completer_soramode soramode
