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
