# Prints the command that maintain runs after --, with its arguments: it is completed as it is on its own.
function __soramode_command
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l at (contains --index -- -- $words)
    or return 1
    contains maintain $words[1..$at]
    and test (count $words) -gt $at
    or return 1
    string escape -- $words[(math $at + 1)..-1]
end
complete --command soramode --condition "__soramode_command >/dev/null" --exclusive --arguments "(complete --do-complete (string join ' ' -- (__soramode_command) (commandline --current-token)))"
